from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess, ServerSentEvent, server_sent_events, until

SSE = {"Accept": "text/event-stream"}
ACTIONS = "/v1/sessions/s/actions"


def think(text: str = "x") -> dict[str, Any]:
    """Return an action that is only recorded."""
    return {"kind": "think", "payload": {"thought": text}}


async def take(daemon: DaemonProcess, path: str, count: int, last: str = "") -> list[ServerSentEvent]:
    """Return the first messages of an event stream."""
    found: list[ServerSentEvent] = []
    headers = SSE | ({"Last-Event-ID": last} if last else {})
    async with asyncio.timeout(20), daemon.client.get(path, headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async for message in server_sent_events(response):
            found.append(message)
            if len(found) == count:
                break
    return found


async def test_pages_join_without_gap_or_repeat(daemon: DaemonProcess, session: str) -> None:
    """Whatever the limit, the pages together are the log; `next` and the Link header lead on."""
    await daemon.post(ACTIONS, [think(str(n)) for n in range(20)])
    whole = await daemon.events()
    assert [event["position"] for event in whole] == list(range(1, len(whole) + 1))
    for limit in (1, 3, 1000):
        path = f"/v1/events?limit={limit}"
        found: list[dict[str, Any]] = []
        while len(found) < len(whole):
            answer = await daemon.get(path)
            page = answer.json
            assert len(page["events"]) <= limit
            found += page["events"]
            path = answer.headers["Link"].partition(">")[0].removeprefix("<")
            assert f"after={page['next']}@{page['incarnation']}" in path
        assert found[: len(whole)] == whole


async def test_filters_leave_out_what_is_not_wanted(daemon: DaemonProcess, session: str) -> None:
    """Kinds, categories and sources filter, repeated or with commas, and the cursor still reaches the end."""
    await daemon.post("/v1/sessions", {"session": "other"})
    await daemon.post(ACTIONS, [think(), {"kind": "message", "payload": {"content": "m"}}, think()])
    await daemon.post("/v1/sessions/other/actions", think())
    both = await daemon.get(f"{session}/events?kind=think,message")
    assert [event["kind"] for event in both.json["events"]] == ["think", "message", "think"]
    again = await daemon.get(f"{session}/events?kind=think&kind=message&category=action&source=client")
    assert again.json["events"] == both.json["events"]
    nothing = await daemon.get(f"{session}/events?kind=browse")
    assert nothing.json["events"] == []
    assert nothing.json["at_end"] is True
    everywhere = await daemon.events("/v1/events", "kind=think")
    assert [event["session"] for event in everywhere] == ["s", "s", "other"]


async def test_an_operator_sees_the_whole_log(daemon: DaemonProcess) -> None:
    """The daemon's own user reads every tenant's events: positions are dense from 1, the start comes first."""
    events = await daemon.events()
    assert events[0]["kind"] == "daemon_started"
    assert events[0]["tenant"] == "_system"


async def test_stream_catches_up_then_follows(daemon: DaemonProcess, session: str) -> None:
    """A stream gives what is there and then what comes, each event once, its data the event itself."""
    await daemon.post(ACTIONS, [think(str(n)) for n in range(5)])
    before = await daemon.events(session + "/events", "kind=think")
    following = asyncio.create_task(take(daemon, f"{session}/events?kind=think", 8))
    await until(lambda: _follows(daemon))
    for n in range(3):
        await daemon.post(ACTIONS, think(f"live {n}"))
    found = await following
    thoughts = [json.loads(message.data) for message in found]
    assert thoughts[:5] == before
    assert [event["payload"]["thought"] for event in thoughts[5:]] == ["live 0", "live 1", "live 2"]
    assert {message.event for message in found} == {"think"}
    assert [message.position for message in found] == [event["position"] for event in thoughts]


async def _follows(daemon: DaemonProcess) -> bool:
    return await daemon.metric("subscribers") == 1


async def test_stream_is_taken_up_again_without_gap_or_repeat(launch: Launch) -> None:
    """Cut at any message, also by a restart or a `kill -9`, `Last-Event-ID` goes on with the very next event."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    found: list[ServerSentEvent] = []
    last = "0"
    for round in range(6):
        await daemon.post(ACTIONS, [think(f"{round}.{n}") for n in range(7)])
        # The header wins over the cursor in the URL, as when a browser reconnects.
        part = await take(daemon, "/v1/sessions/s/events?after=0&category=action", 5, last)
        found += part
        last = part[-1].id
        if round == 2:
            assert await daemon.stop() == 0
            await daemon.start()
        elif round == 4:
            await daemon.kill()
            await daemon.start()
    written = [event["position"] for event in await daemon.events("/v1/sessions/s/events", "category=action")]
    assert len(written) == 42
    assert [message.position for message in found] == written[:30]


async def test_cursor_of_another_log_is_gone(daemon: DaemonProcess, session: str) -> None:
    """A cursor of another incarnation is a 410 in every form, never misread."""
    incarnation = (await daemon.get("/v1/events")).json["incarnation"]
    assert (await daemon.get(f"/v1/events?after=1@{incarnation}")).status == 200
    for headers in ({}, SSE):
        gone = await daemon.get("/v1/events?after=1@other", headers=headers)
        assert (gone.status, gone.json["code"]) == (410, "cursor-gone")
        gone = await daemon.get("/v1/events", headers={"Last-Event-ID": "1@other", **headers})
        assert gone.status == 410


async def test_subscribers_have_a_bound_and_leave_no_trace(launch: Launch) -> None:
    """One more than allowed is refused with a 503; whoever goes away makes room."""
    daemon = await launch("limits.subscribers_max=3")
    held = [await daemon.client.get("/v1/events", headers=SSE) for _ in range(3)]
    refused = await daemon.get("/v1/events", headers=SSE)
    assert (refused.status, refused.json["code"]) == (503, "overloaded")
    for response in held:
        response.close()

    async def gone() -> bool:
        return await daemon.metric("subscribers") == 0

    await until(gone)
    assert len(await take(daemon, "/v1/events", 1)) == 1


async def test_a_reader_that_takes_nothing_is_dropped(launch: Launch) -> None:
    """A stalled stream ends after its time and holds up nobody: others follow, appends go on."""
    daemon = await launch("limits.write_seconds_max=0.3")
    await daemon.post("/v1/sessions", {"session": "s"})
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket), limit=1024)
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
    await until(lambda: _follows(daemon))
    big = think("x" * 60_000)  # as large as an event gets: what is larger becomes a blob
    for _ in range(80):
        assert (await daemon.post(ACTIONS, big)).status == 202

    async def gone() -> bool:
        return await daemon.metric("subscribers") == 0

    await until(gone)
    writer.close()
    del reader
