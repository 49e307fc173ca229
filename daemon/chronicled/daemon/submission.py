"""Submission: from what a client wants done to drafts in the log, idempotent under its ids and keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
from anyio import to_thread

from chronicled.daemon.action_request import ActionRequest
from chronicled.daemon.former_requests import FormerRequests
from chronicled.daemon.secret_changes import Secret, with_secrets
from chronicled.daemon.units.gate import AskedAction, PolicyGate
from chronicled.daemon.vault import Vault
from chronicled.events.blobs import BlobStore
from chronicled.events.codec import Codec, attachment_of, canonical_request, encode_json
from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Draft, Event
from chronicled.events.errors import (
    ActionEnded,
    ActionNotFound,
    BlobNotFound,
    ChronicledError,
    IdReused,
    InvalidName,
    InvalidPayload,
    InvalidRequest,
    SessionNotFound,
    UnknownKind,
)
from chronicled.events.ids import IdSource, check_name, id_of_key, normal_id
from chronicled.events.kind import KindSpec
from chronicled.events.kinds.lifecycle import CancelRequested, SecretRegistered, SessionCreated
from chronicled.events.kinds.lifecycle import SessionClosed as SessionClosedPayload
from chronicled.events.limits import PART_BYTES_MAX
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.secret_matcher import Matcher
from chronicled.events.store import Append, Appended, EventStore
from chronicled.events.worker_log import SessionKey
from chronicled.storage.secrets import SecretRecord

__all__ = ["ActionRequest", "Submission", "Submitter"]


REDACTED_AT_ONCE_BYTES_MAX: Final = 4 << 10
"""Payloads up to this size are redacted on the event loop: a thread costs more."""


class Submitter(msgspec.Struct, frozen=True):
    """On whose behalf events are appended."""

    tenant: str
    actor: str
    traceparent: str | None = None


class _Creation(msgspec.Struct, frozen=True, kw_only=True):
    """All that tells one creation from another."""

    payload: msgspec.Struct
    secrets: Sequence[Secret]


class Submission:
    """Appends what clients ask for.

    Args:
        store: The log.
        codec: Validates and encodes payloads.
        blobs: Where the large parts of payloads go.
        ids: Where ids come from that no client gave.
        request_key: Key of the digests by which a retry is told from another request.
        vault: Keeps secrets, and what was redacted until it has run.
        gate: Has policies judge what is asked for; None lets everything through.
    """

    def __init__(
        self,
        store: EventStore,
        codec: Codec,
        blobs: BlobStore,
        ids: IdSource,
        request_key: bytes,
        vault: Vault,
        gate: PolicyGate | None = None,
    ) -> None:
        self._gate = gate
        self._store = store
        self._codec = codec
        self._blobs = blobs
        self._ids = ids
        self._request_key = request_key
        self._vault = vault
        self._former = FormerRequests(store, codec, request_key)

    async def prepare(
        self,
        by: Submitter,
        session: str,
        requests: Sequence[ActionRequest],
        key: str | None = None,
        received: Collection[str] = (),
    ) -> Append:
        """Return the append of the actions, side by side, ids given: so that a wait can begin before it is made.

        The blobs that it names are on the medium by then; if the append is refused, they stay behind unreferenced.

        Args:
            by: Who submits.
            session: Where.
            requests: What.
            key: The request's idempotency key.
            received: Digests of blobs whose bytes came from the caller just now; any other attachment must be a blob
                that the session's events name already, for who may name a blob may read it.

        Raises:
            BlobNotFound: an attachment is no blob of the session.
            InvalidRequest, InvalidName, InvalidPayload, PayloadTooLarge, UnknownKind: the request itself is wrong.
            SessionNotFound: parts of it are large, and there is no session that could ever name them.
            StorageFull, StoreFailed: a blob could not be stored.
        """
        check_name(session, "session name")
        if not requests:
            raise InvalidRequest("A list of actions needs at least one.")
        parts: dict[str, bytes] = {}
        drafts: list[Draft] = []
        asked: list[AskedAction] = []
        attachments: set[str] = set()
        for index, request in enumerate(requests):
            try:
                drafts.append(await self._draft(by, session, request, key, index, parts, attachments, asked))
            except (InvalidPayload, UnknownKind):
                # It may be the retry of what an older version took, and was taken by it.
                id = _id_of(by, session, request, key, index)
                known = id and await self._former.repeat(by.tenant, session, id, request.lane, request)
                if not known:
                    raise
                drafts.append(known)
        if len({draft.id for draft in drafts}) != len(drafts):
            raise InvalidRequest("Two actions of one request have the same id.")
        foreign = attachments.difference(received)
        if (parts or foreign) and await self._store.last(by.tenant, session) is None:
            raise SessionNotFound(f"There is no session {session!r}.")
        for digest in foreign:
            if not await self._store.names_blob(by.tenant, session, digest):
                raise BlobNotFound(f"No event of session {session!r} names the blob {digest}.")
        if parts and not self._vault.over(SessionKey(by.tenant, session)):
            # Of a session that is over the append is refused, or a repeat: then they are there already.
            for data in parts.values():
                await self._blobs.put(data)
        append = Append(tuple(drafts), expected_sequence=requests[0].expected_sequence)
        return append if self._gate is None else await self._gate.judged(append, asked)

    async def _draft(
        self,
        by: Submitter,
        session: str,
        request: ActionRequest,
        key: str | None,
        index: int,
        parts: dict[str, bytes],
        attachments: set[str],
        asked: list[AskedAction],
    ) -> Draft:
        spec = self._codec.registry.current(ACTION, request.kind)
        if index and request.expected_sequence is not None:
            raise InvalidRequest("Only the first action of a request may carry expected_sequence.")
        known = _id_of(by, session, request, key, index)
        id = known or self._ids.new()
        lane = self._check_lane(by, session, request.lane)
        payload = whole = self._codec.validate(spec, request.payload)
        digest = canonical_request(
            self._request_key, session, spec.kind, spec.version, payload, lane, request.expected_sequence
        )
        attachments.update(attachment_of(spec, payload))
        payload = await self._redacted(by.tenant, session, spec, payload, len(request.payload))
        clean = payload
        if len(request.payload) > PART_BYTES_MAX:
            payload, taken = await to_thread.run_sync(self._codec.split, by.tenant, session, spec, payload)
            parts |= taken
        draft = self._codec.draft(
            ACTION,
            spec.kind,
            payload,
            tenant=by.tenant,
            session=session,
            id=id,
            lane=lane,
            source="client",
            actor=by.actor,
            fresh=known is None,
            request=digest,
            traceparent=by.traceparent,
        )
        # The second look is for a secret that was registered in between.
        if spec.runnable and (clean is not whole or self._is_redacted(draft, payload)):
            await self._keep_original(draft, id, whole)
        asked.append(AskedAction(draft, clean))
        return draft

    def _check_lane(self, by: Submitter, session: str, lane: str) -> str:
        check_name(lane, "lane")
        if self._codec.redaction.text(by.tenant, session, lane) != lane:
            raise InvalidName("A lane cannot be named after a secret of the session.")
        return lane

    async def _redacted(
        self, tenant: str, session: str, spec: KindSpec, payload: msgspec.Struct, size: int
    ) -> msgspec.Struct:
        """Return the payload as it may be published, the very same if nothing of it is secret."""
        if size <= REDACTED_AT_ONCE_BYTES_MAX or not self._codec.redacts(tenant, session, spec.kind):
            return self._codec.redacted(tenant, session, spec, payload)
        return await to_thread.run_sync(self._codec.redacted, tenant, session, spec, payload)

    def _is_redacted(self, draft: Draft, payload: msgspec.Struct) -> bool:
        return self._codec.redacts(draft.tenant, draft.session, draft.kind) and draft.payload != encode_json(payload)

    async def _keep_original(self, draft: Draft, action: str, payload: msgspec.Struct) -> None:
        """Keep what is to be executed until it has been: the log has only a redacted form of it."""
        key = SessionKey(draft.tenant, draft.session)
        await self._vault.keep_original(key, action, draft.id, draft.payload, encode_json(payload))

    async def append(self, append: Append, requests: Sequence[ActionRequest] = ()) -> Appended:
        """Append what `prepare` has made of the requests. Raises as `EventStore.append`; then nothing is kept of it.

        A retry of what was accepted under an older version of its kind gets the earlier answer.
        """
        try:
            return await self._append(append, requests)
        except ChronicledError:
            first = append.drafts[0]
            # Under an id that the log knows stands another request: what is kept is that one's.
            refused = [draft.id for draft in append.drafts if await self._store.find(draft.tenant, draft.id) is None]
            await self._vault.drop_originals(SessionKey(first.tenant, first.session), refused)
            raise

    async def _append(self, append: Append, requests: Sequence[ActionRequest]) -> Appended:
        try:
            return await self._store.append(append)
        except IdReused:
            former = await self._former.repeated(append, requests)
            if former is None:
                raise
            return await self._store.append(former)

    async def create_session(
        self,
        by: Submitter,
        name: str | None,
        payload: SessionCreated,
        key: str | None = None,
        secrets: Sequence[Secret] = (),
    ) -> Appended:
        """Append `session_created`; a retry under the same key gives the same session, its name too.

        The secrets are sealed, and replaced in whatever is published, before the session is in the log.

        Raises:
            SecretRefused: one of the secrets cannot be told from other text; there is no session then.
            InvalidName: the name does not match, or begins with `_`, which is reserved, or holds a secret.
            SessionExists: another request created a session of that name.
            IdReused: the key was used for another request.
        """
        if name is not None:
            check_name(name, "session name")
            if name.startswith("_"):
                raise InvalidName("Session names that begin with '_' are reserved.")
        id = self._ids.new() if key is None else id_of_key(by.tenant, name or "", key, 0)
        # The tail of a UUIDv7 is its random part, that of a UUIDv5 is hash.
        session = name or f"s-{id.replace('-', '')[-16:]}"
        spec = self._codec.registry.current(LIFECYCLE, "session_created")

        def asked(payload: msgspec.Struct) -> msgspec.Struct:
            return _Creation(payload=payload, secrets=secrets) if secrets else payload

        digest = canonical_request(self._request_key, session, spec.kind, spec.version, asked(payload), "main", None)

        def request() -> Append:
            draft = self._lifecycle(by, session, spec.kind, payload, id=id, fresh=key is None, request=digest)
            drafts = [draft]
            for index, secret in enumerate(secrets, 1):
                registered = SecretRegistered(name=secret.name, variable=secret.variable)
                other = self._ids.new() if key is None else id_of_key(by.tenant, name or "", key, index)
                drafts.append(
                    self._lifecycle(
                        by, session, "secret_registered", registered, id=other, fresh=key is None, request=digest
                    )
                )
            return Append(tuple(drafts), create=True)

        try:
            return await self._create_session(by, session, payload, secrets, request)
        except IdReused:
            former = await self._former.recreated(request(), payload, asked)
            if former is None:
                raise
            return await self._store.append(former)

    async def _create_session(
        self,
        by: Submitter,
        session: str,
        payload: SessionCreated,
        secrets: Sequence[Secret],
        request: Callable[[], Append],
    ) -> Appended:
        if not secrets:
            return await self._store.append(request())
        record = with_secrets(SecretRecord(variables=dict(payload.environment)), secrets)
        if Matcher(record.values).finds(session.encode()):
            raise InvalidName("A session cannot be named after one of its secrets.")
        session_key = SessionKey(by.tenant, session)
        return await self._vault.apart(lambda: self._create(session_key, record, request))

    async def _create(self, key: SessionKey, record: SecretRecord, request: Callable[[], Append]) -> Appended:
        async with self._vault.hold(key):
            if await self._store.last(key.tenant, key.session) is not None:
                return await self._store.append(request())  # a repeat, or refused: what is registered stays
            return await self._vault.append(key, record, request)

    async def close_session(self, by: Submitter, session: str) -> None:
        """Append `session_closed`, once.

        Raises:
            SessionNotFound: there is no such session.
        """
        check_name(session, "session name")
        # Under one id for all who close it, so that the log holds one end however many ask for it at one time. Keys of
        # clients are never empty, so none of them maps to that id.
        payload = SessionClosedPayload()
        id = id_of_key(by.tenant, session, "", 0)
        digest = canonical_request(self._request_key, session, "session_closed", 1, payload, "main", None)
        draft = self._lifecycle(by, session, "session_closed", payload, id=id, fresh=False, request=digest)
        await self._store.append(Append((draft,)))

    async def ask_session(self, by: Submitter, session: str, kind: str, payload: msgspec.Struct) -> Appended:
        """Append something asked about a session or its sandbox: a pause, a restart, a sign of life.

        Raises:
            SessionNotFound: there is no such session.
        """
        return await self._store.append(Append((self._lifecycle(by, session, kind, payload),)))

    async def cancel(self, by: Submitter, action: Event, payload: CancelRequested, head: Event | None) -> Appended:
        """Append `cancel_requested`; an action that waits behind `head` in its lane ends in the same commit.

        Args:
            by: Who cancels.
            action: The runnable action.
            payload: Why.
            head: The open action at the head of its lane, when that is another one: then it cannot have run.

        Raises:
            ActionEnded: it has its terminal observation already.
        """
        request = self._lifecycle(by, action.session, "cancel_requested", payload, cause=action.id, lane=action.lane)
        if head is not None and head.id != action.id:
            spec = self._codec.registry.terminal_of(action.kind, action.version)
            end = self._codec.draft(
                OBSERVATION,
                spec.kind,
                spec.payload(outcome=Outcome.CANCELLED, effects=Effects.NONE, message="Cancelled before it ran."),
                tenant=by.tenant,
                session=action.session,
                id=self._ids.new(),
                lane=action.lane,
                cause=action.id,
            )
            try:
                return await self._store.append(Append((request, end), open_actions=(head.id, action.id)))
            except ActionEnded:
                # The head ended meanwhile, so this one may be running: its worker ends it. Or it has ended itself.
                pass
        return await self._store.append(Append((request,), open_actions=(action.id,)))

    async def ask(self, by: Submitter, action: Event, kind: str, payload: msgspec.Struct) -> Appended:
        """Append something asked about an open action: input, an interrupt.

        Raises:
            ActionEnded: it has its terminal observation already.
        """
        spec = self._codec.registry.current(LIFECYCLE, kind)
        clean = await self._redacted(by.tenant, action.session, spec, payload, REDACTED_AT_ONCE_BYTES_MAX + 1)
        draft = self._lifecycle(by, action.session, kind, clean, cause=action.id, lane=action.lane)
        if clean is not payload or self._is_redacted(draft, clean):
            await self._keep_original(draft, action.id, payload)
        return await self.append(Append((draft,), open_actions=(action.id,)))

    async def action(self, tenant: str, session: str, id: str) -> Event:
        """Return the action of that id in that session.

        Raises:
            InvalidRequest: the id is no UUID.
            SessionNotFound: there is no such session.
            ActionNotFound: it has no such action.
        """
        check_name(session, "session name")
        event = await self._store.find(tenant, normal_id(id))
        if event is None or event.session != session or event.category != ACTION:
            if await self._store.last(tenant, session) is None:
                raise SessionNotFound(f"There is no session {session!r}.")
            raise ActionNotFound(f"Session {session!r} has no action {id[:64]!r}.")
        return event

    def runnable(self, action: Event) -> bool:
        """Tell whether the action goes to a sandbox."""
        spec = self._codec.registry.find_current(ACTION, action.kind, action.version)
        return spec is not None and spec.runnable

    def _lifecycle(
        self,
        by: Submitter,
        session: str,
        kind: str,
        payload: msgspec.Struct,
        *,
        id: str | None = None,
        fresh: bool = True,
        request: bytes | None = None,
        cause: str | None = None,
        lane: str = "main",
    ) -> Draft:
        return self._codec.draft(
            LIFECYCLE,
            kind,
            payload,
            tenant=by.tenant,
            session=session,
            id=id or self._ids.new(),
            lane=lane,
            source="client",
            actor=by.actor,
            cause=cause,
            fresh=fresh,
            request=request,
            traceparent=by.traceparent,
        )


def _id_of(by: Submitter, session: str, request: ActionRequest, key: str | None, index: int) -> str | None:
    """Return the id that the client gave, itself or by its key; None: a new one is to be made."""
    if key is not None and request.id is not None:
        raise InvalidRequest("Give either Idempotency-Key or the action's own id, not both.")
    if key is not None:
        return id_of_key(by.tenant, session, key, index)
    return None if request.id is None else normal_id(request.id)
