"""Editing: exactly one match, honest differences, every other byte as it was, and a way back."""

from __future__ import annotations

import asyncio
import codecs
import itertools
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.executor import Ended
from chronicled.runtimes.action_server.files import editing
from chronicled.runtimes.action_server.files.diff import unified_diff
from chronicled.runtimes.action_server.files.history import EDITS_MAX, EditHistory
from chronicled.runtimes.action_server.files.text_file import load


class Editor(Actor):
    """One file, edited."""

    def put(self, data: bytes) -> None:
        """Write the file as somebody else would."""
        (self.directory / "file").write_bytes(data)

    @property
    def data(self) -> bytes:
        """What the file holds."""
        return (self.directory / "file").read_bytes()

    def touched(self) -> tuple[int, int, int]:
        """Return what differs once the file was written to or replaced; reading it changes only its time of access."""
        status = os.stat(self.directory / "file")
        return (status.st_ino, status.st_mtime_ns, status.st_ctime_ns)

    async def edit(self, command: str, **payload: Any) -> Ended:
        """Edit the file."""
        return await self.act("edit", path="file", command=command, **payload)


@pytest.fixture
def editor(tmp_path: Path) -> Editor:
    """An editor in an empty folder."""
    return Editor(tmp_path)


async def test_view_numbers_lines_and_takes_ranges(editor: Editor) -> None:
    """A view shows lines as `cat -n` does; a range beyond the end ends with the file; a wrong one never runs."""
    editor.put(b"one\ntwo\r\nthree")
    view = (await editor.edit("view")).fields
    assert view["content"] == "     1\tone\n     2\ttwo\r\n     3\tthree"
    assert (view["line_count"], view["charset"], view["truncated"]) == (3, "utf-8", False)
    for view_range, content in (
        ((2, 2), "     2\ttwo\r\n"),
        ((3, -1), "     3\tthree"),
        ((3, 9), "     3\tthree"),
        ((7, -1), ""),
    ):
        assert (await editor.edit("view", view_range=view_range)).fields["content"] == content
    for view_range in ((0, 1), (-1, -1), (3, 2), (1, -2)):
        ended = await editor.edit("view", view_range=view_range)
        assert (ended.outcome, ended.effects) == (Outcome.ERROR, Effects.NONE), view_range


async def test_view_of_a_folder_shows_two_levels(editor: Editor) -> None:
    """A folder's view has what is in it and one level below, sorted, without hidden names, folders marked."""
    for name in ("b/c/deep/er", ".hidden/x", "b/.h"):
        (editor.directory / name).mkdir(parents=True)
    (editor.directory / "a").write_text("")
    ended = await editor.act("edit", path=".", command="view")
    root = str(editor.directory)
    assert ended.fields["content"].splitlines() == [f"{root}/", f"{root}/a", f"{root}/b/", f"{root}/b/c/"]
    ended = await editor.act("edit", path=".", command="view", view_range=[1, 2])
    assert ended.reason == "bad_arguments"


async def test_create_makes_new_files_only(editor: Editor) -> None:
    """A new file is whole, with its folders and a difference from nothing; whatever has the name stays as it is."""
    ended = await editor.act("edit", path="new/file", command="create", file_text="a\nb")
    assert (editor.directory / "new/file").read_text() == "a\nb"
    assert ended.fields["existed"] is False
    path = f"{editor.directory}/new/file".lstrip("/")
    assert (
        ended.fields["diff"] == f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n"
    )
    (editor.directory / "dangling").symlink_to("nowhere")
    os.mkfifo(editor.directory / "pipe")
    for name in ("new/file", "new", "dangling", "pipe"):
        ended = await editor.act("edit", path=name, command="create", file_text="x")
        assert (ended.outcome, ended.reason) == (Outcome.FAILED, "exists"), name
    assert (editor.directory / "new/file").read_text() == "a\nb"
    assert sorted(os.listdir(editor.directory / "new")) == ["file"]


async def test_replace_wants_exactly_one_match(editor: Editor) -> None:
    """No match and many are failures that name the lines, overlapping ones too; the file is not touched."""
    editor.put(b"a\nb\naa\nxx\nyxxx\n")
    untouched = editor.touched()
    for old, reason, lines in (
        ("none", "no_match", []),
        ("a", "many_matches", [1, 3, 3]),
        ("xx", "many_matches", [4, 5, 5]),
    ):
        ended = await editor.edit("str_replace", old_str=old, new_str="z")
        assert (ended.outcome, ended.reason, ended.fields["match_lines"]) == (Outcome.FAILED, reason, lines)
    near = await editor.edit("str_replace", old_str="  yxxx ", new_str="z")
    assert "on line 5" in (near.message or "")
    assert editor.touched() == untouched
    ended = await editor.edit("str_replace", old_str="xx\ny", new_str="1\n2\n")
    assert (ended.outcome, editor.data) == (Outcome.OK, b"a\nb\naa\n1\n2\nxxx\n")
    assert editor.touched() != untouched
    assert ended.fields["diff"].endswith(" b\n aa\n-xx\n-yxxx\n+1\n+2\n+xxx\n"), ended.fields["diff"]


