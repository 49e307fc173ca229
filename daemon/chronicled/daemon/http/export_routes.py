"""Exports: a session in another system's format, streamed as it is made."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from chronicled.daemon.exports import Exports
from chronicled.daemon.http.bodies import NAME_PATTERN
from chronicled.daemon.http.call import Call
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.errors import InvalidCursor, InvalidName, SecretsUnavailable, SessionNotFound
from chronicled.events.ids import check_name
from chronicled.migrations.formats.choice import MEDIA, writer_of

__all__ = ["ExportRoutes"]

HEAD_HEADER: Final = "X-Export-Head"


class ExportQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to write."""

    format: Literal["asciicast", "atif", "cloudevents", "jsonl", "openhands"]
    variant: Literal["batch", "events", "lines", "trajectory", "v2", "v3", "with-blobs"] | None = None
    """Which form of the format; each has a default."""
    after: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    """Only events behind this position."""
    lane: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)] | None = None
    """asciicast: only this lane."""
    idle_limit: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    """asciicast: longest silence when played, in seconds."""


class ExportRoutes:
    """The route of exports.

    Args:
        exports: Opens them.
        write_seconds_max: A reader that takes nothing for so long is dropped.
    """

    def __init__(self, exports: Exports, write_seconds_max: float) -> None:
        self._exports = exports
        self._write_seconds_max = write_seconds_max

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        return (
            Route(
                method="GET",
                path="/v1/sessions/{session}/export",
                name="export_session",
                summary="Take a session out in another system's format, as it stands at one position",
                handler=self.export,
                query=ExportQuery,
                answers={
                    200: Answer(
                        "All of it, as it is made; an answer that breaks off is not whole.",
                        dict.fromkeys(sorted(set(MEDIA.values())), ()),
                        {HEAD_HEADER: "The position up to which it goes."},
                    )
                },
                problems=(SessionNotFound, InvalidName, InvalidCursor, SecretsUnavailable),
            ),
        )

    async def export(self, call: Call) -> web.StreamResponse:
        """Stream an export."""
        query = call.query(ExportQuery)
        session = check_name(call.path["session"], "session name")
        write, media = writer_of(query.format, query.variant, lane=query.lane, idle_seconds=query.idle_limit)
        async with self._exports.open(call.caller.tenant, session, query.after, query.format, write) as export:
            headers = {"Content-Type": media, "Cache-Control": "no-store", HEAD_HEADER: str(export.head)}
            response = web.StreamResponse(headers=headers)
            await response.prepare(call.request)
            if call.head_only:
                return response
            async with aclosing(export.batches()) as batches:
                async for batch in batches:
                    await self._write(response, batch)
            await response.write_eof()
        return response

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._write_seconds_max):
                await response.write(data)
        except TimeoutError:
            raise ConnectionResetError("the reader takes nothing") from None
