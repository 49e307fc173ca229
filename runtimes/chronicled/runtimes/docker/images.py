"""Images: found, pulled once for all who wait, pinned, and removed when nobody needs what we brought."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import aiohttp
import anyio
import structlog
from aiodocker import DockerError
from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from chronicled.events.clock import Clock
from chronicled.events.errors import ImageError, ImageNotFound, ImageUnfit, ImageUnreachable
from chronicled.runtimes.docker.images_build import Builds
from chronicled.runtimes.docker.images_cache import Cache
from chronicled.runtimes.docker.images_credentials import load_credentials
from chronicled.runtimes.docker.images_errors import engine_silent, explain
from chronicled.runtimes.docker.images_flight import Flights
from chronicled.runtimes.docker.images_found import ResolvedImage, resolved
from chronicled.runtimes.docker.images_ledger import Entry, Ledger
from chronicled.runtimes.docker.images_progress import Listener, Track
from chronicled.runtimes.docker.images_reference import BUILT_REGISTRY, Reference, parse_reference
from chronicled.runtimes.docker.images_registries import Registries
from chronicled.runtimes.docker.images_settings import ImageSettings, PullPolicy
from chronicled.runtimes.docker.images_stream import Connect, EngineSaid, messages

__all__ = ["ImageStore", "Images", "open_images"]

RETRY_SECONDS: Final = 0.5
INSPECT_SECONDS: Final = 30.0
NOT_CONNECTED: Final = 900
"""The status by which the client tells that nobody answers."""

_log = structlog.get_logger("chronicled.images")


class ImageStore(Protocol):
    """What a runtime needs of images."""

    async def resolve(
        self,
        reference: str,
        pull: PullPolicy | None = None,
        *,
        pinned: str | None = None,
        listener: Listener | None = None,
    ) -> ResolvedImage:
        """Return the image, on the engine; see `Images.resolve`."""
        ...


@asynccontextmanager
async def open_images(
    connect: Connect, settings: ImageSettings, clock: Clock, ledger_path: str | None = None
) -> AsyncGenerator[Images, None]:
    """Give the images of one engine; what is still being pulled or built at the end is cancelled.

    Args:
        connect: Returns the engine's client.
        settings: See there.
        clock: Tells when an image was used.
        ledger_path: Where to keep which images are ours; None forgets it at the end.
    """
    ledger = Ledger(ledger_path)
    await ledger.load()
    try:
        async with anyio.create_task_group() as tasks:
            yield Images(connect, settings, clock, ledger, tasks)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Pulls and builds tell those who wait and never raise here, so this is the one error of the block's own.
        raise group.exceptions[0] from None


class Images:
    """The images of one engine. Made by `open_images`."""

    def __init__(
        self, connect: Connect, settings: ImageSettings, clock: Clock, ledger: Ledger, tasks: TaskGroup
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self._connect = connect
        self._registries = Registries(settings.registries)
        self._clock = clock
        self._flights: Flights[ResolvedImage] = Flights(tasks)
        self.builds = Builds(connect, settings, self, ledger, self._flights, self.now)
        self.cache = Cache(connect, settings, self, ledger, self._flights, self.now)
        self._pulls = CapacityLimiter(settings.pulls_max)
        self._machine: tuple[str, str] | None = None

    async def resolve(
        self,
        reference: str,
        pull: PullPolicy | None = None,
        *,
        pinned: str | None = None,
        listener: Listener | None = None,
    ) -> ResolvedImage:
        """Return the image, which is on the engine by then.

        Args:
            reference: Its name; with a digest it is exactly that, whatever its tag says by now.
            pull: When to ask the registry; None takes the setting. `always` asks once for all who ask at one time.
            pinned: What `ResolvedImage.pin` said before: the same image again, even if the name means another by now.
            listener: Takes reports of a pull, at most one a second; nothing when there is none.

        Raises:
            InvalidRequest: it is no name of an image.
            ImageNotAllowed: it would have to be pulled from where nothing may be pulled from.
            ImageNotFound, ImageUnauthorized, ImageUnreachable, ImageUnfit, ImageError: it could not be had; says what
                to do.

        Cancellation: a pull goes on as long as anybody else waits for it.
        """
        name = parse_reference(reference)
        policy = pull or self.settings.pull
        if pinned is not None and name.id is None:
            # The id of an image that no registry has is a digest too, and looks the same: it may be here under it.
            found = await self.find(parse_reference(pinned))
            if found is not None and found.digest is None and pinned == found.id:
                return await self._used(name, found)
            name = name.pinned(pinned)
        exact = name.id is not None or name.digest is not None
        if policy != "always" or exact or not name.pullable:
            found = await self.find(name)
            if found is not None:
                return await self._used(name, found)
        if not name.pullable or policy == "never":
            raise _absent(name, policy)
        self._registries.check(name)
        return await self._used(name, await self._pull(name, listener))

    def now(self) -> float:
        """Return the Unix time by the images' clock."""
        return self._clock.now_us() / 1e6

    async def _used(self, name: Reference, found: ResolvedImage) -> ResolvedImage:
        engine, architecture = await self.machine()
        if found.architecture not in {"", architecture}:
            raise ImageUnfit(
                f"{name.full} is made for {found.architecture}, and this engine's machine is {architecture}: ask for "
                "an image of that architecture.",
                image=name.full,
            )
        await self.ledger.use(found.id, engine, self.now())
        return found

    async def machine(self) -> tuple[str, str]:
        """Return the engine's id and its architecture.

        Raises:
            ImageUnreachable: the engine does not answer.
        """
        if self._machine is None:
            try:
                with anyio.fail_after(INSPECT_SECONDS):
                    # What the client's library leaves open: the engine's JSON.
                    docker = await self._connect()
                    system: Any = docker.system
                    about: dict[str, Any] = await system.info()
                    version = await docker.version()
            except (DockerError, aiohttp.ClientError, OSError) as error:
                raise engine_silent(error) from None
            self._machine = str(about["ID"]), str(version["Arch"])
        return self._machine

    async def find(self, name: Reference) -> ResolvedImage | None:
        """Return an image that the engine has, None where it has none of that name.

        Raises:
            ImageUnreachable, ImageError: it cannot be asked.
        """
        try:
            with anyio.fail_after(INSPECT_SECONDS):
                inspected: dict[str, Any] = await (await self._connect()).images.inspect(name.full)
        except DockerError as error:
            if error.status == 404:
                return None
            if error.status == NOT_CONNECTED:
                raise engine_silent(error) from None
            raise explain(name.full, error.message, error.status) from None
        except (aiohttp.ClientError, OSError) as error:
            raise engine_silent(error) from None
        return resolved(name, inspected)

    # -- pulling -------------------------------------------------------------------------------------------------------

    async def _pull(self, name: Reference, listener: Listener | None) -> ResolvedImage:
        return await self._flights.join(
            f"pull {name.full}", lambda: Track(name.full, "pull"), lambda track: self._fetch(name, track), listener
        )

    async def _fetch(self, name: Reference, track: Track) -> ResolvedImage:
        async with self._pulls:
            track.set("running")
            before = await self.find(name)
            deadline = anyio.current_time() + self.settings.pull_seconds
            for attempt in range(1, self.settings.pull_attempts + 1):
                try:
                    with anyio.CancelScope(deadline=deadline) as scope:
                        await self._fetch_once(name, track)
                    if scope.cancelled_caught:
                        raise ImageError(
                            f"{name.full} could not be pulled within {self.settings.pull_seconds:g} s "
                            "(`images.pull_seconds`): prefetch it, or allow more.",
                            image=name.full,
                        )
                    break
                except ImageUnreachable as error:
                    if attempt == self.settings.pull_attempts:
                        raise
                    _log.warning("pull_again", image=name.full, attempt=attempt, detail=error.detail)
                    await anyio.sleep(RETRY_SECONDS * 2**attempt)
            found = await self.find(name)
            if found is None:
                raise ImageUnreachable(f"{name.full}: the engine broke the pull off; is it there?", image=name.full)
            await self._own(name, found, before)
            track.set("done", digest=found.pin)
            await self.cache.bound()
            return found

    async def _fetch_once(self, name: Reference, track: Track) -> None:
        credentials = await load_credentials(self.settings.credentials_file)
        header = credentials.header(name.registry)
        parameters = {"fromImage": name.full}
        try:
            async for message in messages(
                self._connect,
                "images/create",
                parameters,
                {} if header is None else {"X-Registry-Auth": header},
                self.settings.quiet_seconds,
            ):
                track.take(message)
        except EngineSaid as error:
            raise explain(name.full, credentials.hide(error.words), error.status) from None

    async def _own(self, name: Reference, found: ResolvedImage, before: ResolvedImage | None) -> None:
        # What was there before we pulled is somebody else's, unless the ledger says that it is ours.
        engine, _ = await self.machine()
        known = self.ledger.find(name.full, engine)
        if known is None and before is not None:
            return
        await self.ledger.put(name.full, Entry(id=found.id, origin="pulled", engine=engine, used=self.now()))


def _absent(name: Reference, policy: PullPolicy) -> ImageNotFound:
    if name.id is not None:
        advice = "The engine has no image of that id, and no registry knows ids: name it by repository and digest."
    elif name.registry == BUILT_REGISTRY:
        advice = "It is built here and nowhere else, and it is gone or was never built: build it again."
    else:
        advice = (
            f"The engine does not have it, and it is not pulled (policy {policy!r}): prefetch it, or allow pulling."
        )
    return ImageNotFound(f"{name.full}: {advice}", image=name.full)
