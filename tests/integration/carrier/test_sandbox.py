"""What commands in a container see and leave behind, and how a container ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest
from tests.engine.fixture import DEBIAN, FILE, IMAGES, MUSL, NO_PYTHON, RUBBISH, Engine
from tests.integration.carrier.containers import ENVIRONMENT, container

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server.process_tree import identify
from chronicled.runtimes.action_server.reaper import ending
from chronicled.runtimes.carrier import MOUNT_PATH, Carrier
from chronicled.runtimes.testing import eventually

CONFINED: Final = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345:12345"),
    *("--network", "none", "--init", "--env", "PYTHONHOME=/rubbish", "--env", "LC_ALL=rubbish"),
)
IDLE_BYTES_MAX: Final = 25 << 20
OF_BASH: Final = {"PWD", "SHLVL", "_", "OLDPWD"}
"""What bash itself puts into the environment of what it runs."""


def host_processes(engine: Engine, name: str) -> dict[int, str]:
    """Return the processes of a container, by their pid on this machine."""
    found: dict[int, str] = {}
    for line in engine("top", name, "-eo", "pid,args").splitlines()[1:]:
        pid, _, arguments = line.strip().partition(" ")
        found[int(pid)] = arguments.strip()
    return found


def idle_bytes(pid: int) -> int:
    """Return the memory of a process, shared pages counted by share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


@pytest.mark.parametrize("image", IMAGES)
async def test_commands_see_the_environment_of_the_settings(
    engine: Engine, carrier: Carrier, tmp_path: Path, image: str
) -> None:
    """A command has the settings' environment and nothing of the carrier's; PATH is extended only in a bare image."""
    async with container(engine, tmp_path, image, carrier.path, CONFINED) as (worker, _):
        _, output = await worker.run("export -p; echo $BASH")
        seen: dict[str, str] = {}
        for line in output.decode().splitlines():
            if line.startswith("declare -x "):
                variable, _, value = line.removeprefix("declare -x ").partition("=")
                seen[variable] = value.strip('"')
        expected = dict(ENVIRONMENT)
        if image == FILE:
            expected["PATH"] += f":{MOUNT_PATH}/lib/applets"
        assert {name: value for name, value in seen.items() if name not in OF_BASH} == expected
        own_bash = image in (DEBIAN, NO_PYTHON)
        assert output.splitlines()[-1].decode() == ("/usr/bin/bash" if own_bash else f"{MOUNT_PATH}/bin/bash")


async def test_python_in_an_image_is_its_own(engine: Engine, carrier: Carrier, tmp_path: Path) -> None:
    """`python3` is the image's with its own library, and not there where the image has none."""
    command = "python3 -c 'import sys, os; print(sys.executable, os.__file__)'"
    async with container(engine, tmp_path / "with", DEBIAN, carrier.path, CONFINED) as (worker, _):
        assert (await worker.run(command))[1] == b"/usr/bin/python3 /usr/lib/python3.11/os.py\n"
    async with container(engine, tmp_path / "without", NO_PYTHON, carrier.path, CONFINED) as (worker, _):
        result, _ = await worker.run(command)
        assert result.fields["exit_code"] == 127


async def test_an_image_without_any_utility_is_lent_some(engine: Engine, carrier: Carrier, tmp_path: Path) -> None:
    """Where there is nothing at all, busybox's utilities work; where there is a shell, its PATH is left alone."""
    async with container(engine, tmp_path / "bare", FILE, carrier.path, CONFINED) as (worker, _):
        result, output = await worker.run("cat /text | tr a-z A-Z; sh -c 'echo $((6*7))'; ls -d /proc/self")
        assert (result.outcome, output) == (Outcome.OK, b"ONE TEXT FILE.\n42\n/proc/self\n")
    async with container(engine, tmp_path / "musl", MUSL, carrier.path, CONFINED) as (worker, _):
        assert (await worker.run("type -p ls"))[1] == b"/bin/ls\n"


