"""Start of an action server: `python -I -S bootstrap.py SANDBOX GENERATION [--settings FILE | --stdio]`.

As a process of the worker's machine it has the settings in descriptor 3, its lock in 4, and 5 takes a line once it is
up. In a container there is neither lock nor line: the engine knows what lives, and the worker hears of it when it
dials. The settings are in FILE; or, with `--stdio`, they come on standard input, behind their length (four bytes, big
endian), and the frames follow on standard input and output.

`-I -S` keeps the image's Python settings and packages out, and with them the project's own: this file puts back the
folders that the settings name, or the one that it stands in. SANDBOX and GENERATION are only there to be seen in a
process listing.
"""

from __future__ import annotations

import os
import sys

SETTINGS_DESCRIPTOR = 3
LOCK_DESCRIPTOR = 4
UP_DESCRIPTOR = 5
STDIO_OPTION = "--stdio"
SETTINGS_OPTION = "--settings"
_SETTINGS_BYTES_MAX = 16 << 20
_PACKAGE_DEPTH = 4
"""This file is chronicled/runtimes/action_server/bootstrap.py below its source root."""


def main() -> None:
    """Read the settings, become the reaper."""
    # The first entry is this file's folder, whose modules must not shadow the library's.
    own = os.path.abspath(__file__)
    sys.path = [path for path in sys.path if path != os.path.dirname(own)]
    given = [word for word in sys.argv[3:] if word != SETTINGS_OPTION]
    stdio: tuple[int, int] | None = None
    if not given:
        os.lseek(SETTINGS_DESCRIPTOR, 0, os.SEEK_SET)
        data, lock, up = _read(SETTINGS_DESCRIPTOR), LOCK_DESCRIPTOR, UP_DESCRIPTOR
    else:
        if given == [STDIO_OPTION]:
            data = read_announced(0)
            stdio = take_stdio()
        else:
            data = _read(os.open(given[0], os.O_RDONLY | os.O_CLOEXEC))
        lock = os.memfd_create("chronicled-lock", os.MFD_CLOEXEC)
        up = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    named = [record.partition(b"=")[2] for record in data.split(b"\0") if record.startswith(b"import_path=")]
    sys.path += [os.fsdecode(path) for path in named] or [own.rsplit("/", _PACKAGE_DEPTH)[0]]

    from chronicled.runtimes.action_server import carried, reaper, settings

    told = settings.decode(data)
    told.stdio = stdio
    if given:
        carried.leave_no_trace(told.environment)
        carried.lend_utilities(told.environment)
    reaper.main(told, lock, up)


def _read(descriptor: int) -> bytes:
    """Return all that is there, and close."""
    parts: list[bytes] = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def read_announced(descriptor: int) -> bytes:
    """Return what stands behind its length, and read no byte more: frames may follow."""
    size = int.from_bytes(_read_exactly(descriptor, 4), "big")
    if size > _SETTINGS_BYTES_MAX:
        raise SystemExit(f"settings of {size} bytes are announced: this is not a worker")
    return _read_exactly(descriptor, size)


def _read_exactly(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0:
        part = os.read(descriptor, min(size, 1 << 16))
        if not part:
            raise SystemExit("standard input ended before the settings did")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def take_stdio() -> tuple[int, int]:
    """Move standard input and output out of the way of whoever prints or reads by mistake."""
    frames_in, frames_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return frames_in, frames_out


if __name__ == "__main__":
    main()
