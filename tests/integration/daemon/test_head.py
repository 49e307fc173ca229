from __future__ import annotations

import asyncio

import pytest
from tests.integration.daemon.process import Answer, DaemonProcess

ACTIONS = "/v1/sessions/s/actions"
BIG = "head -c 300000 /dev/zero | tr '\\0' x"


async def _ran(daemon: DaemonProcess, command: str, wait: int = 30) -> Answer:
    body = {"kind": "run", "payload": {"command": command}}
    return await daemon.post(ACTIONS, body, headers={"Prefer": f"wait={wait}"} if wait else {})


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/openapi.json", "/v1/sessions", "/v1/sessions/s", "/v1/events?limit=1"]
)
async def test_head_is_the_head_of_get(daemon: DaemonProcess, session: str, path: str) -> None:
    """HEAD answers with the status and the headers of GET, and without a body."""
    got, head = await daemon.get(path), await daemon.call("HEAD", path)
    assert (head.status, head.data) == (200, b"")
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert head.headers["Content-Length"] == str(len(got.data))


async def _said(daemon: DaemonProcess, data: bytes) -> bytes:
    """Send bytes on one connection and return all that comes until the daemon closes it."""
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_nothing_of_a_body_follows_a_head(daemon: DaemonProcess, session: str) -> None:
    """A blob's and an output's HEAD tell the size; the next answer on the connection begins right behind it."""
    ended = (await _ran(daemon, BIG)).json
    digest, action = ended["observation"]["payload"]["output_digest"], ended["action"]["id"]
    for path in (f"/v1/sessions/s/blobs/{digest}", f"{ACTIONS}/{action}/output"):
        head = f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        said = await _said(daemon, head + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        first, second, body = said.split(b"\r\n\r\n")
        assert b" 200 " in first
        assert b"Content-Length: 300000\r\n" in first + b"\r\n"
        assert second.startswith(b"HTTP/1.1 200 ")
        assert body.startswith(b'{"status"')


async def test_head_follows_nothing(daemon: DaemonProcess, session: str) -> None:
    """HEAD of what a GET would follow for ever is answered at once."""
    action = (await _ran(daemon, "echo begun; sleep 60", wait=0)).json["action"]["id"]
    async with asyncio.timeout(10):
        output = await daemon.call("HEAD", f"{ACTIONS}/{action}/output")
        stream = await daemon.call("HEAD", "/v1/events", headers={"Accept": "text/event-stream"})
    assert (output.status, output.media, output.data) == (200, "application/octet-stream", b"")
    assert (stream.status, stream.media, stream.data) == (200, "text/event-stream", b"")
    assert await daemon.metric("subscribers") == 0


async def test_head_of_what_is_not_there(daemon: DaemonProcess) -> None:
    """HEAD tells the status of what GET would refuse, and 405 where there is no GET, with what there is."""
    missing = await daemon.call("HEAD", "/v1/sessions/none")
    assert (missing.status, missing.media, missing.data) == (404, "application/problem+json", b"")
    no_get = await daemon.call("HEAD", f"{ACTIONS}/some/cancel")
    assert (no_get.status, no_get.headers["Allow"]) == (405, "POST")
    assert (await daemon.call("PUT", "/v1/sessions")).headers["Allow"] == "GET, HEAD, POST"
