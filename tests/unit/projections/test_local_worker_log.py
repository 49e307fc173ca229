"""What a worker in the daemon's process may rely on: exact claims, fences, and blobs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from tests.unit.projections.fixtures import CODEC, Writer, everything, facts, fresh_folds

from chronicled.daemon.local_worker_log import LocalWorkerLog
from chronicled.daemon.vault import Vault
from chronicled.events.errors import ActionEnded, SessionNotFound, StaleFence
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.lifecycle import BackgroundOutput
from chronicled.events.kinds.observations import RunObservation
from chronicled.events.lanes import SessionFold
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.worker_log import Claim, SessionKey
from chronicled.storage.disk import SystemDisk
from chronicled.storage.memory import MemoryStore
from chronicled.storage.memory_blobs import MemoryBlobStore
from chronicled.storage.projections import Projections, open_projections
from chronicled.storage.seal import Seal
from chronicled.storage.secrets import SecretStore
from chronicled.storage.stream import LogStream


class World:
    """A log with a worker's view of it."""

    def __init__(self, store: MemoryStore, projections: Projections) -> None:
        self.store = store
        self.projections = projections
        self.stream = LogStream(store)
        self.blobs = MemoryBlobStore()
        self.log = self.worker("w1")

    def worker(self, name: str) -> LocalWorkerLog:
        """Return the log as another worker sees it."""
        store = SecretStore("/nowhere", Seal("/nowhere", None, SystemDisk()), SystemDisk())
        vault = Vault(store, SecretRedaction(), self.store, CODEC, SystemIds(), lambda key: False)
        return LocalWorkerLog(self.stream, self.blobs, self.projections, CODEC, SystemIds(), name, "boot", vault)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an empty log."""
    store = await MemoryStore.open()
    async with open_projections(None, store, CODEC) as projections:
        yield World(store, projections)
    await store.aclose()


async def test_a_claim_and_what_follows_it_are_the_whole_session(world: World) -> None:
    """While others append, a claim's fold plus the events behind its fence is what a fold of the whole log is."""
    writer = Writer(world.store)
    await writer.create()
    claims: list[Claim] = []

    async def append() -> None:
        for number in range(40):
            action = await writer.run(lane=f"lane{number % 3}")
            if number % 2:
                await writer.end(action)

    async def claim() -> None:
        claims.extend([await world.log.claim(writer.key) for _ in range(20)])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        tasks.start_soon(append)
        tasks.start_soon(claim)
    log = await everything(world.store)
    whole = fresh_folds(log)[writer.key]
    assert len({claim.fence for claim in claims}) == 20
    for each in claims:
        assert log[each.fence - 1].kind == "session_claimed"
        fold = SessionFold.of_claim(each, CODEC.registry)
        before = fresh_folds(log[: each.fence])[writer.key]
        assert facts(fold) == facts(before)
        fold.extend(log[each.fence :])
        assert facts(fold) == facts(whole)


async def test_following_from_the_fence_gives_what_comes_after_the_claim(world: World) -> None:
    """The first event that a worker follows to is the one behind its claim."""
    writer = Writer(world.store)
    await writer.create()
    await writer.run()
    claim = await world.log.claim(writer.key)
    after = await writer.run()
    async with world.log.follow(claim.fence) as pages:
        with anyio.fail_after(60):
            page = await anext(pages)
    assert page.events == (after,)
    assert world.log.head == after.position


async def test_a_claim_of_a_session_that_is_over_is_folded_from_the_log(world: World) -> None:
    """Nothing of such a session is in memory, and its claim tells it truthfully all the same."""
    writer = Writer(world.store)
    created = await writer.create()
    closed = await writer.close()
    await world.projections.save()
    assert world.projections.find("default", "s") is None
    claim = await world.log.claim(writer.key)
    assert (claim.created, claim.closed, claim.open_actions) == (created, closed, ())
    assert claim.fence == world.store.head


async def test_a_session_that_is_not_there_cannot_be_claimed(world: World) -> None:
    """Nothing is written for a session that does not exist."""
    with pytest.raises(SessionNotFound):
        await world.log.claim(SessionKey("default", "none"))
    assert world.store.head == 0


async def test_a_later_claim_shuts_the_earlier_one_out(world: World) -> None:
    """Under an old fence nothing is published or released, and nothing written."""
    writer = Writer(world.store)
    await writer.create()
    first = await world.log.claim(writer.key)
    second = await world.worker("w2").claim(writer.key)
    head = world.store.head
    draft = writer.draft("lifecycle", "background_output", BackgroundOutput(output="x", output_bytes=1))
    with pytest.raises(StaleFence):
        await world.log.publish(writer.key, first.fence, [draft])
    with pytest.raises(StaleFence):
        await world.log.release(writer.key, first.fence, "over")
    assert world.store.head == head
    [event] = await world.log.publish(writer.key, second.fence, [draft])
    assert event.position == head + 1
    await world.log.release(writer.key, second.fence, "over")
    last = await world.store.last("default", "s")
    assert last is not None
    assert last.kind == "session_released"


async def test_an_action_is_ended_once(world: World) -> None:
    """A second terminal observation is refused, whoever has the fence."""
    writer = Writer(world.store)
    await writer.create()
    action = await writer.run()
    claim = await world.log.claim(writer.key)
    await writer.end(action)
    late = RunObservation(outcome=Outcome.OK, effects=Effects.COMPLETE)
    with pytest.raises(ActionEnded):
        await world.log.publish(writer.key, claim.fence, [writer.draft("observation", "run", late, cause=action.id)])


async def test_a_draft_of_another_session_is_a_mistake(world: World) -> None:
    """A fence says nothing about other sessions, so nothing is written for them under it."""
    writer = Writer(world.store)
    await writer.create()
    claim = await world.log.claim(writer.key)
    payload = BackgroundOutput(output="", output_bytes=0)
    draft = Writer(world.store, "other").draft("lifecycle", "background_output", payload)
    with pytest.raises(ValueError, match="under the claim"):
        await world.log.publish(writer.key, claim.fence, [draft])
    assert await world.log.publish(writer.key, claim.fence, []) == ()


async def test_a_starting_worker_is_told_of_all_that_is_unfinished(world: World) -> None:
    """Open sessions, and closed ones with a sandbox or open actions; no others, and not the daemon's own."""
    for name in ("open", "boxed", "busy", "over"):
        writer = Writer(world.store, name)
        await writer.create()
        if name == "boxed":
            await writer.sandbox("x")
        if name == "busy":
            await writer.run()
        if name != "open":
            await writer.close()
    assert [key.session for key in await world.log.unfinished()] == ["open", "boxed", "busy"]


async def test_blobs_pass_through(world: World) -> None:
    """What is put can be read from the blob store."""
    ref = await world.log.put_blob(b"abc")
    assert [chunk async for chunk in world.blobs.read(ref.digest)] == [b"abc"]
