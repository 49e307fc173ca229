"""Where an export goes: standard output, or a file that is either whole or not there."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from chronicled.events.errors import Refused

__all__ = ["batches", "write_file"]

BATCH_BYTES: Final = 256 << 10


def write_file(path: Path, pieces: Iterable[bytes], progress: Callable[[int], None] = lambda size: None) -> int:
    """Write the pieces to `path` and return how many bytes it has, all of it on the medium.

    They go to a temporary file (0600) beside it, which is synced and takes the name at the end; so under that name
    stands what was there before or the whole. What the pieces raise goes through and leaves nothing behind.

    Raises:
        Refused: `path` is there and no regular file.
        OSError: it cannot be written.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused(f"{path} is there already and is not a file: name another one.")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.part")
    size = 0
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as stream:
            for batch in batches(pieces):
                view = memoryview(batch)
                while view:
                    view = view[stream.write(view) :]
                size += len(batch)
                progress(size)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in larger pieces: a system call for each small one would cost more than the bytes."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= BATCH_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
