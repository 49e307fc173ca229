"""The pump and its followers: every byte, redacted, in order, bounded."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from anyio import CapacityLimiter
from hypothesis import given, settings
from hypothesis import strategies as st

from chronicled.events.clock import SystemClock
from chronicled.events.codec import encode_json
from chronicled.events.errors import StoreFailed
from chronicled.events.kinds.observations import Progress
from chronicled.events.limits import OUTPUT_INLINE_BYTES_MAX, PROGRESS_BYTES_MAX, PROGRESS_COUNT_MAX
from chronicled.events.redaction import IdentityRedaction, StreamRedactor
from chronicled.runtimes.output.live import MEMORY_BYTES, LiveOutput, OutputBoard
from chronicled.runtimes.output.pump import INDEX_MAX, Pump
from chronicled.runtimes.output.summary import excerpt, glimpse, whole


class Upper:
    """A redactor that holds the last byte back and turns letters to upper case."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes."""
        data = self.held + data
        self.held = data[-1:]
        return data[:-1].upper()

    def finish(self) -> bytes:
        """Return what was held back."""
        return self.held.upper()


class FastClock(SystemClock):
    """A monotonic clock on which each look takes a minute."""

    seconds = 0.0

    def monotonic(self) -> float:
        """Return a minute more than last time."""
        self.seconds += 60
        return self.seconds


class Rig:
    """A pump with its spool."""

    def __init__(self, root: str, redactor: StreamRedactor | None = None, bytes_max: int = 1 << 30) -> None:
        self.spool = Path(root, "spool")
        self.spool.touch()
        self.live = LiveOutput()
        self.told: list[Progress] = []
        self.clock = SystemClock()
        self.redactor = redactor or IdentityRedaction().stream("t", "s")
        self.root = root
        self.bytes_max = bytes_max

    def pump(self) -> Pump:
        """Return a pump over the rig's spool."""
        return Pump(
            str(self.spool),
            self.live,
            str(Path(self.root, "out")),
            self.redactor,
            self.bytes_max,
            self.clock,
            CapacityLimiter(1),
            self._tell,
        )

    async def _tell(self, progress: Progress) -> None:
        self.told.append(progress)

    def add(self, data: bytes) -> int:
        """Print, and return the spool's size."""
        with self.spool.open("ab") as file:
            file.write(data)
            return file.tell()

    async def follow(self, offset: int = 0) -> bytes:
        """Return what a follower sees until the end."""
        self.live.join()
        try:
            return b"".join([data async for data in self.live.read(offset)])
        finally:
            self.live.leave()


