"""Symlink races: a process flips folders and links while trees go in and out; no byte may cross.

Twenty thousand tries in all. The negative controls write and read by path, and lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from chronicled.events.kinds.files import Download
from chronicled.runtimes.action_server.files import beneath, extraction
from chronicled.runtimes.action_server.files.content import Content
from chronicled.runtimes.action_server.files.downloading import Downloading
from chronicled.runtimes.action_server.files.failure import FileFailure
from chronicled.runtimes.action_server.files.tar import END, Member, header, members, padding
from chronicled.runtimes.action_server.files.work import Work

TRIES = 2_500
"""Members that are put, of each of four kinds and in each of two ways of opening folders."""

PATIENCE_SECONDS = 20.0

FLIP = """
import ctypes, os, sys
path, outside = sys.argv[1:]
aside = path + ".aside"
os.symlink(outside, aside)
libc = ctypes.CDLL(None, use_errno=True)
names = (-100, os.fsencode(path), -100, os.fsencode(aside), 2)
if libc.renameat2(*names) or libc.renameat2(*names):
    sys.exit(os.strerror(ctypes.get_errno()))
sys.stdout.write("flipping\\n")
sys.stdout.flush()
while os.getppid() == int(os.environ["PARENT"]):
    for _ in range(1000):
        libc.renameat2(*names)
"""
"""What the attacker runs: a folder and a link to the outside change places, in one step, until its parent is gone."""


@contextlib.contextmanager
def flipping(path: Path, outside: Path) -> Generator[None]:
    """Have another process flip the path between a folder and a link to the outside."""
    process = subprocess.Popen(
        [sys.executable, "-c", FLIP, path, outside],
        stdout=subprocess.PIPE,
        env={"PARENT": str(os.getpid())},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"flipping\n"
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        aside = path.with_name(path.name + ".aside")
        if path.is_symlink():
            path.unlink()
            aside.rename(path)
        else:
            aside.unlink()


class Arena:
    """A root with a folder that is flipped, and what is outside."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.flipped = self.root / "a" / "d"
        (self.flipped / "e").mkdir(parents=True)
        (self.flipped / "e" / "f").write_bytes(b"inside")
        self.outside = directory / "outside"
        (self.outside / "e").mkdir(parents=True)
        (self.outside / "e" / "f").write_bytes(b"outside")
        os.chmod(self.outside / "e", 0o711)
        self.before = self.snapshot()

    def snapshot(self) -> list[tuple[Any, ...]]:
        """Return all that is outside."""
        paths = [self.outside, *sorted(self.outside.rglob("*"))]
        return [(str(path), path.lstat().st_mode, path.is_file() and path.read_bytes()) for path in paths]


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    """An arena that nobody flips yet."""
    return Arena(tmp_path)


def tree(*entries: Member) -> bytes:
    """Return an archive; each file holds its own name."""
    parts: list[bytes] = []
    for entry in entries:
        content = entry.name if entry.type == "file" else b""
        parts += (header(entry._replace(size=len(content))), content, bytes(padding(len(content))))
    return b"".join(parts) + END


def parsed(data: bytes) -> list[Member]:
    """Return the members of an archive."""
    return list(members(lambda offset, size: data[offset : offset + size]))


MEMBERS: dict[str, tuple[Member, ...]] = {
    "files": tuple(Member(b"a/d/e/g%d" % number, "file", 0, 0o600) for number in range(5)),
    "folders": tuple(Member(b"a/d/e/h%d" % number, "directory", 0, 0o777) for number in range(5)),
    "links": tuple(Member(b"a/d/e/l%d" % number, "symlink", target=b"f") for number in range(5)),
    "hard links": tuple(Member(b"k%d" % number, "hard_link", target=b"a/d/e/f") for number in range(5)),
}


def race(arena: Arena, data: bytes, extract: Callable[[bytes, Path], None]) -> tuple[int, int]:
    """Extract until there were enough tries; return how many archives went in whole, and how many were stopped."""
    whole = stopped = 0
    end = time.monotonic() + PATIENCE_SECONDS
    with flipping(arena.flipped, arena.outside):
        # On a busy machine the attacker may come late: it must have won and lost at least once.
        while whole * 5 + stopped < TRIES or (min(whole, stopped) == 0 and time.monotonic() < end):
            try:
                extract(data, arena.root)
                whole += 1
            except (FileFailure, OSError):
                stopped += 1
    return whole, stopped


