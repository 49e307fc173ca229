"""How the image of a session comes, and stays the same, through a whole daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.images.registry import Registry, push, slow_pipe

pytestmark = pytest.mark.usefixtures("engine", "carrier")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[DaemonProcess]:
    """A daemon with its engine."""
    (tmp_path / "d").mkdir()
    daemon = await DaemonProcess(tmp_path / "d", "images.pull_attempts=1").start()
    yield daemon
    await daemon.aclose()


async def run(daemon: DaemonProcess, session: str, image: str | None = None, **sandbox: str) -> dict[str, Any]:
    """Run a command in a session, made for that image first; return its observation's payload."""
    if image is not None:
        body = {"session": session, "runtime": "docker", "image": image, "sandbox": sandbox}
        assert (await daemon.post("/v1/sessions", body)).status == 201
    action = {"kind": "run", "payload": {"command": "echo $A"}}
    answer = await daemon.post(f"/v1/sessions/{session}/actions", action, headers={"Prefer": "wait=90"})
    assert answer.status == 200, answer
    payload: dict[str, Any] = answer.json["observation"]["payload"]
    return payload


async def payloads(daemon: DaemonProcess, session: str, kind: str) -> list[dict[str, Any]]:
    """Return the payloads of a session's events of a kind."""
    return [each["payload"] for each in await daemon.events(f"/v1/sessions/{session}/events", f"kind={kind}")]


async def test_sessions_share_a_pull_and_each_is_told(daemon: DaemonProcess, docker: Any, registry: Registry) -> None:
    """Four sessions that want one image wait for one pull, of which each one's stream tells the way and the end."""
    digest = await push(docker, registry, "shared:1", size=6_000_000)
    async with slow_pipe(registry, 2_000_000) as host:
        found = await asyncio.gather(*(run(daemon, f"s{index}", f"{host}/shared:1") for index in range(4)))
    assert [(each["outcome"], each["output"]) for each in found] == [("ok", "b\n")] * 4
    pulls: list[float] = []
    for index in range(4):
        told = await payloads(daemon, f"s{index}", "image_progress")
        assert (told[-1]["status"], told[-1]["digest"], told[-1]["phase"]) == ("done", digest, "pull")
        assert told[-1]["bytes_done"] == told[-1]["bytes_total"] >= 6_000_000
        assert any(0 < each["bytes_done"] < each["bytes_total"] for each in told)
        (started,) = await payloads(daemon, f"s{index}", "generation_started")
        assert started["image_digest"] == digest
        # Where the time of a start went stands in the log.
        pulls.append(started["phases"]["pull"])
        assert started["start_seconds"] > pulls[-1] > 0
    assert max(pulls) > 2.0, "6 MB at 2 MB/s"


async def test_a_session_keeps_its_image(daemon: DaemonProcess, docker: Any, registry: Registry) -> None:
    """When the tag moves on, a restarted session has the image that it began with, and a new one has the new."""
    old = await push(docker, registry, "moving:1")
    name = f"{registry.host}/moving:1"
    await run(daemon, "old", name)
    new = await push(docker, registry, "moving:1", size=2000)
    await run(daemon, "new", name, pull="always")
    assert (await daemon.post("/v1/sessions/old/restart")).status in {200, 202}

    async def restarted() -> bool:
        return bool(await payloads(daemon, "old", "generation_ended"))

    await until(restarted, 30)
    await run(daemon, "old")
    assert [each["image_digest"] for each in await payloads(daemon, "old", "generation_started")] == [old, old]
    assert [each["image_digest"] for each in await payloads(daemon, "new", "generation_started")] == [new]


async def test_an_image_that_cannot_be_had_is_told(daemon: DaemonProcess, docker: Any, registry: Registry) -> None:
    """The action ends with an error that says what to do, and so does the stream."""
    found = await run(daemon, "s", f"{registry.host}/nothing:1")
    assert (found["outcome"], found["effects"]) == ("error", "none")
    assert "check name, tag and digest" in found["message"]
    assert (await payloads(daemon, "s", "image_progress"))[-1]["status"] == "failed"
