"""Many sandboxes wanted at one time: each comes, a few side by side, and whoever looks sees how many wait."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.engine.fixture import Engine
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.docker_daemon.conftest import LaunchDocker
from tests.integration.docker_daemon.sessions import Session

pytestmark = pytest.mark.slow

CROWD = 50
AT_ONCE = 4
CROWD_SECONDS_MAX = 150.0


async def _look(daemon: DaemonProcess, over: asyncio.Event) -> list[tuple[int, int]]:
    """Read how many start and how many wait, until told to stop."""
    seen: list[tuple[int, int]] = []
    while not over.is_set():
        text = (await daemon.get("/metrics")).data.decode()
        found = dict(re.findall(r"^chronicled_(\w+) (\d+)$", text, re.MULTILINE))
        seen.append((int(found["sandboxes_starting"]), int(found["sandbox_starts_waiting"])))
        await asyncio.sleep(0.05)
    return seen


@pytest.mark.timeout(240)
async def test_fifty_sandboxes_asked_at_once_all_come(launch: LaunchDocker, engine: Engine) -> None:
    """None fails, so many start side by side as the settings say, the queue is seen, and none is left at the end."""
    daemon = await launch(engine, f"runtime.starts_max={AT_ONCE}")
    over = asyncio.Event()
    looking = asyncio.create_task(_look(daemon, over))
    try:
        async with asyncio.timeout(CROWD_SECONDS_MAX), asyncio.TaskGroup() as tasks:

            async def one(number: int) -> tuple[str, str, dict[str, float], str]:
                session = await Session.create(daemon, engine, f"s{number}")
                action = await session.submit(f"echo {number}")
                ended = await session.ended(action, CROWD_SECONDS_MAX)
                (started,) = await session.told("generation_started")
                return ended["outcome"], ended["output"], started["payload"]["phases"], await session.container()

            asked = [tasks.create_task(one(number)) for number in range(CROWD)]
    finally:
        over.set()
    seen = await looking
    assert [task.result()[:2] for task in asked] == [("ok", f"{number}\n") for number in range(CROWD)]
    assert max(starting for starting, _ in seen) == AT_ONCE
    assert max(waiting for _, waiting in seen) > CROWD // 2
    phases = [task.result()[2] for task in asked]
    assert all({"queue", "create", "ready"} <= each.keys() for each in phases), phases[0]
    assert max(each["queue"] for each in phases) > 1.0
    for number in range(CROWD):
        assert (await daemon.call("DELETE", f"/v1/sessions/s{number}")).status == 200

    async def removed() -> bool:
        return not any((daemon.data / "sandboxes").iterdir())

    await until(removed, 60.0)
    own = {task.result()[3] for task in asked}
    assert not own & set((await asyncio.to_thread(engine, "ps", "-aq", "--no-trunc")).split())