def by_descriptor(data: bytes, root: Path) -> None:
    """Extract as an upload does."""
    work = Work(str(root), {})
    descriptor, place = os.memfd_create("content"), os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        os.write(descriptor, data)
        extraction.extract(Content(descriptor, len(data), str(root), work), place, work)
    finally:
        os.close(place)
        os.close(descriptor)


def by_path(data: bytes, root: Path) -> None:
    """Extract as many do: check that the path is inside, then use it."""
    for member in parsed(data):
        path = root / os.fsdecode(member.name)
        if not os.path.realpath(path).startswith(f"{root}/"):
            raise FileFailure("outside", "not inside")
        if member.type == "file":
            path.write_bytes(data[member.offset : member.offset + member.size])


@pytest.mark.parametrize("way", ["openat2", "part by part"])
@pytest.mark.parametrize("kind", MEMBERS)
def test_no_byte_is_written_outside(arena: Arena, kind: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is flipped while an archive is extracted, nothing outside is made, changed or given another mode."""
    if way == "part by part":
        monkeypatch.setattr(extraction, "opener", lambda: beneath.walk)
    elif beneath.opener() is beneath.walk:
        pytest.skip("this kernel, or its system call filter, has no openat2: run it on Linux 5.6 or later")
    whole, stopped = race(arena, tree(*MEMBERS[kind]), by_descriptor)
    assert arena.snapshot() == arena.before
    if kind == "hard links":
        assert {(arena.root / f"k{number}").read_bytes() for number in range(5)} <= {b"inside"}
    # Both happened, so there was a race to lose.
    assert whole > 0
    assert stopped > 0


def test_an_extractor_that_checks_paths_loses(arena: Arena) -> None:
    """The negative control: what checks a path and then uses it writes outside within as many tries."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        race(arena, tree(*MEMBERS["files"]), by_path)
        if arena.snapshot() != arena.before:
            return
    raise AssertionError("the race was not lost: the attacker is too slow to prove anything")


def taken(path: Path, root: Path) -> bytes:
    """Return what a download of the root brings."""
    downloading = Downloading(Download(path=str(path)), Work(str(root), {}))
    try:
        return b"".join(iter(downloading.take, b""))
    finally:
        downloading.close()


@pytest.mark.parametrize("which", ["a folder", "a file"])
def test_no_byte_is_read_outside(arena: Arena, which: str) -> None:
    """A download never brings what is outside, and is an archive that can be read, whatever is flipped meanwhile."""
    seen = {True: 0, False: 0}
    end = time.monotonic() + PATIENCE_SECONDS
    flipped, outside = arena.flipped, arena.outside
    if which == "a file":
        flipped, outside = arena.flipped / "e" / "f", arena.outside / "e" / "f"
    with flipping(flipped, outside):
        while sum(seen.values()) < TRIES // 4 or (min(seen.values()) == 0 and time.monotonic() < end):
            data = taken(arena.root, arena.root)
            assert b"outside" not in data.replace(os.fsencode(outside), b"")
            names = {member.name for member in parsed(data) if member.type == "file"}
            seen[b"a/d/e/f" in names] += 1
    assert min(seen.values()) > 0, seen


def test_a_reader_by_path_brings_it(arena: Arena) -> None:
    """The negative control: who walks by path and follows what is there reads outside."""
    found: set[bytes] = set()
    end = time.monotonic() + PATIENCE_SECONDS
    with flipping(arena.flipped, arena.outside):
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                found.add((arena.flipped / "e" / "f").read_bytes())
            if b"outside" in found:
                return
    raise AssertionError("the race was not lost: the attacker is too slow to prove anything")


async def test_a_file_that_grows_and_shrinks_leaves_the_archive_whole(arena: Arena) -> None:
    """A file that changes while it is packed is named, and every member behind it is still where it should be."""
    target = arena.root / "changing"
    (arena.root / "z").write_bytes(b"last")
    over = asyncio.Event()

    async def change() -> None:
        sizes = [0, 900_000, 10, 300_000]
        while not over.is_set():
            for size in sizes:
                await asyncio.to_thread(target.write_bytes, b"x" * size)

    changing = asyncio.create_task(change())
    try:
        for _ in range(200):
            data = await asyncio.to_thread(taken, arena.root, arena.root)
            found = parsed(data)
            last = found[-1]
            assert (last.name, data[last.offset : last.offset + last.size]) == (b"z", b"last")
    finally:
        over.set()
        await changing
