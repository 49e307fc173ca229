"""Old events over HTTP: shown in current versions or those that a caller declares, found, retried, told and counted."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.golden.logs import golden_logs
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.old_log import Era
from tests.integration.daemon.process import DaemonProcess, ServerSentEvent, server_sent_events
from tests.integration.daemon.test_upgrades import IDENTITY

from chronicled.client import STORED, connect
from chronicled.events.errors import VersionUnavailable
from chronicled.events.kinds import former
from chronicled.events.kinds.actions import Run
from chronicled.storage.sqlite import LOG_NAME

ROOT = Path(__file__).parents[3]
SESSION = "/v1/sessions/old"


class Served:
    """A daemon on a log of old events, and their ids."""

    def __init__(self, daemon: DaemonProcess, action: str, end: str) -> None:
        self.daemon = daemon
        self.action = action
        self.end = end


@pytest.fixture
async def served(launch: Launch) -> Served:
    """A session that a daemon of the first versions wrote: created, ran a command, closed nothing."""
    daemon = await launch(name="d")
    await daemon.stop()
    era = Era(daemon, "old")
    era.created()
    action = era.run("echo then")
    end = era.ended(action)
    era.event("action", "read", 2, b'{"path":"/etc/hosts","byte_count":5}', source="client")
    era.event("observation", "run", 1, b'{"outcome":"ok","eff', source="worker")
    era.event("observation", "acme.nobody", 3, b'{"x":1}', source="worker")
    await era.write()
    return Served(await launch(name="d"), action, end)


async def events(daemon: DaemonProcess, query: str = "", **headers: str) -> list[dict[str, Any]]:
    """Return a session's events as a caller with those headers sees them."""
    answer = await daemon.get(
        f"{SESSION}/events?limit=1000&{query}", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    assert answer.status == 200, answer
    shown: list[dict[str, Any]] = answer.json["events"]
    return shown


async def test_old_events_are_shown_in_current_versions(served: Served) -> None:
    """The payload fits what the API describes; `stored` says what the leaf binds; the rest is as it was."""
    created, action, *_ = await events(served.daemon)
    assert (created["version"], created["stored"]) == (2, {"kind": "session_created", "version": 1})
    assert (action["kind"], action["version"], action["stored"]) == ("run", 2, {"kind": "run", "version": 1})
    assert msgspec.convert(action["payload"], Run) == Run(command="echo then")
    kinds = (await served.daemon.get("/openapi.json")).json["x-kinds"]
    newest = max(each["version"] for each in kinds if (each["category"], each["kind"]) == ("action", "run"))
    assert newest == action["version"]


async def test_what_is_stored_can_be_asked_for(served: Served) -> None:
    """Byte for byte, in the version of its time."""
    answer = await served.daemon.get(f"{SESSION}/events", headers={"Accept-Version": "stored"})
    assert msgspec.json.encode(former.Run(command="echo then")) in answer.data
    assert all("stored" not in event for event in answer.json["events"])


async def test_a_caller_gets_the_versions_that_it_declares(served: Served) -> None:
    """Pages, single actions, streams and answers to submissions all bring newer events back."""
    daemon, asked = served.daemon, {"Accept-Version": "run=1"}
    new = await daemon.post(
        f"{SESSION}/actions", {"kind": "run", "payload": {"argv": ["echo", "a b"]}},
        headers={**asked, "Prefer": "wait=20"},
    )  # fmt: skip
    assert new.status == 200, new
    action = new.json["action"]
    assert (action["version"], action["stored"]) == (1, {"kind": "run", "version": 2})
    assert msgspec.convert(action["payload"], former.Run).command == "echo 'a b'"
    assert new.json["observation"]["payload"]["output"] == "a b\n"
    single = (await daemon.get(f"{SESSION}/actions/{action['id']}", headers=asked)).json
    page = await events(daemon, "kind=run", Accept_Version="run=1")
    assert action == single["action"] == page[-2]
    assert all(event["version"] == 1 for event in page)
    async with daemon.client.get(
        f"{SESSION}/events?kind=run", headers={**asked, "Accept": "text/event-stream"}
    ) as stream:
        messages = server_sent_events(stream)
        async with asyncio.timeout(10):
            followed = [json.loads((await anext(messages)).data) for _ in page]
    assert followed == page


async def test_a_version_that_cannot_be_had_is_refused_by_name(served: Served) -> None:
    """406 names kind, version and position; nothing is done for a caller that could not be told of it."""
    answer = await served.daemon.get(f"{SESSION}/events", headers={"Accept-Version": "read=1"})
    assert (answer.status, answer.json["code"], answer.json["kind"]) == (406, "version-unavailable", "read")
    assert answer.json["version"] == 1
    position = answer.json["position"]
    assert (await events(served.daemon, "kind=read"))[0]["position"] == position
    bad = await served.daemon.get(f"{SESSION}/events", headers={"Accept-Version": "run"})
    assert (bad.status, bad.json["code"]) == (400, "invalid-request")


async def test_a_stream_goes_on_over_what_it_cannot_say(served: Served) -> None:
    """Of a stream that has begun, such an event is opaque, as it is stored, with the reason."""
    headers = {"Accept-Version": "read=1", "Accept": "text/event-stream"}
    async with served.daemon.client.get(f"{SESSION}/events?kind=read", headers=headers) as stream:
        async with asyncio.timeout(10):
            event = json.loads((await anext(server_sent_events(stream))).data)
    assert event["payload"]["byte_count"] == 5
    assert "`byte_count` is set" in event["opaque"]


async def test_what_cannot_be_read_is_shown_with_the_reason_and_counted(served: Served) -> None:
    """Broken bytes in base64 within a whole answer, a foreign kind as it is; both are in the metrics."""
    shown = await events(served.daemon)
    broken, foreign = shown[4], next(event for event in shown if event["kind"] == "acme.nobody")
    assert base64.b64decode(broken["payload"]) == b'{"outcome":"ok","eff'
    assert "not JSON" in broken["opaque"]
    assert (foreign["payload"], foreign["opaque"]) == ({"x": 1}, "the kind is not known here")
    metrics = (await served.daemon.get("/metrics")).data.decode()
    assert 'chronicled_events_opaque_total{kind="run",reason="not_json"}' in metrics
    assert 'chronicled_events_opaque_total{kind="acme.nobody",reason="unknown_kind"}' in metrics


async def test_a_retry_of_an_old_request_gets_its_answer(served: Served) -> None:
    """The same request under the same id is the same action, though its kind has a new version by now."""
    body = {"kind": "run", "id": served.action, "payload": {"command": "echo then"}}
    for headers in ({}, {"Prefer": "wait=5"}):
        again = await served.daemon.post(f"{SESSION}/actions", body, headers=headers)
        assert again.status == 200, again
        assert (again.json["action"]["id"], again.json["observation"]["id"]) == (served.action, served.end)
    other = {**body, "payload": {"command": "echo now"}}
    assert (await served.daemon.post(f"{SESSION}/actions", other)).json["code"] == "id-reused"
    wrong = {**body, "payload": {"argv": ["echo", "then"]}}
    assert (await served.daemon.post(f"{SESSION}/actions", wrong)).json["code"] == "id-reused"
    both = [
        {"kind": "run", "id": served.action, "payload": {"command": "echo then"}},
        {"kind": "think", "payload": {"thought": "x"}},
    ]
    assert (await served.daemon.post(f"{SESSION}/actions", both)).status == 422
    assert len(await events(served.daemon, "kind=run")) == 3


async def test_keys_of_old_requests_stand_for_them_still(launch: Launch) -> None:
    """A session and an action that were asked for under keys, in first versions, are those that a retry gets."""
    daemon = await launch(name="k")
    await daemon.stop()
    era = Era(daemon, "keyed")
    era.created_by("k1")
    action = era.run("echo then", key="k2")
    era.ended(action)
    await era.write()
    await daemon.start()
    body = {"session": "keyed", "labels": {"a": "b"}}
    again = await daemon.post("/v1/sessions", body, headers={"Idempotency-Key": "k1"})
    assert (again.status, again.json["session"]) == (200, "keyed"), again
    for other in ({**body, "labels": {}}, {**body, "idle_seconds": 5}):
        refused = await daemon.post("/v1/sessions", other, headers={"Idempotency-Key": "k1"})
        assert (refused.status, refused.json["code"]) == (422, "id-reused"), refused
    actions, run = "/v1/sessions/keyed/actions", {"kind": "run", "payload": {"command": "echo then"}}
    repeated = await daemon.post(actions, run, headers={"Idempotency-Key": "k2"})
    assert (repeated.status, repeated.json["action"]["id"]) == (200, action), repeated
    run["payload"] = {"command": "echo now"}
    assert (await daemon.post(actions, run, headers={"Idempotency-Key": "k2"})).status == 422
    assert len(await daemon.events("/v1/sessions/keyed/events", "kind=run&category=action")) == 1


@pytest.mark.parametrize("golden", golden_logs(), ids=lambda path: path.stem)
async def test_a_daemon_serves_every_golden_log(launch: Launch, tmp_path: Path, golden: Path) -> None:
    """What each earlier version wrote is shown whole in current versions, and as it is stored."""
    data = tmp_path / "g" / "data"
    data.mkdir(parents=True, mode=0o700)
    shutil.copyfile(golden, data / LOG_NAME)
    (data / "instance.json").write_bytes(IDENTITY)
    (data / "instance.json").chmod(0o600)
    daemon = await launch(name="g")
    try:
        await _serves_whole(daemon)
    finally:
        await daemon.kill()  # its example of a sandbox was never one, so nobody can prove that it is gone


async def _serves_whole(daemon: DaemonProcess) -> None:
    shown = [event for event in await daemon.events() if event["session"] == "golden"]
    assert len(shown) > 40
    assert [event["kind"] for event in shown if "opaque" in event] == []
    stored = (await daemon.get("/v1/events?limit=1000", headers={"Accept-Version": "stored"})).json["events"]
    was = {event["position"]: event["version"] for event in stored}
    assert all(event.get("stored", event)["version"] == was[event["position"]] for event in shown)


async def test_the_client_declares_versions(served: Served) -> None:
    """`connect(versions=...)` speaks for all that the client reads, followed or not."""
    async with connect(str(served.daemon.socket), versions={"run": 1}) as client:
        session = await client.session("old", create=False)
        read = [event async for event in session.events(follow=False, kinds=["run"])]
        assert [event.version for event in read] == [1, 1, 1]
        assert read[0].stored is None
    async with connect(str(served.daemon.socket), versions=STORED) as client:
        first = await anext(client.events(follow=False, kinds=["session_created"]))
        assert first.version == 1
    async with connect(str(served.daemon.socket), versions={"read": 1}) as client:
        session = await client.session("old", create=False)
        with pytest.raises(VersionUnavailable):
            [event async for event in session.events(follow=False)]


@pytest.fixture
async def renamed(tmp_path: Path) -> Any:
    """A daemon with a unit whose kinds were renamed, on a log of their former names."""
    directory = tmp_path / "r"
    directory.mkdir()
    unit = ("units.load=tests.unit.migrations.history:UNIT",)
    daemon = await DaemonProcess(directory, *unit, environment={"PYTHONPATH": str(ROOT)}).start()
    await daemon.stop()
    era = Era(daemon, "old")
    era.created()
    first = era.event("action", "acme.probe", 1, b'{"target":"anvil"}', source="client")
    era.ended(first, "acme.probe")
    era.event("action", "acme.weigh", 1, b'{"target":"feather"}', source="client")
    era.event("action", "acme.say", 1, b'{"question":"why?"}', source="client")
    era.event("action", "acme.say", 1, b'{"text":"so"}', source="client")
    await era.write()
    yield await daemon.start()
    await daemon.aclose()


async def test_renamed_kinds_are_found_ended_and_waited_for(renamed: DaemonProcess) -> None:
    """Under every name: in filters, in streams, in status, and in what ends an action of a former version."""
    for query in ("kind=acme.weigh", "kind=acme.probe"):
        shown = await events(renamed, query)
        assert [event["kind"] for event in shown][:3] == ["acme.weigh"] * 3
        assert [event["stored"]["kind"] for event in shown[:3]] == ["acme.probe", "acme.probe", "acme.weigh"]
    assert [event["payload"] for event in await events(renamed, "kind=acme.ask")] == [{"question": "why?"}]
    assert [event["kind"] for event in await events(renamed, "kind=acme.mark")] == ["acme.mark"]
    headers = {"Accept": "text/event-stream"}
    async with renamed.client.get(f"{SESSION}/events?kind=acme.weigh", headers=headers) as stream:
        async with asyncio.timeout(20):
            followed: list[ServerSentEvent] = []
            async for message in server_sent_events(stream):
                followed += [message] if message.data else []  # others only bring the cursor on
                if len(followed) == 4:
                    break
    assert {message.event for message in followed} == {"acme.weigh"}
    first, _, second, end = (json.loads(message.data) for message in followed)
    assert (end["category"], end["cause"]) == ("observation", second["id"])
    status = (await renamed.get(f"{SESSION}/actions/{second['id']}")).json
    # Nothing in this test's sandbox executes it; that it ended at all, once, under its name of today, is the point.
    assert (status["status"], status["observation"]["kind"]) == (end["payload"]["outcome"], "acme.weigh")
    assert (await renamed.get(f"{SESSION}/actions/{first['id']}")).json["status"] == "ok"
    old = await renamed.post(f"{SESSION}/actions", {"kind": "acme.probe", "payload": {"target": "x"}})
    assert (old.status, old.json["code"]) == (400, "unknown-kind")
    assert "'acme.weigh'" in old.json["detail"]


async def test_stored_bytes_never_change(served: Served) -> None:
    """However often and in whatever version events were read, the log is as it was written."""
    path = served.daemon.data / LOG_NAME

    def stored() -> list[tuple[Any, ...]]:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT position, leaf, payload FROM event ORDER BY 1 LIMIT 8").fetchall()

    before = stored()
    for version in ("stored", "run=1", "run=2"):
        await events(served.daemon, Accept_Version=version)
    assert stored() == before
