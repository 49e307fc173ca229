"""Writing: in one step, with mode and links kept, and in place only where there is no other way."""

from __future__ import annotations

import base64
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Effects, Outcome


async def test_a_new_file_gets_its_folders_and_the_usual_mode(tmp_path: Path) -> None:
    """Parents are made, the mode is what the umask leaves, and base64 gives any bytes."""
    content = base64.b64encode(bytes(range(256))).decode()
    ended = await Actor(tmp_path).act("write", path="a/b/c", content=content, encoding="base64")
    assert (ended.outcome, ended.fields["existed"], ended.fields["bytes_written"]) == (Outcome.OK, False, 256)
    assert (tmp_path / "a/b/c").read_bytes() == bytes(range(256))
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o666 & ~umask


async def test_an_existing_file_keeps_mode_and_link(tmp_path: Path) -> None:
    """The mode stays, a symbolic link stays one and what it points at is written, dangling or not."""
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o4711)
    (tmp_path / "l").symlink_to("f")
    (tmp_path / "d").symlink_to("new")
    assert (await Actor(tmp_path).act("write", path="l", content="one")).fields["existed"] is True
    assert ((tmp_path / "f").read_text(), (tmp_path / "f").stat().st_mode & 0o7777) == ("one", 0o4711)
    assert (await Actor(tmp_path).act("write", path="d", content="two")).fields["existed"] is False
    assert ((tmp_path / "new").read_text(), (tmp_path / "d").is_symlink()) == ("two", True)
    assert sorted(os.listdir(tmp_path)) == ["d", "f", "l", "new"]


async def test_a_device_is_written_to_and_a_pipe_without_a_reader_is_no_wait(tmp_path: Path) -> None:
    """What is no regular file is not replaced: a device takes the bytes, a pipe gives them to its reader or fails."""
    assert (await Actor(tmp_path).act("write", path="/dev/null", content="x")).outcome is Outcome.OK
    os.mkfifo(tmp_path / "pipe")
    assert (await Actor(tmp_path).act("write", path="pipe", content="x")).outcome is Outcome.FAILED
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    while (ended := await Actor(tmp_path).act("write", path="pipe", content="typed")).outcome is not Outcome.OK:
        assert ended.effects is Effects.COMPLETE
    reader.join(60)
    assert read == [b"typed"]


@pytest.mark.parametrize("call", ["open", "replace"])
async def test_where_no_step_is_possible_it_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """In a folder that is not writable, or over a mounted file, the bytes go into the file itself, and that is said."""
    (tmp_path / "f").write_text("something longer")
    inode = (tmp_path / "f").stat().st_ino
    genuine = getattr(os, call)

    def refusing(path: Any, *arguments: Any, **options: Any) -> Any:
        if ".chronicled-" in os.fsdecode(path):
            raise OSError(errno.EACCES if call == "open" else errno.EBUSY, "no")
        return genuine(path, *arguments, **options)

    monkeypatch.setattr(os, call, refusing)
    ended = await Actor(tmp_path).act("write", path="f", content="short")
    assert (ended.outcome, "in place" in (ended.message or "")) == (Outcome.OK, True)
    assert ((tmp_path / "f").read_text(), (tmp_path / "f").stat().st_ino) == ("short", inode)
    assert os.listdir(tmp_path) == ["f"]


async def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room the old bytes stay, nothing is left beside them, and the reason is told."""
    (tmp_path / "f").write_text("old")

    def full(_descriptor: int, _data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    ended = await Actor(tmp_path).act("write", path="f", content="new")
    monkeypatch.undo()
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "no_space")
    assert ((tmp_path / "f").read_text(), os.listdir(tmp_path)) == ("old", ["f"])


@pytest.mark.parametrize(
    ("path", "reason"),
    [(".", "is_a_directory"), ("f/x", "exists"), ("x" * 300, "name_too_long"), ("loop", "link_loop")],
)
async def test_what_the_system_refuses_has_a_word(tmp_path: Path, path: str, reason: str) -> None:
    """Folders, files in the way, long names and link loops each fail with a stable reason."""
    (tmp_path / "f").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    ended = await Actor(tmp_path).act("write", path=path, content="x")
    assert (ended.outcome, ended.reason) in {(Outcome.FAILED, reason), (Outcome.FAILED, "not_a_directory")}, ended
