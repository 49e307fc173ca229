"""What is swapped at the worst moment of a download: after it was looked at, and before it is opened or read whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chronicled.events.kinds.files import Download
from chronicled.runtimes.action_server.files import packing
from chronicled.runtimes.action_server.files.downloading import Downloading
from chronicled.runtimes.action_server.files.regular import chunks
from chronicled.runtimes.action_server.files.work import Work


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree, and something beside it."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "f").write_bytes(b"beside")
    (tmp_path / "root" / "d").mkdir(parents=True)
    (tmp_path / "root" / "d" / "f").write_bytes(b"within")
    (tmp_path / "root" / "z").write_bytes(b"last")
    return tmp_path / "root"


def packed(root: Path) -> tuple[bytes, dict[str, Any]]:
    """Return what a download of the tree brings, and what it tells."""
    downloading = Downloading(Download(path=str(root)), Work(str(root), {}))
    try:
        return b"".join(iter(downloading.take, b"")), downloading.fields
    finally:
        downloading.close()


def swap(monkeypatch: pytest.MonkeyPatch, path: Path, change: Callable[[], None]) -> None:
    """Change something just after the path was looked at for the first time."""
    stat = os.stat
    waiting = [change]

    def look(name: Any, *rest: Any, **options: Any) -> os.stat_result:
        found = stat(name, *rest, **options)
        if name == os.fsencode(path.name) and waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(os, "stat", look)


@pytest.mark.parametrize(("name", "target"), [("d", "beside"), ("d/f", "beside/f")], ids=["a folder", "a file"])
def test_a_link_that_comes_between_is_not_followed(
    root: Path, name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was a folder or file when it was looked at, and is a link when it is opened, is left out by name."""
    path = root / name

    def change() -> None:
        path.rename(root.parent / "aside")
        path.symlink_to(root.parent / target)

    swap(monkeypatch, path, change)
    data, told = packed(root)
    assert b"beside" not in data
    assert b"last" in data
    assert name in {each["name"] for each in told["left_out"]}


def test_a_pipe_that_comes_between_is_no_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for, and left out as what it is."""
    path = root / "d" / "f"

    def change() -> None:
        path.unlink()
        os.mkfifo(path)

    swap(monkeypatch, path, change)
    data, told = packed(root)
    assert b"last" in data
    assert told["left_out"] == [{"name": "d/f", "reason": "special_file"}]


def test_a_file_that_changes_while_it_is_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes at the length that it had, and the observation says that it has changed."""
    path = root / "d" / "f"

    def changing(*rest: Any) -> Iterator[bytes]:
        yield from chunks(*rest)
        if path.read_bytes() == b"within":
            path.write_bytes(b"another")

    monkeypatch.setattr(packing, "chunks", changing)
    data, told = packed(root)
    assert b"within" in data
    assert b"another" not in data
    assert told["left_out"] == [{"name": "d/f", "reason": "changed"}]
