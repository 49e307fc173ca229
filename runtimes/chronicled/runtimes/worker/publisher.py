"""Publishing under one session's fence: drafts are made here, and retried while there is no room."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import anyio
import msgspec
import structlog
from anyio import to_thread

from chronicled.events.blobs import BlobRef
from chronicled.events.codec import encode_json
from chronicled.events.envelope import LIFECYCLE, OBSERVATION, Draft, Event
from chronicled.events.errors import (
    ActionEnded,
    InvalidPayload,
    Overloaded,
    PayloadTooLarge,
    StorageFull,
)
from chronicled.events.kind import KindSpec
from chronicled.events.kinds.lifecycle import LateResult
from chronicled.events.kinds.observations import Progress
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.action_server.frames import Result
from chronicled.runtimes.output.summary import OutputSummary
from chronicled.runtimes.worker.context import Context
from chronicled.runtimes.worker.observation import EVENT_BYTES_MAX, Ending, bounded, terminal

__all__ = ["Publisher"]

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 2.0
REDACTED_AT_ONCE_BYTES_MAX: Final = 4 << 10
"""Payloads up to this size are redacted on the event loop: a thread costs more."""

T = TypeVar("T")

_log = structlog.get_logger("chronicled.worker")


class Publisher:
    """Appends what the worker of one session has to say.

    Every method may raise `StaleFence` (another worker holds the session: stop touching it), `StoreFailed` and
    `StoreClosed` (stop the process). A full disk is waited for.
    """

    def __init__(self, context: Context, key: SessionKey, fence: int) -> None:
        self.fence = fence
        self._context = context
        self._key = key
        self._actor = f"worker:{context.settings.name}"

    def lifecycle(self, kind: str, payload: msgspec.Struct, *, lane: str = "main", cause: str | None = None) -> Draft:
        """Return the draft of a lifecycle event of the session."""
        return self._context.codec.draft(
            LIFECYCLE,
            kind,
            payload,
            tenant=self._key.tenant,
            session=self._key.session,
            id=self._context.ids.new(),
            lane=lane,
            source="worker",
            actor=self._actor,
            cause=cause,
        )

    def observation(self, kind: str, payload: msgspec.Struct, action: Event, blobs: tuple[str, ...] = ()) -> Draft:
        """Return the draft of an observation of the action, which names the blobs."""
        return self._context.codec.draft(
            OBSERVATION,
            kind,
            payload,
            tenant=self._key.tenant,
            session=self._key.session,
            id=self._context.ids.new(),
            lane=action.lane,
            source="worker",
            actor=self._actor,
            cause=action.id,
            traceparent=action.traceparent,
            blobs=blobs,
        )

    async def terminal(self, action: Event, ending: Ending, output: OutputSummary | None = None) -> Draft:
        """Return the draft of the action's terminal observation; the outcome stands whatever else does not fit.

        Parts that are too large for an event are blobs by then, on the medium. Waits while there is no room for them.
        """
        registry = self._context.codec.registry
        spec, payload = terminal(registry, action, ending, output)
        named = (output.output_digest,) if output is not None and output.output_blob and output.output_digest else ()
        try:
            # Before anything is cut: half a secret would not be found.
            payload = bounded(await self._split(spec, await self._redacted(spec, payload)))
            return self.observation(spec.kind, payload, action, named)
        except (InvalidPayload, PayloadTooLarge) as error:
            bare = msgspec.structs.replace(ending, fields={}, message=f"The observation was refused: {error.detail}")
            spec, payload = terminal(registry, action, bare)
            return self.observation(spec.kind, bounded(payload), action)

    def clean(self, result: Result) -> Result:
        """Return the result with the session's secrets taken out of its texts, which are cut later."""
        redaction, tenant, session = self._context.redaction, self._key.tenant, self._key.session
        if not redaction.active(tenant, session):
            return result
        texts = {"reason": result.reason, "message": result.message, "deadline": result.deadline}
        changed = {name: redaction.text(tenant, session, text) for name, text in texts.items() if text is not None}
        return msgspec.structs.replace(result, **changed)

    async def _redacted(self, spec: KindSpec, payload: msgspec.Struct) -> msgspec.Struct:
        tenant, session = self._key.tenant, self._key.session
        if not self._context.redaction.active(tenant, session):
            return payload
        if len(encode_json(payload)) <= REDACTED_AT_ONCE_BYTES_MAX:
            return self._context.codec.redacted(tenant, session, spec, payload)
        return await to_thread.run_sync(
            self._context.codec.redacted, tenant, session, spec, payload, limiter=self._context.threads
        )

    async def _split(self, spec: KindSpec, payload: msgspec.Struct) -> msgspec.Struct:
        if not spec.parts or len(encode_json(payload)) <= EVENT_BYTES_MAX:
            return payload
        tenant, session = self._key.tenant, self._key.session
        split = self._context.codec.split
        payload, parts = await to_thread.run_sync(
            split, tenant, session, spec, payload, EVENT_BYTES_MAX, limiter=self._context.threads
        )
        for data in parts.values():
            await self.put_blob(data)
        return payload

    async def put_blob(self, data: bytes) -> BlobRef:
        """Store bytes that an observation is about to name; waits while the disk is full."""
        return await self._with_room(lambda: self._context.log.put_blob(data))

    async def adopt_blob(self, path: str, digest: str, size: int) -> BlobRef:
        """Make a finished file the blob of that digest; waits while the disk is full."""
        return await self._with_room(lambda: self._context.log.adopt_blob(path, digest, size))

    async def publish(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Append the drafts, all or nothing; waits while the disk is full or the log overloaded.

        Raises:
            ActionEnded: one of them ends an action that has ended.
        """
        return await self._with_room(lambda: self._context.log.publish(self._key, self.fence, drafts))

    async def _with_room(self, act: Callable[[], Awaitable[T]]) -> T:
        wait = RETRY_SECONDS_MIN
        while True:
            try:
                return await act()
            except (StorageFull, Overloaded) as error:
                _log.warning("publish_waits", session=self._key.session, code=error.code, seconds=wait)
            await anyio.sleep(wait)
            wait = min(2 * wait, RETRY_SECONDS_MAX)

    async def progress(self, action: Event, payload: Progress) -> None:
        """Publish a glimpse of a running action; one that finds no room is dropped."""
        try:
            await self._context.log.publish(self._key, self.fence, [self.observation("progress", payload, action)])
        except (StorageFull, Overloaded, ActionEnded):
            return

    async def late_result(self, action: str, lane: str, outcome: str, detail: str) -> None:
        """Keep a result that came after its action had ended."""
        text = self._context.redaction.text(self._key.tenant, self._key.session, detail)
        draft = self.lifecycle("late_result", LateResult(outcome=outcome, detail=text[:2048]), lane=lane, cause=action)
        try:
            await self.publish([draft])
        except ActionEnded as error:  # not a terminal draft: only a log that judges otherwise says so
            _log.warning("late_result_refused", action=action, detail=error.detail)

    async def end_each(self, endings: Sequence[tuple[Event, Ending]]) -> None:
        """End actions that never ran; those that somebody else has ended meanwhile stay as they are."""
        drafts = [await self.terminal(action, ending) for action, ending in endings]
        try:
            await self.publish(drafts)
        except ActionEnded:
            for draft in drafts:
                try:
                    await self.publish([draft])
                except ActionEnded:
                    continue
