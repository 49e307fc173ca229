"""Images that bring files, links or volumes of their own to where the carrier is mounted, and images of sandboxes."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.fixture import DEBIAN, MUSL, Engine
from tests.integration.docker.host import EngineImages, OwnCarriers, docker, running, runtime_of, serving

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.docker import environment
from chronicled.runtimes.docker.carriage import CarrierVolume
from chronicled.runtimes.docker.ground import Ground
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import make_spec

Build = Callable[[str], str]

PROGRAM = "printf '#!/bin/sh\\nsleep 600\\n'"
SHADOW = f"""
RUN mkdir -p /v/c/bin /v/c/run && {PROGRAM} >/v/c/bin/python3 && chmod -R a+rx /v && ln -s /v/c /.chronicled
VOLUME /v
"""
"""The carrier would be mounted at `/v/c`, and the image's volume over that."""
COVER = """
RUN mkdir -p /.chronicled/lib/site && echo 'import evil' >/.chronicled/lib/site/evil.py
VOLUME /.chronicled/lib/site
"""
SITE = "/.chronicled/lib/site"
SERVER = f"{SITE}/chronicled/runtimes/action_server"
LINKED_COVER = f"""
RUN mkdir -p {SERVER} && echo 'import time; time.sleep(600)' >{SERVER}/bootstrap.py && ln -s {SITE} /x
VOLUME /x
"""
WHOLE = "RUN mkdir -p /.chronicled && touch /.chronicled/whole && echo evil >/.chronicled/evil\n"


@pytest.fixture
def build(engine: Engine) -> Iterator[Build]:
    """Build images upon the one for tests; they go with the test."""
    made: list[str] = []

    def make(steps: str) -> str:
        name = f"chronicled-interfering-{uuid.uuid4().hex[:12]}:1"
        engine("build", "--quiet", "--tag", name, "-", data=f"FROM {MUSL}\n{steps}".encode())
        made.append(name)
        return name

    yield make
    for name in made:
        docker("rmi", "--force", name)


async def refusal(runtime: DockerRuntime, directory: Path, image: str) -> str:
    """Start a sandbox, which fails; return why."""
    spec = make_spec(directory, image=image)
    with pytest.raises(SandboxStartFailed) as failed:
        await runtime.start(spec)
    return failed.value.detail


@pytest.mark.parametrize("steps", [SHADOW, COVER, LINKED_COVER, WHOLE], ids=["shadow", "cover", "linked", "files"])
async def test_nothing_of_an_image_is_ever_run_as_the_action_server(tmp_path: Path, build: Build, steps: str) -> None:
    """An image with anything of its own where the carrier belongs is refused by name, before anything of it runs."""
    runtime = runtime_of()
    async with running(runtime):
        assert (await refusal(runtime, tmp_path, build(steps))).startswith("image: ")
        assert docker("ps", "--all", "--quiet", "--filter", f"label=chronicled.instance={runtime.instance}") == ""


LOCALE = """
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 LC_CTYPE=C.UTF-8 LANGUAGE=en TZ=Europe/Berlin OPENSSL_CONF=/etc/ssl/openssl.cnf
"""
"""Variables by which the C library and OpenSSL find files, and code to load, in the image."""


def mapped(container: str) -> set[str]:
    """Return the files that the carried interpreter has in its memory, in every process of the container."""
    found: set[str] = set()
    for process in docker("top", container, "-eo", "pid").split()[1:]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
            if os.readlink(f"/proc/{process}/exe").endswith("/.chronicled/bin/python3"):
                lines = Path(f"/proc/{process}/maps").read_text().splitlines()
                found |= {line.split(maxsplit=5)[5] for line in lines if " /" in line}
    return found


