"""Podman's Docker-compatible socket: sessions through a whole daemon, and what it cannot give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
from tests.engine.fixture import MUSL, REMEDY, Engine
from tests.engine.podman import Podman, RootlessPodman, own_podman
from tests.engine.users import RootlessEngine
from tests.integration.daemon.process import until
from tests.integration.docker.host import running, runtime_of
from tests.integration.engines.served import Served, closed, open_daemon, play_all

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import RuntimeContract, make_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("carrier")]

IMAGE = f"localhost/{MUSL}"
"""What it makes of a name without a registry."""
TOLD_SECONDS = 5.0
CGROUP_V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


@pytest.fixture(scope="module")
def podman(engine: Engine) -> Generator[Podman]:
    """A Podman with a small image."""
    with own_podman(engine, [MUSL]) as own:
        yield own
    assert not Path("oom").exists(), "its monitors note a want of memory in a folder of its own, and nowhere else"


@pytest.fixture
async def served(podman: Podman, tmp_path: Path) -> AsyncIterator[Served]:
    """A daemon over it."""
    async with open_daemon(tmp_path / "d", podman.host, cgroup_shown_allowed="true") as served:
        yield served


class TestDockerRuntimeOnPodman(RuntimeContract):
    """The docker runtime keeps its contract on Podman."""

    @pytest.fixture
    async def runtime(self, directory: Path, podman: Podman) -> AsyncIterator[DockerRuntime]:
        """The runtime under test."""
        async with running(runtime_of(podman.host, image=IMAGE, cgroup_shown_allowed=True)) as runtime:
            yield runtime


async def test_the_shell_table_holds(served: Served) -> None:
    """Commands end on Podman as they do anywhere."""
    session = await served.session(IMAGE, environment={"FROM_SESSION": "yes"})
    assert await play_all(session, every=5) >= 25


async def test_a_session_lives_and_ends_as_on_docker(served: Served, podman: Podman) -> None:
    """Actions run on across a kill -9 of the daemon, a pause is real, and an end from outside is told in seconds."""
    session = await served.session(IMAGE)
    await session.run("true")
    begun = await session.begin("sleep 2; echo through")
    await served.restart()
    assert (await session.ended(begun))["output"] == "through\n"
    container = podman("ps", "--quiet", "--filter", f"label={served.label}")
    await session.ask("pause")
    await _state(podman, container, "paused")
    assert (await session.run("echo back"))["output"] == "back\n"
    begun = await session.begin("sleep 60")
    podman("kill", container)
    told = await session.ended(begun, TOLD_SECONDS)
    assert (told["outcome"], told["effects"]) == ("killed", "possible")
    assert (await session.run("echo again"))["output"] == "again\n"
    await closed(served, session)
    assert podman("ps", "--all", "--quiet", "--filter", f"label={served.label}") == ""


async def test_want_of_memory_is_told(served: Served) -> None:
    """Podman tells of no want of memory as it happens: a command that dies of it ends with the kernel's signal."""
    session = await served.session(IMAGE, {"memory_bytes": 64 << 20})
    found = await session.run("tail /dev/zero; echo $?")
    assert found["outcome"] in {"ok", "oom_killed"}
    assert found["output"].endswith("137\n")
    assert (await session.run("echo on", lane="other"))["output"] == "on\n"


async def _state(podman: Podman, container: str, wanted: str) -> None:
    async def reached() -> bool:
        return await asyncio.to_thread(podman, "inspect", "--format", "{{.State.Status}}", container) == wanted

    await until(reached)


async def test_what_podman_cannot_show_is_refused_by_name(podman: Podman, tmp_path: Path) -> None:
    """Without the operator's leave no cgroup namespace is no sandbox; an isolation that is not told is none."""
    async with running(runtime_of(podman.host, image=IMAGE)) as runtime:
        if not CGROUP_V2:
            with pytest.raises(SandboxStartFailed, match="cgroup namespace: 'host' instead of 'private'"):
                await runtime.start(make_spec(tmp_path))
        with pytest.raises(SandboxStartFailed, match=r"isolation: .*runsc|isolation: Podman does not tell"):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(isolation="gvisor")))
        assert podman("ps", "--all", "--quiet") == ""


@pytest.fixture
def rootless(engine: Engine) -> Generator[Podman]:
    """A Podman of an ordinary user."""
    if missing := RootlessEngine.missing():
        remedy = REMEDY.replace("start ", "start podman catatonit uidmap:newuidmap ")
        pytest.skip(f"a Podman without root needs {', '.join(missing)}; {remedy}")
    with own_podman(engine, [MUSL], RootlessPodman) as own:
        yield own


async def test_one_without_root_that_keeps_no_limits_is_refused_by_name(rootless: Podman, tmp_path: Path) -> None:
    """It says that it can limit, and where its user cannot it does not: no sandbox starts, and it is said why."""
    settings = {"transport": "stdio", "carrier": "volume", "workspace": "layer", "cgroup_shown_allowed": "true"}
    async with open_daemon(tmp_path / "d", rootless.host, **settings) as served:
        session = await served.session(IMAGE)
        found = await session.run("echo here")
        if CGROUP_V2 and found["outcome"] == "ok":
            assert found["output"] == "here\n"
            return
        assert (found["outcome"], found["effects"]) == ("error", "none")
        for control in ("memory_bytes", "swap", "cpus", "processes_max"):
            assert f"{control}: 0 instead of" in found["message"]
        await closed(served, session)
        assert rootless("ps", "--all", "--quiet") == ""
