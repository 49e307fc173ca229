"""Where builds and prefetches are told: the session `_images` of the tenant that asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
import msgspec
import structlog

from chronicled.daemon.submission import Submitter
from chronicled.events.codec import Codec, canonical_request
from chronicled.events.envelope import LIFECYCLE, Event
from chronicled.events.errors import Overloaded, SessionExists, StorageFull
from chronicled.events.ids import IdSource
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.events.limits import PAGE_EVENTS_MAX
from chronicled.events.store import Append, Appended, EventStore, Filter

__all__ = ["IMAGES_SESSION", "KIND", "ImageStream"]

IMAGES_SESSION: Final = "_images"
KIND: Final = "image_progress"
RETRY_SECONDS_MIN: Final = 0.5
RETRY_SECONDS_MAX: Final = 30.0
_OVER: Final = frozenset({"done", "failed", "cancelled"})

_log = structlog.get_logger("chronicled.images")


class ImageStream:
    """Appends the events of jobs.

    Args:
        store: The log.
        codec: Encodes the events.
        ids: Their ids.
        request_key: Key of the digests by which a retry is told from another request.
    """

    def __init__(self, store: EventStore, codec: Codec, ids: IdSource, request_key: bytes) -> None:
        self._store = store
        self._codec = codec
        self._ids = ids
        self._request_key = request_key

    async def begin(
        self, by: Submitter, id: str, payload: ImageProgress, inputs: msgspec.Struct, fresh: bool
    ) -> Appended:
        """Append the first event of a job under the job's own id; durable on return.

        Args:
            by: Who asks.
            id: Id of job and event.
            payload: What the job is.
            inputs: Everything that makes it this job: by that a retry is known.
            fresh: The id was never used before.

        Raises:
            IdReused: the id belongs to another request.
            StorageFull, Overloaded: it could not be appended.
        """
        digest = canonical_request(self._request_key, IMAGES_SESSION, KIND, 1, inputs, "main", None)
        draft = self._codec.draft(
            LIFECYCLE,
            KIND,
            payload,
            tenant=by.tenant,
            session=IMAGES_SESSION,
            id=id,
            source="client",
            actor=by.actor,
            fresh=fresh,
            request=digest,
            traceparent=by.traceparent,
        )
        if await self._store.last(by.tenant, IMAGES_SESSION) is None:
            try:
                return await self._store.append(Append((draft,), create=True))
            except SessionExists:
                # Another job was first.
                pass
        return await self._store.append(Append((draft,)))

    async def tell(self, tenant: str, payload: ImageProgress) -> None:
        """Append a report of a job; one on the way that finds no room is dropped, the last one waits for it."""
        wait = RETRY_SECONDS_MIN
        while True:
            draft = self._codec.draft(
                LIFECYCLE, KIND, payload, tenant=tenant, session=IMAGES_SESSION, id=self._ids.new()
            )
            try:
                await self._store.append(Append((draft,)))
                return
            except (StorageFull, Overloaded) as error:
                if payload.status not in _OVER:
                    return
                _log.warning("image_end_waits", image=payload.image, code=error.code, seconds=wait)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    async def end_interrupted(self, tenant: str, up_to: int) -> None:
        """Append the end of each job that the daemon's own end has cut short.

        Args:
            tenant: Whose.
            up_to: Position of the last event of the earlier daemon.
        """
        for job, report in (await self._unfinished(tenant, up_to)).items():
            ended = msgspec.structs.replace(
                report, status="failed", step="", job=job, error="The daemon ended before it was done: ask again."
            )
            await self.tell(tenant, ended)

    async def _unfinished(self, tenant: str, up_to: int) -> Mapping[str, ImageProgress]:
        if await self._store.last(tenant, IMAGES_SESSION) is None:
            return {}
        found: dict[str, ImageProgress] = {}
        where, after = Filter(tenant=tenant, session=IMAGES_SESSION), 0
        while after < up_to:
            page = await self._store.read(after, PAGE_EVENTS_MAX, where)
            for event in page.events:
                self._fold(event, found)
            after = page.next
            if page.at_end:
                break
        return found

    def _fold(self, event: Event, found: dict[str, ImageProgress]) -> None:
        payload = self._codec.decode(event)
        if not isinstance(payload, ImageProgress) or payload.job is None:
            return
        if payload.status in _OVER:
            found.pop(payload.job, None)
        else:
            found[payload.job] = payload