CHUNKS = st.lists(
    st.binary(max_size=200) | st.binary(min_size=1, max_size=4).map(lambda data: data * 20_000), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(CHUNKS, st.integers(0, 300), st.booleans())
def test_what_is_kept_is_the_redacted_spool(chunks: list[bytes], offset: int, restarts: bool) -> None:
    """However it was printed, and were the pump to start over in the middle: same bytes, digest, and live view."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as root:
            rig = Rig(root, Upper())
            pump = rig.pump()
            follower = asyncio.ensure_future(rig.follow(offset))
            running = asyncio.ensure_future(pump.run())
            size = 0
            for number, chunk in enumerate(chunks):
                size = rig.add(chunk)
                pump.notice(size)
                await asyncio.sleep(0)
                if restarts and number == 1:
                    running.cancel()
                    await asyncio.wait([running])
                    pump.stop()
                    rig.redactor = Upper()
                    rig.live.begin()
                    pump = rig.pump()
                    running = asyncio.ensure_future(pump.run())
            await pump.finish(size)
            await running
            rig.live.end()
            expected = b"".join(chunks).upper()
            assert pump.digest == hashlib.sha256(expected).hexdigest()
            assert rig.live.size == len(expected)
            assert await follower == expected[offset:]
            assert (pump.live.path is not None) == (len(expected) > MEMORY_BYTES)

    asyncio.run(main())


async def test_the_cap_and_lies_about_the_size(tmp_path: Path) -> None:
    """No more than the cap is read, and a server that announces more than there is changes nothing."""
    rig = Rig(str(tmp_path), bytes_max=10)
    rig.add(b"0123456789abcdef")
    pump = rig.pump()
    await pump.finish(1 << 40)
    assert rig.live.peek(0, 100) == b"0123456789"
    short = Rig(str(tmp_path))
    short.spool.write_bytes(b"abc")
    pump = short.pump()
    await pump.finish(1 << 40)
    assert short.live.size == 3


async def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is no room the pump waits; then every byte is there once. Any other failure is not survived."""
    rig = Rig(str(tmp_path))
    size = rig.add(b"x" * (MEMORY_BYTES + 1))
    failures = [errno.ENOSPC, errno.EDQUOT]
    real = os.pwrite

    def failing(descriptor: int, data: Any, offset: int) -> int:
        if failures:
            raise OSError(failures.pop(), "no room")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    await rig.pump().finish(size)
    assert rig.live.peek(0, size + 1) == b"x" * size
    failures.append(errno.EIO)
    rig.live.begin()
    with pytest.raises(StoreFailed):
        await rig.pump().finish(size)
    rig.live.end()


async def test_glimpses_are_sparse_and_bounded(tmp_path: Path) -> None:
    """However long it prints: at most 64 glimpses, each at most 4 KiB encoded, and a bounded time index."""
    rig = Rig(str(tmp_path))
    rig.clock = FastClock()
    pump = rig.pump()
    running = asyncio.ensure_future(pump.run())
    for _ in range(600):
        pump.notice(rig.add(b"\x01\xff line\n" * 3000))
        before = rig.live.size
        async with asyncio.timeout(60):
            while rig.live.size == before:  # noqa: ASYNC110 - growth is announced to followers only
                await asyncio.sleep(0)
        if rig.live.size > 20 << 20:
            break
    await pump.finish(rig.add(b""))
    await running
    rig.live.end()
    assert 1 < len(rig.told) <= PROGRESS_COUNT_MAX
    assert all(len(encode_json(progress.output)) <= PROGRESS_BYTES_MAX for progress in rig.told)
    assert len(pump.index) <= INDEX_MAX
    assert pump.index == sorted(pump.index)


@given(st.binary(max_size=70_000) | st.text(max_size=20_000).map(str.encode))
def test_what_stands_in_an_observation_fits(data: bytes) -> None:
    """Whole or as an excerpt, the text is valid, within the inline limit, and exact when it says so."""
    shown = whole(data)
    if shown is None:
        text = excerpt(data[:12_288], data[-12_288:], len(data))
    else:
        text, exact = shown
        assert exact == (text.encode() == data)
    assert len(encode_json(text)) <= OUTPUT_INLINE_BYTES_MAX
    assert len(encode_json(glimpse(data, 4096))) <= 4096


def test_an_excerpt_counts_what_it_leaves_out() -> None:
    """Head, what is missing in bytes, tail; a character that an edge cuts is left out of both."""
    data = "é".encode() * 50_000
    text = excerpt(data[:1001], data[-1001:], len(data))
    first, line, last = text.split("\n")
    assert (first, last) == ("é" * 500, "é" * 500)
    assert "98000 bytes" in line


async def test_an_end_between_joining_and_looking_is_seen() -> None:
    """A follower that joined before the end gets an end, even of an action that never ran; later ones at once."""
    board = OutputBoard()
    with board.follow("t", "s", "a") as follower:
        board.end(("t", "s", "a"))
        assert [data async for data in follower.read()] == []
    assert [data async for data in board.read("t", "s", "a")] == []


async def test_a_follower_reads_on_after_the_end() -> None:
    """What was there at the end stays readable for those who follow, and is freed after the last of them."""
    board = OutputBoard()
    live = board.begin(("t", "s", "a"))
    live.append(b"hello", "/nowhere")
    with board.follow("t", "s", "a") as follower:
        board.end(("t", "s", "a"))
        assert b"".join([data async for data in follower.read(1)]) == b"ello"
