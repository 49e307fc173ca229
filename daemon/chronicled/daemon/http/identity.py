"""Who calls: the peer of a Unix socket, or the holder of the bearer token."""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import struct
from collections.abc import Collection
from typing import Final, Protocol

import msgspec

from chronicled.events.errors import Refused, Unauthenticated

__all__ = ["Caller", "Identity", "PeerIdentity", "TokenIdentity"]

TENANT_DEFAULT: Final = "default"


class Caller(msgspec.Struct, frozen=True):
    """Who sends the requests of one connection; `actor` is what the log says of it."""

    tenant: str
    actor: str
    operator: bool
    """Whether it may read every tenant's events, the daemon's own included."""


class Identity(Protocol):
    """How callers of one listener are told."""

    def of(self, transport: asyncio.BaseTransport, authorization: str | None) -> Caller:
        """Return who calls.

        Raises:
            Unauthenticated: the request proves nobody.
            Refused: the caller is known and has no business here.
        """
        ...


class PeerIdentity:
    """The kernel's word for who connected (SO_PEERCRED): the daemon's own user, root, and those whom it names.

    Args:
        allowed_uids: Users who may call beside the daemon's own and root; they see their tenant only.
    """

    def __init__(self, allowed_uids: Collection[int] = ()) -> None:
        self._operators = frozenset({0, os.geteuid()})
        self._allowed = frozenset(allowed_uids)
        self._callers: dict[int, Caller] = {}

    def of(self, transport: asyncio.BaseTransport, authorization: str | None) -> Caller:
        """Return the connected user; the header plays no part.

        Raises:
            Refused: the user is not among those allowed.
        """
        peer: socket.socket = transport.get_extra_info("socket")
        _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        caller = self._callers.get(uid)
        if caller is None:
            if uid not in self._operators and uid not in self._allowed:
                raise Refused(f"uid {uid} may not use this daemon; http.allowed_uids names those who may.")
            caller = self._callers[uid] = Caller(TENANT_DEFAULT, f"uid:{uid}", uid in self._operators)
        return caller


class TokenIdentity:
    """The bearer token of the TCP listener.

    Args:
        token: The one token; compared in constant time.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._caller = Caller(TENANT_DEFAULT, "token:http", operator=False)

    def of(self, transport: asyncio.BaseTransport, authorization: str | None) -> Caller:
        """Return the token's holder.

        Raises:
            Unauthenticated: the header is missing or holds another token.
        """
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._token):
            raise Unauthenticated(
                "Send `Authorization: Bearer TOKEN` (at the command line: --token-file) with the token in the daemon's "
                "data directory, http.token, or in the file that http.token_file names."
            )
        return self._caller
