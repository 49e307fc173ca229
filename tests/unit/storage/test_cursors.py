"""Named cursors on the disk: what was saved is there, whatever fails or crashes on the way."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from tests.unit.storage.watched_disk import WatchedDisk

from chronicled.events.errors import InvalidName, LogCorrupt, Refused, StorageFull, StoreFailed
from chronicled.storage import cursors as cursors_module
from chronicled.storage.cursors import CURSORS_NAME, CursorStore
from chronicled.storage.disk import SystemDisk

CALLS = ["open", "write", "sync", "replace", "sync_directory default"]
"""What a save of a known name asks of the disk, in this order."""


@pytest.fixture
def disk() -> WatchedDisk:
    """Return a disk that works until it is told to fail."""
    return WatchedDisk()


@pytest.fixture
def store(tmp_path: Path, disk: WatchedDisk) -> CursorStore:
    """Return an empty store."""
    return CursorStore(tmp_path / CURSORS_NAME, disk)


def files_below(directory: Path) -> list[str]:
    """Return the names of all files."""
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


async def positions(store: CursorStore, tenant: str = "default") -> dict[str, int]:
    """Return every cursor of a tenant."""
    return {saved.name: saved.position for saved in await store.all(tenant)}


async def test_a_cursor_is_what_was_saved_last(store: CursorStore, tmp_path: Path) -> None:
    """Per tenant and name, also for a store that is opened later; forgotten ones are gone."""
    assert await positions(store) == {}
    assert (await store.save("default", "billing", 7, "inc"))[1]
    assert not (await store.save("default", "billing", 5, "inc"))[1]
    await store.save("default", "audit.json", 9, "inc")
    await store.save("other", "billing", 1, "inc")
    later = CursorStore(tmp_path / CURSORS_NAME, SystemDisk())
    assert await positions(later) == {"audit.json": 9, "billing": 5}
    found = await later.find("default", "billing")
    assert found is not None
    assert str(found.cursor) == "5@inc"
    assert await later.delete("default", "billing") == found
    assert await later.delete("default", "billing") is None
    assert await later.find("default", "billing") is None
    assert await positions(later, "other") == {"billing": 1}


async def test_of_many_saves_the_last_one_holds(store: CursorStore) -> None:
    """Saves side by side are done in the order in which they came."""
    await asyncio.gather(*(store.save("default", "a", position, "inc") for position in range(50)))
    assert await positions(store) == {"a": 49}


async def test_a_save_is_on_the_medium_when_it_returns(store: CursorStore, disk: WatchedDisk, tmp_path: Path) -> None:
    """Data before the name, the name before the answer; of a first one the folders too, from above."""
    await store.save("default", "a", 1, "inc")
    assert disk.calls == [f"sync_directory {tmp_path.name}", "sync_directory cursors", *CALLS]
    disk.calls.clear()
    await store.save("default", "a", 2, "inc")
    assert disk.calls == CALLS


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", range(1, len(CALLS) + 1))
async def test_whatever_fails_a_name_stands_for_a_whole_cursor(
    store: CursorStore, disk: WatchedDisk, step: int, error: int
) -> None:
    """It is an error by name, the cursor is the one before or the new one, and the next save succeeds."""
    await store.save("default", "a", 1, "inc")
    disk.calls.clear()
    disk.fail_at, disk.error = step, error
    with pytest.raises(StorageFull if error == errno.ENOSPC else StoreFailed):
        await store.save("default", "a", 2, "inc")
    assert await positions(store) == {"a": 2 if CALLS[step - 1].startswith("sync_directory") else 1}
    await store.save("default", "a", 3, "inc")
    assert await positions(store) == {"a": 3}


async def test_what_a_crash_left_halfway_is_not_seen(store: CursorStore, tmp_path: Path) -> None:
    """A file that has not its name yet is no cursor, and in nobody's way."""
    await store.save("default", "a", 1, "inc")
    (tmp_path / CURSORS_NAME / "default" / "a.json.new").write_bytes(b'{"na')
    assert await positions(store) == {"a": 1}
    await store.save("default", "a", 2, "inc")
    assert await positions(store) == {"a": 2}


async def test_names_are_bounded_and_stay_in_their_folder(
    store: CursorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is no path, and a tenant has so many; known ones can be saved all the same."""
    monkeypatch.setattr(cursors_module, "CURSORS_MAX", 3)
    for name in ("..", ".", "", "a/b", "../a", "a" * 129, "ä", "a\n"):
        with pytest.raises(InvalidName):
            await store.save("default", name, 1, "inc")
        with pytest.raises(InvalidName):
            await store.find("default", name)
    for name in ("a", "b", "x" * 128):
        await store.save("default", name, 1, "inc")
    with pytest.raises(Refused, match="delete"):
        await store.save("default", "d", 1, "inc")
    await store.save("default", "a", 2, "inc")
    await store.save("other", "d", 1, "inc")
    assert files_below(tmp_path) == sorted(["a.json", "b.json", f"{'x' * 128}.json", "d.json"])
    assert (tmp_path / CURSORS_NAME).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{", b'{"name":"a"}', b"\xff", b"null"])
async def test_a_damaged_cursor_is_told_and_can_be_saved_anew(
    store: CursorStore, tmp_path: Path, content: bytes
) -> None:
    """It is never taken for the start of the log: whoever goes by it is told which file it is."""
    await store.save("default", "a", 5, "inc")
    (tmp_path / CURSORS_NAME / "default" / "a.json").write_bytes(content)
    with pytest.raises(LogCorrupt, match=r"a\.json"):
        await store.find("default", "a")
    await store.save("default", "a", 6, "inc")
    assert await positions(store) == {"a": 6}
