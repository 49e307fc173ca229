"""Engines whose users are others on the host: user namespaces, and an engine without root."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.engine.fixture import MUSL, REMEDY, Engine
from tests.engine.own import OwnEngine, own_engine
from tests.engine.users import ACCOUNT, FIRST_SUBORDINATE, RemappedEngine, RootlessEngine
from tests.integration.docker.host import running, runtime_of
from tests.integration.engines.served import closed, open_daemon

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.testing import make_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("carrier")]

USER = 1000


@pytest.fixture
def remapped(engine: Engine) -> Generator[OwnEngine]:
    """An engine that gives its containers a user namespace."""
    with own_engine(engine, [MUSL], RemappedEngine, **{"userns-remap": ACCOUNT}) as own:
        yield own


@pytest.fixture
def rootless(engine: Engine) -> Generator[OwnEngine]:
    """An engine without root."""
    if missing := RootlessEngine.missing():
        remedy = REMEDY.replace("start ", "start rootlesskit uidmap:newuidmap ")
        pytest.skip(f"a rootless engine needs {', '.join(missing)}; {remedy}")
    with own_engine(engine, [MUSL], RootlessEngine) as own:
        yield own


async def test_a_session_owns_its_files_in_a_user_namespace(remapped: OwnEngine, tmp_path: Path) -> None:
    """Its commands write to its own files there and reach the daemon, as a user that is nobody on the host."""
    async with open_daemon(tmp_path / "d", remapped.host) as served:
        session = await served.session(MUSL)
        found = await session.run("id -u; echo here >file; cat file; grep -c . /proc/self/uid_map")
        assert (found["outcome"], found["output"]) == ("ok", f"{USER}\nhere\n1\n")
        assert (await session.act("write", {"path": "a/b", "content": "x\n"}))["outcome"] == "ok"
        container = remapped("ps", "--quiet", "--filter", f"label={served.label}")
        process = remapped("inspect", "--format", "{{.State.Pid}}", container)
        seen = os.path.join("/proc", process, "root")  # the file system as the container has it
        inside = await asyncio.to_thread(os.stat, os.path.join(seen, "workspace", "file"))
        assert (inside.st_uid, inside.st_gid) == (FIRST_SUBORDINATE + USER, FIRST_SUBORDINATE + USER)
        await served.restart()
        assert (await session.run("cat a/b"))["output"] == "x\n"
        await closed(served, session)
        assert remapped("ps", "--all", "--quiet") == ""


async def test_an_engine_that_cannot_limit_is_refused_by_name(rootless: OwnEngine, tmp_path: Path) -> None:
    """A rootless engine without cgroups takes limits, repeats them, and keeps none: no sandbox starts, and it says why.

    Nor does leave to have swap unlimited change that.
    """
    runtime = runtime_of(rootless.host, image=MUSL, swap_unlimited_allowed=True)
    async with running(runtime):
        facts = await runtime.engine.facts()
        assert facts.rootless
        assert facts.remapped
        limits = ["--memory=16m", "--memory-swap=16m", "--pids-limit=8", "--cpus=0.5", "--network=none"]
        container = rootless("create", *limits, MUSL, "/bin/true")
        # Its own word for it is worth nothing, by which one that keeps them cannot be told from one that does not.
        told = rootless("inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}", container)
        assert told == f"{16 << 20} 8"
        rootless("rm", container)
        if facts.unkept:
            assert rootless("info", "--format", "{{.CgroupDriver}}") == "none"
            with pytest.raises(SandboxStartFailed, match=r"memory_bytes: .*; cpus: .*; processes_max: .*cannot limit"):
                await runtime.start(make_spec(tmp_path))
            assert rootless("ps", "--all", "--quiet") == ""


async def test_a_session_lives_on_an_engine_without_root(rootless: OwnEngine, tmp_path: Path) -> None:
    """Where the operator goes without limits a rootless engine serves as any other, with nothing shared but its API."""
    settings = {"transport": "stdio", "carrier": "volume", "workspace": "layer", "limits_unkept_allowed": "true"}
    async with open_daemon(tmp_path / "d", rootless.host, **settings) as served:
        session = await served.session(MUSL, {"memory_bytes": 64 << 20})
        found = await session.run("id -u; v=kept; echo here >file; cat /proc/self/uid_map | wc -l; ls /sys/class/net")
        assert (found["outcome"], found["output"]) == ("ok", f"{USER}\n2\nlo\n")
        begun = await session.begin("sleep 1; head -c 1000000 /dev/zero")
        await served.restart()
        assert (await session.ended(begun))["output_bytes"] == 1_000_000
        assert (await session.run("cat file; echo $v"))["output"] == "here\nkept\n"
        assert (await session.act("write", {"path": "a/b", "content": "x\n"}))["outcome"] == "ok"
        timed = await session.run("(setsid sleep 98 &); sleep 97", timeout_seconds=0.5)
        assert timed["outcome"] == "timeout"
        assert (await session.run("ps -o args | grep -c '[s]leep 9'"))["output"] == "0\n"
        running = await session.begin("sleep 60")
        rootless("kill", rootless("ps", "--quiet", "--filter", f"label={served.label}"))
        assert (await session.ended(running, 5.0))["outcome"] == "killed"
        assert (await session.run("echo again"))["output"] == "again\n"
        await closed(served, session)
        assert rootless("ps", "--all", "--quiet") == ""
