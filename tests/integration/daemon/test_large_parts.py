"""Large parts of payloads are blobs: events stay small, files come back byte for byte, a `kill -9` loses nothing."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import random
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess
from tests.integration.daemon.test_actions import ACTIONS, WAIT, run, until_status

from chronicled.client import Event, connect
from chronicled.storage.verification import verify_file

EVENT_BYTES_MAX = 64 << 10
TEXT = "".join(f"zeile {number} äöü €\n" for number in range(23_000))
BINARY = base64.b64encode(random.Random(7).randbytes(300_000)).decode()


def write(path: str, content: str, encoding: str = "utf-8", **more: Any) -> dict[str, Any]:
    """Return a `write` action."""
    return {"kind": "write", "payload": {"path": path, "content": content, "encoding": encoding}, **more}


def read(path: str, **more: Any) -> dict[str, Any]:
    """Return a `read` action."""
    return {"kind": "read", "payload": {"path": path, **more}}


async def blob(daemon: DaemonProcess, payload: dict[str, Any], field: str = "content") -> str:
    """Return the whole of a part, through the session, after checking that what stands inline is its head."""
    answer = await daemon.get(f"/v1/sessions/s/blobs/{payload['blobs'][field]}")
    assert answer.status == 200
    assert hashlib.sha256(answer.data).hexdigest() == payload["blobs"][field]
    text = answer.data.decode()
    assert payload[field]
    assert text.startswith(payload[field])
    return text


async def check_small(daemon: DaemonProcess) -> None:
    """Check that no event of the log is large."""
    for event in await daemon.events():
        assert len(json.dumps(event)) <= EVENT_BYTES_MAX, event["kind"]


@pytest.mark.parametrize(("content", "encoding"), [(TEXT, "utf-8"), (BINARY, "base64")], ids=["text", "binary"])
async def test_a_large_file_goes_in_and_comes_back_through_blobs(
    daemon: DaemonProcess, session: str, content: str, encoding: str
) -> None:
    """What was written is what `read` gives, the daemon killed in between; no event is large; others see no blob."""
    written = (await daemon.post(ACTIONS, write("d/file", content, encoding), headers=WAIT)).json
    assert written["observation"]["payload"]["outcome"] == "ok"
    action = written["action"]["payload"]
    assert await blob(daemon, action) == content
    await daemon.kill()
    await daemon.start()
    assert await blob(daemon, action) == content
    ended = (await daemon.post(ACTIONS, read("d/file"), headers=WAIT)).json["observation"]
    observed = ended["payload"]
    assert (observed["encoding"], observed["truncated"], observed["message"]) == (encoding, False, None)
    assert observed["file_bytes"] == written["observation"]["payload"]["bytes_written"]
    assert await blob(daemon, observed) == content
    await check_small(daemon)
    await daemon.kill()
    await daemon.start()
    assert await blob(daemon, observed) == content
    async with connect(str(daemon.socket)) as client:
        whole = await (await client.session("s", create=False)).payload(
            msgspec.json.decode(json.dumps(ended), type=Event)
        )
    assert (whole["content"], whole["blobs"]) == (content, {})
    assert not (await asyncio.to_thread(verify_file, daemon.data / "log.sqlite")).problems
    await daemon.post("/v1/sessions", {"session": "t"})
    foreign = await daemon.get(f"/v1/sessions/t/blobs/{action['blobs']['content']}")
    assert (foreign.status, foreign.json["code"]) == (404, "blob-not-found")


async def test_a_long_command_runs_whole(daemon: DaemonProcess, session: str) -> None:
    """A command that is too long for an event runs to its last line."""
    command = "cat <<'END' | wc -c\n" + "x" * 200_000 + "\nEND\necho last\n"
    answer = (await daemon.post(ACTIONS, run(command), headers=WAIT)).json
    assert answer["observation"]["payload"]["output"] == "200001\nlast\n"
    assert await blob(daemon, answer["action"]["payload"], "command") == command
    await check_small(daemon)


async def test_a_retry_of_a_large_action_is_the_same_action(daemon: DaemonProcess, session: str) -> None:
    """The same request under one key is one action and one blob; another content under that key is refused."""
    headers = {"Idempotency-Key": "k", **WAIT}
    first = await daemon.post(ACTIONS, write("file", TEXT), headers=headers)
    again = await daemon.post(ACTIONS, write("file", TEXT), headers=headers)
    assert again.json == first.json
    # The same head and another tail: it is the whole request that is compared.
    refused = await daemon.post(ACTIONS, write("file", TEXT + "x"), headers=headers)
    assert (refused.status, refused.json["code"]) == (422, "id-reused")
    unreferenced = hashlib.sha256((TEXT + "x").encode()).hexdigest()
    assert (await daemon.get(f"{session}/blobs/{unreferenced}")).status == 404


async def test_what_may_not_be_submitted_stores_no_blob(daemon: DaemonProcess, session: str) -> None:
    """Too large a payload is 413, a session that is not there 404, a digest of the client's own 400."""
    body = io.BytesIO(json.dumps(write("file", "x" * (1 << 20))).encode())
    headers = {"Content-Type": "application/json"}
    assert (await daemon.call("POST", ACTIONS, data=body, headers=headers)).status == 413
    assert (await daemon.post("/v1/sessions/none/actions", write("file", TEXT))).status == 404
    forged = write("file", "x")
    forged["payload"]["blobs"] = {"content": "ab" * 32}
    refused = await daemon.post(ACTIONS, forged)
    assert (refused.status, refused.json["code"]) == (400, "invalid-payload")
    assert [name for name in os.listdir(daemon.data / "blobs") if name != "incoming"] == []


