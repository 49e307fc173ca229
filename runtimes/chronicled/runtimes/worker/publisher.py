"""Publishing under one session's fence: drafts are made here, and retried while there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio
import msgspec
import structlog

from chronicled.events.envelope import LIFECYCLE, OBSERVATION, Draft, Event
from chronicled.events.errors import (
    ActionEnded,
    InvalidPayload,
    Overloaded,
    PayloadTooLarge,
    StorageFull,
)
from chronicled.events.kinds.lifecycle import LateResult
from chronicled.events.kinds.observations import Progress
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.output.summary import OutputSummary
from chronicled.runtimes.worker.context import Context
from chronicled.runtimes.worker.observation import Ending, terminal

__all__ = ["Publisher"]

RETRY_SECONDS_MIN: Final = 0.05
RETRY_SECONDS_MAX: Final = 2.0

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

    def terminal(self, action: Event, ending: Ending, output: OutputSummary | None = None) -> Draft:
        """Return the draft of the action's terminal observation; the outcome stands whatever else does not fit."""
        registry = self._context.codec.registry
        spec, payload = terminal(registry, action, ending, output)
        named = (output.output_digest,) if output is not None and output.output_blob and output.output_digest else ()
        try:
            return self.observation(spec.kind, payload, action, named)
        except (InvalidPayload, PayloadTooLarge) as error:
            bare = msgspec.structs.replace(ending, fields={}, message=f"The observation was refused: {error.detail}")
            spec, payload = terminal(registry, action, bare)
            return self.observation(spec.kind, payload, action)

    async def publish(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Append the drafts, all or nothing; waits while the disk is full or the log overloaded.

        Raises:
            ActionEnded: one of them ends an action that has ended.
        """
        wait = RETRY_SECONDS_MIN
        while True:
            try:
                return await self._context.log.publish(self._key, self.fence, drafts)
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
        draft = self.lifecycle(
            "late_result", LateResult(outcome=outcome, detail=detail[:2048]), lane=lane, cause=action
        )
        try:
            await self.publish([draft])
        except ActionEnded as error:  # not a terminal draft: only a log that judges otherwise says so
            _log.warning("late_result_refused", action=action, detail=error.detail)

    async def end_each(self, endings: Sequence[tuple[Event, Ending]]) -> None:
        """End actions that never ran; those that somebody else has ended meanwhile stay as they are."""
        drafts = [self.terminal(action, ending) for action, ending in endings]
        try:
            await self.publish(drafts)
        except ActionEnded:
            for draft in drafts:
                try:
                    await self.publish([draft])
                except ActionEnded:
                    continue
