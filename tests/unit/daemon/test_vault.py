"""The vault under failures and races: never less redacted than told, never another's secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from chronicled.daemon.registration import Registration
from chronicled.daemon.secret_changes import Secret, with_secrets, without_secret
from chronicled.daemon.submission import ActionRequest, Submission, Submitter
from chronicled.daemon.vault import Vault
from chronicled.events.codec import Codec
from chronicled.events.errors import IdReused, SecretNotFound, SecretRefused, SessionExists, StorageFull
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.lifecycle import SessionCreated
from chronicled.events.registry import builtin_registry
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.store import Append, Appended
from chronicled.events.worker_log import SessionKey
from chronicled.storage.disk import SystemDisk
from chronicled.storage.memory import MemoryStore
from chronicled.storage.memory_blobs import MemoryBlobStore
from chronicled.storage.seal import Seal
from chronicled.storage.secrets import SecretRecord, SecretStore

BY = Submitter(tenant="default", actor="uid:1")
KEY = SessionKey("default", "s")
VALUE, OTHER = "hT7%kq2/Zp+9wLm4", "mN3xvb8-Xc+1rJd6"


def secret(name: str, value: str) -> Secret:
    """Return a secret in the variable of its name."""
    return Secret(name=name, value=value, variable=name)


class World:
    """A vault over a log in memory and a real directory."""

    def __init__(self, root: Path, store: MemoryStore) -> None:
        self.store = store
        self.redaction = SecretRedaction()
        self.codec = Codec(builtin_registry(), None, self.redaction)
        disk = SystemDisk()
        self.sealed = SecretStore(str(root / "secrets"), Seal(str(root), None, disk), disk)
        ids = SystemIds()
        self.vault = Vault(self.sealed, self.redaction, store, self.codec, ids, lambda key: False)
        self.submission = Submission(store, self.codec, MemoryBlobStore(), ids, bytes(32), self.vault)
        self.registration = Registration(self.vault, store, self.codec, ids)

    async def create(self, *secrets: Secret, key: str | None = None) -> Appended:
        """Create the session."""
        return await self.submission.create_session(BY, "s", SessionCreated(runtime="process"), key, secrets)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty world."""
    store = await MemoryStore.open()
    yield World(tmp_path, store)
    await store.aclose()


async def test_two_creations_at_once_never_mix_their_secrets(world: World) -> None:
    """Of creations of one name at one time one wins, and the session has that one's secrets and no other's."""
    attempts = [world.create(secret("A", VALUE)), world.create(secret("A", OTHER)), world.create()]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    winners = [index for index, result in enumerate(results) if isinstance(result, Appended)]
    assert len(winners) == 1
    assert sum(isinstance(result, SessionExists) for result in results) == 2
    kept = world.sealed.load()[0].get(KEY, SecretRecord()).values
    assert kept == [{"A": [VALUE]}, {"A": [OTHER]}, {}][winners[0]]


