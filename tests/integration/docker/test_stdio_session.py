"""Sessions in containers that share no directory with the host, through a whole daemon and its death."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.fixture import MUSL
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.docker.host import docker

pytestmark = pytest.mark.usefixtures("engine", "carrier")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[DaemonProcess]:
    """A daemon whose docker runtime speaks over standard streams."""
    daemon = DaemonProcess(tmp_path, "docker.transport=stdio", "docker.workspace=tmpfs")
    yield await daemon.start()
    await daemon.call("DELETE", "/v1/sessions/s")
    await daemon.aclose()


async def submit(daemon: DaemonProcess, command: str, *, wait: bool = True) -> dict[str, Any]:
    """Submit a command; return the answer's body."""
    action = {"kind": "run", "payload": {"command": command}}
    headers = {"Prefer": "wait=60"} if wait else {}
    answer = await daemon.post("/v1/sessions/s/actions", action, headers=headers)
    assert answer.status in {200, 202}, answer
    body: dict[str, Any] = answer.json
    return body


async def test_a_session_over_standard_streams_outlives_the_daemon(daemon: DaemonProcess) -> None:
    """Killed amidst a command that prints, the daemon finds shell, output and result again: each once and whole."""
    created = await daemon.post("/v1/sessions", {"session": "s", "runtime": "docker", "image": MUSL})
    assert created.status == 201, created
    first = await submit(daemon, "name=kept; echo $name; pwd")
    assert first["observation"]["payload"]["output"] == "kept\n/workspace\n"
    events = await daemon.events("/v1/sessions/s/events", "kind=generation_started")
    container = events[-1]["payload"]["handle"]["container"]
    assert docker("inspect", "-f", "{{.Config.OpenStdin}} {{.HostConfig.Mounts}}", container).count("worker.sock") == 0
    counting = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo $i; done"
    command = f"echo once >>count; {counting}; sleep 0.5; cat count; echo $name"
    action = (await submit(daemon, command, wait=False))["action"]["id"]

    async def prints() -> bool:
        answer = await daemon.get(f"/v1/sessions/s/actions/{action}")
        status: str = answer.json["status"]
        return status == "running"

    await until(prints)
    os.kill(daemon.pid, signal.SIGKILL)
    await daemon.wait()
    await daemon.start()

    async def is_over() -> bool:
        answer = await daemon.get(f"/v1/sessions/s/actions/{action}")
        status: str = answer.json["status"]
        return status not in {"running", "queued"}

    await until(is_over, 60.0)
    ended = (await daemon.get(f"/v1/sessions/s/actions/{action}")).json
    assert ended["status"] == "ok", ended
    output = (await daemon.get(f"/v1/sessions/s/actions/{action}/output")).data
    assert output == b"".join(b"%d\n" % number for number in range(1, 30_001)) + b"once\nkept\n"
    events = await daemon.events("/v1/sessions/s/events", "kind=generation_started")
    assert len(events) == 1
