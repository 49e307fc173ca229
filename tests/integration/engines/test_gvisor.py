"""Sessions under gVisor, through a whole daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.engine.fixture import FILE, MUSL, Engine
from tests.engine.own import OwnEngine
from tests.integration.daemon.process import until
from tests.integration.docker.host import running, runtime_of, serving
from tests.integration.engines.served import Served, closed, open_daemon, play_all

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.testing import make_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("carrier")]

ISOLATED: Final = {"isolation": "gvisor"}
SMALL: Final = {"isolation": "gvisor", "memory_bytes": 128 << 20, "read_only": True}
OF_LINUX: Final = ("an argument that is too long for a program", "an environment that is too long")
"""Cases of limits that this kernel does not have, or calls otherwise."""
TOLD_SECONDS: Final = 5.0


@pytest.fixture
async def served(gvisor: OwnEngine, tmp_path: Path) -> AsyncIterator[Served]:
    """A daemon over an engine that has gVisor."""
    async with open_daemon(tmp_path / "d", gvisor.host, limits_unkept_allowed="true") as served:
        yield served


async def test_the_shell_table_holds(served: Served) -> None:
    """Commands end under gVisor as they do anywhere, also through a whole daemon: every other case of the table."""
    session = await served.session(MUSL, ISOLATED, environment={"FROM_SESSION": "yes"})
    assert await play_all(session, OF_LINUX, every=2) >= 80


async def test_what_runs_is_gvisor(served: Served, gvisor: OwnEngine) -> None:
    """The read-back accepts the runtime that was asked for, and the kernel in the sandbox is not the host's."""
    session = await served.session(FILE, ISOLATED)
    release = (await session.run("read -r _ _ release _ </proc/version; echo $release"))["output"]
    assert release not in {"\n", f"{os.uname().release}\n"}
    container = gvisor("ps", "--quiet", "--filter", f"label={served.label}")
    assert gvisor("inspect", "--format", "{{.HostConfig.Runtime}}", container) == "runsc"


async def test_an_isolation_that_is_not_there_is_refused_by_name(served: Served) -> None:
    """What no configuration names is refused before anything starts."""
    answer = await served.ask(MUSL, {"isolation": "kata"})
    assert answer.status == 422
    assert "isolation: there is no 'kata', only gvisor" in answer.json["detail"]


async def test_an_engine_without_the_runtime_refuses_by_name(engine: Engine, tmp_path: Path) -> None:
    """Where the engine has no runtime of that name, no sandbox starts without it."""
    async with running(runtime_of(engine.host, isolations={"gvisor": "runsc-elsewhere"})) as runtime:
        with pytest.raises(SandboxStartFailed, match="isolation: the engine has no runtime 'runsc-elsewhere'"):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(isolation="gvisor")))


async def test_limits_that_do_not_hold_are_refused_by_name(gvisor: OwnEngine, tmp_path: Path) -> None:
    """What the engine only says that it limits is no limit: without the operator's leave no sandbox starts so."""
    async with running(runtime_of(gvisor.host, image=MUSL)) as runtime:
        with pytest.raises(SandboxStartFailed, match="memory_bytes: runsc keeps no limits here"):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(isolation="gvisor")))
        assert gvisor("ps", "--all", "--quiet") == ""


async def test_devices_that_would_be_dropped_are_refused_by_name(gvisor: OwnEngine, tmp_path: Path) -> None:
    """What gVisor takes, repeats in the inspection and does not give is refused: it would be missing."""
    asked = SandboxRequest(isolation="gvisor", devices=["/dev/loop-control"])
    settings: dict[str, Any] = {"image": MUSL, "devices_allowed": ("/dev/loop-control",), "limits_unkept_allowed": True}
    runtime = runtime_of(gvisor.host, **settings)
    assert runtime.refuses(asked) == ["devices: 'gvisor' passes none on (docker.isolations_with_devices)"]
    runtime = runtime_of(gvisor.host, **settings, isolations_with_devices=("gvisor",))
    async with running(runtime), serving(runtime, tmp_path, asked) as (worker, _, _):
        assert (await worker.run("[ -e /dev/loop-control ] || echo none"))[1] == b"none\n"


