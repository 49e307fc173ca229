"""Requests that were accepted under an older version of their kind: a retry of one still finds its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from chronicled.daemon.action_request import ActionRequest
from chronicled.events.codec import Codec, canonical_request
from chronicled.events.envelope import Draft, Event
from chronicled.events.errors import InvalidPayload, PayloadTooLarge
from chronicled.events.kind import KindSpec
from chronicled.events.store import Append, EventStore

__all__ = ["FormerRequests"]


class FormerRequests:
    """Tells what a request was when its id came into the log.

    A retry is told from another request by a digest over the validated payload, so one that was validated by an older
    version of its kind has another digest today. Here it is validated by that version again.

    Args:
        store: The log.
        codec: Has the former versions.
        request_key: Key of the digests.
    """

    def __init__(self, store: EventStore, codec: Codec, request_key: bytes) -> None:
        self._store = store
        self._codec = codec
        self._request_key = request_key

    async def repeat(self, tenant: str, session: str, id: str, lane: str, request: ActionRequest) -> Draft | None:
        """Return the draft that the log takes for a repeat, if it has the action of that id from a former version.

        None: it does not, or that version would not have taken this payload.
        """
        event = await self._store.find(tenant, id)
        if event is None or event.session != session:
            return None
        stored, draft = await self._store.request(tenant, id), None
        for spec in self._formers(event, request.kind):
            try:
                payload = self._codec.validate(spec, request.payload)
            except (InvalidPayload, PayloadTooLarge):
                continue
            digest = canonical_request(
                self._request_key, session, spec.kind, spec.version, payload, lane, request.expected_sequence
            )
            if digest == stored:
                return self._as_stored(event, lane, digest)
            if (spec.kind, spec.version) == (event.kind, event.version):
                draft = self._as_stored(event, lane, digest)
        # Another request under the id of one of a former version: the log refuses it as such.
        return draft

    async def repeated(self, append: Append, requests: Sequence[ActionRequest]) -> Append | None:
        """Return the append with what the log has in former versions as it was asked for then; None: it has nothing."""
        drafts = list(append.drafts)
        for index, (draft, request) in enumerate(zip(append.drafts, requests, strict=False)):
            known = await self.repeat(draft.tenant, draft.session, draft.id, draft.lane, request)
            drafts[index] = known or draft
        if drafts == list(append.drafts):
            return None
        return msgspec.structs.replace(append, drafts=tuple(drafts))

    async def recreated(
        self, append: Append, payload: msgspec.Struct, asked: Callable[[msgspec.Struct], msgspec.Struct]
    ) -> Append | None:
        """Return the append that creates a session as an older version would have, if that is how the log has it.

        Args:
            append: Begins with `session_created`; all of its drafts have one digest.
            payload: What the session is to be, in the current version.
            asked: Makes of such a payload what the digest is over.
        """
        first = append.drafts[0]
        event = await self._store.find(first.tenant, first.id)
        if event is None or event.kind != first.kind:
            return None
        stored = await self._store.request(first.tenant, first.id)
        for spec in self._formers(event, first.kind):
            former = self._brought_back(first, payload, spec)
            if former is None:
                continue
            digest = canonical_request(
                self._request_key, first.session, spec.kind, spec.version, asked(former), first.lane, None
            )
            if digest == stored:
                break
        else:
            return None
        others = [msgspec.structs.replace(draft, request=digest) for draft in append.drafts[1:]]
        return msgspec.structs.replace(append, drafts=(self._as_stored(event, first.lane, digest), *others))

    def _formers(self, event: Event, kind: str) -> list[KindSpec]:
        """Return the former versions of the kind that the event may have been accepted in, the newest first.

        Mostly that is the one that it is of. In a log that was written anew it is current, and its request is not.
        """
        registry, category = self._codec.registry, event.category
        today = registry.find_current(category, event.kind, event.version)
        found = [spec for spec in registry if (spec.category, spec.kind) == (category, kind) and spec is not today]
        former = [spec for spec in found if registry.find_current(category, spec.kind, spec.version) is today]
        return sorted(former, key=lambda spec: -spec.version)

    def _brought_back(self, draft: Draft, payload: msgspec.Struct, spec: KindSpec) -> msgspec.Struct | None:
        """Return the payload as that version has it; None where that would not be the same."""
        chain = self._codec.upcasters
        if chain is None:
            return None
        value: Any = msgspec.to_builtins(payload, str_keys=True)
        kind, version = draft.kind, draft.version
        try:
            while (kind, version) != (spec.kind, spec.version):
                kind, version, value = chain.downcast(draft.category, kind, version, value)
            former: msgspec.Struct = msgspec.convert(value, spec.payload, str_keys=True)
            _, _, again = chain.upcast(draft.category, kind, version, msgspec.to_builtins(former, str_keys=True))
            return former if msgspec.convert(again, type(payload), str_keys=True) == payload else None
        except (Exception, SystemExit):  # a step of anybody's may raise anything: then it is another request
            return None

    @staticmethod
    def _as_stored(event: Event, lane: str, digest: bytes) -> Draft:
        return Draft(
            event.tenant,
            event.session,
            event.id,
            event.kind,
            event.version,
            event.category,
            bytes(event.payload),
            lane,
            event.source,
            event.actor,
            request=digest,
        )
