from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import Answer, DaemonProcess

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "retryable"}
ACTIONS = "/v1/sessions/s/actions"
RUN = {"kind": "run", "payload": {"command": "true"}}
ID = "0192f3c4-0000-7000-8000-000000000001"
ANSWER_SECONDS_MAX = 20.0
"""Less than what the daemon gives a request by default."""


def assert_problem(answer: Answer, status: int, code: str | None = None) -> None:
    """Check that the answer is a whole problem document of that status."""
    assert answer.status == status, answer
    assert answer.media == "application/problem+json"
    problem = answer.json
    assert problem.keys() >= MEMBERS
    assert problem["status"] == status
    assert problem["type"] == f"urn:chronicled:problem:{problem['code']}"
    if code is not None:
        assert problem["code"] == code, problem


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({"kind": "fly"}, "unknown-kind", "fly"),
        ({"kind": "session_created", "payload": {"runtime": "process"}}, "unknown-kind", "session_created"),
        ({"kind": "progress", "payload": {}}, "unknown-kind", "progress"),
        ({"kind": "daemon_started"}, "unknown-kind", "daemon_started"),
        ({"kind": "run"}, "invalid-payload", "command"),
        ({"kind": "run", "payload": {"command": 1}}, "invalid-payload", "command"),
        ({"kind": "run", "payload": {"command": "x", "comand": 1}}, "invalid-payload", "comand"),
        ({"kind": "run", "payload": {"command": "x", "timeout_seconds": -1}}, "invalid-payload", "timeout_seconds"),
        ({"kind": "run", "payload": {"command": "x", "environment": {"A B": "c"}}}, "invalid-payload", "environment"),
        ({"kind": "run", "payload": []}, "invalid-payload", "array"),
        ({"kind": "run", "payload": None}, "invalid-payload", "null"),
        ({"kind": "run", "payload": {"command": "x"}, "extra": 1}, "invalid-request", "extra"),
        ({"payload": {"command": "x"}}, "invalid-request", "kind"),
        ({**RUN, "lane": ""}, "invalid-name", "lane"),
        ({**RUN, "lane": "../x"}, "invalid-name", "lane"),
        ({**RUN, "lane": ".."}, "invalid-name", "lane"),
        ({**RUN, "id": "1"}, "invalid-request", "UUID"),
        ({**RUN, "expected_sequence": -2}, "invalid-request", "expected_sequence"),
        ({**RUN, "expected_sequence": "0"}, "invalid-request", "expected_sequence"),
        ([], "invalid-request", "at least one"),
        ([RUN, {"kind": "fly"}], "unknown-kind", "fly"),
        ([RUN, {**RUN, "expected_sequence": 0}], "invalid-request", "expected_sequence"),
        ([{**RUN, "id": ID}, {**RUN, "id": ID}], "invalid-request", "same id"),
        ([RUN] * 300, "invalid-request", "256"),
        ("run", "invalid-request", "object"),
        (None, "invalid-request", "null"),
        (1, "invalid-request", "int"),
    ],
    ids=str,
)
async def test_a_wrong_action_is_refused_by_name(
    daemon: DaemonProcess, session: str, body: Any, code: str, named: str
) -> None:
    """What is wrong with a submission is named, and nothing of it is written."""
    before = await daemon.written()
    headers = {"Content-Type": "application/json"}
    answer = await daemon.call("POST", ACTIONS, data=json.dumps(body), headers=headers)
    assert_problem(answer, 400, code)
    assert named in answer.json["detail"]
    assert await daemon.written() == before


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "needs a JSON body"),
        (b"{", "truncated"),
        (b'{"kind": "run",}', "byte 15"),
        (b'{"kind": "\xff"}', "utf-8"),
        (b'\xef\xbb\xbf{"kind": "run"}', "malformed"),
        (b'{"kind": "run", "payload": {"command": "\\ud800"}}', ""),
        (b"[" * 100_000, ""),
        (b'{"kind":"finish","payload":{"outputs":{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}}}", ""),
        (b'{"kind":"finish","payload":{"outputs":{"a":1e999}}}', ""),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_body_that_is_not_json_is_refused(daemon: DaemonProcess, session: str, data: bytes, named: str) -> None:
    """Malformed JSON is a 400 that says where, however deep or strange it is."""
    before = await daemon.written()
    answer = await daemon.call("POST", ACTIONS, data=data, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400)
    assert named in answer.json["detail"]
    assert await daemon.written() == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json, text/html"},
    ],
    ids=str,
)
async def test_another_media_type_is_415(daemon: DaemonProcess, session: str, headers: dict[str, str]) -> None:
    """Only plain JSON in UTF-8 is read."""
    answer = await daemon.call("POST", ACTIONS, data=json.dumps(RUN).encode(), headers=headers, compress=None)
    assert_problem(answer, 415, "unsupported-media-type")