@pytest.mark.parametrize(
    "payload",
    [
        {"command": "str_replace"},
        {"command": "str_replace", "old_str": "", "new_str": "x"},
        {"command": "str_replace", "old_str": "x", "new_str": "x"},
        {"command": "insert", "new_str": "x"},
        {"command": "insert", "insert_line": 1},
        {"command": "create"},
        {"command": "fly"},
    ],
)
async def test_what_makes_no_sense_never_runs(editor: Editor, payload: dict[str, Any]) -> None:
    """A command that lacks something, or would change nothing, is an error without effects."""
    editor.put(b"x\n")
    ended = await editor.act("edit", path="file", **payload)
    assert (ended.outcome, ended.effects, editor.data) == (Outcome.ERROR, Effects.NONE, b"x\n")


@pytest.mark.parametrize(
    ("before", "line", "text", "after"),
    [
        (b"", 0, "x", b"x\n"),
        (b"a\nb\n", 0, "x", b"x\na\nb\n"),
        (b"a\nb\n", 1, "x\ny\n", b"a\nx\ny\nb\n"),
        (b"a\nb\n", 2, "x", b"a\nb\nx\n"),
        (b"a\nb", 2, "x", b"a\nb\nx"),
        (b"a\r\nb\r\n", 1, "x\ny", b"a\r\nx\r\ny\r\nb\r\n"),
        (b"a\nb\r\n", 1, "x", b"a\nx\nb\r\n"),
    ],
)
async def test_insert_puts_lines_behind_a_line(
    editor: Editor, before: bytes, line: int, text: str, after: bytes
) -> None:
    """What is inserted stands on lines of its own, with the file's own line endings."""
    editor.put(before)
    assert (await editor.edit("insert", insert_line=line, new_str=text)).outcome is Outcome.OK
    assert editor.data == after
    ended = await editor.edit("insert", insert_line=99, new_str="x")
    assert (ended.reason, editor.data) == ("no_such_line", after)


@pytest.mark.parametrize(
    ("data", "after"),
    [
        (b"one\r\ntwo\r\n", b"one\r\n2\r\n2b\r\n"),
        (b"one\ntwo\r\n", b"one\n2\n2b\r\n"),
        (b"\xef\xbb\xbfone\ntwo\n", b"\xef\xbb\xbfone\n2\n2b\n"),
        ("one\ntwo ü\n".encode("latin-1"), "one\n2\n2b ü\n".encode("latin-1")),
        ("one\ntwo ü\n".encode("utf-16"), codecs.BOM_UTF16_LE + "one\n2\n2b ü\n".encode("utf-16-le")),
        (b"one\rtwo\x0c\x85\n", b"one\r2\n2b\x0c\x85\n"),
    ],
)
async def test_everything_else_stays_as_it_was(editor: Editor, data: bytes, after: bytes) -> None:
    """Line endings, byte order mark, charset, mode and owner of a file outlive an edit."""
    editor.put(data)
    os.chmod(editor.directory / "file", 0o751)
    ended = await editor.edit("str_replace", old_str="two", new_str="2\n2b")
    assert (ended.outcome, editor.data) == (Outcome.OK, after)
    assert (editor.directory / "file").stat().st_mode & 0o777 == 0o751
    assert os.listdir(editor.directory) == ["file"]
    assert (await editor.edit("undo_edit")).outcome is Outcome.OK
    assert editor.data == data


async def test_what_the_charset_lacks_is_refused(editor: Editor) -> None:
    """A character that the file's charset does not have fails by name, and the file stays as it was."""
    editor.put("süß\n".encode("latin-1"))
    ended = await editor.edit("str_replace", old_str="süß", new_str="日")
    assert (ended.reason, editor.data) == ("not_encodable", "süß\n".encode("latin-1"))
    editor.put(b"\x00\x01binary")
    assert (await editor.edit("str_replace", old_str="a", new_str="b")).reason == "binary"
    editor.put(b"x" * (11 << 20))
    assert (await editor.edit("view")).reason == "too_large"


async def test_a_link_is_edited_through_and_stays(editor: Editor) -> None:
    """An edit through a symbolic link changes what it points at, and one history serves both names."""
    editor.put(b"one\n")
    (editor.directory / "link").symlink_to("file")
    ended = await editor.act("edit", path="link", command="str_replace", old_str="one", new_str="two")
    assert (ended.outcome, editor.data, (editor.directory / "link").is_symlink()) == (Outcome.OK, b"two\n", True)
    assert (await editor.edit("undo_edit")).outcome is Outcome.OK
    assert editor.data == b"one\n"


