"""Folders of carriers: read-only, and removed all the same."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chronicled.runtimes.carrier.place import remove_tree

NOBODY = 65534


@pytest.fixture
def somebody() -> Iterator[Path]:
    """Give a folder, and be somebody to whom read-only folders mean something: root is nobody meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="chronicled-place-"))
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_a_read_only_tree_is_removed_by_its_owner(somebody: Path) -> None:
    """Folders without the right to write, the uppermost too, keep nobody's own carrier from being removed."""
    tree = somebody / "carrier"
    (tree / "lib" / "site").mkdir(parents=True)
    (tree / "lib" / "site" / "module.py").write_text("")
    (tree / "link").symlink_to("lib")
    for folder in (tree / "lib" / "site", tree / "lib", tree):
        folder.chmod(0o555)
    with pytest.raises(PermissionError):
        shutil.rmtree(tree)  # the control: this is what it takes more for
    remove_tree(tree)
    assert not tree.exists()