async def test_too_much_is_413(launch: Launch) -> None:
    """A body over its limit is a 413, announced or not; so is a payload over its own; nothing is written."""
    daemon = await launch("limits.body_bytes_max=1500000")
    await daemon.post("/v1/sessions", {"session": "s"})
    before = await daemon.written()
    big = json.dumps({"kind": "think", "payload": {"thought": "x" * 2_000_000}}).encode()
    kind = {"Content-Type": "application/json"}
    assert_problem(await daemon.call("POST", ACTIONS, data=io.BytesIO(big), headers=kind), 413, "payload-too-large")

    async def chunks() -> Any:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    unannounced = await daemon.call("POST", ACTIONS, data=chunks(), headers=kind)
    assert_problem(unannounced, 413, "payload-too-large")
    assert unannounced.json["bytes_max"] == 1_500_000, "the limit of the body, and not of what stands in it"
    payload = json.dumps({"kind": "think", "payload": {"thought": "x" * 1_060_000}}).encode()
    answer = await daemon.call("POST", ACTIONS, data=io.BytesIO(payload), headers=kind)
    assert_problem(answer, 413, "payload-too-large")
    assert await daemon.written() == before
    assert (await daemon.post(ACTIONS, {"kind": "think", "payload": {"thought": "x"}})).status == 202


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "%2e%2e",
        "a%2fb",
        "..%2f..%2fetc%2fpasswd",
        "a%00b",
        "%ff",
        "%zz",
        "%",
        "a b",
        "ä",
        "%C3%A4",
        "x" * 129,
        "a%0d%0ab",
    ],
)
async def test_a_name_is_never_a_path(daemon: DaemonProcess, name: str) -> None:
    """Separators, dots, encodings and control characters in a session's name are refused on every route."""
    before = await daemon.written()
    for tail in ("", "/events", f"/actions/{ID}"):
        data = await daemon.raw(
            f"GET /v1/sessions/{name}{tail} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert data.split(b" ", 2)[1] in {b"400", b"404"}, data
        assert b"application/problem+json" in data
    created = await daemon.post("/v1/sessions", {"session": name})
    assert_problem(created, 400)
    assert await daemon.written() == before


async def test_reserved_names_are_refused(daemon: DaemonProcess) -> None:
    """A client cannot make a session whose name begins with an underscore, nor see the daemon's own."""
    assert_problem(await daemon.post("/v1/sessions", {"session": "_daemon"}), 400, "invalid-name")
    assert_problem(await daemon.get("/v1/sessions/daemon"), 404, "session-not-found")
    assert_problem(await daemon.get("/v1/sessions/daemon/events"), 404, "session-not-found")


async def test_what_belongs_to_another_session_is_404(daemon: DaemonProcess, session: str) -> None:
    """An action is reached through its own session only, by every route."""
    await daemon.post("/v1/sessions", {"session": "other"})
    id = (await daemon.post(ACTIONS, RUN)).json["action"]["id"]
    for method, tail in (("GET", ""), ("GET", "/output"), ("POST", "/cancel"), ("POST", "/interrupt")):
        assert_problem(await daemon.call(method, f"/v1/sessions/other/actions/{id}{tail}"), 404, "action-not-found")
    assert_problem(await daemon.post(f"/v1/sessions/other/actions/{id}/input", {"data": "x"}), 404, "action-not-found")


@pytest.mark.parametrize("digest", ["0" * 63, "0" * 65, "G" * 64, "A" * 64, "..%2f..%2flog.sqlite", "%2e%2e"])
async def test_a_digest_is_never_a_path(daemon: DaemonProcess, session: str, digest: str) -> None:
    """Whatever is not 64 hex digits is refused before any file is looked at."""
    assert_problem(await daemon.get(f"{session}/blobs/{digest}"), 400)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v1", 404),
        ("/v1/", 404),
        ("/v1/nothing", 404),
        ("/v1/sessions/", 400),
        ("/v1/sessions/s/", 404),
        ("/v1//sessions", 404),
        ("/v1/sessions/s/events/", 404),
        ("/v1/events?limit=0", 400),
        ("/v1/events?limit=1001", 400),
        ("/v1/events?limit=ten", 400),
        ("/v1/events?limit=1&limit=2", 400),
        ("/v1/events?after=-1", 400),
        ("/v1/events?after=1.5", 400),
        ("/v1/events?after=99999999999999999999", 400),
        ("/v1/events?after=999999", 400),
        ("/v1/events?after=0@", 400),
        ("/v1/events?after=0@other", 410),
        ("/v1/events?category=things", 400),
        ("/v1/events?source=moon", 400),
        ("/v1/events?kind=RUN", 400),
        ("/v1/events?kind=", 400),
        ("/v1/events?colour=red", 400),
        ("/v1/events?after=%zz", 400),
        ("/v1/events?%ff=1", 400),
        ("/v1/sessions?after=x", 400),
        ("/v1/sessions/s?x=1", 400),
        ("/livez?x=1", 400),
        (f"/v1/sessions/s/actions/{ID}", 404),
        ("/v1/sessions/s/actions/1", 400),
        (f"/v1/sessions/s/actions/{ID}/output?offset=-1", 400),
        (f"/v1/sessions/s/actions/{ID}/output?follow=maybe", 400),
    ],
)
async def test_a_wrong_target_is_a_problem(daemon: DaemonProcess, session: str, path: str, status: int) -> None:
    """Unknown paths, bad cursors and bad queries are problems of their own status."""
    assert_problem(await daemon.get(path), status)