@pytest.mark.parametrize("point", ["commit_to_ack:5", "ack_to_dispatch:2", "journal_to_send:2"])
async def test_a_large_write_survives_a_kill_on_its_way(tmp_path: Path, point: str) -> None:
    """Killed after the commit, before the dispatch, or before the frame is sent, the whole content is written once."""
    daemon = DaemonProcess(tmp_path, environment={"CHRONICLED_FAULT_POINT": point})
    await daemon.start()
    try:
        await daemon.post("/v1/sessions", {"session": "s"})
        await daemon.post(ACTIONS, run("sleep 0.2; echo up"))
        id = "0192f3c4-0000-7000-8000-000000000001"
        with contextlib.suppress(aiohttp.ClientError):  # killed before its answer
            await daemon.post(ACTIONS, write("file", TEXT, id=id))
        assert await daemon.wait() == -9
        daemon.environment.clear()
        await daemon.start()
        if (await daemon.get(f"{ACTIONS}/{id}")).status == 404:
            await daemon.post(ACTIONS, write("file", TEXT, id=id))
        shown = (await until_status(daemon, id, "ok")).json
        assert shown["observation"]["payload"]["bytes_written"] == len(TEXT.encode())
        observed = (await daemon.post(ACTIONS, read("file"), headers=WAIT)).json["observation"]["payload"]
        assert await blob(daemon, observed) == TEXT
    finally:
        await daemon.aclose()


async def test_a_lost_blob_ends_its_action(launch: Launch) -> None:
    """An action whose part is gone or damaged never runs: outcome `error`, reason `blob_lost`."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    blocker = (await daemon.post(ACTIONS, run("read line"))).json["action"]["id"]
    ids: list[str] = []
    for content in (TEXT, BINARY):
        ids.append((await daemon.post(ACTIONS, write("file", content))).json["action"]["id"])
        digest = hashlib.sha256(content.encode()).hexdigest()
        path = daemon.data / "blobs" / digest[:2] / digest
        path.unlink() if content is TEXT else path.write_bytes(b"another")
    await until_status(daemon, blocker, "running")
    await daemon.post(f"{ACTIONS}/{blocker}/input", {"data": "go\n"})
    for id in ids:
        observation = (await until_status(daemon, id, "error")).json["observation"]["payload"]
        assert (observation["reason"], observation["effects"]) == ("blob_lost", "none")
