"""Builds on a real engine, from contexts of the tests' own."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
from tests.engine.fixture import IMAGES, MUSL
from tests.integration.images.conftest import OpenImages
from tests.integration.images.registry import archive
from tests.integration.images.test_pull import Reports

from chronicled.events.errors import ImageBuildFailed, ImageNotFound, InvalidRequest
from chronicled.runtimes.docker.images_build import BuildRequest
from chronicled.runtimes.docker.images_reference import built_name

pytestmark = pytest.mark.usefixtures("engine")


def request(directory: Path, name: str, dockerfile: str, tenant: str = "default", **changes: Any) -> BuildRequest:
    """Return the build of a Dockerfile with one file beside it."""
    data = archive({"Dockerfile": dockerfile.encode(), "file": b"from the context\n"})
    path = directory / f"{hashlib.sha256(data).hexdigest()}.tar"
    path.write_bytes(data)
    values: dict[str, Any] = {"context": str(path), "context_digest": hashlib.sha256(data).hexdigest(), **changes}
    return BuildRequest(name=built_name(tenant, name), tenant=tenant, **values)


async def steps(docker: Any, mark: str) -> list[str]:
    """Return the containers of build steps whose command holds the mark; others use the engine too."""
    return [each.id for each in await docker.containers.list(all=1) if mark in each["Command"]]


async def test_a_build_is_made_once_for_the_same_inputs(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """Ten who ask for one build share it, its steps are told, and the same inputs bring the same image at once."""
    dockerfile = (
        f"FROM {MUSL}\nARG word\nCOPY file /copied\nRUN echo $word > /made && sleep 3 # {uuid4()}\nENV BUILT=yes\n"
    )
    wanted = request(tmp_path, "once:1", dockerfile, arguments={"word": "hello"})
    reports = Reports()
    async with images() as store:
        ids: list[str] = []

        async def ask(listener: Reports | None) -> None:
            ids.append((await store.builds.build(wanted, listener)).id)

        async with anyio.create_task_group() as tasks:
            for index in range(10):
                tasks.start_soon(ask, reports if index == 0 else None)
        assert len(set(ids)) == 1
        assert reports.taken[-1].status == "done"
        assert reports.taken[-1].digest == ids[0]
        assert any(each.step.startswith("Step 4/7 : RUN") for each in reports.taken), reports.taken
        assert {each.phase for each in reports.taken} == {"build"}
        again = await store.builds.build(wanted)
        assert (again.id, again.environment[-1]) == (ids[0], "BUILT=yes")
        other = await store.builds.build(request(tmp_path, "once:1", dockerfile, arguments={"word": "other"}))
        assert other.id != ids[0]
        found = await store.resolve("chronicled.invalid/default/once:1", "always")
        assert found.id == other.id, "what is built here is never asked of a registry"


async def test_a_build_has_no_network_and_its_limits(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """Steps see no interface but the loopback and the memory that the settings give, unless the settings say more."""
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>&-"
    fail = f"FROM {MUSL}\nRUN echo NET $(ls /sys/class/net) MEM $({limit}); exit 3\n"
    async with images(build_memory_bytes=64 << 20) as store:
        with pytest.raises(ImageBuildFailed, match=r"NET lo MEM 67108864") as failed:
            await store.builds.build(request(tmp_path, "limits", fail))
        assert "returned a non-zero code: 3" in failed.value.detail
    async with images(build_network="default") as store:
        with pytest.raises(ImageBuildFailed, match=r"NET eth0 lo"):
            await store.builds.build(request(tmp_path, "limits", fail, fresh=True))


async def test_what_is_wrong_with_a_build_is_told(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """A missing base, a broken Dockerfile, a missing file and what is no archive each end with what went wrong."""
    mark = str(uuid4())
    async with images(pull_attempts=1) as store:
        with pytest.raises(ImageNotFound, match="gone or was never built"):
            await store.resolve("chronicled.invalid/default/never:1")
        for dockerfile, words in (
            ("FRUM x\n", "unknown instruction"),
            (f"FROM {MUSL}\nCOPY nothing /x\n", "nothing"),
            (f"FROM {MUSL}\nRUN echo printed-before {mark}; false\n", "printed-before"),
        ):
            with pytest.raises(ImageBuildFailed, match=words):
                await store.builds.build(request(tmp_path, "wrong", dockerfile))
        broken = tmp_path / "broken.tar"
        broken.write_bytes(b"this is no archive" * 100)
        wanted = request(tmp_path, "wrong", "FROM scratch\n", context=str(broken), context_digest="0" * 64)
        with pytest.raises(ImageBuildFailed):
            await store.builds.build(wanted)
    assert await steps(docker, mark) == []


async def test_a_build_that_nobody_waits_for_ends(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """With its last waiter gone, or its time over, a build is ended by the engine and leaves no container behind."""
    mark = str(uuid4())
    wanted = request(tmp_path, "slow", f"FROM {MUSL}\nRUN sleep 600 # {mark}\n")
    async with images() as store:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.builds.build, wanted)
            async with asyncio.timeout(20):
                while not await steps(docker, mark):
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        async with images(build_seconds=2.0) as short:
            with pytest.raises(ImageBuildFailed, match="within 2 s"):
                await short.builds.build(wanted)
    async with asyncio.timeout(20):
        while await steps(docker, mark):
            await anyio.lowlevel.checkpoint()


def test_names_of_tenants_never_meet() -> None:
    """Each tenant's names lie apart, whatever its name holds, and a registry's image cannot be overwritten."""
    names = {built_name(tenant, "a:1").full for tenant in ("a", "A", "a.b", "a-b", "a_b", "a--b", "default")}
    assert len(names) == 7
    for name in (
        "127.0.0.1:5000/debian",
        "debian@sha256:" + "0" * 64,
        "UPPER",
        "",
        "a/../b",
        "registry.example/x/../y",
    ):
        with pytest.raises(InvalidRequest):
            built_name("default", name)
    assert built_name("a", "b/c").full == "chronicled.invalid/a/b/c:latest"
    # What looks like a registry is a path below the tenant's own.
    assert built_name("a", "docker.io/library/debian:12").full.startswith("chronicled.invalid/a/")


async def test_what_is_ours_is_listed_and_pruned(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """Pruning takes what we brought and nobody uses, by name and never by force; what others brought stays."""
    # Of those that stay: other tests beside this one make images and remove them.
    foreign = {(await docker.images.inspect(name))["Id"] for name in IMAGES}
    async with images(keep_seconds=0.0) as store:
        for index in range(3):
            await store.builds.build(request(tmp_path, f"kept:{index}", f"FROM {MUSL}\nRUN echo {index} > /x\n"))
        mine = await store.builds.build(request(tmp_path, "kept:1", f"FROM {MUSL}\nRUN echo 1 > /x\n", tenant="other"))
        shown = {each.reference: each for each in await store.cache.images("default")}
        assert "chronicled.invalid/other/kept:1" not in shown
        assert shown["chronicled.invalid/default/kept:0"].origin == "built"
        assert shown["docker.io/" + MUSL].origin == "found"
        used = await docker.containers.create({"Image": "chronicled.invalid/default/kept:2", "Cmd": ["true"]})
        try:
            assert [each.reference for each in await store.cache.prune(unused_seconds=3600)] == []
            gone = [each.reference for each in await store.cache.prune(tenant="default")]
            assert gone == ["chronicled.invalid/default/kept:0", "chronicled.invalid/default/kept:1"]
        finally:
            await used.delete(force=True)
        left = {each["Id"] for each in await docker.images.list()}
        assert foreign <= left
        assert mine.id in left
    # After the ledger is lost nothing is ours any more, and nothing is removed.
    (tmp_path / "images.json").write_text("{broken")
    async with images(keep_seconds=0.0) as store:
        assert await store.cache.prune() == []


async def test_the_longest_unused_goes_first(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """With a bound on their size, ours go in the order of their last use, and only as many as needed."""
    async with images(keep_seconds=0.0) as store:
        names = [f"chronicled.invalid/default/lru:{index}" for index in range(3)]
        for index in range(3):
            filled = f"FROM {MUSL}\nRUN head -c 20000000 /dev/urandom > /x{index}\n"
            await store.builds.build(request(tmp_path, f"lru:{index}", filled))
        await store.resolve(names[0])
        gone = await store.cache.prune(bytes_max=50_000_000)
        assert [each.reference for each in gone] == [names[1]]
        assert {each.reference for each in await store.cache.images("default")} >= {names[0], names[2]}
