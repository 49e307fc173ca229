"""Trees: any that can travel comes back as it was, what cannot is named, and a transfer that is to end ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Cause
from chronicled.runtimes.action_server.files import extraction
from chronicled.runtimes.action_server.files.archive_rules import DEPTH_MAX
from chronicled.runtimes.action_server.files.content import Content
from chronicled.runtimes.action_server.files.packing import LEFT_OUT_MAX, Packing
from chronicled.runtimes.action_server.files.work import Work

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 47} & set(name) and name not in {b".", b".."})
FILES = st.tuples(st.binary(max_size=3000), st.integers(0, 0o777), st.integers(0, 1 << 33))
TREES: st.SearchStrategy[Any] = st.recursive(
    FILES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
).filter(lambda tree: isinstance(tree, dict))


def make(tree: dict[bytes, Any], place: bytes) -> None:
    """Make the tree, with links between its files."""
    os.mkdir(place)
    for name, inner in tree.items():
        path = place + b"/" + name
        if isinstance(inner, dict):
            make(cast("dict[bytes, Any]", inner), path)
            continue
        content, mode, mtime = inner
        with open(path, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        os.utime(path, (mtime, mtime))
        if len(name) < 38 and name + b"~l" not in tree:
            os.symlink(b"./" + name, path + b"~l")


def snapshot(place: bytes) -> dict[bytes, tuple[Any, ...]]:
    """Return all that travels of a tree."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            path = folder + b"/" + name
            status = os.lstat(path)
            kept: tuple[Any, ...] = (stat.S_IFMT(status.st_mode),)
            if stat.S_ISLNK(status.st_mode):
                kept += (os.readlink(path),)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    kept += (status.st_mode, int(status.st_mtime), file.read())
            found[os.path.relpath(path, place)] = kept
    return found


def extracted(data: bytes, root: bytes) -> None:
    """Extract an archive below a folder."""
    work = Work(os.fsdecode(root), {})
    descriptor, place = os.memfd_create("content"), os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        os.write(descriptor, data)
        extraction.extract(Content(descriptor, len(data), os.fsdecode(root), work), place, work)
    finally:
        os.close(place)
        os.close(descriptor)


@settings(max_examples=150, deadline=None)
@given(tree=TREES)
def test_any_tree_comes_back_as_it_was(tree: dict[bytes, Any]) -> None:
    """Names of any bytes, contents, modes, times and inner links survive both ways; packed again it is the same."""
    directory = os.fsencode(tempfile.mkdtemp())
    try:
        make(tree, directory + b"/one")
        os.mkdir(directory + b"/two")
        packing = Packing(Work("/", {}))
        data = b"".join(packing.tree(os.fsdecode(directory) + "/one"))
        assert packing.left_out_count == 0
        extracted(data, directory + b"/two")
        assert snapshot(directory + b"/two") == snapshot(directory + b"/one")
        extracted(data, directory + b"/two")
        assert snapshot(directory + b"/two") == snapshot(directory + b"/one")
        assert b"".join(Packing(Work("/", {})).tree(os.fsdecode(directory) + "/one")) == data
    finally:
        shutil.rmtree(directory)


async def test_what_cannot_travel_is_named(tmp_path: Path) -> None:
    """Pipes, links to the outside, folders too deep: left out, named with the reason, and all of them counted."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("x")
    os.mkfifo(tmp_path / "in/pipe")
    for number in range(LEFT_OUT_MAX + 20):
        (tmp_path / f"in/link{number:03}").symlink_to("/etc/passwd" if number % 2 else "../in/file")
    deep = tmp_path / "in" / "/".join(["d"] * (DEPTH_MAX + 2))
    deep.mkdir(parents=True)
    actor = Actor(tmp_path)
    ended = await actor.act("download", path="in")
    assert (ended.outcome, ended.fields["left_out_count"]) == (Outcome.OK, LEFT_OUT_MAX + 22)
    assert len(ended.fields["left_out"]) == LEFT_OUT_MAX
    reasons = {each["name"]: each["reason"] for each in ended.fields["left_out"]}
    assert reasons["/".join(["d"] * (DEPTH_MAX + 1))] == "too_deep"
    assert {reasons["link000"], reasons["link001"]} == {"link_outside"}
    assert (await Actor(tmp_path).upload(bytes(actor.output.data), "back")).outcome is Outcome.OK


async def test_one_file_as_a_tree_and_a_link_as_the_root(tmp_path: Path) -> None:
    """A file's archive has it under its own name; a root that is a link is followed; what is neither is refused."""
    (tmp_path / "f").write_text("x")
    (tmp_path / "l").symlink_to("f")
    os.mkfifo(tmp_path / "pipe")
    actor = Actor(tmp_path)
    assert (await actor.act("download", path="l")).fields["entries"] == 1
    extracted(bytes(actor.output.data), os.fsencode(tmp_path))
    assert ((tmp_path / "l").read_text(), (tmp_path / "l").is_symlink()) == ("x", False)
    assert (await actor.act("download", path="pipe")).reason == "not_regular"
    assert (await actor.act("download", path="none")).reason == "not_found"
    assert (await actor.act("download", path=".", form="file")).reason == "is_a_directory"


