"""What `git` does: status, changes and differences of a work tree, told by the sandbox's own git."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from chronicled.events.kinds.files import Git as Arguments
from chronicled.runtimes.action_server.files import git_output
from chronicled.runtimes.action_server.files.charset import detect
from chronicled.runtimes.action_server.files.diff import unified_diff
from chronicled.runtimes.action_server.files.failure import BadArguments, FileFailure
from chronicled.runtimes.action_server.files.git_process import Completed, Git, find_git
from chronicled.runtimes.action_server.files.regular import chunks, open_regular
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["CHANGES_BYTES_MAX", "DIFF_BYTES_MAX", "ask_git"]

CHANGES_BYTES_MAX: Final = 48 << 10
"""Of the changes that are told, encoded: an event has room for them."""
DIFF_BYTES_MAX: Final = 1 << 20
_LIST_BYTES_MAX: Final = 8 << 20
_DEFAULTS_BYTES: Final = 150
"""What a change takes more in an event, where fields that it does not have are written out."""
_NEW_FILE_BYTES_MAX: Final = 256 << 10
_COMPARE: Final = (
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-relative",
    "--find-renames",
    "--ignore-submodules=dirty",
)


def ask_git(arguments: Arguments, work: Work) -> dict[str, Any]:
    """Return the observation's fields.

    Raises:
        FileFailure: the folder is in no work tree, the base does not exist, or git fails.
        BadArguments: there is no git in the sandbox, or the base is none.
        OSError: the folder cannot be read.
    """
    program = find_git(work.environment)
    if program is None:
        raise BadArguments("there is no git in the sandbox: its image has none on the PATH")
    if arguments.base.startswith("-") or "\0" in arguments.base or "\n" in arguments.base:
        raise BadArguments(f"{arguments.base!a} is no revision")
    if any("\0" in path for path in arguments.paths):
        raise BadArguments("a path cannot hold a NUL character")
    directory = os.path.realpath(work.resolve(arguments.path))
    if not os.path.isdir(directory):
        os.stat(directory)
        raise FileFailure("not_a_directory", f"{directory} is no folder")
    git = Git(program, _root(program, directory, work), work)
    git.disarm()
    asked = _Asked(git, arguments, [_below(git.directory, directory, path) for path in arguments.paths])
    answers = {"status": asked.status, "changes": asked.changes, "diff": asked.diff}
    fields = answers[arguments.command]()
    if git.filters:
        shown = ", ".join(git.filters[:8])
        fields["message"] = (
            f"filters of the repository did not run ({shown}); files that they change may count as modified"
        )
    return {"command": arguments.command, "root": git.directory, **fields}


def _root(program: bytes, directory: str, work: Work) -> str:
    found = Git(program, directory, work).run(["rev-parse", "--show-toplevel"], 64 << 10)
    if found.code:
        raise FileFailure("no_repository", f"{directory} is in no work tree of git: {found.error}")
    root = os.path.realpath(os.fsdecode(found.output.removesuffix(b"\n")))
    if os.path.commonpath([root, directory]) != root or not os.path.lexists(os.path.join(root, ".git")):
        raise FileFailure("unsafe_repository", f"the repository's settings say that its work tree is {root}")
    return root


def _below(root: str, directory: str, path: str) -> str:
    found = os.path.relpath(os.path.join(directory, path), root)
    if found == ".." or found.startswith("../"):
        raise BadArguments(f"{path!a} lies outside of the work tree")
    return found


class _Asked:
    def __init__(self, git: Git, arguments: Arguments, paths: Sequence[str]) -> None:
        self._git = git
        self._arguments = arguments
        self._paths = ["--", *paths]

    def status(self) -> dict[str, Any]:
        untracked = "all" if self._arguments.untracked else "no"
        options = ["--porcelain=v2", "--branch", "-z", f"--untracked-files={untracked}", "--find-renames"]
        done = self._run(["status", *options, "--ignore-submodules=dirty", *self._paths], _LIST_BYTES_MAX)
        head, changes = git_output.status(done.output)
        return head | _fitting(changes, cut=done.cut)

    def changes(self) -> dict[str, Any]:
        options = ["--raw", "--numstat", "-z", "--no-abbrev"]
        done = self._run([*_COMPARE, *options, self._base(), *self._paths], _LIST_BYTES_MAX)
        changes, cut = git_output.changed(done.output), done.cut
        names, more = self._untracked()
        changes += map(git_output.untracked, names)
        return self._head() | _fitting(changes, cut=cut or more)

    def diff(self) -> dict[str, Any]:
        options = ["--patch", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short"]
        done = self._run([*_COMPARE, *options, self._base(), *self._paths], DIFF_BYTES_MAX)
        data, truncated = done.output, done.cut
        names, more = self._untracked()
        parts = [data]
        size = len(data)
        for name in names if not truncated else ():
            parts.append(_new_file(os.path.join(os.fsencode(self._git.directory), name), name))
            size += len(parts[-1])
            if truncated := size > DIFF_BYTES_MAX:
                break
        content = b"".join(parts)
        if truncated := truncated or more:
            content = content[: content.rfind(b"\n", 0, DIFF_BYTES_MAX) + 1]
        text = content.decode(errors="replace")
        return self._head() | {"content": text, "content_bytes": len(content), "truncated": truncated}

    def _untracked(self) -> tuple[list[bytes], bool]:
        if not self._arguments.untracked:
            return [], False
        done = self._run(["ls-files", "--others", "--exclude-standard", "-z", *self._paths], _LIST_BYTES_MAX)
        return done.output.split(b"\0")[:-1], done.cut

    def _base(self) -> str:
        base = self._arguments.base
        commit = self._git.text(["rev-parse", "--verify", "--quiet", f"{base}^{{commit}}"])
        if commit is not None:
            return commit
        if base == "HEAD" and self._git.text(["symbolic-ref", "--quiet", "HEAD"]) is not None:
            # Before the first commit everything is new: compare with the tree that holds nothing.
            empty = self._git.text(["hash-object", "-t", "tree", "--stdin"])
            if empty is not None:
                return empty
        raise FileFailure("no_revision", f"{base!a} names no commit here")

    def _head(self) -> dict[str, Any]:
        commit = self._git.text(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
        branch = self._git.text(["symbolic-ref", "--quiet", "--short", "HEAD"])
        return {"commit": commit, "branch": branch and branch.encode(errors="surrogateescape").decode(errors="replace")}

    def _run(self, arguments: Sequence[str], bytes_max: int) -> Completed:
        done = self._git.run(arguments, bytes_max)
        if done.code:
            raise FileFailure("git_failed", f"git {arguments[0]} ended with {done.code}: {done.error}")
        return done


def _fitting(changes: list[dict[str, Any]], *, cut: bool) -> dict[str, Any]:
    size, kept = 0, 0
    for change in changes:
        size += len(msgspec.json.encode(change)) + _DEFAULTS_BYTES
        if size > CHANGES_BYTES_MAX:
            break
        kept += 1
    return {"changes": changes[:kept], "changes_count": len(changes), "truncated": cut or kept < len(changes)}


def _new_file(path: bytes, name: bytes) -> bytes:
    """Return the difference that a file is which git does not know yet, as git would show it once it does."""
    try:
        if os.path.islink(path):
            mode, data = b"120000", os.readlink(path)
        else:
            descriptor, status = open_regular(os.fsdecode(path))
            try:
                mode = b"100755" if status.st_mode & 0o100 else b"100644"
                data = b"".join(chunks(descriptor, 0, _NEW_FILE_BYTES_MAX + 1))
            finally:
                os.close(descriptor)
    except (OSError, FileFailure):
        return b""
    head = b"diff --git a/%b b/%b\nnew file mode %b\n" % (name, name, mode)
    if len(data) > _NEW_FILE_BYTES_MAX or detect(data, whole=True) is None:
        return head + b"Binary files /dev/null and b/%b differ\n" % name
    text = data.decode(errors="surrogateescape")
    return head + (unified_diff(None, text, os.fsdecode(name)).encode(errors="surrogateescape") if data else b"")
