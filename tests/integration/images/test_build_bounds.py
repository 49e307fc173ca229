"""What a build may bring, and what its steps may use, on a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiodocker import Docker
from aiohttp import web
from tests.engine.fixture import MUSL, Engine
from tests.integration.images.conftest import OpenImages
from tests.integration.images.registry import Registry, push
from tests.integration.images.test_build import request

from chronicled.events.errors import ImageBuildFailed, ImageNotAllowed
from chronicled.runtimes.docker.images_settings import ImageSettings
from chronicled.runtimes.docker.images_steps import Steps
from chronicled.runtimes.docker.images_stream import Connect

pytestmark = pytest.mark.usefixtures("engine")
PIDS = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>&-"


@asynccontextmanager
async def served() -> AsyncGenerator[tuple[str, list[str]]]:
    """Serve a file on the engine's own machine; give its address and what was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="of the host's network")

    application = web.Application()
    application.router.add_get("/{name}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def test_the_engine_fetches_nothing_for_a_build(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """ADD of an address is refused, in the Dockerfile and in what a base left behind, unless builds have a network."""
    async with served() as (address, asked), images(build_network="default") as store:
        base = await store.builds.build(request(tmp_path, "base", f"FROM {MUSL}\nONBUILD ADD {address}/later /l\n"))
        assert base.triggers == (f"ADD {address}/later /l",)
        # Over its plain name it is somebody else's image, of which no Dockerfile was ever seen here.
        await docker.images.tag(base.id, "chronicled.invalid/somebody/base", tag="1")
        async with images() as closed:
            for dockerfile in (
                f"FROM {MUSL}\nADD {address}/now /x\n",
                "FROM chronicled.invalid/somebody/base:1\nRUN true\n",
            ):
                with pytest.raises(ImageBuildFailed, match=r"images\.build_network"):
                    await closed.builds.build(request(tmp_path, "fetched", dockerfile))
        assert asked == []
        # The negative control: without the guard the engine fetches both, from its own machine's loopback too.
        whole = f"FROM chronicled.invalid/somebody/base:1\nADD {address}/now /x\nRUN cat /x && false\n"
        with pytest.raises(ImageBuildFailed, match="of the host's network"):
            await store.builds.build(request(tmp_path, "fetched", whole))
        assert set(asked) == {"/later", "/now"}


async def test_a_build_begins_from_allowed_images(
    docker: Any, registry: Registry, images: OpenImages, tmp_path: Path
) -> None:
    """What a build begins or copies from is pulled under the same rules as for sessions, and is ours to prune."""
    for name in ("team/base:1", "other/base:1"):
        await push(docker, registry, name)
    allowed, other = (f"{registry.host}/{name}/base:1" for name in ("team", "other"))
    async with images(registries=(f"{registry.host}/team",), keep_seconds=0.0) as store:
        for dockerfile in (
            f"FROM {other}\nCOPY file /x\n",
            f"ARG HOST={registry.host}\nFROM $HOST/other/base:1\nCOPY file /x\n",
            f"FROM {MUSL}\nCOPY --from={other} /content /x\n",
            f"FROM {MUSL}\nRUN echo \\\n# FROM is not said here\n  x\nFR\\\nOM {other}\nCOPY file /x\n",
        ):
            with pytest.raises(ImageNotAllowed, match=r"images\.registries"):
                await store.builds.build(request(tmp_path, "begun", dockerfile))
        assert not [each for each in await docker.images.list() if other in (each["RepoTags"] or [])]
        built = await store.builds.build(request(tmp_path, "begun", f"FROM {allowed}\nCOPY file /x\n"))
        assert built.environment[0] == "A=b"
        shown = {each.reference: each.origin for each in await store.cache.images("default")}
        assert shown[allowed] == "pulled"


async def test_steps_have_few_processes(engine: Engine, images: OpenImages, tmp_path: Path) -> None:
    """A step is held to so many processes as the settings say, whatever it prints about other containers."""
    victim = engine("create", "--network=none", "--memory=2g", "--memory-swap=2g", MUSL, "sleep", "1")
    fork = "for i in $(seq 60); do sleep 2 & done; wait; echo ALL FORKED"
    # A trap for whoever believes what steps print.
    lie = f"echo ' ---> Running in {victim[:12]}'; sleep 1"
    try:
        async with images(build_pids=32, build_memory_bytes=64 << 20) as store:
            held = f"FROM {MUSL}\nRUN {lie}; {PIDS}; ({fork}); false # {uuid4()}\n"
            with pytest.raises(ImageBuildFailed, match=r"\n32\n[^A]*can't fork") as failed:
                await store.builds.build(request(tmp_path, "held", held))
            assert "\nALL FORKED" not in failed.value.detail
        async with images() as store:
            with pytest.raises(ImageBuildFailed, match=r"4096\s+ALL FORKED"):
                await store.builds.build(
                    request(tmp_path, "held", f"FROM {MUSL}\nRUN sleep 1; {PIDS}; ({fork}); false\n")
                )
        assert engine("inspect", "--format", "{{.HostConfig.PidsLimit}}", victim) == "<nil>"
    finally:
        engine("rm", "--force", victim)


@asynccontextmanager
async def refusing(docker: Any) -> AsyncGenerator[Connect]:
    """Stand before the engine and refuse to update what runs: as it does for a moment of what has just ended."""

    async def inspect(asked: web.Request) -> web.Response:
        async with docker.session.get(f"{docker.docker_host}{asked.path_qs}") as response:
            return web.json_response(await response.json(), status=response.status)

    async def update(asked: web.Request) -> web.Response:
        return web.json_response({"message": "container not running: unknown"}, status=500)

    application = web.Application()
    application.router.add_get("/{version}/containers/{id}/json", inspect)
    application.router.add_post("/{version}/containers/{id}/update", update)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with Docker(address, api_version=docker.api_version) as client:

            async def connect() -> Docker:
                return client

            yield connect
    finally:
        await runner.cleanup()


async def test_a_step_that_is_over_meanwhile_fails_no_build(engine: Engine, docker: Any) -> None:
    """An engine that refuses to bound a step is believed once the step is over; one that goes on unbounded is none."""
    settings = ImageSettings()
    memory = str(settings.build_memory_bytes)
    words = ("--network", settings.build_network, "--memory", memory, "--memory-swap", memory, "--stop-timeout", "0")
    async with refusing(docker) as connect:
        steps = Steps(connect, settings, "over")
        for seconds, fails in (("0.5", False), ("60", True)):
            container = await asyncio.to_thread(engine, "run", "--detach", *words, MUSL, "sleep", seconds)
            told = steps.take({"stream": f" ---> Running in {container[:12]}\n"})
            try:
                if fails:
                    with pytest.raises(ImageBuildFailed, match="not running"):
                        await told
                else:
                    await told
            finally:
                await asyncio.to_thread(engine, "rm", "--force", container)


async def test_steps_write_so_much_and_no_more(docker: Any, images: OpenImages, tmp_path: Path) -> None:
    """A build whose steps write more than they may is ended soon, with what they may; one that writes less is built."""
    write = "head -c 20000000 /dev/zero >"
    async with images(build_disk_bytes=50_000_000) as store:
        steps = "".join(f"RUN {write} /{name}; sleep {seconds}\n" for name, seconds in (("a", 0), ("b", 0), ("c", 600)))
        # Before them what no build had yet: a cached step writes nothing.
        much = f"FROM {MUSL}\nENV MARK={uuid4()}\n{steps}"
        with pytest.raises(ImageBuildFailed, match=r"images\.build_disk_bytes"):
            await store.builds.build(request(tmp_path, "written", much))
        # What is taken away again counts for as long as it is there.
        little = f"FROM {MUSL}\nENV MARK={uuid4()}\nRUN {write} /a; rm /a\nRUN {write} /a\nRUN {write} /b\n"
        assert (await store.builds.build(request(tmp_path, "written", little))).size_bytes > 40_000_000
