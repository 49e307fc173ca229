"""Contents in-band, from the worker's files to the server, as far as the server has given credit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.frames import ContentCredit, ContentData
from chronicled.runtimes.worker.descriptors import Descriptors

__all__ = ["WINDOW_BYTES", "ContentSender"]

WINDOW_BYTES: Final = 512 << 10
"""Most credit at once that is believed."""
_CHUNK_BYTES: Final = 64 << 10


class _Content:
    """One action's content on its way to the server."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.sent = 0


class ContentSender:
    """The contents of one link's actions.

    Args:
        post: Sends a frame; never waits, never raises.
        descriptors: Through which files are read and closed.
    """

    def __init__(self, post: Callable[[ContentData], None], descriptors: Descriptors) -> None:
        self._post = post
        self._descriptors = descriptors
        self._contents: dict[str, _Content] = {}
        self._following: dict[str, ContentCredit | None] = {}
        """Actions whose content the worker has still to fetch, and what was asked of it meanwhile."""

    def add(self, action: str, descriptor: int | None, *, follows: bool = False) -> None:
        """Take an action's content (a copy of the descriptor), or learn that it follows or that there is none."""
        self.drop(action)
        if descriptor is not None:
            self._contents[action] = _Content(os.dup(descriptor))
        elif follows:
            self._following[action] = None

    def bring(self, action: str, descriptor: int | None) -> None:
        """Take a content that was to follow, and send what was asked of it meanwhile."""
        if descriptor is None or action not in self._following:
            return
        asked = self._following[action]
        self.add(action, descriptor)
        # A server that has asked for what there is not gets nothing. The file was just written: no disk is waited for.
        with contextlib.suppress(ProtocolError):
            if asked is not None and (piece := self._next_piece(asked)) is not None:
                self._send(action, os.pread(*piece))

    def drop(self, action: str) -> None:
        """Let go of an action's content. Idempotent."""
        self._following.pop(action, None)
        content = self._contents.pop(action, None)
        if content is not None:
            self._descriptors.close(content.descriptor)

    def close(self) -> None:
        """Let go of all. Idempotent."""
        for action in [*self._contents, *self._following]:
            self.drop(action)

    async def take(self, credit: ContentCredit, *, known: bool) -> None:
        """Send what there is credit for; `known` tells whether the action runs over this link.

        Raises:
            ProtocolError: the server asks for what there is not.

        Cancellation: takes effect after what was read is sent.
        """
        if credit.action in self._following:
            self._following[credit.action] = credit
        elif credit.action not in self._contents:
            if known:
                # Nothing is here (any more) to be sent: its end says so.
                self._post(ContentData(action=credit.action, offset=credit.taken, data=b""))
        elif (piece := self._next_piece(credit)) is not None:
            data = await self._descriptors.use(os.pread, *piece)
            if credit.action in self._contents:
                self._send(credit.action, data)

    def _next_piece(self, credit: ContentCredit) -> tuple[int, int, int] | None:
        """Return descriptor, size and offset of what there is credit for; None where that is nothing."""
        content = self._contents[credit.action]
        if not 0 <= credit.taken <= content.size or credit.limit - credit.taken > WINDOW_BYTES:
            raise ProtocolError("The server asked for content that there is not.")
        content.sent = max(content.sent, credit.taken)
        count = min(credit.limit, content.size) - content.sent
        return (content.descriptor, count, content.sent) if count > 0 else None

    def _send(self, action: str, data: bytes) -> None:
        content = self._contents[action]
        # What is shorter than it should be (a file that was cut) ends with an empty frame.
        for start in range(0, len(data), _CHUNK_BYTES) or (0,):
            piece = data[start : start + _CHUNK_BYTES]
            self._post(ContentData(action=action, offset=content.sent, data=piece))
            content.sent += len(piece)
