"""Named cursors: a consumer that keeps nothing goes on where it said that it was, whatever was killed meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess
from tests.integration.daemon.test_events import ACTIONS, SSE, take, think

from chronicled.client import connect
from chronicled.events.errors import InvalidCursor

CURSOR = "/v1/cursors/billing"


async def save(daemon: DaemonProcess, cursor: Any, path: str = CURSOR) -> int:
    """Save a cursor; return the status."""
    return (await daemon.call("PUT", path, json={"cursor": cursor})).status


async def test_a_consumer_goes_on_where_it_was_after_kills(launch: Launch) -> None:
    """Page by page under a name, with the daemon killed each time: every event comes once, in order."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    await daemon.post(ACTIONS, [think(str(number)) for number in range(30)])
    found: list[int] = []
    for _ in range(4):
        page = (await daemon.get("/v1/events?cursor=billing&category=action&limit=9")).json
        found += [event["position"] for event in page["events"]]
        assert await save(daemon, f"{page['next']}@{page['incarnation']}") in {200, 201}
        await daemon.kill()
        await daemon.start()
    written = [event["position"] for event in await daemon.events("/v1/events", "category=action")]
    assert found == written
    assert len(written) == 30


async def test_a_stream_begins_at_the_name(daemon: DaemonProcess, session: str) -> None:
    """Followed too; `Last-Event-ID` of a stream that is taken up again wins, and an unknown name is the start."""
    await daemon.post(ACTIONS, [think(str(number)) for number in range(9)])
    written = [event["position"] for event in await daemon.events(f"{session}/events", "category=action")]
    assert await save(daemon, str(written[3])) == 201
    path = f"{session}/events?category=action&cursor="
    assert (await take(daemon, f"{path}billing", 1))[0].position == written[4]
    assert (await take(daemon, f"{path}billing", 1, str(written[6])))[0].position == written[7]
    assert (await take(daemon, f"{path}nobody", 1))[0].position == written[0]


async def test_cursors_are_shown_and_forgotten(daemon: DaemonProcess, session: str) -> None:
    """What was saved is listed with how far behind it is; it is created once, replaced, and gone when deleted."""
    assert (await daemon.get("/v1/cursors")).json == {"cursors": []}
    assert (await daemon.get(CURSOR)).status == 404
    assert [await save(daemon, cursor) for cursor in ("2", "1")] == [201, 200]
    shown = (await daemon.get(CURSOR)).json
    page = (await daemon.get("/v1/events")).json
    assert shown == {
        "name": "billing",
        "cursor": f"1@{page['incarnation']}",
        "position": 1,
        "time": shown["time"],
        "behind": page["next"] - 1,
    }
    assert (await daemon.get("/v1/cursors")).json == {"cursors": [shown]}
    assert (await daemon.call("DELETE", CURSOR)).json == shown
    assert (await daemon.call("DELETE", CURSOR)).status == 404
    assert (await daemon.get("/v1/cursors")).json == {"cursors": []}


async def test_what_is_no_place_in_this_log_is_refused(daemon: DaemonProcess, session: str) -> None:
    """Beyond the head, of another incarnation, no cursor at all, no name: told by code, and nothing is saved."""
    assert await save(daemon, "1") == 201
    for cursor, status in (("999", 400), ("1@other", 410), ("x", 400), ("-1", 400), (1, 400), ("", 400)):
        assert await save(daemon, cursor) == status, cursor
    for name in ("..", "%2e%2e", "a%2fb", "a%00", "x" * 129, "%c3%a4"):
        assert await save(daemon, "1", f"/v1/cursors/{name}") in {400, 404}, name
    both = await daemon.get("/v1/events?cursor=billing&after=1")
    assert (both.status, both.json["code"]) == (400, "invalid-request")
    assert (await daemon.get("/v1/events?cursor=a/b")).status == 400
    shown = (await daemon.get("/v1/cursors")).json["cursors"]
    assert [(each["name"], each["position"]) for each in shown] == [("billing", 1)]


async def test_a_name_of_another_log_is_gone_and_not_the_start(daemon: DaemonProcess, session: str) -> None:
    """Where the log was replaced beneath it, a named cursor is a 410 in every form, until it is saved anew."""
    assert await save(daemon, "2") == 201
    await daemon.kill()
    file = daemon.data / "cursors" / "default" / "billing.json"
    incarnation = (shown := file.read_text()).partition('"incarnation":"')[2].partition('"')[0]
    file.write_text(shown.replace(incarnation, "other"))
    await daemon.start()
    for headers in ({}, SSE):
        gone = await daemon.get("/v1/events?cursor=billing", headers=headers)
        assert (gone.status, gone.json["code"]) == (410, "cursor-gone")
    assert (await daemon.get(CURSOR)).json["behind"] is None
    assert await save(daemon, "0") == 200
    assert (await daemon.get("/v1/events?cursor=billing")).status == 200


async def test_the_client_keeps_cursors(daemon: DaemonProcess, session: str) -> None:
    """Follow from the name, save what was taken, and go on there."""
    await daemon.post(ACTIONS, [think(str(number)) for number in range(5)])
    async with connect(str(daemon.socket)) as client:
        assert await client.cursor("billing") == "0"
        with pytest.raises(InvalidCursor):
            await client.save_cursor("billing", 999)
        seen: list[int] = []
        for _ in range(3):
            async for event in client.events(await client.cursor("billing"), follow=False, kinds=["think"]):
                seen.append(event.position)
                await client.save_cursor("billing", event.position)
                if len(seen) % 2 == 0:
                    break
        assert len(seen) == len(set(seen)) == 5
        await client.delete_cursor("billing")
        assert await client.cursor("billing") == "0"


async def test_a_name_is_judged_before_its_cursor(daemon: DaemonProcess) -> None:
    """A name of another form is refused as such, also beside a cursor of another incarnation."""
    answer = await daemon.call("PUT", "/v1/cursors/a%14b", json={"cursor": "0@g"})
    assert (answer.status, answer.json["code"]) == (400, "invalid-name")
