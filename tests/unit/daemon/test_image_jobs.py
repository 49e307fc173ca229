"""Jobs for images: each that is in the log is done and has an end there, whatever its client or the engine does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from chronicled.daemon.image_jobs import ImageJobs, Wanted
from chronicled.daemon.image_stream import IMAGES_SESSION, ImageStream
from chronicled.daemon.submission import Submitter
from chronicled.events.codec import Codec
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.events.registry import builtin_registry
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.store import Appended
from chronicled.runtimes.docker.images import Images
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.images_settings import ImageSettings
from chronicled.storage.memory import MemoryStore

BY = Submitter(tenant="default", actor="uid:1")


class Engine:
    """Images of an engine that has every image, or answers in words of its own."""

    def __init__(self) -> None:
        self.settings = ImageSettings()
        self.builds = self
        self.odd = False
        self.contexts: list[bytes] = []

    async def resolve(self, name: str, _pull: object = None, *, listener: object = None) -> ResolvedImage:
        """Return the image."""
        if self.odd:
            raise KeyError("ID")
        return ResolvedImage(reference=name, id="sha256:" + 64 * "0", digest=None)

    async def build(self, request: Any, _listener: object = None) -> ResolvedImage:
        """Read the context and return an image."""
        self.contexts.append(await asyncio.to_thread(Path(request.context).read_bytes))
        return await self.resolve(request.name.full)


class SlowStream(ImageStream):
    """A stream whose first events are durable some time before whoever asked hears of it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.appended = asyncio.Event()
        self.answer = asyncio.Event()

    async def begin(
        self, by: Submitter, id: str, payload: ImageProgress, inputs: msgspec.Struct, fresh: bool
    ) -> Appended:
        """Append, then wait to be told to answer."""
        appended = await super().begin(by, id, payload, inputs, fresh)
        self.appended.set()
        await self.answer.wait()
        return appended


class World:
    """Jobs over a log in memory."""

    def __init__(self, store: MemoryStore, directory: Path) -> None:
        self.store = store
        self.engine = Engine()
        self.codec = Codec(builtin_registry(), None, SecretRedaction())
        ids = SystemIds()
        self.stream = SlowStream(store, self.codec, ids, bytes(32))
        self.jobs = ImageJobs(cast("Images", self.engine), self.stream, ids, str(directory / "contexts"), 0)

    async def told(self, status: str) -> list[ImageProgress]:
        """Return the reports of a status, once there is one."""
        async with asyncio.timeout(60.0):
            while True:
                page = await self.store.read(0, 100)
                found = [self.codec.decode(event) for event in page.events if event.session == IMAGES_SESSION]
                reports = [each for each in found if isinstance(each, ImageProgress) and each.status == status]
                if reports:
                    return reports
                await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(directory: Path) -> AsyncGenerator[World]:
    """Give a world whose jobs run."""
    async with await MemoryStore.open() as store:
        world = World(store, directory)
        running = asyncio.create_task(world.jobs.run())
        try:
            yield world
        finally:
            running.cancel()
            await asyncio.wait((running,))


async def ask(world: World, what: str) -> None:
    """Ask for a job, and go away when its first event is durable, before there is an answer."""

    async def content() -> AsyncGenerator[bytes]:
        yield b"FROM scratch\n"

    asking: asyncio.Task[Any]
    if what == "prefetch":
        asking = asyncio.create_task(world.jobs.prefetch(BY, ["wanted:1"], None))
    else:
        asking = asyncio.create_task(world.jobs.build(BY, Wanted(name="made:1", form="tar"), content()))
    async with asyncio.timeout(60.0):
        await world.stream.appended.wait()
    asking.cancel()
    await asyncio.wait((asking,))
    assert asking.cancelled()
    world.stream.answer.set()


@pytest.mark.parametrize("what", ["prefetch", "build"])
async def test_a_job_is_done_though_its_client_has_gone(tmp_path: Path, what: str) -> None:
    """Once its first event is in the log it runs to its end, with its context, and nothing is left of that."""
    async with opened(tmp_path) as world:
        await ask(world, what)
        assert len(await world.told("done")) == 1
        if what == "build":
            assert world.engine.contexts == [b"FROM scratch\n"]
        assert list((tmp_path / "contexts").iterdir()) == []


@pytest.mark.parametrize("what", ["prefetch", "build"])
async def test_who_asks_while_the_daemon_starts_is_served_once_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What comes before an earlier daemon's contexts are gone is neither refused nor taken for one of them."""
    clear: Callable[[ImageJobs], None] = vars(ImageJobs)["_clear"]
    clearing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slowly(jobs: ImageJobs) -> None:
        loop.call_soon_threadsafe(clearing.set)
        assert go_on.wait(60.0)
        clear(jobs)

    monkeypatch.setattr(ImageJobs, "_clear", slowly)
    async with opened(tmp_path) as world:
        asking = asyncio.create_task(ask(world, what))
        try:
            async with asyncio.timeout(60.0):
                await clearing.wait()
            await asyncio.sleep(0.05)
            assert not world.stream.appended.is_set()
        finally:
            go_on.set()
        await asking
        assert len(await world.told("done")) == 1
        assert list((tmp_path / "contexts").iterdir()) == []


async def test_without_a_task_of_its_own_a_job_would_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: begun in its client's own task, it stands in the log for ever as if it were to come."""

    async def directly(_jobs: ImageJobs, begin: Any) -> Any:
        return await begin()

    monkeypatch.setattr(ImageJobs, "_apart", directly)
    async with opened(tmp_path) as world:
        await ask(world, "prefetch")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await world.told("done")


async def test_an_odd_answer_of_the_engine_ends_one_job(tmp_path: Path) -> None:
    """What nobody has thought of is told as the end of that job, and the next one is done."""
    async with opened(tmp_path) as world:
        world.stream.answer.set()
        world.engine.odd = True
        await world.jobs.prefetch(BY, ["odd:1"], None)
        (failed,) = await world.told("failed")
        assert "KeyError" in (failed.error or "")
        world.engine.odd = False
        await world.jobs.prefetch(BY, ["wanted:1"], None)
        assert len(await world.told("done")) == 1
