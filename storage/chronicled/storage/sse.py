"""Pages as server-sent events: encoded once, shared by every follower who gets the same page."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import msgspec

from chronicled.events.envelope import Event
from chronicled.events.store import Page

__all__ = ["SharedMessages"]

_encode = msgspec.json.Encoder().encode
PAGES_MAX: Final = 64
BYTES_MAX: Final = 8 << 20


class SharedMessages:
    """Renders a page as one write of server-sent events, and keeps the newest renderings.

    A stream gives all followers of one filter the same page object for a commit, so a rendering is found by the page's
    identity, and by what its followers want to be shown. Bounded by 64 renderings and 8 MiB.
    """

    def __init__(self, incarnation: str) -> None:
        self._suffix = f"@{incarnation}\n".encode()
        self._kept: OrderedDict[tuple[int, Hashable], tuple[Page, bytes]] = OrderedDict()
        self._size = 0

    def render(
        self, page: Page, wanted: Hashable = None, show: Callable[[Sequence[Event]], Sequence[Event]] | None = None
    ) -> bytes:
        """Return one message per event (`id`, `event`, `data`), and one with only `id` if the cursor moved further.

        Args:
            page: What to render.
            wanted: Names what `show` does: followers with the same share a rendering.
            show: Makes of the log's events those that the followers see; None shows them as they are.
        """
        key = (id(page), wanted)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is page:
            return kept[1]
        data = self._encode(page, page.events if show is None else show(page.events))
        self._keep(key, page, data)
        return data

    def _encode(self, page: Page, events: Sequence[Event]) -> bytes:
        suffix = self._suffix
        parts: list[bytes] = []
        for event in events:
            data = _encode(event)
            if b"\n" in data or b"\r" in data:  # white space between JSON tokens; a message's line must not break
                data = msgspec.json.format(data, indent=-1)
            parts.append(b"id: %d%bevent: %b\ndata: %b\n\n" % (event.position, suffix, event.kind.encode(), data))
        if not events or page.next > events[-1].position:
            parts.append(b"id: %d%b\n" % (page.next, suffix))
        return b"".join(parts)

    def _keep(self, key: tuple[int, Hashable], page: Page, data: bytes) -> None:
        # The page is kept with its rendering, so that its identity cannot pass to another one meanwhile.
        self._kept[key] = (page, data)
        self._size += len(data)
        while len(self._kept) > PAGES_MAX or (self._size > BYTES_MAX and len(self._kept) > 1):
            _, (_, oldest) = self._kept.popitem(last=False)
            self._size -= len(oldest)
