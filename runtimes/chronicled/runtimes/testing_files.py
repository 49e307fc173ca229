"""What every runtime promises of files: the same executors do the same in any sandbox."""

from __future__ import annotations

import io
import os
import tarfile
from typing import Any

import pytest

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.testing import FrameWorker

__all__ = ["FileContract"]

LARGE = os.urandom(1 << 20) * 3


def _archive(*members: tuple[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o640
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


class FileContract:
    """The subclass has a fixture `worker`, and says whether its sandboxes have git."""

    @pytest.fixture
    def worker(self) -> FrameWorker:
        """Return a worker whose sandbox is up, its lanes in an empty folder that can be written."""
        raise NotImplementedError

    @pytest.fixture
    def has_git(self) -> bool:
        """Tell whether the sandbox has a git of its own."""
        return True

    async def _act(
        self, worker: FrameWorker, kind: str, attached: bytes | None = None, **payload: Any
    ) -> frames.Result:
        action = await worker.dispatch(kind, payload, content=attached)
        return await worker.result(action)

    async def test_a_file_is_written_edited_read_and_undone(self, worker: FrameWorker) -> None:
        """Text goes in, changes by exactly one match with a true difference, and comes back; undo takes it back."""
        assert (await self._act(worker, "write", path="d/f", content="one\r\ntwo\r\n")).outcome is Outcome.OK
        edited = await self._act(worker, "edit", path="d/f", command="str_replace", old_str="two", new_str="2\n3")
        assert edited.outcome is Outcome.OK, edited
        assert edited.fields["diff"].endswith("@@ -1,2 +1,3 @@\n one\r\n-two\r\n+2\r\n+3\r\n")
        read = await self._act(worker, "read", path="d/f", line_first=2)
        assert (read.fields["content"], read.fields["line_count"], read.fields["charset"]) == ("2\r\n3\r\n", 3, "utf-8")
        none = await self._act(worker, "edit", path="d/f", command="str_replace", old_str="nowhere", new_str="x")
        assert (none.outcome, none.reason, none.effects) == (Outcome.FAILED, "no_match", Effects.COMPLETE)
        assert (await self._act(worker, "edit", path="d/f", command="undo_edit")).outcome is Outcome.OK
        assert (await self._act(worker, "read", path="d/f")).fields["content"] == "one\r\ntwo\r\n"

    async def test_special_files_are_told_and_never_waited_for(self, worker: FrameWorker) -> None:
        """A pipe without a writer, a device and a folder are each refused by name, at once."""
        place = (await worker.run("pwd"))[1].decode().strip()
        for path, reason in (("/dev/zero", "not_regular"), (place, "is_a_directory"), ("none", "not_found")):
            result = await self._act(worker, "read", path=path)
            assert (result.outcome, result.reason) == (Outcome.FAILED, reason), result

    async def test_a_tree_goes_in_is_listed_and_comes_back(self, worker: FrameWorker) -> None:
        """An archive's files are there for commands and in a list, and a download of the tree has every byte."""
        members = {"a/b": LARGE, "a/c d": b"", "ünï": b"\xff\x00"}
        data = _archive(*members.items())
        done = await self._act(
            worker, "upload", data, path="tree", content="0" * 64, content_bytes=len(data), form="tree"
        )
        assert (done.outcome, done.fields["entries"], done.fields["bytes_written"]) == (
            Outcome.OK,
            4,
            len(LARGE) + 2,
        ), done
        listed = await self._act(worker, "list", path="tree", depth=2)
        assert [(each["name"], each["type"]) for each in listed.fields["entries"]] == [
            ("a", "directory"),
            ("a/b", "file"),
            ("a/c d", "file"),
            ("ünï", "file"),
        ]
        action = await worker.dispatch("download", {"path": "tree"}, output_bytes_max=1 << 30)
        brought = await worker.result(action)
        assert (brought.outcome, brought.output_dropped_bytes) == (Outcome.OK, 0), brought
        with tarfile.open(fileobj=io.BytesIO(worker.output(action))) as tar:
            files = {info.name: tar.extractfile(info) for info in tar if info.isfile()}
            assert {name: file.read() for name, file in files.items() if file is not None} == members

    async def test_what_wants_out_or_does_not_fit_is_refused(self, worker: FrameWorker) -> None:
        """An archive that names what lies outside is refused whole; a download over its cap fails and says so."""
        data = _archive(("good", b"x"), ("../../evil", b"x"))
        done = await self._act(
            worker, "upload", data, path="tree", content="0" * 64, content_bytes=len(data), form="tree"
        )
        assert (done.outcome, done.reason) == (Outcome.FAILED, "archive_refused")
        assert (await self._act(worker, "list", path="tree")).fields["entries"] == []
        short = await self._act(
            worker, "upload", data, path="tree", content="0" * 64, content_bytes=len(data) + 1, form="tree"
        )
        assert (short.outcome, short.reason) == (Outcome.FAILED, "content_lost")
        await self._act(worker, "write", path="large", content="x" * 500_000)
        action = await worker.dispatch("download", {"path": "large", "form": "file"}, output_bytes_max=1000)
        result = await worker.result(action)
        assert (result.outcome, result.reason, result.output_bytes - result.output_dropped_bytes) == (
            Outcome.FAILED,
            "too_large",
            1000,
        )

    async def test_git_is_the_sandboxs_own(self, worker: FrameWorker, has_git: bool) -> None:
        """Where the sandbox has git, it tells what has changed; where it has none, that is said."""
        if not has_git:
            result = await self._act(worker, "git", command="status")
            assert (result.outcome, result.effects) == (Outcome.ERROR, Effects.NONE)
            assert "no git in the sandbox" in (result.message or "")
            return
        result, output = await worker.run(
            "git init -q -b main . && echo 1 >f && git add f && git -c user.name=a -c user.email=b commit -qm x;"
            "echo 2 >>f; echo 3 >g"
        )
        assert result.fields["exit_code"] == 0, output
        status = await self._act(worker, "git", command="status")
        assert status.outcome is Outcome.OK, status
        assert [(each["path"], each["status"]) for each in status.fields["changes"]] == [
            ("f", "modified"),
            ("g", "untracked"),
        ]
        diff = await self._act(worker, "git", command="diff")
        assert ("+2\n" in diff.fields["content"], "+3\n" in diff.fields["content"]) == (True, True)

    async def test_a_cancel_ends_an_upload_and_a_download(self, worker: FrameWorker) -> None:
        """A transfer that is cancelled is over soon, and leaves nothing half-written under its name."""
        size = 64 << 20
        await worker.run("mkdir -p many; i=0; while [ $i -lt 2000 ]; do echo x >many/$i; i=$((i+1)); done")
        action = await worker.dispatch("download", {"path": "/"}, output_bytes_max=1 << 40)
        await worker.frame(frames.Started, action=action)
        await worker.send(frames.Cancel(action=action))
        assert (await worker.result(action)).outcome is Outcome.CANCELLED
        payload = {"path": "big", "form": "file", "content": "0" * 64, "content_bytes": size}
        action = await worker.dispatch("upload", payload, content=bytes(size))
        await worker.send(frames.Cancel(action=action))
        result = await worker.result(action)
        assert result.outcome in {Outcome.CANCELLED, Outcome.OK}
        listed = await self._act(worker, "list")
        assert not [each for each in listed.fields["entries"] if each["name"].startswith(".chronicled")]