async def test_files_are_read_written_and_edited(served: Served) -> None:
    """The executors of files work on the sandbox's own file system, with a read-only image."""
    session = await served.session(FILE, SMALL)
    written = await session.act("write", {"path": "a/b.txt", "content": "one\ntwo\n"})
    assert (written["outcome"], written["existed"]) == ("ok", False)
    assert (await session.act("read", {"path": "/workspace/a/b.txt"}))["content"] == "one\ntwo\n"
    edit = {"command": "str_replace", "path": "/workspace/a/b.txt", "old_str": "two", "new_str": "2"}
    assert (await session.act("edit", edit))["outcome"] == "ok"
    assert (await session.run("cat a/b.txt"))["output"] == "one\n2\n"
    missing = await session.act("read", {"path": "none"})
    assert (missing["outcome"], missing["reason"]) == ("failed", "not_found")


async def test_outcomes_are_told(served: Served) -> None:
    """A deadline and a cancel end all that was started, across a kill -9 of the daemon, and the lane goes on."""
    session = await served.session(MUSL, ISOLATED)
    nasty = "trap '' TERM INT HUP; (setsid nohup sleep 9 &) & sh -c '(sleep 98 &)'; sleep 97"
    found = await session.run(nasty, timeout_seconds=1)
    assert (found["outcome"], found["deadline"], found["effects"]) == ("timeout", "command", "possible")
    begun = await session.begin("echo begun; sleep 97")
    await served.restart()
    answer = await served.daemon.post(f"{session.path}/actions/{begun}/cancel")
    assert answer.status == 202, answer
    assert (await session.ended(begun))["outcome"] == "cancelled"
    left = await session.run("ps -o args | grep -c '[s]leep 9'")
    assert left["output"] == "0\n"


async def test_an_end_from_outside_is_told(served: Served, gvisor: OwnEngine) -> None:
    """A killed container is `killed` within seconds, the next action meets a new one, and a close leaves nothing."""
    session = await served.session(MUSL, ISOLATED)
    await session.run("true")
    begun = await session.begin("sleep 60")
    container = gvisor("ps", "--quiet", "--filter", f"label={served.label}")
    gvisor("kill", container)
    told = await session.ended(begun, TOLD_SECONDS)
    assert (told["outcome"], told["effects"]) == ("killed", "possible")
    assert (await session.run("echo again"))["output"] == "again\n"
    await closed(served, session)
    assert gvisor("ps", "--all", "--quiet", "--filter", f"label={served.label}") == ""


async def test_a_pause_is_real(served: Served, gvisor: OwnEngine) -> None:
    """The engine freezes a sandbox under gVisor too, and the next action ends the pause."""
    session = await served.session(MUSL, ISOLATED)
    assert (await session.run("v=kept"))["outcome"] == "ok"
    container = gvisor("ps", "--quiet", "--filter", f"label={served.label}")
    await session.ask("pause")

    async def paused() -> bool:
        return gvisor("inspect", "--format", "{{.State.Status}}", container) == "paused"

    await until(paused)
    assert (await session.run("echo $v"))["output"] == "kept\n"


async def test_nothing_needs_to_be_shared(gvisor: OwnEngine, tmp_path: Path) -> None:
    """Over the engine's API alone too a sandbox under gVisor runs, outlives its daemon, and is removed."""
    settings = {"transport": "stdio", "carrier": "volume", "workspace": "layer", "limits_unkept_allowed": "true"}
    async with open_daemon(tmp_path / "d", gvisor.host, **settings) as served:
        session = await served.session(MUSL, ISOLATED)
        begun = await session.begin("v=kept; echo $v >file; sleep 1; head -c 2000000 /dev/zero")
        await served.restart()
        found = await session.ended(begun)
        assert (found["outcome"], found["output_bytes"], found["output_dropped_bytes"]) == ("ok", 2_000_000, 0)
        assert (await session.run("echo $v; cat file; pwd"))["output"] == "kept\nkept\n/workspace\n"
        container = gvisor("ps", "--quiet", "--filter", f"label={served.label}")
        mounts = gvisor("inspect", "--format", "{{range .Mounts}}{{.Type}} {{.Destination}};{{end}}", container)
        assert mounts == "volume /.chronicled;"
        await closed(served, session)
        assert gvisor("ps", "--all", "--quiet", "--filter", f"label={served.label}") == ""
