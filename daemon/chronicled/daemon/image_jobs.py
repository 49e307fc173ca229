"""Builds and prefetches that clients, or the configuration, ask for: they go on by themselves, told as events."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from functools import partial
from typing import Any, Final, Literal

import anyio
import msgspec
import structlog
from anyio import to_thread
from anyio.abc import TaskGroup

from chronicled.daemon.apart import apart
from chronicled.daemon.image_stream import ImageStream
from chronicled.daemon.lifecycle import SYSTEM_TENANT
from chronicled.daemon.locations import make_private
from chronicled.daemon.submission import Submitter
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, Overloaded, StorageFull
from chronicled.events.ids import IdSource, id_of_key
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes.docker.images import Images
from chronicled.runtimes.docker.images_build import BuildRequest
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.images_progress import Listener
from chronicled.runtimes.docker.images_reference import built_name, parse_reference
from chronicled.runtimes.docker.images_settings import PullPolicy

__all__ = ["ImageJob", "ImageJobs", "Wanted"]

STOP_SECONDS: Final = 2.0

_log = structlog.get_logger("chronicled.images")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A build as a client wants it; its context is on the way."""

    name: str
    """`path[:tag]`, of the tenant's own."""
    form: Literal["tar", "dockerfile"]
    dockerfile: str = "Dockerfile"
    arguments: dict[str, str] = {}
    target: str | None = None
    fresh: bool = False


class _Pull(msgspec.Struct, frozen=True):
    image: str
    pull: PullPolicy | None


class ImageJob(msgspec.Struct, frozen=True):
    """What was begun for one image."""

    id: str
    image: str
    event: Event
    """Its first; the later ones have the same `job`."""
    begun: bool
    """False where the same request had begun it before."""


Work = Callable[[Listener], Awaitable[ResolvedImage]]


class _Running:
    def __init__(self, tenant: str, report: ImageProgress) -> None:
        self.tenant = tenant
        self.report = report
        self.over = anyio.Event()


