"""The life of a session's containers, through the API: restart, pause, deadlines, the warm pool, pinned images."""

from __future__ import annotations

import asyncio
import time
import uuid

from tests.engine.fixture import MUSL, Engine
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.docker_daemon.conftest import LaunchDocker
from tests.integration.docker_daemon.sessions import Session


async def test_a_restart_makes_a_new_generation(daemon: DaemonProcess, engine: Engine) -> None:
    """The sandbox is ended with what runs in it; the next action meets a new container, and the old one is gone."""
    session = await Session.create(daemon, engine)
    running = await session.begin("left=behind; sleep 60")
    old = await session.container()
    assert (await daemon.post(f"{session.path}/restart")).status == 202
    assert (await session.ended(running))["outcome"] == "sandbox_lost"
    assert (await session.run("echo ${left-nothing}"))["output"] == "nothing\n"
    first, second = await session.generations()
    assert first != second
    assert await session.container() != old
    assert old not in await session.docker("ps", "--all", "--quiet", "--no-trunc")
    assert (await session.tells("generation_ended"))["reason"] == "restart_requested"


async def test_a_paused_sandbox_stands_still_and_an_action_wakes_it(daemon: DaemonProcess, engine: Engine) -> None:
    """Paused once nothing is open, the container keeps its shell, and goes on by itself when something is wanted."""
    session = await Session.create(daemon, engine)
    await session.run("keeps=this")
    running = await session.begin("sleep 0.5")
    assert (await daemon.post(f"{session.path}/pause")).status == 202
    await session.tells("sandbox_paused")
    assert (await session.ended(running))["outcome"] == "ok"
    assert await session.state() == "paused"
    assert (await session.run("echo $keeps"))["output"] == "this\n"
    assert await session.state() == "running"
    assert (await session.tells("sandbox_resumed"))["paused_seconds"] > 0.0
    await daemon.post(f"{session.path}/pause")
    await session.tells("sandbox_paused", 2)
    assert (await daemon.post(f"{session.path}/resume")).status == 202
    await session.tells("sandbox_resumed", 2)
    assert await session.state() == "running"
    assert len(await session.generations()) == 1


async def test_a_paused_sandbox_outlives_its_daemon(launch: LaunchDocker, engine: Engine) -> None:
    """Found paused by the next daemon it stays so, also beyond the time that it may go without one, until wanted."""
    daemon = await launch(engine, "runtime.unclaimed_seconds=1", "runtime.sweep_seconds=0.2")
    session = await Session.create(daemon, engine)
    await session.run("keeps=this")
    await daemon.post(f"{session.path}/pause")
    await session.tells("sandbox_paused")
    await daemon.kill()
    # The clock has to pass what a server may wait for a worker.
    await asyncio.sleep(1.5)
    await daemon.start()
    assert await session.state() == "paused"
    assert (await daemon.get(session.path)).json["sandbox_state"] == "paused"
    assert (await session.run("echo $keeps"))["output"] == "this\n"
    assert len(await session.generations()) == 1


async def test_closing_a_paused_session_removes_its_container(daemon: DaemonProcess, engine: Engine) -> None:
    """What stands still goes like any other, and so does its network of nothing: no trace is left."""
    session = await Session.create(daemon, engine)
    await session.run("true")
    await daemon.post(f"{session.path}/pause")
    await session.tells("sandbox_paused")
    assert (await daemon.call("DELETE", session.path)).status == 200
    await session.tells("sandbox_removed")
    assert await session.state() == "gone"


async def test_an_action_outlives_the_daemon(daemon: DaemonProcess, engine: Engine) -> None:
    """A daemon that is killed and comes back finds what runs, and tells its end and all that it printed, once."""
    session = await Session.create(daemon, engine)
    running = await session.begin("for i in 1 2 3 4; do sleep 0.4; echo $i | tee -a /workspace/count; done")
    await daemon.kill()
    await daemon.start()
    ended = await session.ended(running)
    assert (ended["outcome"], ended["output"]) == ("ok", "begun\n1\n2\n3\n4\n")
    assert (await session.run("cat /workspace/count"))["output"] == "1\n2\n3\n4\n"
    assert len(await session.generations()) == 1


async def test_an_idle_session_closes_and_keep_alive_puts_it_off(daemon: DaemonProcess, engine: Engine) -> None:
    """The idle deadline removes the container; who asks to keep it alive begins the deadline anew."""
    session = await Session.create(daemon, engine, idle_seconds=4.0)
    await session.run("true")
    begin = time.monotonic()
    while time.monotonic() < begin + 6.0:
        assert (await daemon.post(f"{session.path}/keep-alive")).status == 202
        await asyncio.sleep(0.1)
    assert (await daemon.get(session.path)).json["status"] == "open"
    assert (await session.tells("session_closed"))["reason"] == "idle_deadline"
    await session.is_gone()


async def test_the_life_deadline_ends_what_runs(daemon: DaemonProcess, engine: Engine) -> None:
    """At the end of its life a session's action ends `timeout`, names the deadline, and the container is gone."""
    session = await Session.create(daemon, engine, life_seconds=12.0)
    ended = await session.ended(await session.begin("sleep 60"))
    assert (ended["outcome"], ended["deadline"], ended["effects"]) == ("timeout", "life", "possible"), ended
    assert (await session.tells("session_closed"))["reason"] == "life_deadline"
    await session.is_gone()


