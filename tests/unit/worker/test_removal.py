"""Removal of what commands have left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from chronicled.runtimes import removal
from chronicled.runtimes.removal import remove_tree

DEPTH = 3000
"""Deeper than calls may nest."""


def dig(folder: Path, depth: int) -> None:
    """Make folders in folders, deeper than any path may be long."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("in", dir_fd=descriptor)
        inner = os.open("in", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)


def test_folders_in_folders_have_no_bottom(tmp_path: Path) -> None:
    """A tree of any depth goes, with a handful of descriptors; the library's own way gives up on the same tree."""
    home = tmp_path / "home"
    home.mkdir()
    dig(home, DEPTH)
    with pytest.raises((RecursionError, OSError)):
        shutil.rmtree(home)
    assert remove_tree(str(home))
    assert not home.exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    """What links lead to keeps its content and its permissions, whether a link is the top, in it or deeper."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "kept").write_text("kept")
    home = tmp_path / "home"
    (home / "a" / "b").mkdir(parents=True)
    for place in (home, home / "a", home / "a" / "b"):
        (place / "folder").symlink_to(outside)
        (place / "file").symlink_to(outside / "kept")
        (place / "nothing").symlink_to("/nowhere")
    assert remove_tree(str(home))
    (tmp_path / "top").symlink_to(outside)
    assert remove_tree(str(tmp_path / "top"))
    assert (outside / "kept").read_text() == "kept"
    assert outside.stat().st_mode & 0o777 == 0o755


def test_names_that_are_taken_are_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full folders, files and links that have the names which moved folders would get, and many entries, go as well."""
    monkeypatch.setattr(removal, "NAMES_MAX", 3)
    home = tmp_path / "home"
    for number in range(1, 40):
        (home / f"{number}.moved" / "x" / "y").mkdir(parents=True)
        (home / f"{number}.moved" / "x" / f"{number}.moved").touch()
    for number in range(40, 50):
        (home / f"{number}.moved").touch()
    (home / "50.moved").symlink_to("/")
    assert remove_tree(str(home))


def test_what_its_owner_has_closed_goes_too(tmp_path: Path) -> None:
    """Folders without any permission, the top among them, are opened first."""
    home = tmp_path / "home"
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "b" / "file").touch(mode=0)
    for closed in (home / "a" / "b", home / "a", home):
        closed.chmod(0)
    assert remove_tree(str(home))


def test_what_is_not_there_is_gone(tmp_path: Path) -> None:
    """Removing twice is removing once."""
    assert remove_tree(str(tmp_path / "never"))
