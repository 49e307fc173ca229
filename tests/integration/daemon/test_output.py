from __future__ import annotations

import asyncio
import hashlib

import pytest
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.daemon.test_actions import ACTIONS, END_SECONDS_MAX, WAIT, run, until_status


async def test_output_is_followed_live_to_its_end(daemon: DaemonProcess, session: str) -> None:
    """Bytes come while the command runs, and the answer ends with it; a follower of a queued action waits for it."""
    first = (await daemon.post(ACTIONS, run("echo one; read x; echo two"))).json["action"]["id"]
    second = (await daemon.post(ACTIONS, run("echo three"))).json["action"]["id"]
    queued = asyncio.create_task(daemon.get(f"{ACTIONS}/{second}/output"))
    async with asyncio.timeout(END_SECONDS_MAX), daemon.client.get(f"{ACTIONS}/{first}/output") as response:
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert await response.content.readline() == b"one\n"
        assert (await daemon.get(f"{ACTIONS}/{first}")).json["status"] == "running"
        await daemon.post(f"{ACTIONS}/{first}/input", {"data": "\n"})
        assert (await response.content.read()).endswith(b"two\n")
    assert (await queued).data == b"three\n"


async def test_output_so_far_is_given_without_following(daemon: DaemonProcess, session: str) -> None:
    """`follow=false` gives what is there at once, from the offset."""
    id = (await daemon.post(ACTIONS, run("printf 0123456789; sleep 30"))).json["action"]["id"]

    async def printed() -> bool:
        return (await daemon.get(f"{ACTIONS}/{id}/output?follow=false")).data == b"0123456789"

    await until(printed)
    assert (await daemon.get(f"{ACTIONS}/{id}/output?follow=false&offset=7")).data == b"789"
    assert (await daemon.get(f"{ACTIONS}/{id}/output?follow=false&offset=70")).data == b""
    await daemon.post(f"{ACTIONS}/{id}/cancel")
    await until_status(daemon, id, "cancelled")


@pytest.mark.parametrize("size", [0, 10, 200_000], ids=["none", "inline", "blob"])
async def test_kept_output_is_served_from_any_offset(daemon: DaemonProcess, session: str, size: int) -> None:
    """After the end every byte is there, whole or from an offset; the header tells how many; beyond is a 416."""
    answer = await daemon.post(ACTIONS, run(f"head -c {size} /dev/zero | tr '\\0' x"), headers=WAIT)
    id = answer.json["action"]["id"]
    whole = await daemon.get(f"{ACTIONS}/{id}/output")
    assert (whole.status, whole.data, whole.headers["X-Output-Size"]) == (200, b"x" * size, str(size))
    assert (await daemon.get(f"{ACTIONS}/{id}/output?offset={size}")).data == b""
    assert (await daemon.get(f"{ACTIONS}/{id}/output?offset={size // 2}")).data == b"x" * (size - size // 2)
    beyond = await daemon.get(f"{ACTIONS}/{id}/output?offset={size + 1}")
    assert (beyond.status, beyond.json["code"]) == (416, "range-not-satisfiable")


async def test_bytes_that_are_no_text_come_back_as_they_were(daemon: DaemonProcess, session: str) -> None:
    """The observation shows what text can; the output route gives the bytes."""
    answer = await daemon.post(ACTIONS, run(r"printf '\377\000\001'"), headers=WAIT)
    assert (await daemon.get(f"{ACTIONS}/{answer.json['action']['id']}/output")).data == b"\xff\x00\x01"


async def test_a_blob_is_read_whole_in_ranges_and_through_its_session_only(daemon: DaemonProcess, session: str) -> None:
    """Ranges are honoured, wrong ones are 416 or ignored as HTTP says; another session does not see the blob."""
    answer = await daemon.post(ACTIONS, run("seq 100000"), headers=WAIT)
    digest = answer.json["observation"]["payload"]["output_digest"]
    data = "".join(f"{n}\n" for n in range(1, 100_001)).encode()
    assert hashlib.sha256(data).hexdigest() == digest
    path = f"{session}/blobs/{digest}"
    whole = await daemon.get(path)
    assert (whole.status, whole.data, whole.headers["ETag"]) == (200, data, f'"{digest}"')
    for text, expected in (
        ("bytes=0-9", data[:10]),
        ("bytes=100-", data[100:]),
        ("bytes=-7", data[-7:]),
        (f"bytes=5-{len(data) * 2}", data[5:]),
        (f"bytes=-{len(data) * 2}", data),
    ):
        part = await daemon.get(path, headers={"Range": text})
        assert (part.status, part.data) == (206, expected), text
        assert part.headers["Content-Range"].endswith(f"/{len(data)}")
    for text in (f"bytes={len(data)}-", "bytes=-0"):
        beyond = await daemon.get(path, headers={"Range": text})
        assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(data)}")
    for text in ("bytes=9-5", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b"):
        assert (await daemon.get(path, headers={"Range": text})).status == 200, text
    stale = await daemon.get(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert stale.status == 200
    await daemon.post("/v1/sessions", {"session": "t"})
    foreign = await daemon.get(f"/v1/sessions/t/blobs/{digest}")
    assert (foreign.status, foreign.json["code"]) == (404, "blob-not-found")
