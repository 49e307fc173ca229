"""Exports over HTTP: the same as from the files, redacted, in bounds, and never taken for whole when they are not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.daemon.test_actions import ACTIONS, WAIT, run

from chronicled.client import connect
from chronicled.events.errors import NotReachable

EXPORT = "/v1/sessions/s/export"
VALUE = "hunter2-correct-horse"
OWN_FILES = 24
"""What may come to be open of the log: SQLite keeps what it closes beside a writer, for the next one; so as many as
there were at one time, and those of the daemon's own readers. A hundred exports would leave two hundred."""
MEDIA = {
    "format=jsonl": "application/x-ndjson",
    "format=jsonl&variant=with-blobs": "application/x-ndjson",
    "format=cloudevents": "application/x-ndjson",
    "format=cloudevents&variant=batch": "application/cloudevents-batch+json",
    "format=openhands": "application/json",
    "format=atif": "application/json",
    "format=asciicast": "application/x-asciicast",
    "format=asciicast&variant=v2&idle_limit=1.5&lane=main": "application/x-asciicast",
}


def from_files(daemon: DaemonProcess, query: str) -> bytes:
    """Return the same export as the command makes it from the data directory."""
    given = dict(each.split("=") for each in query.split("&"))
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]
    command = [sys.executable, "-m", "chronicled.cli", "migrate", "export", "s", "--no-units", *options]
    done = subprocess.run([*command, "--data", str(daemon.data)], capture_output=True, timeout=60, check=True)
    return done.stdout


