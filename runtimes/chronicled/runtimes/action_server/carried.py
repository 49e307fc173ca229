"""What the action server owes an image that it came into from outside: to leave no trace, and to lend what it lacks."""

from __future__ import annotations

import os
import sys

__all__ = ["APPLETS_PATH", "PATH_DEFAULT", "carried_folder", "leave_no_trace", "lend_utilities"]

PATH_DEFAULT = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APPLETS_PATH = "lib/applets"
"""Below the carrier: busybox under the names of its utilities."""
_SIGNS_OF_UTILITIES = ("sh", "ls", "cat", "busybox")
_USUAL_FOLDERS = ("/bin", "/usr/bin", "/usr/local/bin")


def carried_folder() -> str:
    """Return the carrier's own folder, `/.chronicled` in any sandbox of ours."""
    return os.path.dirname(os.path.dirname(sys.executable))


def leave_no_trace(environment: dict[bytes, bytes]) -> None:
    """Make the environment of what is run from here, however it is run, that of the sandbox's settings.

    What this process began with is the image's, bent for the carried interpreter.
    """
    for name in list(os.environb):
        del os.environb[name]
    for name, value in environment.items():
        if name:
            os.environb[name] = value


def lend_utilities(environment: dict[bytes, bytes]) -> None:
    """Put busybox's utilities at the end of PATH where the image has neither shell nor any utility of its own.

    Everywhere else PATH stays the image's: an agent must not meet a `grep` that its image does not have.
    """
    folders = [*os.fsdecode(environment.get(b"PATH", b"")).split(":"), *_USUAL_FOLDERS]
    for folder in folders:
        if folder.startswith("/") and any(os.access(f"{folder}/{name}", os.X_OK) for name in _SIGNS_OF_UTILITIES):
            return
    lent = os.path.join(carried_folder(), APPLETS_PATH)
    if os.path.isdir(lent):
        path = environment.get(b"PATH", PATH_DEFAULT)
        environment[b"PATH"] = path + b":" + os.fsencode(lent)
        os.environb[b"PATH"] = environment[b"PATH"]
