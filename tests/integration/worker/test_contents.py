"""Contents under the worker: copied from their blobs before an upload is sent; and downloads, which no event shows."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.worker.machine import Machine

from chronicled.events.envelope import Event
from chronicled.events.errors import StorageFull
from chronicled.events.kinds.files import Download, Upload
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.worker_log import SessionKey

DATA = os.urandom(300_000)


async def upload(machine: Machine, data: bytes = DATA, *, kept: bool = True, **fields: Any) -> Event:
    """Submit an upload of a file, as the daemon does."""
    digest = hashlib.sha256(data).hexdigest()
    if kept:
        await machine.blobs.put(data)
    payload = Upload(path="file", form="file", content=digest, content_bytes=len(data), **fields)
    return await machine.submit_kind("upload", payload)


def held(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Make copying wait; return what tells that one waits, and what lets it go on."""
    waits, goes = asyncio.Event(), asyncio.Event()
    copy = machine.log.copy_blob

    async def late(*arguments: Any) -> int:
        waits.set()
        await goes.wait()
        return await copy(*arguments)

    monkeypatch.setattr(machine.log, "copy_blob", late)
    return waits, goes


def copies() -> int:
    """Count the copies that this process holds."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += ".in (deleted)" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


async def test_a_content_reaches_the_sandbox_and_its_copy_goes(tmp_path: Path) -> None:
    """The file in the sandbox has the blob's bytes; nothing of the copy is left, and the lane goes on."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ended = await machine.ended(await upload(machine))
        assert (ended.outcome, ended.bytes_written) == (Outcome.OK, len(DATA))
        told = await machine.ended(await machine.submit("sha256sum <file"))
        assert told.output.split()[0] == hashlib.sha256(DATA).hexdigest()
        await machine.until(_no_copies)
        assert [name for name in os.listdir(machine.directories.spool) if name.endswith(".in")] == []


async def test_a_lost_blob_means_that_it_never_ran(tmp_path: Path) -> None:
    """Without its content an upload cannot run, and says which blob is lost; the next action runs."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        ended = await machine.ended(await upload(machine, kept=False))
        assert (ended.outcome, ended.effects, ended.reason) == (Outcome.ERROR, Effects.NONE, "blob_lost")
        assert (await machine.ended(await machine.submit("true"))).outcome == Outcome.OK


async def test_a_cancel_while_it_is_copied_means_that_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload whose content is on its way was never sent: a cancel ends it without effects, and the copy goes."""
    async with Machine.open(tmp_path) as machine:
        waits, goes = held(machine, monkeypatch)
        async with machine.working():
            await machine.create()
            action = await upload(machine)
            await asyncio.wait_for(waits.wait(), 10)
            await machine.ask(action)
            ended = await machine.ended(action)
            goes.set()
            assert (ended.outcome, ended.effects) == (Outcome.CANCELLED, Effects.NONE)
            await machine.ended(await machine.submit("true"))
            await machine.until(_no_copies)


async def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for the copy the upload waits, and runs once there is room."""
    async with Machine.open(tmp_path) as machine:
        copy, left = machine.log.copy_blob, [StorageFull("full"), StorageFull("full")]

        async def refusing(*arguments: Any) -> int:
            if left:
                raise left.pop()
            return await copy(*arguments)

        monkeypatch.setattr(machine.log, "copy_blob", refusing)
        async with machine.working():
            await machine.create()
            assert (await machine.ended(await upload(machine))).outcome == Outcome.OK
            assert left == []
            await machine.until(_no_copies)


async def test_a_worker_that_dies_while_copying_is_followed_by_one_that_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next worker copies it again, and the upload runs once."""
    async with Machine.open(tmp_path) as machine:
        waits, goes = held(machine, monkeypatch)
        await machine.create()
        async with machine.working():
            action = await upload(machine)
            await asyncio.wait_for(waits.wait(), 10)
        goes.set()
        assert copies() == 0
        async with machine.working():
            assert (await machine.ended(action)).outcome == Outcome.OK


async def test_no_event_shows_what_was_downloaded(tmp_path: Path) -> None:
    """A download's bytes are a blob whatever they are, small, large or text; no event or glimpse holds any of them."""
    async with Machine.open(tmp_path) as machine, machine.working():
        await machine.create()
        for command in ("printf plain-text >f", "yes plain-text | head -c 5500000 >f", ": >f"):
            await machine.ended(await machine.submit(command))
            ended = await machine.ended(await machine.submit_kind("download", Download(path="f", form="file")))
            assert (ended.outcome, ended.truncated, ended.output_bytes) == (Outcome.OK, False, ended.bytes_read)
            assert ended.output_blob is (ended.output_bytes > 0)
            if ended.output_digest is not None:
                data = await machine.log.read_blob(SessionKey("default", "s"), ended.output_digest)
                assert data.replace(b"plain-text", b"").strip() == b""
        downloads = [event.id for event in await machine.events("download") if event.category == "action"]
        told = [event for event in await machine.events() if event.cause in downloads]
        assert {event.kind for event in told} == {"download"}
        assert all(b"plain-text" not in msgspec.json.encode(event) for event in told)


async def _no_copies() -> bool:
    # Let go of a moment after the observation: whoever sent it still has it in hand.
    return copies() == 0
