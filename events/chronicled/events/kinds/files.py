"""Payloads of what is done with files beside `read`, `write` and `edit`: list, upload, download, git.

Names of files are bytes. Where they are not UTF-8 the text shows U+FFFD and a field beside it has the bytes as base64.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from chronicled.events.kind import KindSpec, Payload, TerminalPayload, action, observation
from chronicled.events.kinds.runnable import Path, Runnable
from chronicled.events.parts import Blobs, Digest

__all__ = [
    "FILE_ACTIONS",
    "FILE_OBSERVATIONS",
    "Download",
    "DownloadObservation",
    "FileEntry",
    "Git",
    "GitChange",
    "GitObservation",
    "LeftOut",
    "ListFiles",
    "ListFilesObservation",
    "Permissions",
    "Upload",
    "UploadObservation",
]

Permissions = Annotated[str, msgspec.Meta(pattern="^0[0-7]{3}$")]
"""Permission bits in octal, e.g. `0644`."""
Revision = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Form = Literal["tree", "file"]


class ListFiles(Runnable, frozen=True, kw_only=True):
    """List what is in a folder, in the order of the names' bytes, each folder before what is in it."""

    path: Path = "."
    depth: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """How far to go down; 1 is the folder alone."""
    entries_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    """Most entries of one page; an observation has room for some hundreds."""
    hidden: bool = True
    """Whether to show names that begin with a dot, and what is below them."""
    after: Path | None = None
    """Show what comes behind this name: `next` of the page before."""


class FileEntry(Payload, frozen=True, kw_only=True):
    """One name in a folder; a symbolic link is shown itself, not what it points at."""

    name: str
    """Relative to the folder that was listed."""
    name_bytes: str | None = None
    """The name as base64, where it is not UTF-8."""
    type: Literal["file", "directory", "symlink", "fifo", "socket", "character_device", "block_device", "unknown"]
    size: int = 0
    mode: str = "0000"
    """Permission bits in octal, set-id and sticky bits too, e.g. `0644`, `4755`."""
    modified: str | None = None
    """RFC 3339 UTC; None where the time is not one of the calendar."""
    target: str | None = None
    """Where a symbolic link points."""


class ListFilesObservation(TerminalPayload, frozen=True, kw_only=True):
    """What is in a folder."""

    path: str | None = None
    entries: list[FileEntry] = []
    truncated: bool = False
    """True when there is more: list again with `after` = `next`."""
    next: str | None = None
    unreadable: int = 0
    """Folders that could not be read."""


class Upload(Runnable, frozen=True, kw_only=True):
    """Put the bytes of a blob where the sandbox can use them: as one file, or as the tree in a tar archive.

    Of a tree only regular files, directories and relative links that stay inside are taken; an archive with anything
    else, or over a limit, is refused before a byte of it is written. Each file is replaced in one step.
    """

    path: Path
    """The file, or the folder below which the tree goes; it is made, with its parents, where it is missing."""
    form: Form = "tree"
    content: Digest
    """The blob; one that the session's events name."""
    content_bytes: Annotated[int, msgspec.Meta(ge=0)]
    mode: Permissions | None = None
    """Of a file; None keeps what it has, and gives a new one what the umask leaves."""


class UploadObservation(TerminalPayload, frozen=True, kw_only=True):
    """What an upload put there."""

    path: str | None = None
    entries: int = 0
    """Files, folders and links that were made or replaced."""
    bytes_written: int = 0
    stopped_at: str | None = None
    """The entry at which a failed upload stopped; what came before it in the archive is there."""


class Download(Runnable, frozen=True, kw_only=True):
    """Bring a file, or a tree as a tar archive; the action's output is the bytes.

    A tree has regular files, directories and relative links that stay inside; what else there is, is left out by name.
    """

    path: Path
    form: Form = "tree"


class LeftOut(Payload, frozen=True, kw_only=True):
    """Something that is not in the archive, or not as it was."""

    name: str
    reason: str
    """`link_outside`, `special_file`, `too_deep`, `not_permitted`, `vanished`, `changed`, ..."""


class DownloadObservation(TerminalPayload, frozen=True, kw_only=True):
    """What a download brought; its bytes are the action's output, and no part of the event."""

    path: str | None = None
    form: Form = "tree"
    entries: int = 0
    bytes_read: int = 0
    """Of the files' contents."""
    left_out: list[LeftOut] = []
    """The first hundred of them."""
    left_out_count: int = 0
    output_bytes: int = 0
    output_digest: str | None = None
    """SHA-256 (hex) of the output; the blob of that digest holds it."""
    output_blob: bool = False
    output_dropped_bytes: int = 0
    truncated: bool = False


class Git(Runnable, frozen=True, kw_only=True):
    """Ask the sandbox's own git about a work tree.

    Nothing runs that a repository's settings or attributes name: no hook, monitor, filter, driver, pager or fetch.
    """

    command: Literal["status", "changes", "diff"]
    """`status`: what is staged, changed, untracked. `changes`: which files differ from `base`, and by how many lines.
    `diff`: the differences themselves."""
    path: Path = "."
    """A folder in the work tree."""
    base: Revision = "HEAD"
    """What `changes` and `diff` compare with."""
    paths: Annotated[list[Path], msgspec.Meta(max_length=256)] = []
    """Only these files or folders, as they are, not patterns, relative to `path`; all when there are none."""
    untracked: bool = True
    """Whether new files that git does not know yet count; ignored ones never do."""


class GitChange(Payload, frozen=True, kw_only=True):
    """One file that differs."""

    path: str
    """Relative to the top of the work tree."""
    path_bytes: str | None = None
    """The path as base64, where it is not UTF-8."""
    status: Literal[
        "added", "modified", "deleted", "renamed", "copied", "type_changed", "unmerged", "untracked", "unknown"
    ]
    former_path: str | None = None
    """Of what was renamed or copied."""
    index: str | None = None
    """`status` only: git's letter for HEAD against the index, `.` for no difference."""
    worktree: str | None = None
    """`status` only: git's letter for the index against the work tree."""
    submodule: bool = False
    binary: bool = False
    lines_added: int | None = None
    lines_deleted: int | None = None


class GitObservation(TerminalPayload, frozen=True, kw_only=True):
    """What git told."""

    command: str = ""
    root: str | None = None
    """The top of the work tree."""
    commit: str | None = None
    """Of HEAD; None before the first commit."""
    branch: str | None = None
    """None where HEAD is detached."""
    upstream: str | None = None
    ahead: int | None = None
    behind: int | None = None
    changes: list[GitChange] = []
    changes_count: int = 0
    """How many files differ; `changes` may show less."""
    content: str = ""
    """The differences, in unified format."""
    content_bytes: int = 0
    truncated: bool = False
    """True when `changes` or `content` show less than there is."""
    blobs: Blobs = {}


FILE_ACTIONS: Final[tuple[KindSpec, ...]] = (
    action("list", ListFiles, runnable=True),
    action("upload", Upload, runnable=True, attachment="content"),
    action("download", Download, runnable=True),
    action("git", Git, runnable=True),
)
FILE_OBSERVATIONS: Final[tuple[KindSpec, ...]] = (
    observation("list", ListFilesObservation, terminal=True),
    observation("upload", UploadObservation, terminal=True),
    observation("download", DownloadObservation, terminal=True),
    observation("git", GitObservation, terminal=True, parts=("content",)),
)
