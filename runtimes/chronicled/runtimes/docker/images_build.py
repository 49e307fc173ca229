"""Builds: an image from a context, with bounds, without a network, once for all who ask for the same."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol

import anyio
import msgspec
from anyio import CapacityLimiter, to_thread

from chronicled.events.errors import ImageBuildFailed, ImageError, ImageUnreachable, InvalidRequest
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes.docker.images_context import dockerfile_of
from chronicled.runtimes.docker.images_credentials import load_credentials
from chronicled.runtimes.docker.images_dockerfile import Brought, read_dockerfile, read_triggers
from chronicled.runtimes.docker.images_errors import explain
from chronicled.runtimes.docker.images_flight import Flights
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.images_ledger import Entry, Ledger
from chronicled.runtimes.docker.images_progress import Listener, Track
from chronicled.runtimes.docker.images_reference import Reference
from chronicled.runtimes.docker.images_settings import ImageSettings, PullPolicy
from chronicled.runtimes.docker.images_steps import Steps
from chronicled.runtimes.docker.images_stream import Connect, EngineSaid, messages

__all__ = ["INPUTS_LABEL", "BuildRequest", "Builds", "Look"]

INPUTS_LABEL: Final = "chronicled.inputs"
"""Label of a built image: digest of all that it was built from."""
OUTPUT_BYTES_MAX: Final = 4096
CHUNK_BYTES: Final = 1 << 20
CPU_PERIOD_US: Final = 100_000
_STEP_FAILED: Final = "returned a non-zero code"


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be built."""

    name: Reference
    tenant: str
    context: str
    """Path of a tar archive, compressed or not."""
    context_digest: str
    """SHA-256 of its bytes, in hex."""
    dockerfile: str = "Dockerfile"
    """Path within the context."""
    arguments: dict[str, str] = {}
    target: str | None = None
    """Stage to end at."""
    fresh: bool = False
    """Build every step anew, also when an image of the same inputs is there."""

    @property
    def inputs(self) -> str:
        """Digest of everything that decides what comes out, as far as it is the request's."""
        parts = (self.context_digest, self.dockerfile, sorted(self.arguments.items()), self.target)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Look(Protocol):
    """What builds need of the other images."""

    async def resolve(
        self, reference: str, pull: PullPolicy | None = None, *, listener: Listener | None = None
    ) -> ResolvedImage:
        """Return an image, pulled if need be."""
        ...

    async def find(self, name: Reference) -> ResolvedImage | None:
        """Return an image that the engine has."""
        ...

    async def machine(self) -> tuple[str, str]:
        """Return the engine's id and architecture."""
        ...


