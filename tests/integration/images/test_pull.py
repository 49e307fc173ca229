"""Pulls from a real registry into a real engine."""

from __future__ import annotations

import base64
import json
import os
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from tests.engine.fixture import MUSL
from tests.integration.images.conftest import OpenImages
from tests.integration.images.registry import PASSWORD, USER, Registry, push, slow_pipe

from chronicled.events.errors import (
    ImageError,
    ImageNotAllowed,
    ImageNotFound,
    ImageUnauthorized,
    ImageUnfit,
    ImageUnreachable,
)
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes.docker.images_found import ResolvedImage


class Reports:
    """Keeps what a listener was told, and when."""

    def __init__(self) -> None:
        self.taken: list[ImageProgress] = []
        self.times: list[float] = []
        self.running = anyio.Event()
        """Set with the first report of a job that runs."""

    async def __call__(self, report: ImageProgress) -> None:
        """Take a report."""
        self.taken.append(report)
        self.times.append(anyio.current_time())
        if report.status == "running":
            self.running.set()


async def test_a_missing_image_is_pulled_and_described(docker: Any, registry: Registry, images: OpenImages) -> None:
    """A pull brings the image, its digest and what its containers begin with; a second look asks no registry."""
    digest = await push(docker, registry, "one:1")
    name = f"{registry.host}/one:1"
    async with images() as store:
        with pytest.raises(ImageNotFound, match="never"):
            await store.resolve(name, "never")
        found = await store.resolve(name)
        assert (found.digest, found.environment, found.architecture) == (digest, ("A=b",), "amd64")
        assert found.pin == digest
        await registry.kill()
        assert await store.resolve(name) == found
        assert (await store.resolve(found.id)).id == found.id
        with pytest.raises(ImageUnreachable, match="cannot reach the registry"):
            await store.resolve(name, "always")


async def test_a_pin_brings_back_the_same_image(docker: Any, registry: Registry, images: OpenImages) -> None:
    """When a tag moves on, a pinned resolve and a digest stay with the old image, also after it was removed here."""
    old = await push(docker, registry, "moving:1")
    name = f"{registry.host}/moving:1"
    async with images() as store:
        first = await store.resolve(name)
        new = await push(docker, registry, "moving:1")
        assert old != new
        again = await store.resolve(name, "always")
        assert again.digest == new
        for reference, pin in ((name, first.pin), (f"{registry.host}/moving@{old}", None)):
            assert (await store.resolve(reference, pinned=pin)).id == first.id
        await docker.images.delete(first.id, force=True)
        assert (await store.resolve(name, pinned=first.pin)).id == first.id


async def test_a_local_image_is_pinned_by_its_id(docker: Any, registry: Registry, images: OpenImages) -> None:
    """An image that no registry has comes back by its id, and is said to be missing once it is gone."""
    digest = await push(docker, registry, "local:1")
    assert digest
    async with images() as store:
        pulled = await store.resolve(f"{registry.host}/local:1")
        await docker.images.tag(pulled.id, "chronicled.invalid/default/kept", tag="1")
        await docker.images.delete(f"{registry.host}/local:1")
        kept = await store.resolve("chronicled.invalid/default/kept:1")
        assert (kept.digest, kept.pin) == (None, pulled.id)
        assert (await store.resolve("chronicled.invalid/default/kept:1", pinned=kept.pin)).id == kept.id
        await docker.images.delete("chronicled.invalid/default/kept:1")
        with pytest.raises(ImageNotFound, match="build it again"):
            await store.resolve("chronicled.invalid/default/kept:1", pinned=kept.pin)


