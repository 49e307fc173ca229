"""Carriers that nobody has any more are collected; any that a container or process may need is not."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import msgspec
import pytest
from tests.engine.fixture import MUSL, Engine
from tests.integration.docker.host import EngineImages, OwnCarriers, docker, runtime_of

from chronicled.runtimes.carrier.listing import MANIFEST_NAME, Manifest
from chronicled.runtimes.docker import carriage, labels
from chronicled.runtimes.docker.carriage import UNUSED_SECONDS, CarrierDirectory, CarrierVolume

TARGET = "/.chronicled"


def old_carrier(directory: Path, age_seconds: float = UNUSED_SECONDS + 60) -> Path:
    """Make a folder that has all of a carrier but its content, used so long ago."""
    digest = uuid.uuid4().hex * 2
    made = directory / f"sha256-{digest}-amd64"
    (made / "lib").mkdir(parents=True)
    manifest = Manifest(
        architecture="amd64", build="0", protocol=1, protocol_min=1, packages={}, wheels={}, digest=digest
    )
    (made / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))
    (made / "lib").chmod(0o555)
    made.chmod(0o555)
    at = time.time() - age_seconds
    os.utime(made, (at, at))
    return made


async def test_directories_go_that_no_container_has(tmp_path: Path, engine: Engine) -> None:
    """Those that a running or a stopped container has stay, whoever made it, and so do the present and a young one."""
    runtime = runtime_of()
    source = CarrierDirectory(str(tmp_path))
    containers: list[str] = []
    try:
        present = Path((await source.carrier(engine.architecture)).path)
        os.utime(present, (1, 1))
        run, stopped, free, also_free = (old_carrier(tmp_path) for _ in range(4))
        young = old_carrier(tmp_path, 60)
        (tmp_path / "another's").mkdir()
        for verb, folder in (("run", run), ("create", stopped)):
            detached = ("--detach",) if verb == "run" else ()
            words = (verb, *detached, "--network", "none", "--volume", f"{folder}:{TARGET}:ro", MUSL, "sleep", "600")
            containers.append(engine(*words))
        assert sorted(await source.collect(runtime.engine)) == sorted(map(str, (free, also_free)))
        kept = {present, run, stopped, young, tmp_path / "another's"}
        assert set(map(Path, os.listdir(tmp_path))) - {Path("layers")} == {Path(path.name) for path in kept}
    finally:
        docker("rm", "--force", *containers)
        await runtime.engine.aclose()


async def test_what_a_process_has_stays_whichever_engine_it_is_of(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A carrier in the view of a process of this machine is in use, though our engine knows nothing of it."""
    runtime = runtime_of()
    source = CarrierDirectory(str(tmp_path))
    folder = old_carrier(tmp_path)
    mount = f"{folder}:{TARGET}:ro"
    container = engine("run", "--detach", "--network", "none", "--volume", mount, MUSL, "sleep", "600")

    async def none() -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(runtime.engine, "mounted", none)
    try:
        assert await source.collect(runtime.engine) == []
        docker("rm", "--force", container)
        assert await source.collect(runtime.engine) == [str(folder)]
    finally:
        docker("rm", "--force", container)
        await runtime.engine.aclose()


async def test_volumes_go_that_no_container_has(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old volumes of other carriers go; the present one, one of any container, young ones and foreign ones stay."""
    runtime = runtime_of()
    source = CarrierVolume(OwnCarriers(str(tmp_path)))
    names = [f"chronicled-test-{uuid.uuid4().hex[:12]}" for _ in range(3)]
    free, held, foreign = names
    container = ""
    try:
        facts = await runtime.engine.facts()
        image = await EngineImages(runtime.engine).resolve(MUSL)
        present = (await source.mount(runtime.errands, facts, image.id)).source
        names.append(present)
        for name in (free, held):
            await runtime.engine.make_volume(name, {labels.CARRIER: name})
        engine("volume", "create", "--label", "chronicled.carried=x", foreign)
        container = engine("create", "--volume", f"{held}:{TARGET}:ro", MUSL)
        assert not {free, held} & set(await source.collect(runtime.engine))
        listing = runtime.engine.volumes

        async def of_this_test(label: str) -> dict[str, str]:
            return {name: made for name, made in (await listing(label)).items() if name in names}

        monkeypatch.setattr(runtime.engine, "volumes", of_this_test)
        # As if a week had passed.
        monkeypatch.setattr(carriage, "VOLUME_SECONDS", -60.0)
        removed = await source.collect(runtime.engine)
        assert free in removed
        assert not {held, foreign, present} & set(removed)
        assert {held, foreign, present} <= set(engine("volume", "ls", "--quiet").split())
    finally:
        docker("rm", "--force", container)
        docker("volume", "rm", "--force", *names)
        await runtime.engine.aclose()