async def test_the_action_server_maps_nothing_of_an_image(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its locales, nor what converts their character sets, nor its libraries; commands see what it sets."""
    runtime = runtime_of()
    name = f"chronicled-interfering-{uuid.uuid4().hex[:12]}:1"
    engine("build", "--quiet", "--tag", name, "-", data=f"FROM {DEBIAN}\n{LOCALE}".encode())
    try:
        async with running(runtime), serving(runtime, tmp_path, image=name) as (worker, sandbox, _):
            _, output = await worker.run("echo $LANG $LC_ALL $TZ $OPENSSL_CONF; printf 'a\\303\\244' | wc -m")
            assert output == b"C.UTF-8 C.UTF-8 Europe/Berlin /etc/ssl/openssl.cnf\n2\n"
            made = await worker.dispatch("edit", {"command": "create", "path": "n\u00e4me", "file_text": "\u00e4"})
            assert (await worker.result(made)).outcome == "ok"
            assert (await worker.run("cat n\u00e4me"))[1] == "\u00e4".encode()
            files = mapped(str(sandbox.handle["container"]))
            assert files
            assert {file for file in files if not file.startswith(("/.chronicled/", "/memfd:"))} == set()
        # Negative control: with the image's own words for it, something of the image is in its memory.
        monkeypatch.setattr(environment, "OWN", {"LC_ALL": "C.UTF-8"})
        async with running(runtime_of()) as other, serving(other, tmp_path, image=name) as (_, sandbox, _):
            files = mapped(str(sandbox.handle["container"]))
            assert any(file.startswith("/usr/lib/") for file in files)
    finally:
        docker("rmi", "--force", name)


@pytest.mark.parametrize("steps", [SHADOW, LINKED_COVER], ids=["shadow", "linked"])
async def test_what_covers_the_carrier_is_read_back(
    tmp_path: Path, build: Build, steps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the image not looked at beforehand, the container would be found not to be as it was ordered, and ended."""

    async def see_nothing(_ground: Ground, _image: object) -> None:
        return None

    monkeypatch.setattr(Ground, "check", see_nothing)
    runtime = runtime_of()
    async with running(runtime):
        reason = await refusal(runtime, tmp_path, build(steps))
        assert "/.chronicled" in reason
        assert "not as it was ordered" in reason


async def test_an_image_that_was_made_of_a_sandbox_can_be_used_again(tmp_path: Path, engine: Engine) -> None:
    """Empty folders at the carrier's place, as a commit of a sandbox has them, are no obstacle."""
    runtime = runtime_of()
    name = f"chronicled-committed-{uuid.uuid4().hex[:12]}:1"
    async with running(runtime):
        async with serving(runtime, tmp_path, image=MUSL) as (worker, sandbox, _):
            await worker.run("echo kept >/tmp/kept; cp /tmp/kept /workspace/kept")
            engine("commit", sandbox.handle["container"], name)
        try:
            async with serving(runtime, tmp_path, image=name) as (worker, _, _):
                _, output = await worker.run("echo again")
                assert output == b"again\n"
        finally:
            docker("rmi", "--force", name)


async def test_a_container_of_an_image_that_was_made_of_a_sandbox_is_left_alone(tmp_path: Path, engine: Engine) -> None:
    """It has all labels of the sandbox, by which a sweep knows ours; the sandbox itself goes, under any name."""
    runtime = runtime_of()
    name = f"chronicled-committed-{uuid.uuid4().hex[:12]}:1"
    foreign = ""
    async with running(runtime):
        spec = make_spec(tmp_path, image=MUSL, position=1)
        sandbox = await runtime.start(spec)
        container = str(sandbox.handle["container"])
        engine("commit", container, name)
        try:
            foreign = engine("run", "--detach", "--network", "none", "--entrypoint", "sleep", name, "600")
            engine("rename", container, f"renamed-{uuid.uuid4().hex[:8]}")
            assert await runtime.sweep((), 100) == [spec.sandbox]
            left = engine("ps", "--all", "--quiet", "--no-trunc").split()
            assert foreign in left
            assert container not in left
        finally:
            docker("rm", "--force", foreign)
            docker("rmi", "--force", name)


async def test_no_image_gets_into_the_volume_of_the_carrier(build: Build, engine: Engine, tmp_path: Path) -> None:
    """A volume is filled by us alone, though the engine fills empty ones from the image: else it were everybody's."""
    image = build(WHOLE)
    runtime = runtime_of()
    source = CarrierVolume(OwnCarriers(str(tmp_path / "carriers")))
    volume = ""
    try:
        facts = await runtime.engine.facts()
        found = await EngineImages(runtime.engine).resolve(image)
        mount = await source.mount(runtime.errands, facts, found.id)
        volume = mount.source
        look = ("run", "--rm", "--network", "none", "--volume", f"{volume}:/x", DEBIAN, "ls", "-A", "/x")
        listed = engine(*look).split()
        assert sorted(listed) == ["bin", "lib", "manifest.json", "run", "whole"]
        # Removed behind our back, it is made and filled anew, and not mounted empty.
        engine("volume", "rm", volume)
        await source.mount(runtime.errands, facts, found.id)
        assert engine(*look).split() == listed
    finally:
        await runtime.engine.aclose()
        if volume:
            docker("volume", "rm", volume)


async def test_errands_that_a_crash_left_are_swept_and_others_are_not(engine: Engine) -> None:
    """A container that was only made for a look into an image goes with the next sweep, unless somebody is at it."""
    runtime, other = runtime_of(), runtime_of()
    image = engine("image", "inspect", "--format", "{{.Id}}", MUSL)
    async with running(runtime), running(other):
        async with runtime.errands.run(image) as present, other.errands.run(image) as foreign:
            again = runtime_of(instance=runtime.instance)
            async with again.errands.run(image) as own:
                assert await runtime.sweep((), 100) == []
                names = engine("ps", "--all", "--format", "{{.Names}}").split()
                # Of the same instance, and none of this process: nobody would ever remove it.
                assert own not in names
            assert {present, foreign} <= set(names)
            await again.engine.aclose()
        names = engine("ps", "--all", "--format", "{{.Names}}").split()
        assert not {present, foreign, own} & set(names)


async def test_a_copy_of_a_log_leaves_the_sandboxes_of_the_first_alone(tmp_path: Path) -> None:
    """Found by its handle alone, a container of another instance is neither taken over nor ended nor removed."""
    first, copy = runtime_of(), runtime_of()
    async with running(first), running(copy), serving(first, tmp_path, position=1) as (worker, sandbox, spec):
        assert await copy.attach(sandbox.handle, spec) is None
        assert await copy.epitaph(sandbox.handle, spec) == "another_instance"
        await copy.remove(spec.sandbox)
        assert await copy.sweep((), 100) == []
        _, output = await worker.run("echo alive")
        assert output == b"alive\n"
        found: Any = await first.attach(sandbox.handle, spec)
        assert found is not None
