"""Blobs: reached through the session whose events name them, whole or in ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from aiohttp import web

from chronicled.daemon.http.call import Call, write
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.blobs import BlobStore
from chronicled.events.errors import BlobNotFound, InvalidName, InvalidRequest, RangeNotSatisfiable, SessionNotFound
from chronicled.events.ids import check_name
from chronicled.events.store import EventStore

__all__ = ["BlobRoutes", "parse_range"]

MEDIA: Final = "application/octet-stream"
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class BlobHeaders(msgspec.Struct, frozen=True):
    """Headers of a read."""

    range: Annotated[str, msgspec.Meta(pattern=r"^bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$")] | None = None
    """One range of bytes; other forms count as not sent."""


class BlobRoutes:
    """The route of blobs.

    Args:
        store: Tells which session names which blob.
        blobs: The bytes.
        write_seconds_max: A reader that takes nothing for so long is dropped.
    """

    def __init__(self, store: EventStore, blobs: BlobStore, write_seconds_max: float) -> None:
        self._store = store
        self._blobs = blobs
        self._write_seconds_max = write_seconds_max

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        headers = {"ETag": "The digest.", "Accept-Ranges": "`bytes`."}
        return (
            Route(
                method="GET",
                path="/v1/sessions/{session}/blobs/{digest}",
                name="read_blob",
                summary="Read a blob that an event of the session names",
                handler=self.read,
                headers=BlobHeaders,
                answers={
                    200: Answer("All of it.", {MEDIA: ()}, headers),
                    206: Answer("The range.", {MEDIA: ()}, {**headers, "Content-Range": "Which bytes of how many."}),
                },
                problems=(SessionNotFound, BlobNotFound, InvalidName, RangeNotSatisfiable),
            ),
        )

    async def read(self, call: Call) -> web.StreamResponse:
        """Serve a blob."""
        session = check_name(call.path["session"], "session name")
        digest = call.path["digest"]
        if DIGEST.fullmatch(digest) is None:
            raise InvalidRequest("A digest is 64 hex digits in lower case.", parameter="digest")
        if not await self._store.names_blob(call.caller.tenant, session, digest):
            if await self._store.last(call.caller.tenant, session) is None:
                raise SessionNotFound(f"There is no session {session!r}.")
            raise BlobNotFound(f"No event of session {session!r} names the blob {digest}.")
        return await self.serve(call, digest)

    async def serve(
        self, call: Call, digest: str, media: str = MEDIA, more: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """Serve a blob that the caller may read, or the range of it that was asked for.

        Raises:
            BlobNotFound: it is lost.
            RangeNotSatisfiable: the range begins beyond its end.
        """
        size = await self._blobs.size(digest)
        etag = f'"{digest}"'
        asked = call.header("Range")
        # Content under a digest never changes: a range holds if it is of this very blob.
        wanted = parse_range(asked, size) if asked and call.header("If-Range") in {None, etag} else None
        first, last = wanted or (0, size - 1)
        headers = {"Content-Type": media, "ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, immutable"}
        headers |= more or {}
        if wanted:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
        response.content_length = last - first + 1
        await response.prepare(call.request)
        if not call.head_only:
            async for chunk in self._blobs.read(digest, first, last - first + 1):
                await write(response, chunk, self._write_seconds_max)
        return response


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return first and last byte of the range, or None where the header is to be ignored (RFC 9110, 14.2).

    Raises:
        RangeNotSatisfiable: it begins beyond the end.
    """
    match = RANGE.fullmatch(text.strip())
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        count = min(int(last), size)
        if count == 0:
            raise _unsatisfiable(size)
        return size - count, size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise _unsatisfiable(size)
    return int(first), min(int(last), size - 1) if last else size - 1


def _unsatisfiable(size: int) -> RangeNotSatisfiable:
    return RangeNotSatisfiable(f"The blob has {size} bytes.", size=size)
