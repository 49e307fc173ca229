"""What an archive may hold, judged member by member before anything of it is written."""

from __future__ import annotations

from typing import Final

from chronicled.runtimes.action_server.files.tar import BrokenArchive, Member, shown

__all__ = ["DEPTH_MAX", "ENTRIES_MAX", "PART_BYTES_MAX", "PATH_BYTES_MAX", "ArchiveRules", "inside", "relative"]

ENTRIES_MAX: Final = 100_000
DEPTH_MAX: Final = 64
"""Folders above a member."""
PATH_BYTES_MAX: Final = 4095
PART_BYTES_MAX: Final = 255


class ArchiveRules:
    """Judges the members of one archive, in their order."""

    def __init__(self) -> None:
        self._entries = 0
        self._links: set[bytes] = set()

    def admit(self, member: Member) -> bytes:
        """Return where the member goes, relative to the root; empty for the root itself.

        Raises:
            BrokenArchive: it must not go anywhere, and why.
        """
        self._entries += 1
        if self._entries > ENTRIES_MAX:
            raise BrokenArchive(f"it has more than {ENTRIES_MAX} entries")
        path = relative(member.name)
        if not path and member.type != "directory":
            raise BrokenArchive(f"{shown(member.name)} names the folder itself")
        parts = path.split(b"/")
        above = b""
        for part in parts[:-1]:
            above = above + b"/" + part if above else part
            if above in self._links:
                raise BrokenArchive(f"{shown(member.name)} goes through a link of the archive")
        if member.type == "symlink":
            if not inside(member.target, len(parts) - 1):
                raise BrokenArchive(f"{shown(member.name)} is a link to {shown(member.target)}, which may lie outside")
            self._links.add(path)
        elif member.type == "hard_link" and not relative(member.target):
            raise BrokenArchive(f"{shown(member.name)} is a hard link to the folder itself")
        else:
            self._links.discard(path)
        return path


def relative(name: bytes) -> bytes:
    """Return the name without empty parts and `.`.

    Raises:
        BrokenArchive: it is absolute, has `..` or NUL in it, or is too long or too deep.
    """
    if name.startswith(b"/"):
        raise BrokenArchive(f"{shown(name)} is absolute")
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise BrokenArchive(f"{shown(name)} has `..` in it")
    if b"\0" in name:
        raise BrokenArchive(f"{shown(name)} has NUL in it")
    if len(parts) > DEPTH_MAX + 1:
        raise BrokenArchive(f"{shown(name)} is more than {DEPTH_MAX} folders deep")
    if len(name) > PATH_BYTES_MAX or any(len(part) > PART_BYTES_MAX for part in parts):
        raise BrokenArchive(f"{shown(name)} is too long")
    return b"/".join(parts)


def inside(target: bytes, depth: int) -> bool:
    """Tell whether a symbolic link `depth` folders below the root stays below it, wherever other links point.

    `..` may only stand at the front, where it leaves folders that are none but folders: behind a name, which may be a
    link itself, it could lead anywhere.
    """
    if not target or target.startswith(b"/") or b"\0" in target or len(target) > PATH_BYTES_MAX:
        return False
    parts = [part for part in target.split(b"/") if part not in {b"", b"."}]
    ups = next((index for index, part in enumerate(parts) if part != b".."), len(parts))
    return ups <= depth and b".." not in parts[ups:]