async def test_many_wait_for_one_pull(docker: Any, registry: Registry, images: OpenImages) -> None:
    """Twenty who ask at once share one pull, whoever gives up; each hears at most once a second how far it is."""
    await push(docker, registry, "shared:1", size=3_000_000)
    reports = [Reports() for _ in range(20)]
    found: list[ResolvedImage] = []
    given_up = 0
    async with slow_pipe(registry, 1_000_000) as host, images() as store:

        async def ask(index: int) -> None:
            nonlocal given_up
            with anyio.move_on_after(0.5 if index % 2 else 60) as scope:
                found.append(await store.resolve(f"{host}/shared:1", listener=reports[index]))
            given_up += scope.cancelled_caught

        async with anyio.create_task_group() as tasks:
            for index in range(20):
                tasks.start_soon(ask, index)
    assert (len(found), given_up, len({each.id for each in found})) == (10, 10, 1)
    # The tag was asked for once, by HEAD and GET at most; the engine itself would share layers, but not that.
    assert 1 <= registry.asked.count(b" /v2/shared/manifests/1 ") <= 2
    for index in range(0, 20, 2):
        taken, times = reports[index].taken, reports[index].times
        assert taken[-1].status == "done"
        assert taken[-1].digest == found[0].digest
        assert taken[-1].bytes_done == taken[-1].bytes_total >= 3_000_000
        assert any(0 < each.bytes_done < each.bytes_total for each in taken), "it was told on the way"
        # The first and the last may come at any time.
        assert all(later - earlier > 0.95 for earlier, later in pairwise(times[:-1]))


async def test_the_last_who_gives_up_ends_the_pull(docker: Any, registry: Registry, images: OpenImages) -> None:
    """With nobody left to wait the engine stops; whoever asks later begins anew and gets the image."""
    await push(docker, registry, "left:1", size=8_000_000)
    async with slow_pipe(registry, 2_000_000) as host, images() as store:
        reports = Reports()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(store.resolve, f"{host}/left:1", listener=reports))
            with anyio.fail_after(20):
                await reports.running.wait()
            tasks.cancel_scope.cancel()
        assert reports.taken[-1].status == "running"
        await anyio.sleep(0.3)
        assert [each for each in await docker.images.list() if f"{host}/left:1" in (each["RepoTags"] or [])] == []
        assert (await store.resolve(f"{host}/left:1")).digest


async def test_credentials_come_from_the_file(
    docker: Any, closed_registry: Registry, images: OpenImages, tmp_path: Path
) -> None:
    """No or wrong credentials are refused with what to do, the right ones work, and no text ever holds any of them."""
    registry = closed_registry
    await push(docker, registry, "closed:1")
    name = f"{registry.host}/closed:1"
    path = tmp_path / "config.json"
    async with images() as store:
        with pytest.raises(ImageUnauthorized, match="credentials_file"):
            await store.resolve(name)
    async with images(credentials_file=str(path)) as store:
        with pytest.raises(ImageUnauthorized, match="cannot be read"):
            await store.resolve(name)
        wrong = base64.b64encode(f"{USER}:wrong-password".encode()).decode()
        path.write_text(json.dumps({"auths": {registry.host: {"auth": wrong}}}))
        with pytest.raises(ImageUnauthorized, match="credentials_file") as refused:
            await store.resolve(name)
        assert "wrong-password" not in refused.value.detail
        assert wrong not in refused.value.detail
        right = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        path.write_text(json.dumps({"auths": {f"https://{registry.host}/v2/": {"auth": right}}}))
        reports = Reports()
        assert (await store.resolve(name, listener=reports)).digest
        assert PASSWORD not in repr(reports.taken)


async def test_only_named_registries_are_asked(
    docker: Any, registry: Registry, closed_registry: Registry, images: OpenImages
) -> None:
    """What is not of a listed place is refused by name before any registry is asked; what is here may be used."""
    await push(docker, registry, "team/app:1")
    await push(docker, registry, "team-two/app:1")
    allowed, refused = f"{registry.host}/team/app:1", f"{registry.host}/team-two/app:1"
    async with images(registries=(f"{registry.host}/team",)) as store:
        assert (await store.resolve(allowed)).digest
        for name in (refused, f"{closed_registry.host}/team/app:1", "nowhere.invalid/x"):
            # Nobody has the last one's host: had it been asked, it would be unreachable.
            with pytest.raises(ImageNotAllowed, match=rf"{registry.host}/team\b"):
                await store.resolve(name)
        assert (await store.resolve(MUSL)).id
        with pytest.raises(ImageNotAllowed):
            await store.resolve(MUSL, "always")
    async with images() as store:
        assert (await store.resolve(refused)).digest, "the negative control: without the list it is there to be had"


