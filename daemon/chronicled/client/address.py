"""Where the daemon is: a Unix socket's path or an HTTP URL, and the default of both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from chronicled.events.errors import InvalidRequest

__all__ = ["SYSTEM_SOCKET", "Address", "default_socket"]

SYSTEM_SOCKET: Final = "/run/chronicled/chronicled.sock"
"""Where a daemon listens that is a service of the system (deploy/chronicled.service)."""


class Address(msgspec.Struct, frozen=True):
    """A daemon's address: requests go to `base`, through `socket` where there is one."""

    base: str
    socket: str | None = None

    @classmethod
    def parse(cls, text: str | None, environment: Mapping[str, str] | None = None) -> Address:
        """Read a socket's path, `unix:PATH` or an `http://` URL; None is `CHRONICLED_SOCKET`, else the default socket.

        Raises:
            InvalidRequest: a URL of another scheme, or one without a host; `unix:` without a path.
        """
        environment = os.environ if environment is None else environment
        text = text or environment.get("CHRONICLED_SOCKET") or default_socket(environment)
        if text.startswith("unix:"):
            text = "/" + text.removeprefix("unix:").lstrip("/") if text.startswith("unix:/") else text[5:]
        elif "://" in text:
            if not text.startswith(("http://", "https://")):
                raise InvalidRequest(f"An address is a socket's path, unix:PATH or http://HOST:PORT, not {text!r}.")
            if not text.partition("://")[2].strip("/"):
                raise InvalidRequest(f"The address {text!r} names no host.")
            return cls(text.rstrip("/"))
        if not text:
            raise InvalidRequest("An address `unix:` needs the path of a socket.")
        return cls("http://chronicled", os.path.abspath(text))

    def __str__(self) -> str:
        return self.socket or self.base


def default_socket(environment: Mapping[str, str]) -> str:
    """Return the socket of a daemon that was started without flags (the daemon's `locations` has the same rule)."""
    if unit := environment.get("RUNTIME_DIRECTORY"):
        return os.path.join(unit.split(":", 1)[0], "chronicled.sock")
    base = environment.get("XDG_RUNTIME_DIR", "")
    if not os.path.isabs(base):
        base = f"/run/user/{os.geteuid()}"
        try:
            owned = os.stat(base).st_uid == os.geteuid()
        except OSError:
            owned = False
        if not owned:
            return f"/tmp/chronicled-{os.geteuid()}/chronicled.sock"
    return os.path.join(base, "chronicled", "chronicled.sock")
