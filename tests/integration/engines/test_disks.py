"""Limits of disk space: an engine that keeps them, one whose driver only could, and one that cannot."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.engine.disks import BtrfsEngine, XfsEngine
from tests.engine.fixture import MUSL, REMEDY, Engine
from tests.engine.own import OwnEngine, own_engine
from tests.integration.docker.host import running, runtime_of, serving
from tests.integration.engines.served import Served, Session, closed, open_daemon

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import SandboxRequest, Volume
from chronicled.runtimes.testing import make_spec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("carrier")]

LIMIT: Final = 24 << 20
MORE: Final = 64 << 20
FILL: Final = f"dd if=/dev/zero of=fill bs=65536 count={MORE >> 16}; echo $?; wc -c <fill"


def opened(engine: Engine, kind: type[BtrfsEngine]) -> Generator[OwnEngine]:
    """Run an engine with a file system of its own."""
    if missing := kind.missing():
        remedy = REMEDY.replace("start ", "start btrfs-progs:mkfs.btrfs xfsprogs:mkfs.xfs ")
        pytest.skip(f"a file system of its own needs {', '.join(missing)}; {remedy}")
    try:
        with own_engine(engine, [MUSL], kind) as own:
            yield own
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this kernel does not mount what {kind.program} makes: {error.stderr.decode(errors='replace')}")


@pytest.fixture(scope="module")
def limiting(engine: Engine) -> Generator[OwnEngine]:
    """An engine that limits disks."""
    yield from opened(engine, BtrfsEngine)


@pytest.fixture(scope="module")
def unlimited(engine: Engine) -> Generator[OwnEngine]:
    """An engine with the driver and the file system that could, but not mounted so."""
    yield from opened(engine, XfsEngine)


async def filled(session: Session) -> tuple[dict[str, Any], int]:
    """Write more than the limit; return the observation, and how much there is afterwards."""
    found = await session.run(FILL)
    code, size = found["output"].split()[-2:]
    return {**found, "exit_code": int(code)}, int(size)


async def test_a_limit_of_disk_holds(limiting: OwnEngine, tmp_path: Path) -> None:
    """What goes beyond it fails as on a full disk, in commands and in the executors of files; all else is as it was."""
    async with open_daemon(tmp_path / "d", limiting.host, workspace="layer") as served:
        limited = await served.session(MUSL, {"disk_bytes": LIMIT})
        free = await served.session(MUSL)
        for session in (limited, free):
            assert (await session.run("echo kept >before && sync && stat -c %u:%a ."))["output"] == "1000:755\n"
        container = limiting("ps", "--quiet", "--filter", f"name={await limited.container()}")
        assert limiting("inspect", "--format", "{{.HostConfig.StorageOpt.size}}", container) == str(LIMIT)

        found, size = await filled(limited)
        assert (found["exit_code"], "Disk quota exceeded" in found["output"]) == (1, True)
        assert LIMIT // 4 < size <= LIMIT
        written = await limited.act("write", {"path": "more", "content": "x" * 900_000})
        assert (written["outcome"], written["reason"]) == ("failed", "no_space")
        assert (await limited.run("cat before"))["output"] == "kept\n"

        # The negative control, and the neighbour who feels nothing of it.
        found, size = await filled(free)
        assert (found["exit_code"], size) == (0, MORE)

        assert (await limited.run("rm fill; sync; echo again >after; cat after"))["output"] == "again\n"
        await gone(served, limited, free)
        assert limiting("ps", "--all", "--quiet") == ""


async def gone(served: Served, first: Session, last: Session) -> None:
    """Close both."""
    await first.close()
    await closed(served, last)


async def test_the_limit_is_of_the_layer_alone(limiting: OwnEngine, tmp_path: Path) -> None:
    """What is mounted does not count, as it is said: neither the session's own files, nor what is in memory."""
    runtime = runtime_of(limiting.host, image=MUSL, root_allowed=True)
    request = SandboxRequest(disk_bytes=LIMIT, user="0:0")
    async with running(runtime), serving(runtime, tmp_path, request) as (worker, _, _):
        for place, code in (("/workspace", 0), ("/tmp", 0), ("/etc", 1)):
            result, _ = await worker.run(f"dd if=/dev/zero of={place}/fill bs=65536 count={MORE >> 16}")
            assert result.fields["exit_code"] == code, place


@pytest.mark.parametrize("place", ["", "data", "data/btrfs", "docker.sock"])
async def test_an_engines_own_files_are_not_mounted(limiting: OwnEngine, tmp_path: Path, place: str) -> None:
    """Wherever an engine has its socket and its data, a volume that would show them is refused, allowed or not."""
    source = str(limiting.directory / place)
    runtime = runtime_of(limiting.host, image=MUSL, volumes_allowed=(str(limiting.directory),))
    async with running(runtime):
        request = SandboxRequest(volumes=[Volume(source=source, target="/mnt")])
        with pytest.raises(SandboxStartFailed, match=r"volumes: .*(which no sandbox may see|neither a directory)"):
            await runtime.start(make_spec(tmp_path, request=request))


async def test_what_an_image_keeps_elsewhere_is_no_way_around_it(limiting: OwnEngine, tmp_path: Path) -> None:
    """Volumes that an image declares have no limit: with one they are refused by name, unless something covers them."""
    container = limiting("create", MUSL, "/true")
    limiting("commit", "--change", "VOLUME /data", container, "with-volume:1")
    limiting("rm", container)
    runtime = runtime_of(limiting.host, image="with-volume:1")
    async with running(runtime):
        with pytest.raises(SandboxStartFailed, match="disk_bytes: the image declares volumes"):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(disk_bytes=LIMIT)))
        request = SandboxRequest(disk_bytes=LIMIT, tmpfs={"/data": 1 << 20})
        async with serving(runtime, tmp_path / "covered", request) as (worker, _, _):
            assert (await worker.run("stat -f -c %T /data"))[1] == b"tmpfs\n"


async def test_an_engine_whose_driver_only_could_is_refused_by_name(unlimited: OwnEngine, tmp_path: Path) -> None:
    """An engine that looks as if it could and cannot says so at the making: no sandbox starts without its limit."""
    runtime = runtime_of(unlimited.host, image=MUSL)
    async with running(runtime):
        assert (await runtime.engine.facts()).limits_disk
        told = r"disk_bytes: the engine's storage driver \(overlay2 on xfs\) cannot limit it: .*pquota"
        with pytest.raises(SandboxStartFailed, match=told):
            await runtime.start(make_spec(tmp_path, request=SandboxRequest(disk_bytes=LIMIT)))
        assert unlimited("ps", "--all", "--quiet") == ""
        async with serving(runtime, tmp_path) as (worker, _, _):
            assert (await worker.run("echo without"))[1] == b"without\n"
