"""Start of an action server: `python -I -S bootstrap.py SANDBOX GENERATION [SETTINGS]`.

As a process of the worker's machine it has the settings in descriptor 3, its lock in 4, and 5 takes a line once it is
up. In a container the settings are in the file SETTINGS, and there is neither lock nor line: the engine knows what lives,
and the worker hears of it when it dials. `-I -S` keeps the image's Python settings and packages out, and with them the
project's own: this file puts back the folders that the settings name. SANDBOX and GENERATION are only there to be seen
in a process listing.
"""

from __future__ import annotations

import os
import sys

SETTINGS_DESCRIPTOR = 3
LOCK_DESCRIPTOR = 4
UP_DESCRIPTOR = 5


def main() -> None:
    """Read the settings, become the reaper."""
    # The first entry is this file's folder, whose modules must not shadow the library's.
    sys.path = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    in_container = len(sys.argv) > 3
    if in_container:
        data = _read(os.open(sys.argv[3], os.O_RDONLY | os.O_CLOEXEC))
        lock = os.memfd_create("chronicled-lock", os.MFD_CLOEXEC)
        up = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    else:
        os.lseek(SETTINGS_DESCRIPTOR, 0, os.SEEK_SET)
        data, lock, up = _read(SETTINGS_DESCRIPTOR), LOCK_DESCRIPTOR, UP_DESCRIPTOR
    for record in data.split(b"\0"):
        if record.startswith(b"import_path="):
            sys.path.append(os.fsdecode(record.removeprefix(b"import_path=")))

    from chronicled.runtimes.action_server import reaper, settings

    reaper.main(settings.decode(data), lock, up)


def _read(descriptor: int) -> bytes:
    """Return all that is there, and close."""
    parts: list[bytes] = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


if __name__ == "__main__":
    main()
