"""Start of an action server: `python -I -S bootstrap.py SANDBOX GENERATION`.

Descriptor 3 holds the settings, 4 is the lock, 5 takes a line once the server is up. `-I -S` keeps the image's Python
settings and packages out, and with them the project's own: this file puts back the folders that the settings name.
SANDBOX and GENERATION are only there to be seen in a process listing.
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
    parts: list[bytes] = []
    os.lseek(SETTINGS_DESCRIPTOR, 0, os.SEEK_SET)
    while part := os.read(SETTINGS_DESCRIPTOR, 1 << 16):
        parts.append(part)
    os.close(SETTINGS_DESCRIPTOR)
    data = b"".join(parts)
    for record in data.split(b"\0"):
        if record.startswith(b"import_path="):
            sys.path.append(os.fsdecode(record.removeprefix(b"import_path=")))

    from chronicled.runtimes.action_server import reaper, settings

    reaper.main(settings.decode(data), LOCK_DESCRIPTOR, UP_DESCRIPTOR)


if __name__ == "__main__":
    main()
