"""The gate between what was asked and the log: an action that a policy rejects is recorded together with its end."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from chronicled.daemon.units.policy import Policies, PolicyRefusal
from chronicled.events.codec import Codec
from chronicled.events.envelope import ACTION, OBSERVATION, Draft
from chronicled.events.errors import Unavailable
from chronicled.events.kind import KindSpec
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.policy import PolicyRequest
from chronicled.events.store import Append, EventStore
from chronicled.storage.projections import Projections, SessionSummary

__all__ = ["AskedAction", "PolicyGate"]

REASON: Final = "policy"
# Fixed for ever: a retry of a rejected action finds its rejection by this.
REJECTIONS: Final = uuid.UUID("a3c2f0d4-6a54-5b1e-8a6e-0d0f5c2f3b77")


class AskedAction(NamedTuple):
    """An action that is about to be appended."""

    draft: Draft
    payload: msgspec.Struct
    """All of it, redacted: the draft may have only the heads of large parts."""


class PolicyGate:
    """Has every runnable action judged once, when it is first asked for.

    Args:
        policies: Who judges.
        codec: Makes the observations.
        store: Tells what was asked for before.
        projections: Tell of the session.
    """

    def __init__(self, policies: Policies, codec: Codec, store: EventStore, projections: Projections) -> None:
        self._policies = policies
        self._codec = codec
        self._store = store
        self._projections = projections

    async def judged(self, append: Append, asked: Sequence[AskedAction]) -> Append:
        """Return the append with a terminal observation behind the actions for each that is rejected.

        A retry is not judged again: it gets the answer that there was.

        Raises:
            Unavailable: there is a session, and nothing can be told of it.
        """
        first = append.drafts[0]
        if not self._policies:
            return append
        summary = await self._projections.session(first.tenant, first.session)
        if summary is None:
            if await self._store.last(first.tenant, first.session) is not None:
                # Never past the policies, whatever is the matter.
                raise Unavailable(f"What is known of session {first.session!r} cannot be read at the moment.")
            return append
        ends: list[Draft] = []
        for action in asked:
            spec = self._codec.registry.find_current(ACTION, action.draft.kind)
            if spec is not None and spec.runnable:
                end = await self._end(action, spec, summary)
                ends += [] if end is None else [end]
        return msgspec.structs.replace(append, drafts=(*append.drafts, *ends)) if ends else append

    async def _end(self, action: AskedAction, spec: KindSpec, session: SessionSummary) -> Draft | None:
        draft = action.draft
        id = str(uuid.uuid5(REJECTIONS, f"{draft.tenant}\n{draft.id}"))
        if not draft.fresh and await self._store.find(draft.tenant, draft.id) is not None:
            if await self._store.find(draft.tenant, id) is None:
                return None
            # The log takes it for the repeat of what it has, whatever it says.
            return self._rejection(draft, id, PolicyRefusal("", ""))
        refusal = await self._policies.judge(
            PolicyRequest(
                tenant=draft.tenant,
                session=draft.session,
                lane=draft.lane,
                actor=draft.actor,
                kind=draft.kind,
                version=spec.version,
                payload=action.payload,
                runtime=session.runtime,
                image=session.image,
                labels=dict(session.labels),
            )
        )
        return None if refusal is None else self._rejection(draft, id, refusal)

    def _rejection(self, draft: Draft, id: str, refusal: PolicyRefusal) -> Draft:
        payload = self._codec.registry.current(OBSERVATION, draft.kind).payload(
            outcome=Outcome.REJECTED,
            effects=Effects.NONE,
            reason=REASON,
            message=f"{refusal.message} ({refusal.rule})",
        )
        return self._codec.draft(
            OBSERVATION,
            draft.kind,
            payload,
            tenant=draft.tenant,
            session=draft.session,
            id=id,
            lane=draft.lane,
            cause=draft.id,
            fresh=False,
        )