async def test_what_the_image_preloads_does_not_reach_the_server(
    engine: Engine, carrier: Carrier, tmp_path: Path
) -> None:
    """Neither `LD_PRELOAD` of a foreign C library nor /etc/ld.so.preload keep the carried interpreter from running."""
    preload = tmp_path / "ld.so.preload"
    preload.write_text("/nowhere/library.so\n")
    options = (*CONFINED, "--volume", f"{preload}:/etc/ld.so.preload:ro")
    async with container(engine, tmp_path / "file", DEBIAN, carrier.path, options) as (worker, name):
        _, output = await worker.run("/bin/true 2>&1")
        # The image's own programs do meet it, so the file is in force.
        assert b"/nowhere/library.so" in output
        logs = ["docker", "--host", engine.host, "logs", name]
        said = await asyncio.to_thread(subprocess.run, logs, capture_output=True, timeout=20, check=True)
        # A loader complains on standard error.
        assert said.stdout + said.stderr == b""
    async with container(engine, tmp_path / "variable", RUBBISH, carrier.path, CONFINED) as (worker, _):
        assert (await worker.run("echo hi"))[1] == b"hi\n"


async def test_the_token_is_nowhere_in_the_container(engine: Engine, carrier: Carrier, tmp_path: Path) -> None:
    """Not in what the engine tells, nor in any argv, environment or file that a command as root can read."""
    async with container(engine, tmp_path, DEBIAN, carrier.path, ("--init",)) as (worker, name):
        told = json.dumps(json.loads(engine("inspect", name)))
        assert worker.spec.generation in told
        assert worker.spec.token not in told
        _, output = await worker.run(f"cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline {MOUNT_PATH}/run/* 2>&1")
        assert worker.spec.generation.encode() in output
        assert worker.spec.token.encode() not in output


@pytest.mark.parametrize("options", [CONFINED, ()], ids=["confined under an init", "root as PID 1"])
async def test_an_end_kills_what_the_command_started(
    engine: Engine, carrier: Carrier, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """After a deadline nothing lives of what the command has detached, by whatever means; nothing stays as a zombie."""
    async with container(engine, tmp_path, DEBIAN, carrier.path, options) as (worker, name):
        await worker.run("true")
        before = host_processes(engine, name)
        nasty = "trap '' TERM INT HUP; (setsid nohup sleep 9 &) & (sleep 99 & disown); bash -c '(sleep 98 &)'; sleep 97"
        result, _ = await worker.run(nasty, timeout_seconds=0.5)
        assert result.outcome is Outcome.TIMEOUT
        await eventually(lambda: not [line for line in host_processes(engine, name).values() if "sleep" in line])
        await worker.run("for i in 1 2 3 4 5; do (setsid sh -c 'sleep 0.01 & exit' &) ; done")
        await eventually(lambda: len(host_processes(engine, name)) == len(before))


@pytest.mark.parametrize("options", [CONFINED, ()], ids=["confined under an init", "root as PID 1"])
async def test_the_death_of_the_server_ends_the_container(
    engine: Engine, carrier: Carrier, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A killed action server takes everything with it, and the container's exit status says what happened."""
    async with container(engine, tmp_path, DEBIAN, carrier.path, options) as (worker, name):
        await worker.run("(setsid nohup sleep 1000 >/dev/null 2>&1 &)")
        processes = host_processes(engine, name)
        assert worker.connection is not None
        server = worker.connection.peer.pid
        assert server in processes
        known = [found[0] for pid in processes if (found := identify(pid)) is not None]
        os.kill(server, signal.SIGKILL)
        status = int(engine("wait", name))
        assert ending(status) == "server-signal-9"
        assert [process for process in known if (now := identify(process[0])) is not None and now[0] == process] == []


async def test_an_idle_sandbox_is_small(engine: Engine, carrier: Carrier, tmp_path: Path) -> None:
    """Reaper and server of one container, idle, take at most 25 MB of memory together."""
    async with container(engine, tmp_path, DEBIAN, carrier.path, CONFINED) as (worker, name):
        ours = [
            pid for pid, line in host_processes(engine, name).items() if line.startswith(f"{MOUNT_PATH}/bin/python3")
        ]
        sizes = sorted(idle_bytes(pid) for pid in ours)
        print(f"idle: {' + '.join(f'{size / (1 << 20):.1f}' for size in sizes)} MiB PSS (reaper, server)")
        assert len(sizes) == 2
        assert sum(sizes) <= IDLE_BYTES_MAX
        assert worker.hello is not None
