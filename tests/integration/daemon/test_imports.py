"""What was imported is never run: not by the daemon that finds it, not for whoever asks, whatever it holds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess, until

from chronicled.storage.imports.chunk import CHUNK_RECORDS_MAX

RECORDS = CHUNK_RECORDS_MAX + 44
LAST_OF_CHUNK = CHUNK_RECORDS_MAX - 1
"""Number of the last record of a first chunk."""
PATCHED = """
import sys
from chronicled.storage.imports import importer
importer.IMPORTED = "process"
from chronicled.cli import main
sys.exit(main())
"""
"""An importer that says of its sessions that they are a runtime's."""


def write(folder: Path, effects: Path) -> None:
    """Write a conversation whose commands each leave a line in the file of effects."""
    (folder / "events").mkdir(parents=True)
    command = {"action": "run", "source": "agent", "args": {"command": f"echo ran >> {effects}"}}
    events: list[dict[str, Any]] = [{"id": 0, "action": "message", "source": "user", "args": {"content": "go"}}]
    for number in range(1, RECORDS):
        if number % 2:
            events.append({"id": number, **command})
        else:
            extras = {"command": "", "metadata": {"exit_code": 0}}
            events.append({"id": number, "observation": "run", "cause": number - 1, "content": "", "extras": extras})
    assert "action" in events[LAST_OF_CHUNK]
    for event in events:
        (folder / "events" / f"{event['id']}.json").write_text(json.dumps(event))


def bring(folder: Path, data: Path, *, point: str | None = None, program: tuple[str, ...] = ()) -> int:
    """Import in a process of its own and return its exit code."""
    environment = {**os.environ, **({"CHRONICLED_FAULT_POINT": point} if point else {})}
    arguments = [sys.executable, *(program or ("-m", "chronicled.cli")), "migrate", "import", str(folder)]
    done = subprocess.run([*arguments, "--data", str(data)], env=environment, timeout=60, check=False)
    return done.returncode


async def session_events(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """Return every event of the session."""
    events: list[dict[str, Any]] = []
    after, at_end = 0, False
    while not at_end:
        answer = await daemon.get(f"/v1/sessions/c/events?limit=1000&after={after}")
        assert answer.status == 200, answer
        events += answer.json["events"]
        after, at_end = answer.json["next"], answer.json["at_end"]
    return events


async def test_open_actions_of_an_import_are_never_run(launch: Launch, tmp_path: Path) -> None:
    """A daemon on a half import, its last action without an end, runs nothing, adds nothing, and claims nothing."""
    folder, effects = tmp_path / "c", tmp_path / "effects"
    write(folder, effects)
    (tmp_path / "d").mkdir()
    assert bring(folder, tmp_path / "d" / "data", point="import_to_next:1") == -signal.SIGKILL
    daemon = await launch(name="d")
    before = await session_events(daemon)
    assert before[-2]["kind"] == "run"
    assert before[-2]["category"] == "action"
    # A session of our own runs meanwhile, so whatever the worker finds to do it has found.
    assert (await daemon.post("/v1/sessions", {"session": "own"})).status == 201
    body = {"kind": "run", "payload": {"command": "true"}}
    assert (await daemon.post("/v1/sessions/own/actions", body, headers={"Prefer": "wait=20"})).status == 200
    assert await session_events(daemon) == before
    assert not effects.exists()
    shown = (await daemon.get("/v1/sessions/c")).json
    assert shown["status"] == "closed"
    refused = await daemon.post("/v1/sessions/c/actions", body)
    assert refused.status == 409, refused
    await daemon.stop()
    # The import goes on behind it, and a daemon finds it whole: still nothing runs.
    assert bring(folder, tmp_path / "d" / "data") == 0
    await daemon.start()
    assert (await daemon.post("/v1/sessions/own/actions", body, headers={"Prefer": "wait=20"})).status == 200
    events = await session_events(daemon)
    assert events[: len(before)] == before
    assert events[-1]["kind"] == "events_imported"
    actions = [event["id"] for event in events if event["kind"] == "run" and event["category"] == "action"]
    ends = [event["cause"] for event in events if event["kind"] == "run" and event["category"] == "observation"]
    assert sorted(actions) == sorted(ends)
    last = (await daemon.get(f"/v1/sessions/c/actions/{actions[-1]}")).json
    assert last["status"] == "unknown"
    assert last["observation"]["payload"]["reason"] == "not_in_import"
    assert not effects.exists()


async def test_nobody_can_set_an_import_going(launch: Launch, tmp_path: Path) -> None:
    """Whatever a client asks of an imported session: nothing is claimed, started or run, and its actions stay ended."""
    folder, effects = tmp_path / "c", tmp_path / "effects"
    write(folder, effects)
    (tmp_path / "d").mkdir()
    assert bring(folder, tmp_path / "d" / "data") == 0
    daemon = await launch(name="d")
    before = await session_events(daemon)
    action = next(event["id"] for event in before if event["kind"] == "run")
    session = "/v1/sessions/c"
    for verb in ("restart", "resume", "pause", "keep-alive"):
        assert (await daemon.post(f"{session}/{verb}")).status == 409
    for verb in ("cancel", "interrupt", "input"):
        answer = await daemon.post(f"{session}/actions/{action}/{verb}", {"data": "x"} if verb == "input" else {})
        assert answer.status == 409, answer
    body = {"kind": "run", "payload": {"command": f"echo ran >> {effects}"}, "id": action}
    assert (await daemon.post(f"{session}/actions", body)).status in {409, 422}
    assert (await daemon.call("PUT", f"{session}/files?path=x", data=b"x")).status == 409
    assert (await daemon.call("PUT", f"{session}/secrets/NAME", json={"value": "hT7%kq2/Zp"})).status == 409
    assert (await daemon.call("DELETE", session)).json["status"] == "closed"
    assert (await daemon.post("/v1/sessions", {"session": "c"})).status == 409
    assert (await daemon.post("/v1/sessions", {"session": "x", "runtime": "imported"})).status in {400, 422}
    assert (await daemon.post("/v1/sessions", {"session": "own"})).status == 201
    own = {"kind": "run", "payload": {"command": "true"}}
    assert (await daemon.post("/v1/sessions/own/actions", own, headers={"Prefer": "wait=20"})).status == 200
    assert await session_events(daemon) == before
    assert not effects.exists()


async def test_a_session_that_is_not_known_as_imported_would_run(launch: Launch, tmp_path: Path) -> None:
    """Negative control: were the session not known as imported, the daemon would run its open action."""
    folder, effects = tmp_path / "c", tmp_path / "effects"
    write(folder, effects)
    (tmp_path / "d").mkdir()
    patched = ("-c", PATCHED)
    assert bring(folder, tmp_path / "d" / "data", point="import_to_next:1", program=patched) == -signal.SIGKILL
    await launch(name="d")

    async def ran() -> bool:
        return effects.exists()

    await until(ran)


async def test_a_running_daemon_keeps_an_import_out(launch: Launch, tmp_path: Path) -> None:
    """Beside a running daemon an import is refused, with what to do, and writes nothing."""
    write(tmp_path / "c", tmp_path / "effects")
    daemon = await launch(name="d")
    head = (await daemon.get("/v1/events?limit=1000")).json["next"]
    assert bring(tmp_path / "c", tmp_path / "d" / "data") == 4
    assert (await daemon.get("/v1/events?limit=1000")).json["next"] == head
