"""Images, as a client of one daemon sees them: what there is, and having more of it built or fetched."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from typing import IO, Any

import msgspec

from chronicled.client.session import events
from chronicled.client.transport import Transport
from chronicled.events.envelope import Event
from chronicled.events.ids import IdSource
from chronicled.events.kinds.lifecycle import ImageProgress

__all__ = ["ImageClient", "Told"]

PATH = "/v1/images"
EVENTS = "/v1/sessions/_images/events"
_OVER = frozenset({"done", "failed", "cancelled"})

Told = Callable[[ImageProgress], None]
"""Hears how far a build or fetch is."""


class _Job(msgspec.Struct):
    job: str
    image: str
    event: Event


class _Begun(msgspec.Struct):
    jobs: list[_Job]


class ImageClient:
    """The images of a daemon's engine."""

    def __init__(self, transport: Transport, ids: IdSource) -> None:
        self._transport = transport
        self._ids = ids

    async def list(self) -> dict[str, Any]:
        """Return what there is (`images`) and what is on its way (`jobs`).

        Raises:
            NotFound: the daemon has no engine.
            ImageUnreachable: its engine does not answer.
        """
        found: dict[str, Any] = msgspec.json.decode(await self._transport.request("GET", PATH))
        return found

    async def build(
        self,
        name: str,
        context: str | os.PathLike[str] | bytes,
        *,
        dockerfile: str = "Dockerfile",
        arguments: Mapping[str, str] | None = None,
        target: str | None = None,
        fresh: bool = False,
        told: Told | None = None,
    ) -> ImageProgress:
        """Build an image and wait for the end.

        Args:
            name: `path[:tag]`, among the tenant's own; the full name to use is in the returned value.
            context: Path of a folder, or the bytes of a Dockerfile that needs none.
            dockerfile: Path of the Dockerfile in the folder.
            arguments: Build arguments.
            target: Stage to end at.
            fresh: Run every step anew.
            told: Hears how far it is.

        Raises:
            InvalidRequest: name or folder are not valid.
            PayloadTooLarge: the context is larger than the daemon takes.
            Overloaded: too many builds wait.
            The way it ended is in the returned value.
        """
        from chronicled.client import archives

        query = {"name": name, "dockerfile": dockerfile, "fresh": str(fresh).lower()}
        query |= {} if target is None else {"target": target}
        query |= {"arguments": "\n".join(f"{key}={value}" for key, value in arguments.items())} if arguments else {}
        if isinstance(context, bytes):
            with archives.opened(context) as file:
                return (await self._follow(await self._send(query, "text/plain", file), told))[0]
        async with archives.packed(context) as (archive, _):
            begun = await self._send(query, "application/x-tar", archive)
        return (await self._follow(begun, told))[0]

    async def _send(self, query: Mapping[str, str], media: str, body: IO[bytes]) -> _Begun:
        headers = {"Content-Type": media, "Idempotency-Key": self._ids.new()}
        answer = await self._transport.send("POST", PATH, body, headers=headers, query=query)
        return msgspec.json.decode(answer, type=_Begun)

    async def prefetch(
        self, images: Sequence[str], *, pull: str | None = None, told: Told | None = None
    ) -> Sequence[ImageProgress]:
        """Have the daemon fetch images, and wait until it has tried each.

        Args:
            images: Their names.
            pull: `always` asks the registries also for what is there.
            told: Hears how far each is.

        Raises:
            InvalidRequest: one is no name of an image.
            Overloaded: too many wait.
            The way each ended is in the returned value.
        """
        body = {"images": [*images], **({} if pull is None else {"pull": pull})}
        headers = {"Idempotency-Key": self._ids.new()}
        answer = await self._transport.request("POST", f"{PATH}/prefetch", body, headers=headers)
        return await self._follow(msgspec.json.decode(answer, type=_Begun), told)

    async def prune(self, unused_seconds: float | None = None) -> dict[str, Any]:
        """Remove images that the daemon brought and nobody uses; return them (`images`).

        Raises:
            ImageUnreachable: the engine does not answer.
        """
        body = {} if unused_seconds is None else {"unused_seconds": unused_seconds}
        gone: dict[str, Any] = msgspec.json.decode(await self._transport.request("POST", f"{PATH}/prune", body))
        return gone

    async def _follow(self, begun: _Begun, told: Told | None) -> Sequence[ImageProgress]:
        """Return the last report of each job, in their order."""
        ended: dict[str, ImageProgress] = {}
        waiting = {job.job for job in begun.jobs}
        first = min(job.event.position for job in begun.jobs)
        async with aclosing(events(self._transport, EVENTS, first - 1, True, ("image_progress",))) as feed:
            while waiting:
                report = msgspec.json.decode((await anext(feed)).payload, type=ImageProgress)
                if report.job not in waiting:
                    continue
                if told is not None:
                    told(report)
                if report.status in _OVER:
                    waiting.remove(report.job)
                    ended[report.job] = report
        return [ended[job.job] for job in begun.jobs]
