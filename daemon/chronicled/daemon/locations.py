"""Where things are by default: XDG directories for a user, systemd's own under a unit."""

from __future__ import annotations

import os
from collections.abc import Mapping

from chronicled.events.errors import Refused

__all__ = ["configuration_file", "data_directory", "make_private", "runtime_directory"]

NAME = "chronicled"


def data_directory(environment: Mapping[str, str]) -> str:
    """Return the directory for the log: systemd's `STATE_DIRECTORY`, else the user's XDG state directory."""
    if unit := environment.get("STATE_DIRECTORY"):
        return unit.split(":", 1)[0]
    return os.path.join(_base(environment, "XDG_STATE_HOME", ".local/state"), NAME)


def runtime_directory(environment: Mapping[str, str]) -> str:
    """Return the directory for sockets: systemd's `RUNTIME_DIRECTORY`, else XDG's, else one of the user's in /tmp.

    Where `XDG_RUNTIME_DIR` is not set (cron, containers, `su`), `/run/user/UID` is taken if it is the user's own.
    """
    if unit := environment.get("RUNTIME_DIRECTORY"):
        return unit.split(":", 1)[0]
    if (base := environment.get("XDG_RUNTIME_DIR", "")) and os.path.isabs(base):
        return os.path.join(base, NAME)
    uid = os.geteuid()
    base = f"/run/user/{uid}"
    try:
        if os.stat(base).st_uid == uid:
            return os.path.join(base, NAME)
    except OSError:
        pass
    return f"/tmp/{NAME}-{uid}"


def configuration_file(environment: Mapping[str, str]) -> str:
    """Return the configuration file, read if it exists: in systemd's `CONFIGURATION_DIRECTORY`, else XDG's."""
    if unit := environment.get("CONFIGURATION_DIRECTORY"):
        return os.path.join(unit.split(":", 1)[0], "config.toml")
    return os.path.join(_base(environment, "XDG_CONFIG_HOME", ".config"), NAME, "config.toml")


def make_private(path: str) -> str:
    """Create the directory for its owner alone (0700) if it is missing, and return its absolute path.

    Raises:
        Refused: it exists and is not a directory of ours, or others may write to it, or it cannot be made.
    """
    path = os.path.abspath(path)
    try:
        if not os.path.isdir(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.mkdir(path, 0o700)
        found = os.stat(path)
    except OSError as error:
        raise Refused(f"The directory {path} cannot be made ({error.strerror}): name another one.") from None
    if found.st_uid != os.geteuid():
        raise Refused(f"{path} is not a directory of uid {os.geteuid()}: name another directory.")
    if found.st_mode & 0o022:
        raise Refused(f"Others may write to {path}: chmod 700 it, or name another directory.")
    return path


def _base(environment: Mapping[str, str], variable: str, fallback: str) -> str:
    base = environment.get(variable, "")
    # The XDG specification: a relative path is invalid and counts as not set.
    return base if os.path.isabs(base) else os.path.join(os.path.expanduser("~"), fallback)
