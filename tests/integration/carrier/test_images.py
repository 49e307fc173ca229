"""The carrier in unmodified images, under every restriction that a sandbox may have."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.engine.fixture import FILE, IMAGES, Engine
from tests.integration.carrier.containers import LABEL, container

from chronicled.events.outcome import Outcome
from chronicled.runtimes.carrier import MOUNT_PATH, Carrier, carrier_archive

RUBBISH_OPTIONS: Final = tuple(
    word
    for setting in (
        "PYTHONHOME=/rubbish",
        "PYTHONPATH=/rubbish",
        "PYTHONSTARTUP=/rubbish",
        "PYTHONMALLOC=rubbish",
        "PYTHONHASHSEED=rubbish",
        "LD_LIBRARY_PATH=/lib:/usr/lib/x86_64-linux-gnu:/rubbish",
        "LC_ALL=rubbish",
        "BASH_ENV=/rubbish",
        "ENV=/rubbish",
        "TMPDIR=/rubbish",
    )
    for word in ("--env", setting)
)
RESTRICTIONS: Final = {
    "default": (),
    "read-only": ("--read-only",),
    "no-capabilities": ("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    "uid": ("--user", "12345:12345"),
    "no-network": ("--network", "none"),
    "init": ("--init", "--network", "none"),
    "rubbish": (*RUBBISH_OPTIONS, "--network", "none"),
    "all": (
        *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "12345:12345"),
        *("--network", "none", "--init", *RUBBISH_OPTIONS),
    ),
}


@pytest.fixture(scope="module")
def volume(engine: Engine, carrier: Carrier) -> Iterator[str]:
    """A named volume that the engine's archive API has filled with the carrier."""
    name = f"carrier-{uuid.uuid4().hex[:12]}"
    engine("volume", "create", "--label", LABEL, name)
    filler = engine("create", "--label", LABEL, "--volume", f"{name}:{MOUNT_PATH}", FILE, "/none")
    engine("cp", "-", f"{filler}:{MOUNT_PATH}", data=b"".join(carrier_archive(carrier.path)))
    engine("rm", filler)
    yield name
    engine("volume", "rm", name)


@pytest.mark.parametrize("restriction", RESTRICTIONS)
@pytest.mark.parametrize("image", IMAGES)
async def test_any_image_runs_commands_by_bind_mount(
    engine: Engine, carrier: Carrier, tmp_path: Path, image: str, restriction: str
) -> None:
    """An unmodified image reaches Hello and answers its first command, whatever it holds and however it is confined."""
    async with container(engine, tmp_path, image, carrier.path, RESTRICTIONS[restriction]) as (worker, _):
        result, output = await worker.run("echo hi")
        assert (result.outcome, output) == (Outcome.OK, b"hi\n")


@pytest.mark.parametrize("restriction", RESTRICTIONS)
@pytest.mark.parametrize("image", IMAGES)
async def test_any_image_runs_commands_by_volume(
    engine: Engine, volume: str, tmp_path: Path, image: str, restriction: str
) -> None:
    """The same from a named volume, for engines that cannot see this machine's folders."""
    async with container(engine, tmp_path, image, volume, RESTRICTIONS[restriction]) as (worker, _):
        result, output = await worker.run("echo hi")
        assert (result.outcome, output) == (Outcome.OK, b"hi\n")
