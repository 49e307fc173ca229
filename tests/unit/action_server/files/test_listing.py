"""Listing: every name once, in order, page by page, whatever the names are and however many."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Effects, Outcome


async def listed(actor: Actor, **payload: Any) -> list[dict[str, Any]]:
    """Return every entry, page after page."""
    entries: list[dict[str, Any]] = []
    after = None
    for _ in range(10_000):
        ended = await actor.act("list", after=after, **payload)
        assert ended.outcome is Outcome.OK, ended
        entries += ended.fields["entries"]
        after = ended.fields["next"]
        assert ended.fields["truncated"] is (after is not None)
        if after is None:
            return entries
    raise AssertionError("the pages have no end")


async def test_each_type_is_told_with_what_it_has(tmp_path: Path) -> None:
    """Files, folders, links, pipes and sockets, with size, mode, time and target; links are not followed."""
    (tmp_path / "file").write_bytes(b"12345")
    os.chmod(tmp_path / "file", 0o4755)
    os.utime(tmp_path / "file", ns=(0, 1_700_000_000_123_456_789))
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "broken").symlink_to("none")
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    server.close()
    found = {each["name"]: each for each in await listed(Actor(tmp_path))}
    assert {name: each["type"] for name, each in found.items()} == {
        "file": "file",
        "folder": "directory",
        "link": "symlink",
        "broken": "symlink",
        "pipe": "fifo",
        "socket": "socket",
    }
    assert (found["file"]["size"], found["file"]["mode"]) == (5, "4755")
    assert found["file"]["modified"] == "2023-11-14T22:13:20.123456Z"
    assert (found["link"]["target"], found["broken"]["target"], found["file"]["target"]) == ("folder", "none", None)
    device = (await Actor(tmp_path).act("list", path="/dev", after="nul")).fields["entries"][0]
    assert (device["name"], device["type"]) == ("null", "character_device")


async def test_depth_and_hidden_names(tmp_path: Path) -> None:
    """A depth goes down so far, each folder before what is in it; hidden names can be left out with all below them."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / ".h/x").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("")
    actor = Actor(tmp_path)
    assert [each["name"] for each in await listed(actor, depth=2)] == [".h", ".h/x", "a", "a/b", "a.txt"]
    assert [each["name"] for each in await listed(actor, depth=9, hidden=False)] == ["a", "a/b", "a/b/c", "a.txt"]
    assert [each["name"] for each in await listed(actor, path="a", depth=1)] == ["b"]


@pytest.mark.parametrize("entries_max", [1, 2, 7, 1000])
async def test_pages_hold_every_name_once(tmp_path: Path, entries_max: int) -> None:
    """However small the pages, together they are one listing; a folder between two pages loses and repeats nothing."""
    for number in range(30):
        (tmp_path / f"d{number % 3}" / f"e{number % 5}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"d{number % 3}" / f"e{number % 5}" / f"f{number}").write_text("")
    (tmp_path / "d1.txt").write_text("")
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    (tmp_path / "d0" / "new\nline").write_text("")
    names = [each["name"] for each in await listed(Actor(tmp_path), depth=5, entries_max=entries_max)]
    assert len(names) == len(set(names)) == 3 + 15 + 30 + 3
    assert names == [each["name"] for each in await listed(Actor(tmp_path), depth=5)]


async def test_a_name_that_is_no_text_keeps_its_bytes(tmp_path: Path) -> None:
    """A name that is not UTF-8 shows as text with marks, and its bytes come as base64; it can end a page."""
    names = [b"\xe9t\xe9", b"\xff", b"plain"]
    for name in names:
        os.close(os.open(os.fsencode(tmp_path) + b"/" + name, os.O_CREAT))
    entries = await listed(Actor(tmp_path), entries_max=1)
    assert [each["name"] for each in entries] == ["plain", "\ufffdt\ufffd", "\ufffd"]
    assert [each["name_bytes"] and base64.b64decode(each["name_bytes"]) for each in entries] == [None, *names[:2]]


async def test_a_page_fits_in_an_event(tmp_path: Path) -> None:
    """Thousands of long names come in pages that each fit in an event, whatever was asked for."""
    for number in range(2000):
        (tmp_path / f"{number:04}{'x' * 150}").write_text("")
    ended = await Actor(tmp_path).act("list", entries_max=10_000)
    assert (ended.fields["truncated"], 100 < len(ended.fields["entries"]) < 300) == (True, True)
    assert len(await listed(Actor(tmp_path), entries_max=10_000)) == 2000


async def test_what_cannot_be_listed_is_told(tmp_path: Path) -> None:
    """A missing folder and a file fail by name; folders below that cannot be read are counted; cursors are checked."""
    (tmp_path / "file").write_text("")
    actor = Actor(tmp_path)
    assert (await actor.act("list", path="none")).reason == "not_found"
    assert (await actor.act("list", path="file")).reason == "not_a_directory"
    for after in ("../x", "/x", "a//b", "\0zz", "./x"):
        ended = await actor.act("list", after=after)
        assert (ended.outcome, ended.effects) == (Outcome.ERROR, Effects.NONE), after