async def test_a_download_over_its_cap_fails(tmp_path: Path) -> None:
    """What does not fit is no whole archive, so the action fails and says how much is kept."""
    (tmp_path / "f").write_bytes(bytes(5_000_000))
    ended = await Actor(tmp_path).act("download", path="f", form="file", output_bytes_max=1_000_000)
    assert (ended.outcome, ended.reason, "1000000" in (ended.message or "")) == (Outcome.FAILED, "too_large", True)


async def test_folders_that_were_there_keep_what_they_are(tmp_path: Path) -> None:
    """An upload merges into what is there: other files stay, and a folder that was there keeps its mode."""
    (tmp_path / "from/d").mkdir(parents=True, mode=0o755)
    (tmp_path / "from/d/new").write_text("new")
    (tmp_path / "to/d").mkdir(parents=True)
    (tmp_path / "to/d").chmod(0o711)
    (tmp_path / "to/d/old").write_text("old")
    actor = Actor(tmp_path)
    await actor.act("download", path="from")
    ended = await Actor(tmp_path).upload(bytes(actor.output.data), "to")
    assert (ended.outcome, ended.fields["entries"]) == (Outcome.OK, 1)
    assert sorted(os.listdir(tmp_path / "to/d")) == ["new", "old"]
    assert (tmp_path / "to/d").stat().st_mode & 0o777 == 0o711


async def test_a_content_that_comes_through_a_pipe_is_whole_or_lost(tmp_path: Path) -> None:
    """Bytes that come in-band are kept without a name until they are whole; fewer than announced is a failure."""

    async def upload(data: bytes, size: int) -> Any:
        reader, writer = os.pipe()

        def feed() -> None:
            with open(writer, "wb") as pipe:
                pipe.write(data)

        feeding = asyncio.create_task(asyncio.to_thread(feed))
        try:
            payload: dict[str, Any] = {"path": "f", "form": "file", "content": "0" * 64, "content_bytes": size}
            return await Actor(tmp_path).act("upload", attached=reader, **payload)
        finally:
            await feeding
            os.close(reader)

    data = os.urandom(1_000_000)
    assert (await upload(data, len(data))).outcome is Outcome.OK
    assert (tmp_path / "f").read_bytes() == data
    ended = await upload(data[:500_000], len(data))
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "content_lost")
    assert ((tmp_path / "f").read_bytes() == data, os.listdir(tmp_path)) == (True, ["f"])
    missing = await Actor(tmp_path).act("upload", path="g", content="0" * 64, content_bytes=1)
    assert (missing.outcome, missing.effects) == (Outcome.ERROR, Effects.NONE)


def alive(pid: int) -> bool:
    """Tell whether a process runs."""
    return os.path.exists(f"/proc/{pid}/exe")


SOON_SECONDS = 20.0
"""A machine may stand still for some seconds; what did not end would take more than a minute."""


@pytest.mark.parametrize("kind", ["git", "download"])
async def test_what_is_to_end_ends_soon(tmp_path: Path, kind: str) -> None:
    """A git that hangs is killed with all that it started; a long download stops behind its present piece."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(
        f"#!/bin/sh\n(sleep 77; touch {tmp_path}/survived) & echo $! >{tmp_path}/pid; wait\n"
    )
    (tmp_path / "bin/git").chmod(0o755)
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    actor = Actor(tmp_path, {b"PATH": os.fsencode(tmp_path / "bin") + b":" + os.environb[b"PATH"]})
    payload: dict[str, Any] = {"command": "status"} if kind == "git" else {"path": "large", "form": "file"}
    acting = asyncio.create_task(actor.act(kind, output_bytes_max=1 << 50, **payload))
    end = time.monotonic() + 60
    started = tmp_path / "pid"
    while not (actor.output.data if kind == "download" else started.exists() and started.read_text().strip()):
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    assert actor.context is not None
    begun = time.monotonic()
    actor.context.end(Cause(Outcome.CANCELLED), acting)
    assert (await acting).outcome is Outcome.CANCELLED
    assert time.monotonic() - begun < SOON_SECONDS
    if kind == "git":
        pid = int(started.read_text())
        while alive(pid):
            assert time.monotonic() - begun < SOON_SECONDS, "what git had started lives on"
            await asyncio.sleep(0.01)