def resident(daemon: DaemonProcess) -> int:
    """Return the daemon's highest resident size so far, in kB."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize("query", MEDIA)
async def test_it_is_what_the_command_writes(daemon: DaemonProcess, session: str, query: str) -> None:
    """Byte for byte, in every format and variant; the header says up to where."""
    await daemon.post(ACTIONS, run("echo héllo; head -c 100000 /dev/zero | tr '\\0' x"), headers=WAIT)
    answer = await daemon.get(f"{EXPORT}?{query}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, MEDIA[query])
    assert int(answer.headers["X-Export-Head"]) > 3
    assert "héllo".encode() in answer.data
    assert answer.data == await asyncio.to_thread(from_files, daemon, query)
    head = await daemon.call("HEAD", f"{EXPORT}?{query}")
    assert (head.status, head.data, head.headers["Content-Type"]) == (200, b"", MEDIA[query])


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (EXPORT, 400, "invalid-request"),
        (f"{EXPORT}?format=parquet", 400, "invalid-request"),
        (f"{EXPORT}?format=jsonl&variant=v3", 400, "invalid-request"),
        (f"{EXPORT}?format=jsonl&lane=main", 400, "invalid-request"),
        (f"{EXPORT}?format=asciicast&idle_limit=0", 400, "invalid-request"),
        (f"{EXPORT}?format=asciicast&lane=nobody", 400, "invalid-request"),
        (f"{EXPORT}?format=jsonl&after=999999", 400, "invalid-cursor"),
        ("/v1/sessions/nobody/export?format=jsonl", 404, "session-not-found"),
        ("/v1/sessions/.%20./export?format=jsonl", 400, "invalid-name"),
    ],
)
async def test_what_is_wrong_is_a_problem(
    daemon: DaemonProcess, session: str, path: str, status: int, code: str
) -> None:
    """Before anything of the answer is sent, with a code of its own."""
    answer = await daemon.get(path)
    assert (answer.status, answer.json["code"]) == (status, code), answer
    assert await daemon.metric("exports") == 0


async def test_secrets_are_replaced_once_more(daemon: DaemonProcess, session: str) -> None:
    """What became secret later does not leave, in payloads and blobs; without the values nothing does."""
    await daemon.post(ACTIONS, run(f"echo {VALUE}; yes {VALUE} | head -n 20000"), headers=WAIT)
    query = f"{EXPORT}?format=openhands"
    # Negative control: until it is registered it is there.
    assert VALUE.encode() in (await daemon.get(query)).data
    put = await daemon.call("PUT", f"{session}/secrets/TOKEN", json={"value": VALUE})
    assert put.status < 300, put
    text = (await daemon.get(query)).data
    assert VALUE.encode() not in text
    assert text.count(b"<secret:TOKEN>") > 20_000
    record = daemon.data / "secrets" / "default" / "s" / "record"
    kept = record.read_bytes()
    record.unlink()
    refused = await daemon.get(query)
    record.write_bytes(kept)
    assert (refused.status, refused.json["code"]) == (503, "secrets-unavailable"), refused
    assert (await daemon.get(query)).status == 200


async def test_no_more_than_so_many_at_one_time(launch: Launch) -> None:
    """The next one is told to come again; who leaves in the middle, or takes nothing, makes room."""
    daemon = await launch("limits.exports_max=1")
    await daemon.post("/v1/sessions", {"session": "s"})
    big = run("head -c 30000000 /dev/zero | tr '\\0' x")
    assert (await daemon.post(ACTIONS, big, headers=WAIT)).status == 200
    slow = await daemon.client.get(f"{EXPORT}?format=jsonl&variant=with-blobs")
    assert await slow.content.readexactly(1000)
    other = await daemon.get(f"{EXPORT}?format=atif")
    assert (other.status, other.json["code"], other.json["retryable"]) == (503, "overloaded", True)
    slow.close()

    async def free() -> bool:
        return await daemon.metric("exports") == 0

    await until(free)
    # Only now: whoever was slow above would have lost his place, too.
    assert await daemon.stop() == 0
    daemon.settings = (*daemon.settings, "limits.write_seconds_max=1")
    await daemon.start()
    stuck = await daemon.client.get(f"{EXPORT}?format=jsonl&variant=with-blobs")
    await until(free)  # it took nothing for a second
    assert (await daemon.get(f"{EXPORT}?format=atif")).status == 200
    with pytest.raises(aiohttp.ClientPayloadError):
        await stuck.content.read()
    stuck.close()


async def test_who_leaves_at_any_moment_leaves_nothing_behind(daemon: DaemonProcess, session: str) -> None:
    """Clients that are gone before, during and after an answer cost no place, no file and no connection."""
    await daemon.post(ACTIONS, run("head -c 3000000 /dev/zero | tr '\\0' x"), headers=WAIT)

    def opened() -> int:
        found = 0
        for path in Path(f"/proc/{daemon.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                found += "log.sqlite" in str(path.readlink())
        return found

    async def leave(number: int) -> None:
        method = "HEAD" if number % 4 == 0 else "GET"
        reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
        query = f"{EXPORT}?format=jsonl&variant=with-blobs"
        writer.write(f"{method} {query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        if number % 2:
            await reader.read(1 + number * 1000)
        await asyncio.sleep(number % 7 / 500)  # not for luck: whenever it is, nothing may be left
        writer.close()

    async def free() -> bool:
        return await daemon.metric("exports") == 0 and opened() <= before + OWN_FILES

    before = opened()
    for _ in range(12):
        await asyncio.gather(*(leave(number) for number in range(8)))
        await until(free)
    assert (await daemon.get(f"{EXPORT}?format=atif")).status == 200
    assert "broke off" not in daemon.log_text()


async def test_a_large_session_goes_out_in_bounded_memory(daemon: DaemonProcess, session: str) -> None:
    """However much it prints, the daemon holds a batch of it, and serves others meanwhile."""
    ended = await daemon.post(ACTIONS, run("yes 0123456789abcdef | head -c 100000000"), headers={"Prefer": "wait=60"})
    assert ended.status == 200, ended
    await daemon.get(f"{EXPORT}?format=atif&after=1")
    before, size = resident(daemon), 0
    async with daemon.client.get(f"{EXPORT}?format=jsonl&variant=with-blobs") as response:
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size < 1_000_000:
                assert (await daemon.get("/livez")).status == 200
    assert size > 100_000_000
    assert resident(daemon) - before < 40_000


async def test_what_breaks_off_is_never_taken_for_whole(daemon: DaemonProcess, session: str) -> None:
    """A daemon that dies in the middle leaves the client with an error, not with half an export."""
    ended = await daemon.post(ACTIONS, run("yes | head -c 50000000"), headers={"Prefer": "wait=60"})
    assert ended.status == 200
    async with connect(str(daemon.socket)) as client:
        known = await client.session("s", create=False)
        async with known.export("jsonl", "with-blobs") as export:
            pieces = export.pieces()
            assert json.loads((await anext(pieces)).split(b"\n")[0])["type"] == "begin"
            assert export.media == "application/x-ndjson"
            await daemon.kill()
            with pytest.raises(NotReachable, match="lost"):
                [piece async for piece in pieces]


async def test_a_log_that_cannot_be_read_breaks_off(daemon: DaemonProcess, session: str) -> None:
    """A blob that is gone is told in its place; an answer has its last line only if all of it was made."""
    ended = await daemon.post(ACTIONS, run("seq 100000"), headers=WAIT)
    digest: Any = ended.json["observation"]["payload"]["output_digest"]
    whole = (await daemon.get(f"{EXPORT}?format=jsonl&variant=with-blobs")).data
    assert json.loads(whole.splitlines()[-1])["type"] == "end"
    (found,) = [path for path in (daemon.data / "blobs").rglob(f"*{digest[4:]}*") if path.is_file()]
    found.unlink()
    text = (await daemon.get(f"{EXPORT}?format=jsonl&variant=with-blobs")).data
    assert json.loads(text.splitlines()[-1])["type"] == "end"
    assert len(text) < len(whole)
