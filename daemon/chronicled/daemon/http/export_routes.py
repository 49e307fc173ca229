"""Exports: a session in another system's format, streamed as it is made."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final, Literal

import msgspec
import structlog
from aiohttp import web

from chronicled.daemon.exports import Exports
from chronicled.daemon.http.bodies import NAME_PATTERN
from chronicled.daemon.http.call import Call, write
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.errors import InvalidCursor, InvalidName, SecretsUnavailable, SessionNotFound
from chronicled.events.ids import check_name
from chronicled.migrations.formats.choice import MEDIA, writer_of

__all__ = ["ExportRoutes"]

HEAD_HEADER: Final = "X-Export-Head"

log: Any = structlog.get_logger("chronicled.http")


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
        render, media = writer_of(query.format, query.variant, lane=query.lane, idle_seconds=query.idle_limit)
        async with self._exports.open(call.caller.tenant, session, query.after, query.format, render) as export:
            headers = {"Content-Type": media, "Cache-Control": "no-store", HEAD_HEADER: str(export.head)}
            response = web.StreamResponse(headers=headers)
            async with aclosing(export.batches()) as batches:
                # What cannot be made at all is a problem. Once the answer has begun, another would stand in its middle.
                first = await anext(batches, b"")
                await response.prepare(call.request)
                if not call.head_only:
                    await self._send(response, first, batches)
        return response

    async def _send(self, response: web.StreamResponse, first: bytes, batches: AsyncGenerator[bytes]) -> None:
        """Write all of it.

        Raises:
            ConnectionResetError: the reader is gone, or it cannot be made any further: the answer breaks off.
        """
        await write(response, first, self._write_seconds_max)
        try:
            async for batch in batches:
                await write(response, batch, self._write_seconds_max)
        except ConnectionError:
            raise
        except Exception:
            log.exception("export broke off")
            raise ConnectionResetError("the export cannot go on") from None
        await response.write_eof()
