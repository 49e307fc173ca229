"""The vault: what the daemon does with secrets, from their registration to the last publication of their session."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import anyio
import msgspec
import structlog
from anyio import CancelScope, CapacityLimiter, to_thread
from anyio.abc import TaskGroup

from chronicled.daemon.apart import apart
from chronicled.daemon.core_dumps import forbid_core_dumps
from chronicled.events import faultpoint
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE, OBSERVATION, Draft, Event
from chronicled.events.errors import ChronicledError, SessionClosed, StoreFailed
from chronicled.events.ids import IdSource
from chronicled.events.kinds.lifecycle import SecretsDestroyed
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.session_secrets import SessionSecrets
from chronicled.events.store import Append, Appended, EventStore
from chronicled.events.worker_log import SessionKey
from chronicled.storage.secrets import SecretRecord, SecretStore

__all__ = ["Vault"]

DESTROYED_MAX: Final = 4096
"""Of so many sessions it is remembered that their secrets are gone."""
THREADS_MAX: Final = 4
RETRY_SECONDS: Final = 5.0

ENDINGS: Final = frozenset({"session_closed", "sandbox_removed", "generation_ended"})

T = TypeVar("T")

log: Any = structlog.get_logger("chronicled.secrets")


class Vault:
    """Registers secrets, and destroys them once nothing can be published of their session any more.

    A value is sealed on the medium before anybody is told that it is registered, and before the first event that it
    could show in. Everything that can be asked of a session whose secrets cannot be read raises `SecretsUnavailable`.

    Args:
        store: Where they are sealed.
        redaction: What replaces them.
        log: Where it is told that there are some.
        codec: Encodes those events.
        ids: Their ids.
        over: Tells whether a session is closed, and has neither sandbox nor open actions.
    """

    def __init__(
        self,
        store: SecretStore,
        redaction: SecretRedaction,
        log: EventStore,
        codec: Codec,
        ids: IdSource,
        over: Callable[[SessionKey], bool],
    ) -> None:
        self._store = store
        self._redaction = redaction
        self._log = log
        self._codec = codec
        self._ids = ids
        self.over = over
        self._records: dict[SessionKey, SecretRecord] = {}
        self._originals: dict[SessionKey, dict[str, set[str]]] = {}
        """Events of which originals are kept, by the action that they belong to."""
        self._locks: dict[SessionKey, tuple[anyio.Lock, int]] = {}
        self._destroyed: OrderedDict[SessionKey, None] = OrderedDict()
        self._threads = CapacityLimiter(THREADS_MAX)
        self._ended: deque[tuple[SessionKey, str | None]] = deque()
        self._noticed = anyio.Event()
        self._tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<Vault of {len(self._records)} sessions>"

    # -- start and end ---------------------------------------------------------------------------------------------

    async def open(self, expected: Iterable[SessionKey]) -> None:
        """Load what is sealed; must come before anything of any session is published.

        Args:
            expected: Sessions that are not over and have registered secrets, as the log says.

        A session whose secrets are not there, or cannot be read, is blocked; the others go on.
        """
        records, broken = await to_thread.run_sync(self._store.load)
        for key in expected:
            if key not in records and key not in broken:
                broken[key] = (
                    f"The secrets of session {key.session!r} are not there, so nothing of it is published. Restore "
                    "them with the data directory, and start again."
                )
        for key, reason in broken.items():
            log.error("secrets unavailable", tenant=key.tenant, session=key.session, detail=reason)
            self._redaction.block(key.tenant, key.session, reason)
        if records:
            forbid_core_dumps()
        for key, record in records.items():
            self._hold(key, record)
            await self._sort_originals(key)
            self._end_soon(key, None)

    async def _sort_originals(self, key: SessionKey) -> None:
        """Keep the originals of what is open; a crash left others: of what ended, or never came into the log."""
        for id in await to_thread.run_sync(self._store.originals, key):
            event = await self._log.find(key.tenant, id)
            action = None if event is None else event.cause or event.id
            if action is None or await self._log.terminal(key.tenant, action) is not None:
                await to_thread.run_sync(self._store.forget_originals, key, id)
            else:
                self._originals.setdefault(key, {}).setdefault(action, set()).add(id)

    def committed(self, events: tuple[Event, ...]) -> None:
        """Learn what was committed (a listener of the store)."""
        if not self._records:
            return
        for event in events:
            key = SessionKey(event.tenant, event.session)
            if key not in self._records:
                continue
            if event.category == OBSERVATION:
                spec = self._codec.registry.find_current(OBSERVATION, event.kind, event.version)
                if spec is not None and spec.terminal:
                    self._end_soon(key, event.cause)
            elif event.kind in ENDINGS:
                self._end_soon(key, None)

    def _end_soon(self, key: SessionKey, action: str | None) -> None:
        self._ended.append((key, action))
        self._noticed.set()

    async def run(self) -> None:
        """Remove what is not needed any more, and see changes through, for ever. Cancellation: safe, as a crash is."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            try:
                await self._tidy_for_ever()
            finally:
                self._tasks = None

    async def apart(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do a change in a task of the vault's own: it is seen through though whoever asked for it has gone away.

        Else the record could be taken back while the log, which cannot be asked to forget, says that it holds.
        """
        return await apart(self._tasks, work)

    async def _tidy_for_ever(self) -> None:
        while True:
            await self._noticed.wait()
            self._noticed = anyio.Event()
            again: list[tuple[SessionKey, str | None]] = []
            while self._ended:
                key, action = self._ended.popleft()
                try:
                    await self._tidy(key, action)
                except StoreFailed:
                    raise
                except ChronicledError as error:
                    log.warning("secrets wait to be destroyed", session=key.session, code=error.code)
                    again.append((key, None))
            if again:
                await anyio.sleep(RETRY_SECONDS)
                self._ended.extend(again)
                self._noticed.set()

    async def _tidy(self, key: SessionKey, action: str | None) -> None:
        if action is not None:
            for event in self._originals.get(key, {}).pop(action, ()):
                await to_thread.run_sync(self._store.forget_originals, key, event, limiter=self._threads)
        if key in self._records and self.over(key):
            async with self.hold(key):
                if key in self._records and self.over(key):
                    await self._destroy(key)

    async def _destroy(self, key: SessionKey) -> None:
        last = await self._log.last(key.tenant, key.session)
        # A record without a session is what a crash left of a creation that was never answered.
        if last is not None and last.kind != "secrets_destroyed":
            payload = SecretsDestroyed(names=sorted(self._records[key].values))
            await self._log.append(Append((self._draft(key, "secrets_destroyed", payload),)))
            faultpoint.reached("append_to_destroy")
        await to_thread.run_sync(self._store.destroy, key, limiter=self._threads)
        self._let_go(key)
        if last is not None:
            self._destroyed[key] = None
            if len(self._destroyed) > DESTROYED_MAX:
                self._destroyed.popitem(last=False)

    def _let_go(self, key: SessionKey) -> None:
        self._records.pop(key, None)
        self._originals.pop(key, None)
        self._redaction.forget(key.tenant, key.session)

    def _draft(self, key: SessionKey, kind: str, payload: msgspec.Struct) -> Draft:
        return self._codec.draft(LIFECYCLE, kind, payload, tenant=key.tenant, session=key.session, id=self._ids.new())

    # -- registration ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def hold(self, key: SessionKey) -> AsyncGenerator[None]:
        """Let one at a time change the session's record."""
        lock, users = self._locks.get(key, (None, 0))
        lock = lock or anyio.Lock()
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)

    def record(self, key: SessionKey) -> SecretRecord:
        """Return what the session keeps secret; an empty record where it keeps nothing. Raises as `SecretRedaction`."""
        self._redaction.active(key.tenant, key.session)
        return self._records.get(key, SecretRecord())

    async def keep(self, key: SessionKey, record: SecretRecord) -> None:
        """Seal the record and go by it. Raises as `SecretStore.save`; then nothing has changed."""
        forbid_core_dumps()
        before = self._records.get(key)
        try:
            await to_thread.run_sync(self._store.save, key, record, limiter=self._threads)
        except BaseException:
            self._restore(key, before)
            raise
        self._hold(key, record)

    async def restore(self, key: SessionKey, record: SecretRecord | None) -> None:
        """Go back to an earlier record, None for there was none: what it was changed for did not happen."""
        with CancelScope(shield=True):
            if record is None:
                await to_thread.run_sync(self._store.destroy, key, limiter=self._threads)
            else:
                await to_thread.run_sync(self._store.save, key, record, limiter=self._threads)
            self._restore(key, record)

    def _restore(self, key: SessionKey, record: SecretRecord | None) -> None:
        if record is None:
            self._let_go(key)
        else:
            self._hold(key, record)

    def _hold(self, key: SessionKey, record: SecretRecord) -> None:
        self._records[key] = record
        self._redaction.register(key.tenant, key.session, record.values)

    async def append(self, key: SessionKey, record: SecretRecord, make: Callable[[], Append]) -> Appended:
        """Seal the record, then append what `make` returns; all or nothing. The session is held by the caller.

        Raises as `SecretStore.save` and `EventStore.append`.

        Cancellation: whether it was appended is found out, and the record left accordingly.
        """
        before = self._records.get(key)
        await self.keep(key, record)
        faultpoint.reached("secrets_to_append")
        request: Append | None = None
        try:
            request = make()
            return await self._log.append(request)
        except BaseException:
            with CancelScope(shield=True):
                id = None if request is None else request.drafts[0].id
                if id is None or await self._log.find(key.tenant, id) is None:
                    await self.restore(key, before)
            raise

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def secrets(self, key: SessionKey) -> SessionSecrets:
        """Return what the session's sandboxes are given, and what is to be replaced. Raises `SecretsUnavailable`."""
        record = self.record(key)
        values = {name: tuple(values) for name, values in record.values.items()}
        return SessionSecrets(variables=dict(record.variables), values=values)

    def check_open(self, key: SessionKey) -> None:
        """Refuse what a worker publishes too late: it was made when nothing could be replaced any more.

        Raises:
            SessionClosed: the session's secrets are destroyed.
        """
        if key in self._destroyed:
            raise SessionClosed(f"The session {key.session!r} is closed, and its secrets are destroyed.")

    async def keep_original(self, key: SessionKey, action: str, event: str, redacted: bytes, original: bytes) -> None:
        """Seal what an event's payload was before redaction, until the action ends. Raises as `SecretStore.save`."""
        if key not in self._records:
            # Rules of units redact where nothing is registered too; what is kept is destroyed with the session as well.
            async with self.hold(key):
                if key not in self._records:
                    await self.keep(key, SecretRecord())
        await to_thread.run_sync(self._store.keep_original, key, event, redacted, original, limiter=self._threads)
        self._originals.setdefault(key, {}).setdefault(action, set()).add(event)
        faultpoint.reached("original_to_append")

    async def drop_originals(self, key: SessionKey, events: Iterable[str]) -> None:
        """Remove what was kept for events that were refused."""
        kept = self._originals.get(key, {})
        for event in events:
            for action in [action for action, held in kept.items() if event in held]:
                kept[action].discard(event)
                if not kept[action]:
                    del kept[action]
                await to_thread.run_sync(self._store.forget_originals, key, event, limiter=self._threads)

    async def original(self, key: SessionKey, event: Event) -> bytes | None:
        """Return what the event's payload was before redaction; None when nothing of it was redacted."""
        if key not in self._originals or not any(event.id in held for held in self._originals[key].values()):
            return None
        payload = bytes(event.payload)
        return await to_thread.run_sync(self._store.original, key, event.id, payload, limiter=self._threads)