async def test_a_registry_that_repeats_credentials(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """What a registry was told of us and says again, as it came or decoded, is in no error."""

    async def answer(request: web.Request) -> web.Response:
        said = request.headers.get("Authorization", "")
        if not said:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        if request.path == "/v2/":
            return web.Response()
        told.append(said)
        plain = base64.b64decode(said.removeprefix("Basic ")).decode()
        words = f"not for you, {plain} that is {said}, {PASSWORD.encode().hex()}"
        return web.json_response({"errors": [{"code": "DENIED", "message": words}]}, status=403)

    told: list[str] = []
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
        host = f"127.0.0.1:{runner.addresses[0][1]}"
        encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"auths": {host: {"auth": encoded}}}))
        async with images(credentials_file=str(path), pull_attempts=1) as store:
            with pytest.raises(ImageUnauthorized, match="not for you") as refused:
                await store.resolve(f"{host}/any:1")
        await site.stop()
    finally:
        await runner.cleanup()
    assert set(told) == {f"Basic {encoded}"}
    assert PASSWORD not in refused.value.detail
    assert encoded not in refused.value.detail
    assert PASSWORD.encode().hex() not in refused.value.detail


async def test_what_is_wrong_is_told_by_name(docker: Any, registry: Registry, images: OpenImages) -> None:
    """An unknown tag, repository and digest, a closed port and another machine's image each have their own error."""
    await push(docker, registry, "there:1")
    await push(docker, registry, "foreign:1", architecture="arm64")
    async with images(pull_attempts=1) as store:
        for name in ("there:2", "nowhere:1", f"there@sha256:{'0' * 64}"):
            with pytest.raises(ImageNotFound, match="check name, tag and digest"):
                await store.resolve(f"{registry.host}/{name}")
        with pytest.raises(ImageUnreachable, match="cannot reach"):
            await store.resolve("127.0.0.1:1/there:1")
        with pytest.raises(ImageUnfit, match="arm64"):
            await store.resolve(f"{registry.host}/foreign:1")


async def test_bytes_that_are_not_the_digest_are_refused(docker: Any, registry: Registry, images: OpenImages) -> None:
    """A registry whose layer was tampered with, or that answers a digest with another manifest, gives nothing."""
    digest = await push(docker, registry, "tampered:1", size=5000)
    blobs = registry.storage / "docker/registry/v2/blobs/sha256"
    largest = max(blobs.glob("*/*/data"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    async with images(pull_attempts=1, pull_seconds=60) as store:
        with pytest.raises(ImageUnfit, match="registry's bytes"):
            await store.resolve(f"{registry.host}/tampered:1")
        other = await push(docker, registry, "other:1")
        manifest = blobs / digest[7:9] / digest[7:] / "data"
        manifest.write_bytes((blobs / other[7:9] / other[7:] / "data").read_bytes())
        with pytest.raises(ImageError):
            await store.resolve(f"{registry.host}/tampered@{digest}")
        assert not [each for each in await docker.images.list() if "tampered" in str(each["RepoTags"])]


async def test_a_registry_that_dies_on_the_way(docker: Any, registry: Registry, images: OpenImages) -> None:
    """A pull outlives a restart of its registry, and ends with an error in its time where the registry stays away."""
    await push(docker, registry, "dying:1", size=24_000_000)
    await push(docker, registry, "dead:1", size=24_000_000)
    async with slow_pipe(registry, 6_000_000) as host, images(pull_seconds=6.0, pull_attempts=1) as short:
        errors: list[ImageError] = []

        async def ask() -> None:
            with pytest.raises(ImageError) as failed:
                await short.resolve(f"{host}/dead:1")
            errors.append(failed.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(1)
            await registry.kill()
        assert "within 6 s" in errors[0].detail or isinstance(errors[0], ImageUnreachable)
        async with images() as patient, anyio.create_task_group() as tasks:
            await registry.start()
            tasks.start_soon(patient.resolve, f"{host}/dying:1")
            await anyio.sleep(1)
            await registry.kill()
            await registry.start()


def test_the_registry_of_the_tests_is_real(registry_program: str) -> None:
    """What these tests pull from is Debian's registry and not a stand-in."""
    assert os.access(registry_program, os.X_OK)
