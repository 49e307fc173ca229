"""How the deaths of containers are told: the right outcome, within seconds, and nothing but what died is concerned."""

from __future__ import annotations

import asyncio
import signal

import pytest
from tests.awake import awake
from tests.engine.fixture import Engine
from tests.integration.daemon.process import DaemonProcess
from tests.integration.docker_daemon.sessions import Session

TOLD_SECONDS = 5.0
MEMORY_BYTES = 64 << 20
EAT = "tail /dev/zero"
"""Takes memory until there is none."""


async def strike(session: Session, way: str) -> None:
    """End the session's container in some way, from outside."""
    container = await session.container()
    match way:
        case "docker kill":
            await session.docker("kill", container)
        case "docker kill of a paused one":
            await session.docker("pause", container)
            try:
                await session.docker("kill", container)
            except AssertionError as error:
                # Under gVisor the engine itself ends the process in the end, and complains where it has just died.
                if "is zombie" not in str(error):
                    raise
        case "docker rm -f":
            await session.docker("rm", "--force", container)
        case "docker stop":
            await session.docker("stop", container)
        case "kill of process 1":
            await session.kill_process("init")
        case "kill of the server":
            await session.kill_process("server")
        case _:
            await session.kill_process("reaper", signal.SIGTERM)


async def end_from_outside(
    daemon: DaemonProcess, engine: Engine, way: str, outcome: str, engine_seconds: float = 0.0
) -> None:
    """End a session's container; what is told of it must be true and soon there, its neighbour must not feel it.

    `engine_seconds` is how long the engine itself takes over it, at most.
    """
    session = await Session.create(daemon, engine)
    neighbour = await Session.create(daemon, engine, "neighbour")
    unharmed = await neighbour.begin("sleep 1.5; echo unharmed")
    running = await session.begin("sleep 60")
    queued, brave = await session.submit("echo queued"), await session.submit("echo brave", on_state_loss="run")
    begin = awake()
    await strike(session, way)
    ended = await session.ended(running, TOLD_SECONDS)
    assert awake() - begin < TOLD_SECONDS + engine_seconds
    assert (ended["outcome"], ended["effects"], ended["output"]) == (outcome, "possible", "begun\n"), ended
    ended = await session.ended(queued)
    assert (ended["outcome"], ended["reason"], ended["effects"]) == ("rejected", "state_lost", "none")
    assert (await session.ended(brave))["output"] == "brave\n"
    first, second = await session.generations()
    assert first != second
    ended = await neighbour.ended(unharmed)
    assert (ended["outcome"], ended["output"]) == ("ok", "begun\nunharmed\n")
    assert len(await neighbour.generations()) == 1


@pytest.mark.parametrize(
    ("way", "outcome"),
    [
        ("docker kill", "killed"),
        ("docker kill of a paused one", "killed"),
        ("docker rm -f", "sandbox_lost"),
        ("docker stop", "sandbox_lost"),
        ("kill of process 1", "killed"),
        ("kill of the server", "sandbox_lost"),
        ("end of the server", "sandbox_lost"),
    ],
)
async def test_a_container_that_somebody_ends(daemon: DaemonProcess, engine: Engine, way: str, outcome: str) -> None:
    """What ran says so with its output, what waited never ran, a neighbour feels nothing, and the session goes on."""
    await end_from_outside(daemon, engine, way, outcome, 10.0 if way == "docker stop" else 0.0)


async def test_a_command_that_runs_out_of_memory(daemon: DaemonProcess, engine: Engine) -> None:
    """The kernel kills a command: `oom_killed` with exit code 137, in a sandbox that lives on with its shell."""
    session = await Session.create(daemon, engine, sandbox={"memory_bytes": MEMORY_BYTES})
    assert (await session.run("cd /tmp; keeps=this"))["outcome"] == "ok"
    ended = await session.run(EAT)
    assert (ended["outcome"], ended["exit_code"], ended["effects"]) == ("oom_killed", 137, "possible"), ended
    ended = await session.run("echo $keeps $PWD")
    assert (ended["outcome"], ended["output"]) == ("ok", "this /tmp\n")
    # One who is killed by somebody else, if only a moment later, did not want memory.
    for _ in range(5):
        assert (await session.run(EAT))["outcome"] == "oom_killed"
        ended = await session.run("sh -c 'kill -9 $$'")
        assert (ended["outcome"], ended["exit_code"]) == ("failed", 137)
    assert len(await session.generations()) == 1


async def test_a_command_that_runs_out_of_memory_while_the_daemon_is_away(
    daemon: DaemonProcess, engine: Engine
) -> None:
    """The next daemon says so of what began before it came, and of nothing that began after."""
    session = await Session.create(daemon, engine, sandbox={"memory_bytes": MEMORY_BYTES})
    running = await session.begin(f"sleep 1; {EAT}")
    await daemon.kill()
    # What it does without a daemon takes that time.
    await asyncio.sleep(3.0)
    await daemon.start()
    ended = await session.ended(running)
    assert (ended["outcome"], ended["exit_code"]) == ("oom_killed", 137), ended
    assert (await session.run("sh -c 'kill -9 $$'"))["outcome"] == "failed"
    assert len(await session.generations()) == 1


@pytest.mark.parametrize("which", ["server", "init"])
async def test_a_sandbox_that_runs_out_of_memory(daemon: DaemonProcess, engine: Engine, which: str) -> None:
    """The kernel kills what carries the sandbox: its end says so, and so does the action; the next finds a new one."""
    session = await Session.create(daemon, engine, sandbox={"memory_bytes": MEMORY_BYTES})
    assert (await session.run("true"))["outcome"] == "ok"
    # Which one the kernel takes is its choice: it is made for it, and no eater grows large enough to be a better one.
    await session.offer_to_kernel(which)
    ended = await session.run(f"for each in 1 2 3 4 5 6; do {EAT} & done; wait")
    assert (ended["outcome"], ended["reason"], ended["effects"]) == ("oom_killed", "out_of_memory", "possible"), ended
    assert (await session.tells("generation_ended"))["reason"] == "oom_killed"
    assert (await session.run("true"))["outcome"] == "ok"
    assert len(await session.generations()) == 2


async def test_death_while_the_daemon_is_away(daemon: DaemonProcess, engine: Engine) -> None:
    """The next daemon finds the sandbox dead, says what was lost and why, and a living one where it was."""
    session, other = await Session.create(daemon, engine), await Session.create(daemon, engine, "other")
    running, living = await session.begin("sleep 60"), await other.begin("sleep 1.5; echo through")
    container = await session.container()
    await daemon.kill()
    await session.docker("kill", container)
    await daemon.start()
    ended = await session.ended(running, TOLD_SECONDS)
    assert (ended["outcome"], ended["effects"], ended["output"]) == ("killed", "possible", "begun\n"), ended
    ended = await other.ended(living)
    assert (ended["outcome"], ended["output"]) == ("ok", "begun\nthrough\n"), ended
    assert len(await other.generations()) == 1