async def test_deadlines_outlive_the_daemon(daemon: DaemonProcess, engine: Engine) -> None:
    """They stand in the log: a daemon that is killed and comes back keeps them, and begins none of them anew."""
    begin = time.monotonic()
    session = await Session.create(daemon, engine, life_seconds=12.0)
    idle = await Session.create(daemon, engine, "idle", idle_seconds=8.0)
    asked = time.monotonic()
    await idle.run("true")
    # It has rested since some moment between these two.
    rested = time.monotonic()
    running = await session.begin("sleep 60")
    await daemon.kill()
    await asyncio.sleep(max(0.0, begin + 6.0 - time.monotonic()))
    await daemon.start()
    assert (await idle.tells("session_closed"))["reason"] == "idle_deadline"
    assert time.monotonic() - asked > 7.0
    assert time.monotonic() - rested < 8.0 + 5.0
    ended = await session.ended(running)
    assert (ended["outcome"], ended["deadline"]) == ("timeout", "life"), ended
    assert 11.0 < time.monotonic() - begin < 12.0 + 5.0
    for each in (session, idle):
        await each.is_gone()


WARM = f"""\
[runtime]
warm = [{{ image = "{MUSL}", count = 2 }}]
sweep_seconds = 0.5
"""


async def _waiting(engine: Engine, daemon: DaemonProcess, known: set[str]) -> set[str]:
    """Return the running containers of the daemon that are none of these."""
    words = ("ps", "--no-trunc", "--filter", "label=chronicled.worker", "--format", "{{.ID}} {{.Mounts}}")
    lines = (await asyncio.to_thread(engine, *words)).splitlines()
    own = {line.split()[0] for line in lines if str(daemon.data) in line}
    return own - known


async def test_a_session_takes_a_warm_sandbox(launch: LaunchDocker, engine: Engine) -> None:
    """It has one that has started before, for itself alone; the pool is filled again, and goes at the end."""
    daemon = await launch(engine, configuration=WARM)

    async def filled(but: set[str]) -> bool:
        # What a sandbox was told at its start is destroyed once its server has reported in.
        told = list((daemon.data / "run" / "sandboxes").glob("*/settings"))
        return not told and len(await _waiting(engine, daemon, but)) == 2

    await until(lambda: filled(set()), 30.0)
    before = await _waiting(engine, daemon, set())
    session = await Session.create(daemon, engine, image=MUSL, environment={"ASKED": "for"})
    assert (await session.run("echo $ASKED"))["output"] == "for\n"
    (started,) = await session.told("generation_started")
    assert started["payload"]["warm"] is True
    container = await session.container()
    assert container in before
    # Who asks for more than the image gets one of its own.
    other = await Session.create(daemon, engine, "other", image=MUSL, sandbox={"memory_bytes": 64 << 20})
    await other.run("true")
    assert (await other.told("generation_started"))[0]["payload"]["warm"] is False
    taken = {container, await other.container()}
    await until(lambda: filled(taken), 30.0)
    # A crash leaves those that wait to nobody: the next daemon removes them and starts others; those in use live on.
    orphans = await _waiting(engine, daemon, taken)
    await daemon.kill()
    await daemon.start()
    await until(lambda: filled(taken | orphans), 30.0)
    assert not orphans & set((await asyncio.to_thread(engine, "ps", "-aq", "--no-trunc")).split())
    assert (await session.run("echo $ASKED"))["output"] == "for\n"
    for each in (session, other):
        await daemon.call("DELETE", each.path)
        await each.is_gone()
    await daemon.stop()
    assert not await _waiting(engine, daemon, set())


async def test_a_session_keeps_the_image_that_it_began_with(daemon: DaemonProcess, engine: Engine) -> None:
    """A name that moves meanwhile moves no session: its next sandbox has the same image, a new session the new one."""
    name = f"chronicled-test/moving-{uuid.uuid4().hex[:8]}"
    try:
        for version in ("1", "2"):
            made = await asyncio.to_thread(engine, "create", "--network=none", MUSL, "true")
            await asyncio.to_thread(engine, "commit", "--change", f"ENV VERSION={version}", made, f"{name}:{version}")
            await asyncio.to_thread(engine, "rm", made)
        await asyncio.to_thread(engine, "tag", f"{name}:1", f"{name}:latest")
        session = await Session.create(daemon, engine, image=name)
        assert (await session.run("echo $VERSION"))["output"] == "1\n"
        await asyncio.to_thread(engine, "tag", f"{name}:2", f"{name}:latest")
        assert (await daemon.post(f"{session.path}/restart")).status == 202
        await session.tells("sandbox_removed")
        assert (await session.run("echo $VERSION"))["output"] == "1\n"
        newer = await Session.create(daemon, engine, "newer", image=name)
        assert (await newer.run("echo $VERSION"))["output"] == "2\n"
        for each in (session, newer):
            await daemon.call("DELETE", each.path)
            await each.is_gone()
    finally:
        for tag in ("1", "2", "latest"):
            await asyncio.to_thread(engine, "rmi", "--force", f"{name}:{tag}")


async def test_a_sandbox_that_cannot_start_says_why(daemon: DaemonProcess, engine: Engine) -> None:
    """An image that is not there: what was asked never ran, the reason names it, and nothing is left on the engine."""
    session = await Session.create(daemon, engine, image="chronicled-test/missing:1", sandbox={"pull": "never"})
    ended = await session.run("true")
    assert (ended["outcome"], ended["effects"], ended["reason"]) == ("error", "none", "sandbox_start_failed")
    assert "missing" in ended["message"]
