"""Asking a daemon for actions of the test's unit."""

from __future__ import annotations

from typing import Any

from tests.integration.daemon.process import Answer, DaemonProcess

__all__ = ["created", "done", "submitted"]


async def created(daemon: DaemonProcess, name: str = "s", **asked: Any) -> str:
    """Return the path of a new session."""
    answer = await daemon.post("/v1/sessions", {"session": name, **asked})
    assert answer.status == 201, answer
    return f"/v1/sessions/{name}"


async def submitted(daemon: DaemonProcess, path: str, what: str, *, id: str | None = None, **payload: Any) -> Answer:
    """Return the answer to an action that is waited for."""
    body: dict[str, Any] = {"kind": "beta.do", "payload": {"what": what, **payload}}
    if id is not None:
        body["id"] = id
    return await daemon.post(f"{path}/actions", body, headers={"Prefer": "wait=20"})


async def done(daemon: DaemonProcess, path: str, what: str, **payload: Any) -> dict[str, Any]:
    """Return the payload of the action's terminal observation."""
    answer = await submitted(daemon, path, what, **payload)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json["observation"]["payload"]
    return found