async def test_undo_goes_back_step_by_step_and_no_further(editor: Editor) -> None:
    """Each undo takes one edit back, a create is undone by the file's removal, and then there is nothing to undo."""
    await editor.act("edit", path="file", command="create", file_text="0\n")
    for number in range(3):
        await editor.edit("str_replace", old_str=f"{number}\n", new_str=f"{number + 1}\n")
    for left in (b"2\n", b"1\n", b"0\n"):
        assert (await editor.edit("undo_edit")).outcome is Outcome.OK
        assert editor.data == left
    ended = await editor.edit("undo_edit")
    assert (ended.outcome, os.listdir(editor.directory)) == (Outcome.OK, [])
    assert ended.fields["diff"].splitlines()[1:] == ["+++ /dev/null", "@@ -1 +0,0 @@", "-0"]
    assert (await editor.edit("undo_edit")).reason == "nothing_to_undo"


async def test_undo_refuses_what_somebody_else_changed(editor: Editor) -> None:
    """A file that is not as the last edit left it keeps what others wrote."""
    editor.put(b"one\n")
    await editor.edit("str_replace", old_str="one", new_str="two")
    editor.put(b"two\nmine\n")
    assert ((await editor.edit("undo_edit")).reason, editor.data) == ("changed_since", b"two\nmine\n")
    editor.put(b"two\n")
    assert ((await editor.edit("undo_edit")).outcome, editor.data) == (Outcome.OK, b"one\n")


async def test_history_is_bounded(editor: Editor) -> None:
    """Of one file the newest edits can be undone, and of all together no more is kept than its cap."""
    editor.put(b"0\n")
    for number in range(EDITS_MAX + 5):
        await editor.edit("str_replace", old_str=f"{number}\n", new_str=f"{number + 1}\n")
    undone = 0
    while (await editor.edit("undo_edit")).outcome is Outcome.OK:
        undone += 1
    assert (undone, editor.data) == (EDITS_MAX, b"5\n")
    history = EditHistory()
    for number in range(40):
        history.note(f"f{number}", "x" * (1 << 20), "y")
    assert (history.last("f0"), history.last("f39") is not None) == (None, True)


async def test_edits_of_one_file_from_many_lanes_all_land(editor: Editor) -> None:
    """Edits side by side each see what the others wrote: none is lost."""
    editor.put("".join(f"<{number}>\n" for number in range(40)).encode())
    edits = (editor.edit("str_replace", old_str=f"<{number}>", new_str=f"[{number}]") for number in range(40))
    assert {ended.outcome for ended in await asyncio.gather(*edits)} == {Outcome.OK}
    assert editor.data == "".join(f"[{number}]\n" for number in range(40)).encode()


async def test_a_file_that_changes_under_the_edit_is_not_overwritten(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command writes between reading and replacing is seen, and the edit fails instead of losing it."""
    editor.put(b"one\n")

    def load_late(path: str) -> Any:
        loaded = load(path)
        editor.put(b"somebody's\n")
        return loaded

    monkeypatch.setattr(editing, "load", load_late)
    ended = await editor.edit("str_replace", old_str="one", new_str="two")
    assert (ended.reason, editor.data) == ("changed_meanwhile", b"somebody's\n")


async def test_readers_see_the_old_file_or_the_new_one(editor: Editor) -> None:
    """While a file is edited over and over, a reader never meets a half-written one."""
    old, new = b"a" * 300_000 + b"\n", b"b" * 300_000 + b"\n"
    editor.put(old)
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(editor.data)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(30):
        await editor.act("write", path="file", content=new.decode())
        await editor.act("write", path="file", content=old.decode())
    over.set()
    thread.join(10)
    assert seen <= {old, new}


TEXTS = st.text(st.sampled_from("ab\n\r "), max_size=40)


@settings(max_examples=300, deadline=None)
@given(before=TEXTS, after=TEXTS)
def test_a_difference_is_what_patch_applies(before: str, after: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The difference of any two texts, applied by another program, makes the one of the other; equal ones have none."""
    diff = unified_diff(before, after, "f")
    if before == after:
        assert diff == ""
        return
    git = shutil.which("git")
    assert git, "git is needed to apply differences: install it"
    directory = tmp_path_factory.getbasetemp() / "patched"
    directory.mkdir(exist_ok=True)
    (directory / "f").write_bytes(before.encode())
    command = [git, "apply", "--unidiff-zero", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, cwd=directory, input=diff.encode(), capture_output=True, env={"GIT_DIR": "/"})
    assert done.returncode == 0, (diff, done.stderr)
    assert (directory / "f").read_bytes() == after.encode()


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(TEXTS, min_size=2, max_size=8))
def test_every_edit_can_be_undone(steps: list[str]) -> None:
    """What the history keeps of a change leads back to exactly the text before it."""
    history = EditHistory()
    for before, after in itertools.pairwise(steps):
        history.note("f", before, after)
    for before, after in reversed(list(itertools.pairwise(steps))):
        undo = history.last("f")
        assert undo is not None
        assert undo.left == history.digest(after)
        assert after[: undo.start] + undo.old + after[undo.start + undo.length :] == before
        history.forget_last("f")
    assert history.last("f") is None
