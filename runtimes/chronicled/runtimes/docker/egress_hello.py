"""The name in a TLS client's first message: to whom it really wants to speak."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["HELLO_BYTES_MAX", "Greeting", "GreetingReader", "read_greeting"]

HELLO_BYTES_MAX: Final = 64 << 10
_RECORD_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_HEAD_BYTES: Final = 5
_RECORD_BYTES_MAX: Final = 1 << 14


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
    return GreetingReader().feed(data)


class GreetingReader:
    """Reads a client's first message as it comes; each byte costs once, in however small pieces it arrives."""

    def __init__(self) -> None:
        self._head = bytearray()
        """Of the record at which it is."""
        self._left = 0
        """Of that record's content."""
        self._message = bytearray()
        self._count = 0
        self._first = True
        self._said: str | Greeting = Greeting.UNFINISHED

    def feed(self, data: bytes) -> str | Greeting:
        """Take the next bytes; return what all of them are so far. What is not `UNFINISHED` stays as it is."""
        at = 0
        while at < len(data) and self._said is Greeting.UNFINISHED:
            at += self._take_content(data, at) if self._left else self._take_head(data, at)
        self._count += len(data)
        if self._said is Greeting.UNFINISHED and self._count > HELLO_BYTES_MAX:
            self._said = Greeting.BROKEN
        return self._said

    def _take_head(self, data: bytes, at: int) -> int:
        part = data[at : at + _HEAD_BYTES - len(self._head)]
        self._head += part
        head = self._head
        if head[0] != _RECORD_HANDSHAKE or (len(head) > 1 and head[1] != 3):
            self._said = Greeting.OTHER if self._first else Greeting.BROKEN
        elif len(head) == _HEAD_BYTES:
            self._left = int.from_bytes(head[3:], "big")
            if not 0 < self._left <= _RECORD_BYTES_MAX:
                self._said = Greeting.BROKEN
            self._first = False
            self._head = bytearray()
        return len(part)

    def _take_content(self, data: bytes, at: int) -> int:
        part = data[at : at + self._left]
        self._left -= len(part)
        self._message += part
        message = self._message
        if message[0] != _CLIENT_HELLO:
            self._said = Greeting.BROKEN
        elif len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4], "big")
            if whole > HELLO_BYTES_MAX:
                self._said = Greeting.BROKEN
            elif len(message) >= whole:
                try:
                    self._said = _server_name(_Reader(bytes(message[4:whole])))
                except (ValueError, UnicodeDecodeError):
                    self._said = Greeting.BROKEN
        return len(part)


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
