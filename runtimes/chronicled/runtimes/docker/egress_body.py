"""Where the body of a plain request ends: what follows is not of that request, and goes nowhere."""

from __future__ import annotations

import re
from typing import Final

from chronicled.runtimes.docker.egress_request import BadRequest

__all__ = ["BodyEnd"]

LINE_BYTES_MAX: Final = 4096
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class BodyEnd:
    """Watches a body go by.

    Args:
        bytes_left: Its length; None where it comes in chunks.
    """

    def __init__(self, bytes_left: int | None) -> None:
        self._chunked = bytes_left is None
        self._left = bytes_left or 0
        self._line = bytearray()
        self._expects = "size"
        self.over = bytes_left == 0

    def take(self, data: bytes) -> int:
        """Return how many of the next bytes belong to the body.

        Raises:
            BadRequest: the chunks are malformed.
        """
        at = 0
        while at < len(data) and not self.over:
            at += self._take_content(len(data) - at) if self._left else self._take_line(data, at)
        return at

    def _take_content(self, count: int) -> int:
        taken = min(count, self._left)
        self._left -= taken
        if self._left == 0:
            self.over = not self._chunked
            self._expects = "end of chunk"
        return taken

    def _take_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        part = data[at:] if end < 0 else data[at : end + 1]
        self._line += part
        if len(self._line) > LINE_BYTES_MAX:
            raise BadRequest("A line of the chunked body is too long.")
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n"):
                raise BadRequest("The chunked body is malformed.")
            self._read_line(line[:-2])
        return len(part)

    def _read_line(self, line: bytes) -> None:
        if self._expects == "size":
            match = _SIZE.fullmatch(line)
            if match is None:
                raise BadRequest("The chunked body is malformed.")
            self._left = int(match[1], 16)
            self._expects = "end of chunk" if self._left else "trailer"
        elif self._expects == "end of chunk":
            if line:
                raise BadRequest("The chunked body is malformed.")
            self._expects = "size"
        else:
            self.over = not line