class ImageJobs:
    """The jobs of one daemon.

    Args:
        images: The engine's images.
        stream: Where jobs are told.
        ids: Ids of jobs.
        directory: Where contexts are kept while they are built; this object's alone.
        up_to: Position of the last event of the earlier daemon.
    """

    def __init__(self, images: Images, stream: ImageStream, ids: IdSource, directory: str, up_to: int) -> None:
        self.images = images
        self._stream = stream
        self._ids = ids
        self._directory = directory
        self._up_to = up_to
        self._running: dict[str, _Running] = {}
        self._tasks: TaskGroup | None = None
        self._ready = anyio.Event()
        """Set once jobs can be begun: who asks while the daemon is starting waits for it."""
        self._new, self._work = anyio.create_memory_object_stream[Callable[[], Coroutine[Any, Any, None]]](
            images.settings.builds_waiting_max
        )
        self._jobs_max = images.settings.builds_waiting_max
        self._taken = 0
        """Places of jobs that wait, run or are being begun."""

    async def run(self) -> None:
        """Do what is asked for until cancelled; then each job that is not over is told to be cancelled."""
        await to_thread.run_sync(self._clear)
        async with anyio.create_task_group() as tasks, self._work, self._new:
            self._tasks = tasks
            self._ready.set()
            try:
                tasks.start_soon(self._begin)
                async for job in self._work:
                    tasks.start_soon(job)
            finally:
                # What waits is begun too, and so told to be cancelled with the others.
                with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
                    while True:
                        tasks.start_soon(self._work.receive_nowait())
                self._tasks = None

    async def _begin(self) -> None:
        for tenant in (SYSTEM_TENANT, "default"):
            await self._stream.end_interrupted(tenant, self._up_to)
        by = Submitter(SYSTEM_TENANT, "daemon")
        for image in self.images.settings.prefetch:
            try:
                await self.prefetch(by, [image], None)
            except ChronicledError as error:
                _log.warning("prefetch_not_begun", image=image, detail=error.detail)

    # -- asking --------------------------------------------------------------------------------------------------------

    async def prefetch(
        self, by: Submitter, images: Sequence[str], pull: PullPolicy | None, key: str | None = None
    ) -> list[ImageJob]:
        """Begin to fetch images; each job's first event is durable on return.

        Raises:
            InvalidRequest: one is no name of an image; none is begun.
            Overloaded: too many jobs wait; those before have begun: ask again under the same key.
            IdReused, StorageFull: see `ImageStream.begin`.
        """
        names = [parse_reference(image).full for image in images]
        await self._ready.wait()
        jobs: list[ImageJob] = []
        for index, name in enumerate(names):
            payload = ImageProgress(image=name, phase="pull", status="queued")
            work = _pulling(self.images, name, pull)
            with self._place():
                inputs = _Pull(name, pull)
                jobs.append(await self._apart(partial(self._submit, by, payload, inputs, work, key, index)))
        return jobs

    async def build(
        self, by: Submitter, wanted: Wanted, content: AsyncIterator[bytes], key: str | None = None
    ) -> ImageJob:
        """Receive the context, then begin the build; the job's first event is durable on return.

        Raises:
            InvalidRequest: the name is none.
            Overloaded: too many jobs wait.
            IdReused, StorageFull: see `ImageStream.begin`; and what receiving raises.
        """
        name = built_name(by.tenant, wanted.name)
        # Earlier than that the context would be kept nowhere, or be taken for one that an earlier daemon has left.
        await self._ready.wait()
        path = os.path.join(self._directory, f"{self._ids.new()}.tar")
        with self._place(), contextlib.ExitStack() as unless_received:
            unless_received.callback(_remove, path)
            digest = await _receive(content, path, wanted)
            request = BuildRequest(
                name=name,
                tenant=by.tenant,
                context=path,
                context_digest=digest,
                dockerfile=wanted.dockerfile,
                arguments=wanted.arguments,
                target=wanted.target,
                fresh=wanted.fresh,
            )
            payload = ImageProgress(image=name.full, phase="build", status="queued")
            inputs = msgspec.structs.replace(request, context="")

            async def work(listener: Listener) -> ResolvedImage:
                try:
                    return await self.images.builds.build(request, listener)
                finally:
                    _remove(path)

            async def submit() -> ImageJob:
                with contextlib.ExitStack() as unless_begun:
                    unless_begun.callback(_remove, path)
                    job = await self._submit(by, payload, inputs, work, key, 0)
                    if job.begun:
                        unless_begun.pop_all()
                return job

            unless_received.pop_all()
            return await self._apart(submit)

    async def wait(self, jobs: Sequence[ImageJob], seconds: float) -> bool:
        """Return whether all of them are over, waiting for so long at most."""
        with anyio.move_on_after(seconds):
            for job in jobs:
                running = self._running.get(job.id)
                if running is not None:
                    await running.over.wait()
        return not any(job.id in self._running for job in jobs)

    def running(self, tenant: str) -> list[ImageProgress]:
        """Return how far the tenant's jobs are that are not over."""
        return [job.report for job in self._running.values() if job.tenant == tenant]

    # -- doing ---------------------------------------------------------------------------------------------------------

    async def _submit(
        self, by: Submitter, payload: ImageProgress, inputs: msgspec.Struct, work: Work, key: str | None, index: int
    ) -> ImageJob:
        id = self._ids.new() if key is None else id_of_key(by.tenant, "_images", key, index)
        payload = msgspec.structs.replace(payload, job=id)
        appended = await self._stream.begin(by, id, payload, inputs, key is None)
        if not appended.repeated:
            running = self._running[id] = _Running(by.tenant, payload)
            self._taken += 1
            self._new.send_nowait(lambda: self._do(id, running, work))
        return ImageJob(id, payload.image, appended.events[0], not appended.repeated)

    async def _apart(self, begin: Callable[[], Awaitable[ImageJob]]) -> ImageJob:
        """Begin a job in a task of our own: what is in the log is done though whoever asked for it has gone away."""
        return await apart(self._tasks, begin)

    @contextlib.contextmanager
    def _place(self) -> Generator[None]:
        """Hold a place for a job that is being begun."""
        if self._taken >= self._jobs_max:
            raise Overloaded(f"{self._jobs_max} builds and prefetches wait or run already; retry later.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def _do(self, id: str, running: _Running, work: Work) -> None:
        last = running.report

        async def tell(report: ImageProgress) -> None:
            nonlocal last
            last = running.report = msgspec.structs.replace(report, job=id)
            await self._stream.tell(running.tenant, last)

        try:
            found = await work(tell)
            if last.status != "done":
                # It was there already.
                await tell(msgspec.structs.replace(last, status="done", digest=found.pin))
        except ChronicledError as error:
            if last.status != "failed":
                await tell(msgspec.structs.replace(last, status="failed", error=error.detail))
        except Exception as error:
            # An engine that answers in words of its own ends one job, and not the daemon.
            _log.exception("image_job_failed", image=last.image)
            told = f"Something failed inside: {type(error).__name__}: {error}"
            await tell(msgspec.structs.replace(last, status="failed", error=told))
        except BaseException:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + STOP_SECONDS):
                if last.status not in {"done", "failed", "cancelled"}:
                    await tell(msgspec.structs.replace(last, status="cancelled", error="The daemon is stopping."))
            raise
        finally:
            del self._running[id]
            self._taken -= 1
            running.over.set()

    def _clear(self) -> None:
        # What builds of an earlier daemon have left.
        make_private(self._directory)
        for name in os.listdir(self._directory):
            _remove(os.path.join(self._directory, name))


def _pulling(images: Images, name: str, pull: PullPolicy | None) -> Work:
    return lambda listener: images.resolve(name, pull, listener=listener)


async def _receive(content: AsyncIterator[bytes], path: str, wanted: Wanted) -> str:
    """Write the context to a file; return the digest of its bytes."""
    digest = hashlib.sha256()
    try:
        async with await anyio.open_file(path, "xb") as file:
            if wanted.form == "dockerfile":
                data = _wrapped(b"".join([chunk async for chunk in content]), wanted.dockerfile)
                digest.update(data)
                await file.write(data)
            else:
                async for chunk in content:
                    digest.update(chunk)
                    await file.write(chunk)
    except OSError as error:
        raise StorageFull(f"The context cannot be kept: {error.strerror or error}.") from None
    return digest.hexdigest()


def _wrapped(dockerfile: bytes, name: str) -> bytes:
    """Return an archive with nothing but the Dockerfile: the same bytes each time."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(dockerfile)
        archive.addfile(entry, io.BytesIO(dockerfile))
    return data.getvalue()


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