async def test_a_refused_registration_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log has no room, the record is the one from before, on the disk and in memory."""
    await world.create(secret("A", VALUE))

    async def full(_request: Append) -> Appended:
        raise StorageFull("No room.")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "append", full)
        with pytest.raises(StorageFull):
            await world.registration.put_secret(BY, "s", secret("B", OTHER))
    assert world.sealed.load()[0][KEY].values == {"A": [VALUE]}
    assert world.redaction.text("default", "s", f"{VALUE} {OTHER}") == f"<secret:A> {OTHER}"
    await world.registration.put_secret(BY, "s", secret("B", OTHER))
    assert world.redaction.text("default", "s", f"{VALUE} {OTHER}") == "<secret:A> <secret:B>"


async def test_registrations_at_once_all_count(world: World) -> None:
    """Secrets that are registered at one time are all kept, none overwrites another."""
    await world.create(secret("A", VALUE))
    values = {f"N{number}": f"value-{number:02}-qwertz" for number in range(20)}
    await asyncio.gather(
        *(world.registration.put_secret(BY, "s", secret(name, value)) for name, value in values.items())
    )
    assert set(world.sealed.load()[0][KEY].values) == {"A", *values}


async def _hang_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a registration, and go away while it is on its way into the log; return once its record is settled."""
    await world.create(secret("A", VALUE))
    runs = asyncio.create_task(world.vault.run())
    begun, go_on, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
    append = world.store.append

    async def slow(request: Append) -> Appended:
        # As the store does it: what is on its way is not called back by who waits for it.
        begun.set()
        return await asyncio.shield(asyncio.ensure_future(commit(request)))

    async def commit(request: Append) -> Appended:
        await go_on.wait()
        try:
            return await append(request)
        finally:
            over.set()

    monkeypatch.setattr(world.store, "append", slow)
    await asyncio.sleep(0)
    asked = asyncio.create_task(world.registration.put_secret(BY, "s", secret("B", OTHER)))
    await asyncio.wait_for(begun.wait(), 60)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    go_on.set()
    await asyncio.wait_for(over.wait(), 60)
    newest = await world.store.last("default", "s")
    assert newest is not None
    assert b'"B"' in bytes(newest.payload)
    async with world.vault.hold(KEY):
        pass
    runs.cancel()
    with pytest.raises(asyncio.CancelledError):
        await runs


async def test_a_registration_is_seen_through_though_its_client_has_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs up in the middle of a registration leaves it done in the log, on the disk and in redaction alike."""
    await _hang_up(world, monkeypatch)
    assert world.sealed.load()[0][KEY].values == {"A": [VALUE], "B": [OTHER]}
    assert world.redaction.text("default", "s", OTHER) == "<secret:B>"


async def test_in_its_clients_own_task_a_registration_could_be_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: done by who asked for it, the record is taken back while the log says that it holds."""

    async def inline(work: Any) -> Any:
        return await work()

    monkeypatch.setattr(world.vault, "apart", inline)
    await _hang_up(world, monkeypatch)
    assert world.redaction.text("default", "s", OTHER) == OTHER


async def test_another_request_under_a_known_id_leaves_the_original(world: World) -> None:
    """A request that is refused because its id is taken changes nothing of what is kept for the one that has it."""
    await world.create(secret("A", VALUE))
    id = SystemIds().new()

    async def submit(command: str) -> Any:
        payload = b'{"command":"%s"}' % command.encode()
        append = await world.submission.prepare(BY, "s", [ActionRequest(kind="run", payload=payload, id=id)])
        return await world.submission.append(append)

    event = (await submit(f"first {VALUE}")).events[0]
    with pytest.raises(IdReused):
        await submit(f"second {VALUE}")
    original = await world.vault.original(KEY, event)
    assert original is not None
    assert f"first {VALUE}".encode() in original
    assert VALUE.encode() not in bytes(event.payload)


def test_a_secret_can_move_between_variables() -> None:
    """Another value or variable replaces the binding, and earlier values stay secret."""
    record = with_secrets(SecretRecord(variables={"PLAIN": "1"}), [secret("A", VALUE)])
    record = with_secrets(record, [Secret(name="A", value=OTHER, variable="MINE")], {"PLAIN": None})
    assert record.values == {"A": [VALUE, OTHER]}
    assert record.variables == {"PLAIN": None, "A": None, "MINE": OTHER}
    assert record.bound == {"MINE": "A"}
    record, gone = without_secret(record, "A")
    assert (record.variables["MINE"], record.bound, gone) == (None, {}, ["MINE"])
    assert record.values == {"A": [VALUE, OTHER]}
    with pytest.raises(SecretNotFound):
        without_secret(record, "B")


def test_a_session_has_so_many_secrets_at_most() -> None:
    """More names or values than the bounds are refused."""
    many = [secret(f"N{number}", f"value-{number:02}-qwertz") for number in range(65)]
    with pytest.raises(SecretRefused):
        with_secrets(SecretRecord(), many)
    record = SecretRecord(values={"A": [f"value-{number:03}-qwertz" for number in range(256)]})
    with pytest.raises(SecretRefused):
        with_secrets(record, [secret("A", "value-256-qwertz")])
