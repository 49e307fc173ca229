"""A carrier as an archive, for engines that cannot mount a folder of this machine: it fills a named volume."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["carrier_archive"]

_CHUNK_BYTES: Final = 1 << 20


def carrier_archive(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield a carrier as a tar stream; the same carrier always gives the same bytes, all owned by root.

    Paths are relative to the carrier: extract it where the volume is mounted. Reads as it goes and holds one file at a
    time (6 MB at most); each step may wait for the disk.

    Raises:
        OSError: something cannot be read.
    """
    root = Path(path)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in [root, *sorted(root.rglob("*"))]:
            info = archive.gettarinfo(str(member), arcname=str(member.relative_to(root)))
            # Hard links to the cache are no concern of the archive.
            if info.islnk():
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", member.stat().st_size
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = 0
            if info.isreg():
                with member.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
            if buffer.tell() >= _CHUNK_BYTES:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
    yield buffer.getvalue()
