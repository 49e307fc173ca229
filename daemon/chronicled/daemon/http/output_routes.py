"""Outputs: the bytes that an action prints, followed live while it is open, served as they were kept afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Annotated, Final, Protocol

import msgspec
from aiohttp import web

from chronicled.daemon.http.call import Call, write
from chronicled.daemon.http.route import Answer, Route
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.daemon.submission import Submission
from chronicled.events.blobs import BlobStore
from chronicled.events.envelope import Event
from chronicled.events.errors import ActionNotFound, InvalidName, RangeNotSatisfiable, SessionNotFound
from chronicled.events.store import EventStore

__all__ = ["LiveOutputs", "OutputFollower", "OutputRoutes"]

MEDIA: Final = "application/octet-stream"
SIZE_HEADER: Final = "X-Output-Size"
DROPPED_HEADER: Final = "X-Output-Dropped"


class OutputFollower(Protocol):
    """One reader's place at the output of an action that has not ended."""

    @property
    def size(self) -> int:
        """Bytes that are there now."""
        ...

    def read(self, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield the bytes from `offset`, following live until the action has ended."""
        ...


class LiveOutputs(Protocol):
    """The outputs of open actions."""

    def follow(self, tenant: str, session: str, action: str) -> AbstractContextManager[OutputFollower]:
        """Follow one; its end after this was entered is always seen."""
        ...


class OutputQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where, and how long."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    """Bytes to leave out."""
    follow: bool = True
    """Whether to wait for more while the action is open."""


class Kept(msgspec.Struct, frozen=True):
    """What a terminal observation says of its output; kinds without output say nothing."""

    output: str = ""
    output_bytes: int = 0
    output_digest: str | None = None
    output_blob: bool = False
    output_dropped_bytes: int = 0


_kept = msgspec.json.Decoder(Kept)


class OutputRoutes:
    """The route of outputs.

    Args:
        submission: Finds actions.
        store: Tells what has ended.
        outputs: What open actions print.
        blobs: What ended actions printed, where it was much.
        subscribers: Counts and bounds those who follow.
        write_seconds_max: A reader that takes nothing for so long is dropped.
    """

    def __init__(
        self,
        submission: Submission,
        store: EventStore,
        outputs: LiveOutputs,
        blobs: BlobStore,
        subscribers: Subscribers,
        write_seconds_max: float,
    ) -> None:
        self._submission = submission
        self._store = store
        self._outputs = outputs
        self._blobs = blobs
        self._subscribers = subscribers
        self._write_seconds_max = write_seconds_max

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        return (
            Route(
                method="GET",
                path="/v1/sessions/{session}/actions/{id}/output",
                name="read_output",
                summary="Read the bytes that an action printed, and follow them while it is open",
                handler=self.read,
                query=OutputQuery,
                answers={
                    200: Answer(
                        "The bytes from the offset on.",
                        {MEDIA: ()},
                        {
                            SIZE_HEADER: "Bytes kept in all, once the action has ended.",
                            DROPPED_HEADER: "Bytes that were dropped at the cap, once the action has ended.",
                        },
                    )
                },
                problems=(SessionNotFound, ActionNotFound, InvalidName, RangeNotSatisfiable),
            ),
        )

    async def read(self, call: Call) -> web.StreamResponse:
        """Serve an output."""
        query = call.query(OutputQuery)
        action = await self._submission.action(call.caller.tenant, call.path["session"], call.path["id"])
        # First take a place, then look for the end: an end in between is seen by one of the two.
        with self._outputs.follow(action.tenant, action.session, action.id) as follower:
            end = await self._store.terminal(action.tenant, action.id)
            if end is None and self._submission.runnable(action):
                return await self._live(call, follower, query)
        return await self._kept(call, end, query.offset)

    async def _live(self, call: Call, follower: OutputFollower, query: OutputQuery) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": MEDIA, "Cache-Control": "no-store"})
        left = None
        if not query.follow:
            left = max(0, follower.size - query.offset)
            response.content_length = left
        # The daemon's stop ends the block early. What was begun stays the answer: another would stand in its middle.
        with self._subscribers.one():
            await response.prepare(call.request)
            if call.head_only:
                return response
            if left != 0:
                async for data in follower.read(query.offset):
                    await write(response, data if left is None else data[:left], self._write_seconds_max)
                    if left is not None:
                        left -= min(left, len(data))
                        if not left:
                            break
        if left:
            response.force_close()
        return response

    async def _kept(self, call: Call, end: Event | None, offset: int) -> web.StreamResponse:
        kept = Kept() if end is None else _read(end)
        digest = kept.output_digest if kept.output_blob else None
        data = kept.output.encode()
        size = len(data) if digest is None else await self._blobs.size(digest)
        if offset > size:
            raise RangeNotSatisfiable(f"The output has {size} bytes; offset {offset} lies beyond.", size=size)
        headers = {
            "Content-Type": MEDIA,
            SIZE_HEADER: str(size),
            DROPPED_HEADER: str(kept.output_dropped_bytes),
        }
        if digest is None:
            return web.Response(body=data[offset:], headers=headers)
        response = web.StreamResponse(headers=headers)
        response.content_length = size - offset
        await response.prepare(call.request)
        if not call.head_only:
            async for chunk in self._blobs.read(digest, offset):
                await write(response, chunk, self._write_seconds_max)
        return response


def _read(end: Event) -> Kept:
    try:
        return _kept.decode(end.payload)
    except (ValueError, RecursionError):
        # Of another version or shape: what can be told of its output is nothing.
        return Kept()
