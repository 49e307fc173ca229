"""A log that a newer daemon wrote, under this one: served, read as far as it can be, and never executed by guess."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.old_log import Era
from tests.integration.daemon.process import DaemonProcess, until

from chronicled.events.kinds.actions import Run

HELD = ("frozen", "reworded", "removed")
"""Sessions that hold what may decide about their work, and that only a newer daemon understands."""


class Downgraded:
    """A daemon that was started after a newer one had worked in its data directory."""

    def __init__(self, daemon: DaemonProcess, counters: Path) -> None:
        self.daemon = daemon
        self.counters = counters
        self.actions: dict[str, str] = {}

    def ran(self, session: str) -> bool:
        """Tell whether the session's command had its effect."""
        return (self.counters / session).exists()

    async def status(self, session: str) -> dict[str, Any]:
        """Return what the daemon tells of the session's action."""
        shown: dict[str, Any] = (await self.daemon.get(f"/v1/sessions/{session}/actions/{self.actions[session]}")).json
        return shown


@pytest.fixture
async def downgraded(launch: Launch, tmp_path: Path) -> AsyncIterator[Downgraded]:
    """Sessions with an action that was accepted and not begun; a newer daemon added something to all but one."""
    daemon = await launch(name="d")
    await daemon.stop()
    found = Downgraded(daemon, tmp_path)
    for session in (*HELD, "plain", "future", "foreign"):
        era = Era(daemon, session)
        era.created()
        payload = msgspec.json.encode(Run(command=f"echo ran >> {tmp_path / session}"))
        version = 99 if session == "future" else 2
        action = found.actions[session] = era.event("action", "run", version, payload, source="client")
        if session == "frozen":
            era.event("lifecycle", "session_frozen", 1, b'{"by":"a rule of tomorrow"}')
        elif session == "reworded":
            # A kind was renamed, and this is the end of the action under its new name.
            ended = b'{"outcome":"ok","effects":"complete"}'
            era.event("observation", "execute", 1, ended, cause=action, terminal=True, source="worker")
        elif session == "removed":
            era.event("lifecycle", "sandbox_requested", 9, b'{"sandbox":"x","runtime":"process","place":{}}')
        elif session == "foreign":
            era.event("lifecycle", "acme.noted", 9, b"{}")
        await era.write()
    await daemon.start()
    yield found
    for session in found.actions:
        await daemon.call("DELETE", f"/v1/sessions/{session}")
    await until(lambda: _only_held_are_left(daemon))
    await daemon.stop()


async def _only_held_are_left(daemon: DaemonProcess) -> bool:
    return await daemon.metric("sessions_unfinished") <= len(HELD)


async def test_what_a_newer_version_may_have_decided_is_not_guessed(downgraded: Downgraded) -> None:
    """Such sessions are left alone: nothing runs, nothing is claimed or ended in them. The control beside them runs."""
    for control in ("plain", "foreign"):
        await until(partial(_ended, downgraded, control))
        assert downgraded.ran(control)
    for session in HELD:
        assert not downgraded.ran(session)
        events = await downgraded.daemon.events(f"/v1/sessions/{session}/events")
        assert len(events) == 3, "nothing was appended"
    assert (await downgraded.status("frozen"))["status"] == "running"
    assert await downgraded.daemon.metric("sessions_left_alone") == len(HELD)
    assert "session_of_a_newer_version_left_alone" in downgraded.daemon.log_text()


async def _ended(downgraded: Downgraded, session: str) -> bool:
    return bool((await downgraded.status(session))["status"] == "ok")


async def test_an_action_of_a_newer_version_is_not_executed(downgraded: Downgraded) -> None:
    """It ends, honestly: it never ran, since its payload cannot be read; it is shown as it is stored."""

    async def ended() -> bool:
        return bool((await downgraded.status("future"))["status"] == "error")

    await until(ended)
    status = await downgraded.status("future")
    assert (status["observation"]["payload"]["effects"], status["action"]["version"]) == ("none", 99)
    assert "newer than version 2" in status["action"]["opaque"]
    assert not downgraded.ran("future")


async def test_new_actions_there_are_refused_by_name(downgraded: Downgraded) -> None:
    """Who would wait for ever is told at once, and which event is in the way; other sessions take actions."""
    body = {"kind": "run", "payload": {"command": "true"}}
    for session in HELD:
        answer = await downgraded.daemon.post(f"/v1/sessions/{session}/actions", body)
        assert (answer.status, answer.json["code"]) == (409, "session-newer")
        assert "position" in answer.json["detail"]
    assert (await downgraded.daemon.post("/v1/sessions/plain/actions", body)).status == 202


async def test_it_stays_so_over_a_restart(downgraded: Downgraded) -> None:
    """What is left alone is remembered beside the log, and found again."""
    await downgraded.daemon.stop()
    await downgraded.daemon.start()
    answer = await downgraded.daemon.post(
        "/v1/sessions/frozen/actions", {"kind": "run", "payload": {"command": "true"}}
    )
    assert answer.json["code"] == "session-newer"
    assert not downgraded.ran("frozen")


async def test_everything_of_it_can_be_read(downgraded: Downgraded) -> None:
    """The log is served whole; what only a newer version can read is opaque, with the reason."""
    events = await downgraded.daemon.events()
    opaque = {event["kind"]: event["opaque"] for event in events if "opaque" in event}
    assert opaque["session_frozen"] == opaque["execute"] == "the kind is not known here"
    assert opaque["sandbox_requested"].startswith("newer than version")
