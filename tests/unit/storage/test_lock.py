"""One daemon a data directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chronicled.events.errors import DataDirectoryBusy
from chronicled.storage.lock import DirectoryLock
from chronicled.storage.sqlite import LOG_NAME, SqliteStore


def test_a_second_lock_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    """Whoever comes second learns who is there; after the first has let go, it may have it."""
    with DirectoryLock(tmp_path) as lock:
        with pytest.raises(DataDirectoryBusy, match=str(os.getpid())):
            DirectoryLock(tmp_path)
        assert lock.held
    DirectoryLock(tmp_path).release()


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    """The lock of a process that was killed is free: no file to delete by hand."""
    code = "import os, sys, pathlib; from chronicled.storage.lock import DirectoryLock\n"
    code += "lock = DirectoryLock(pathlib.Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    DirectoryLock(tmp_path).release()


async def test_a_second_store_is_refused(tmp_path: Path) -> None:
    """Two stores never write to one log; the loser leaves nothing behind and the winner goes on."""
    async with await SqliteStore.open(tmp_path / LOG_NAME) as store:
        with pytest.raises(DataDirectoryBusy):
            await SqliteStore.open(tmp_path / LOG_NAME)
        assert not await store.verify()
    async with await SqliteStore.open(tmp_path / LOG_NAME):
        pass
