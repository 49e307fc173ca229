"""Units in containers of images that have nothing of them: over a socket, over standard streams, out of a volume."""

from __future__ import annotations

import asyncio

import pytest
from tests.engine.fixture import DEBIAN, FILE, MUSL, NO_PYTHON, Engine
from tests.integration.units.asking import created, done
from tests.integration.units.conftest import LaunchUnits

WAYS = {
    "socket": (),
    "stdio": ("docker.transport=stdio",),
    "stdio and volume": ("docker.transport=stdio", "docker.carrier=volume", "docker.workspace=tmpfs"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_executor_comes_into_any_image(launch: LaunchUnits, engine: Engine, way: str) -> None:
    """With Python and without, musl or nothing at all in it: the executor is there, keeps state and prints."""
    daemon = await launch(f"docker.host={engine.host}", *WAYS[way])
    for index, image in enumerate((DEBIAN, NO_PYTHON, MUSL, FILE)):
        path = await created(daemon, f"s{index}", runtime="docker", image=image)
        first = await done(daemon, path, "turn", text="abc")
        assert (first["outcome"], first["said"], first["count"]) == ("ok", "cba", 1), (image, first)
        assert (await done(daemon, path, "turn"))["count"] == 2
        shown = (await daemon.get(path)).json
        assert (shown["kinds"]["beta.do"], shown["missing"]) == (1, {})
    await daemon.aclose()
    for folder in (daemon.data / "carriers").glob("sha256-*"):
        # The volume that was filled from it, if one was; another daemon would use it again.
        await asyncio.to_thread(engine, "volume", "rm", "--force", f"chronicled-carrier-{folder.name[7:39]}")


async def test_a_container_sees_nothing_else_of_the_host(launch: LaunchUnits, engine: Engine) -> None:
    """What is installed beside the daemon cannot be imported there, and an exit ends its action alone."""
    daemon = await launch(f"docker.host={engine.host}")
    path = await created(daemon, runtime="docker", image=NO_PYTHON)
    text = "beta msgspec chronicled aiohttp anyio structlog pytest pip"
    assert (await done(daemon, path, "seen", text=text))["said"] == "beta msgspec chronicled"
    assert (await done(daemon, path, "exit"))["reason"] == "executor_failed"
    late = await done(daemon, path, "turn", seconds=60, timeout_seconds=0.3)
    assert (late["outcome"], late["deadline"]) == ("timeout", "command")
    assert (await done(daemon, path, "turn", text="ab"))["said"] == "ba"