class Builds:
    """The builds of one engine.

    Args:
        connect: Returns the engine's client.
        settings: Bounds.
        look: The other images.
        ledger: Where built images become ours.
        flights: What is on its way.
        now: Unix time.
    """

    def __init__(
        self,
        connect: Connect,
        settings: ImageSettings,
        look: Look,
        ledger: Ledger,
        flights: Flights[ResolvedImage],
        now: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._settings = settings
        self._look = look
        self._ledger = ledger
        self._flights = flights
        self._now = now
        self._room = CapacityLimiter(settings.builds_max)

    async def build(self, request: BuildRequest, listener: Listener | None = None) -> ResolvedImage:
        """Return the image, built if there is none of that name and the same inputs.

        Args:
            request: What to build; the file of its context must stay until this returns.
            listener: Takes reports, at most one a second.

        Raises:
            ImageBuildFailed: a step failed, or a limit was reached; the detail ends with what it printed. Or the
                Dockerfile would have the engine fetch what the steps may not reach.
            ImageNotAllowed: it begins from an image that may not be pulled.
            ImageNotFound, ImageUnauthorized, ImageUnreachable, ImageUnfit, ImageError: an image that it begins from
                could not be had, or the engine does not answer.

        Cancellation: the build goes on as long as anybody else waits for the same; else the engine ends it.
        """
        name = request.name.full
        if not request.fresh:
            found = await self._look.find(request.name)
            if found is not None and found.labels.get(INPUTS_LABEL) == request.inputs:
                return found
        key = f"build {name} {request.inputs} {request.fresh}"
        return await self._flights.join(
            key, lambda: Track(name, "build"), lambda track: self._run(request, track), listener
        )

    async def _run(self, request: BuildRequest, track: Track) -> ResolvedImage:
        name = request.name.full
        async with self._room:
            track.set("running")
            with anyio.move_on_after(self._settings.build_seconds) as waiting:
                await self._bring(request, track)
                await self._stream(request, track)
            if waiting.cancelled_caught:
                raise ImageBuildFailed(
                    f"{name} was not built within {self._settings.build_seconds:g} s (`images.build_seconds`).",
                    image=name,
                )
            found = await self._look.find(request.name)
            if found is None or found.labels.get(INPUTS_LABEL) != request.inputs:
                raise ImageUnreachable(f"{name}: the engine broke the build off; is it there?", image=name)
            engine, _ = await self._look.machine()
            entry = Entry(id=found.id, origin="built", engine=engine, used=self._now(), tenant=request.tenant)
            await self._ledger.put(name, entry)
            track.set("done", digest=found.pin)
            return found

    async def _bring(self, request: BuildRequest, track: Track) -> None:
        """Have the images that the build begins from, so that the engine itself has nothing to fetch."""
        name = request.name.full
        try:
            text = await to_thread.run_sync(dockerfile_of, request.context, request.dockerfile)
        except OSError as error:
            raise _unreadable(name, error) from None
        brought = await to_thread.run_sync(read_dockerfile, text, request.arguments)
        self._refuse_fetching(name, brought)
        wanted = list(brought.images)
        for image in wanted:
            track.take({"status": f"FROM {image}"})
            try:
                found = await self._look.resolve(image, "missing", listener=_retold(track))
            except InvalidRequest as error:
                raise ImageBuildFailed(f"{name}: {error.detail}", image=name) from None
            later = read_triggers(found.triggers)
            self._refuse_fetching(name, later)
            wanted += [each for each in later.images if each not in wanted]

    def _refuse_fetching(self, name: str, brought: Brought) -> None:
        if brought.fetched and self._settings.build_network == "none":
            raise ImageBuildFailed(
                f"{name}: ADD {brought.fetched[0][:200]} would have the engine fetch an address, and builds have no "
                "network (`images.build_network`). Put the file into the context, and write a path that begins with a "
                "variable as ./$NAME.",
                image=name,
            )

    async def _stream(self, request: BuildRequest, track: Track) -> None:
        """Have the engine build, and end it where its steps write too much."""
        steps = Steps(self._connect, self._settings, request.name.full)
        overflow = ""
        error: ImageError | None = None
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                nonlocal overflow
                overflow = await steps.overflow()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                await self._have_built(request, track, steps)
            except ImageError as failed:
                error = failed
            tasks.cancel_scope.cancel()
        if overflow:
            raise ImageBuildFailed(overflow, image=request.name.full)
        if error is not None:
            raise error

    async def _have_built(self, request: BuildRequest, track: Track, steps: Steps) -> None:
        name = request.name.full
        credentials = await load_credentials(self._settings.credentials_file)
        headers = {"Content-Type": "application/x-tar", "X-Registry-Config": credentials.all_header()}
        printed = ""
        try:
            async for message in messages(
                self._connect,
                "build",
                self._parameters(request),
                headers,
                self._settings.quiet_seconds,
                _chunks(request.context),
            ):
                track.take(message)
                await steps.take(message)
                if isinstance(message.get("stream"), str):
                    printed = (printed + message["stream"])[-OUTPUT_BYTES_MAX:]
        except EngineSaid as error:
            raise _failure(name, credentials.hide(error.words), error.status, credentials.hide(printed)) from None
        except OSError as error:
            raise _unreadable(name, error) from None

    def _parameters(self, request: BuildRequest) -> dict[str, str]:
        settings = self._settings
        labels = {INPUTS_LABEL: request.inputs, "chronicled.tenant": request.tenant}
        parameters = {
            "t": request.name.full,
            "dockerfile": request.dockerfile,
            "rm": "1",
            "forcerm": "1",
            "networkmode": settings.build_network,
            "memory": str(settings.build_memory_bytes),
            "memswap": str(settings.build_memory_bytes),
            "cpuperiod": str(CPU_PERIOD_US),
            "cpuquota": str(int(settings.build_cpus * CPU_PERIOD_US)),
            "buildargs": msgspec.json.encode(request.arguments).decode(),
            "labels": msgspec.json.encode(labels).decode(),
            "nocache": "1" if request.fresh else "0",
        }
        if request.target is not None:
            parameters["target"] = request.target
        return parameters


def _unreadable(name: str, error: OSError) -> ImageError:
    return ImageError(f"{name}: the context cannot be read: {error.strerror}.", image=name)


def _retold(track: Track) -> Listener:
    """Return what tells a build's track how far the pull of an image is."""

    async def tell(report: ImageProgress) -> None:
        detail = {"current": report.bytes_done, "total": report.bytes_total}
        track.take({"id": report.image, "status": "Downloading", "progressDetail": detail})

    return tell


async def _chunks(path: str) -> AsyncGenerator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(CHUNK_BYTES):
            yield chunk


def _failure(name: str, words: str, status: int, printed: str) -> ImageError:
    said = " ".join(words.split())[:600]
    if _STEP_FAILED not in said:
        error = explain(name, words, status)
        # What it began from could not be had. What has no name of its own is the Dockerfile's fault, or the context's.
        if type(error) is not ImageError or "disk is full" in error.detail:
            return error
    lines = printed.strip()
    return ImageBuildFailed(f"{name}: {said}" + (f"\n{lines}" if lines else ""), image=name)
