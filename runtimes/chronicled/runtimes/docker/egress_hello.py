"""The name in a TLS client's first message: to whom it really wants to speak."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["HELLO_BYTES_MAX", "Greeting", "read_greeting"]

HELLO_BYTES_MAX: Final = 64 << 10
_RECORD_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0


class Greeting(Enum):
    """What the first bytes are, where they hold no name."""

    UNFINISHED = "unfinished"
    """More bytes are needed."""
    OTHER = "other"
    """Not TLS."""
    NAMELESS = "nameless"
    """TLS that names nobody."""
    BROKEN = "broken"
    """Begins like TLS and is none."""


class _Reader:
    """Takes bytes from the front; `ValueError` where there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("too short")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def block(self, width: int) -> bytes:
        return self.take(self.number(width))


def read_greeting(data: bytes) -> str | Greeting:
    """Return the server name in the first bytes of a connection, in lower case, or what they are instead."""
    if not data:
        return Greeting.UNFINISHED
    if data[0] != _RECORD_HANDSHAKE or (len(data) > 1 and data[1] != 3):
        return Greeting.OTHER
    message = _join_records(data)
    if isinstance(message, Greeting):
        return message
    try:
        return _server_name(_Reader(message))
    except (ValueError, UnicodeDecodeError):
        return Greeting.BROKEN


def _join_records(data: bytes) -> bytes | Greeting:
    """Return the first handshake message, which may come in several records."""
    message = b""
    at = 0
    while True:
        if len(data) - at < 5:
            return Greeting.UNFINISHED if len(data) <= HELLO_BYTES_MAX else Greeting.BROKEN
        if data[at] != _RECORD_HANDSHAKE or data[at + 1] != 3:
            return Greeting.BROKEN
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= 1 << 14:
            return Greeting.BROKEN
        message += data[at + 5 : at + 5 + length]
        at += 5 + length
        if message and message[0] != _CLIENT_HELLO:
            return Greeting.BROKEN
        if len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4], "big")
            if whole > HELLO_BYTES_MAX:
                return Greeting.BROKEN
            if len(message) >= whole:
                return message[4:whole]
        if at > len(data):
            return Greeting.UNFINISHED


def _server_name(hello: _Reader) -> str | Greeting:
    hello.take(2 + 32)
    hello.block(1)
    hello.block(2)
    hello.block(1)
    if hello.left == 0:
        return Greeting.NAMELESS
    extensions = _Reader(hello.block(2))
    found: str | None = None
    while extensions.left:
        kind, content = extensions.number(2), extensions.block(2)
        if kind != _SERVER_NAME:
            continue
        names = _Reader(_Reader(content).block(2))
        # One extension with one name is all that there may be: with two, server and proxy could differ in which counts.
        if found is not None or names.number(1) != 0:
            raise ValueError("no single host name")
        found = names.block(2).decode("ascii").lower()
        if names.left:
            raise ValueError("several names")
    return Greeting.NAMELESS if found is None else found.removesuffix(".")