async def test_another_method_is_405_with_allow(daemon: DaemonProcess) -> None:
    """A known path says which methods it takes."""
    answer = await daemon.call("PATCH", "/v1/sessions")
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": ""},
        {"Idempotency-Key": "a b"},
        {"Idempotency-Key": "x" * 256},
        {"Prefer": "wait=soon"},
        {"Prefer": "wait"},
        {"Prefer": "wait=-1"},
        [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
    ],
    ids=str,
)
async def test_a_wrong_header_is_400(daemon: DaemonProcess, session: str, headers: Any) -> None:
    """Headers that carry meaning are checked like everything else."""
    before = await daemon.written()
    assert_problem(await daemon.post(ACTIONS, RUN, headers=headers), 400, "invalid-request")
    assert await daemon.written() == before


async def test_key_and_id_exclude_each_other(daemon: DaemonProcess, session: str) -> None:
    """An action with an id of its own under an Idempotency-Key is ambiguous, hence refused."""
    answer = await daemon.post(ACTIONS, {**RUN, "id": ID}, headers={"Idempotency-Key": "k"})
    assert_problem(answer, 400, "invalid-request")


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost: x\r\nA\x00b: c\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(300)) + b"\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET //// HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_malformed_http_is_answered_with_a_problem(daemon: DaemonProcess, data: bytes) -> None:
    """Bytes that are not HTTP get a problem document; the daemon lives on, nothing is written."""
    before = await daemon.written()
    answer = await daemon.raw(data)
    status = int(answer.split(b" ", 2)[1])
    assert 400 <= status < 500, answer
    assert b"application/problem+json" in answer
    assert await daemon.written() == before
    assert (await daemon.get("/readyz")).status == 200


async def test_http_1_0_and_absolute_targets_are_served(daemon: DaemonProcess) -> None:
    """Old but valid HTTP is no rubbish."""
    assert b" 200 " in await daemon.raw(b"GET /livez HTTP/1.0\r\n\r\n")
    assert b" 200 " in await daemon.raw(b"GET http://h/livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")


async def test_a_body_that_never_comes_is_408(launch: Launch) -> None:
    """A stalled body ends in a 408 within its limit and frees the connection."""
    daemon = await launch("limits.body_seconds_max=0.3")
    before = await daemon.written()
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        answer = await daemon.raw(
            b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
        )
    assert b" 408 " in answer
    assert await daemon.written() == before


async def test_a_body_that_breaks_off_writes_nothing(daemon: DaemonProcess, session: str) -> None:
    """A client that goes away in the middle of its body leaves nothing behind."""
    before = await daemon.written()
    _, writer = await asyncio.open_unix_connection(str(daemon.socket))
    writer.write(
        f"POST {ACTIONS} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n".encode() + json.dumps(RUN).encode()
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await daemon.get("/readyz")).status == 200
    assert await daemon.written() == before


async def test_expect_continue_is_honoured(daemon: DaemonProcess, session: str) -> None:
    """A client that asks before it sends is told to go on, and answered."""
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
    body = json.dumps(RUN).encode()
    writer.write(
        f"POST {ACTIONS} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    )
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert b"HTTP/1.1 202" in await reader.read()
    writer.close()


async def test_too_many_connections_are_told_so(launch: Launch) -> None:
    """A connection over the limit gets a 503 that can be retried; the others live on."""
    daemon = await launch("limits.connections_max=4")
    held = [await asyncio.open_unix_connection(str(daemon.socket)) for _ in range(4)]
    try:
        # What comes over the limit is answered before it has asked; the probe of the start may still count.
        held += [await asyncio.open_unix_connection(str(daemon.socket)) for _ in range(3)]
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            answer = await held[-1][0].read()
        assert b" 503 " in answer
        assert b"overloaded" in answer
        held[0][1].write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            assert b" 200 " in await held[0][0].readuntil(b"\r\n")
    finally:
        for _, writer in held:
            writer.close()
