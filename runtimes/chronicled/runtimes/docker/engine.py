"""The engine: its API as far as sandboxes need it, through aiodocker."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import msgspec

from chronicled.runtimes.docker.connections import address
from chronicled.runtimes.docker.container import Container
from chronicled.runtimes.docker.engine_volumes import EngineVolumes
from chronicled.runtimes.docker.facts import EngineFacts, facts_of
from chronicled.runtimes.docker.failure import EngineUnreachable

if TYPE_CHECKING:
    import aiodocker

__all__ = ["Engine", "address"]

ARCHIVE_SECONDS: Final = 300.0
CREATE_SECONDS: Final = 60.0
START_SECONDS: Final = 60.0
REMOVE_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 300.0
"""A wait for a container's end is asked again so often: a connection that was lost silently is noticed."""

Document = dict[str, Any]


class Engine(EngineVolumes):
    """One engine. Every call raises `EngineRefused` where it answers no, and `EngineUnreachable` where it does not.

    Close it with `aclose`; what is called after that connects anew.

    Args:
        host: Its address; empty is DOCKER_HOST, or the usual socket.
        tls_directory: Folder of `ca.pem`, `cert.pem` and `key.pem`, for `tcp://`.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    def __init__(self, host: str = "", tls_directory: str = "") -> None:
        super().__init__(host, tls_directory)
        self._facts: EngineFacts | None = None
        self._facts_losses = 0

    # -- the engine itself -----------------------------------------------------------------------------------------

    async def facts(self, *, fresh: bool = False) -> EngineFacts:
        """Return what the engine is and can: asked again after it was lost, or when it must be certain."""
        if self._facts is None or self._facts_losses != self.losses or fresh:
            losses = self.losses

            async def ask(client: aiodocker.Docker) -> EngineFacts:
                version = await client.version()
                system: Any = client.system
                return facts_of(cast("Document", await system.info()), version)

            self._facts = await self.call("describe itself", self.call_seconds, ask)
            self._facts_losses = losses
        return self._facts

    async def follow(self, filters: Document, since: int, take: Callable[[Document], None]) -> None:
        """Hand over the engine's events as they come, from `since` (nanoseconds, 0: from now on), until it goes away.

        Raises:
            EngineUnreachable: it went away, or was not there.
        """
        lost = await self._events({"filters": filters, **({"since": _instant(since)} if since else {})}, take)
        self.losses += 1
        raise EngineUnreachable(f"The engine's events ended: {lost or 'it went away'}.")

    async def recall(self, filters: Document, since: int, until: int, take: Callable[[Document], None]) -> None:
        """Hand over what the engine remembers of a span of time (nanoseconds); it forgets, and all at a restart.

        Raises:
            EngineUnreachable: it does not answer.
        """
        span = {"since": _instant(since), "until": _instant(until)}
        lost = "it took too long"
        with anyio.move_on_after(self.call_seconds):
            lost = await self._events({"filters": filters, **span}, take)
        if lost:
            raise EngineUnreachable(f"The engine did not tell what has happened: {lost}.")

    async def _events(self, parameters: Document, take: Callable[[Document], None]) -> str:
        """Hand over events until they end; return what was wrong then, empty where they only ended."""
        from aiodocker.events import DockerEvents

        try:
            client = await self.client_for(waits=True)
        except OSError as error:
            return f"it cannot be connected to: {error}"
        # What the client's library leaves open.
        events: Any = cast("Any", DockerEvents)(client)
        subscription = events.subscribe(create_task=False)
        parameters["filters"] = msgspec.json.encode(parameters["filters"]).decode()
        lost = ""

        async def pump() -> None:
            nonlocal lost
            try:
                await events.run(**parameters)
            except Exception as error:
                lost = str(error) or type(error).__name__

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pump)
            while (event := cast("Document | None", await subscription.get())) is not None:
                take(event)
        return lost

    async def image(self, name: str) -> Document | None:
        """Return the engine's inspection of an image, None when it is not there."""
        return await self.find("inspect an image", lambda client: client.images.inspect(name))

    # -- containers ------------------------------------------------------------------------------------------------

    async def create(self, name: str, body: Document) -> str:
        """Make a container and return its id.

        Raises:
            EngineRefused: as the engine says.
            EngineUnreachable: it may be there or not.
        """

        async def ask(client: aiodocker.Docker) -> str:
            return (await client.containers.create(body, name=name)).id

        return await self.call("make a container", CREATE_SECONDS, ask)

    async def start(self, container: str) -> None:
        """Start a container. Raises as `create`."""
        await self.call("start a container", START_SECONDS, lambda client: _container(client, container).start())

    async def inspect(self, container: str) -> Container | None:
        """Return the engine's inspection of a container, None when there is none of this id or name on this engine."""

        async def ask(client: aiodocker.Docker) -> Container:
            return msgspec.convert(await _container(client, container).show(), Container)

        return await self.find("inspect a container", ask)

    async def wait(self, container: str) -> bool:
        """Return True once the container does not run or is not there, False when it still ran after a long while.

        Raises:
            EngineRefused, EngineUnreachable: the wait was cut short; it says nothing about the container.
        """

        async def ask(client: aiodocker.Docker) -> Any:
            return await _container(client, container).wait()

        with anyio.move_on_after(WAIT_SECONDS):
            await self.find("wait for a container", ask, WAIT_SECONDS + self.call_seconds, waits=True)
            return True
        return False

    async def kill(self, container: str, signal: str = "SIGKILL") -> bool:
        """Send a signal to a container's first process; return False where it does not run or is not there."""
        return await self.act("kill a container", lambda client: _container(client, container).kill(signal=signal))

    async def pause(self, container: str) -> None:
        """Pause a container. Raises as `create`."""
        await self.call("pause a container", self.call_seconds, lambda client: _container(client, container).pause())

    async def unpause(self, container: str) -> None:
        """Let a container go on. Raises as `create`."""
        await self.call(
            "unpause a container", self.call_seconds, lambda client: _container(client, container).unpause()
        )

    async def remove(self, container: str) -> bool:
        """Kill and remove a container with its own volumes; return False where it is gone, or on its way."""
        return await self.act(
            "remove a container",
            lambda client: _container(client, container).delete(force=True, v=True),
            REMOVE_SECONDS,
        )

    async def containers(self, *labels: str) -> list[Document]:
        """Return the engine's list of containers, running or not, with all of these labels (`name=value`)."""
        filters = msgspec.json.encode({"label": labels}).decode()

        async def ask(client: aiodocker.Docker) -> list[Document]:
            containers: Any = client.containers
            found: list[Any] = await containers.list(all=1, filters=filters)
            return [
                {
                    "Id": each.id,
                    **{name: each[name] for name in ("ImageID", "Labels", "Names", "State") if name in each},
                }
                for each in found
            ]

        return await self.call("list containers", self.call_seconds, ask)

    # -- archives --------------------------------------------------------------------------------------------------

    async def put_archive(self, container: str, path: str, data: AsyncIterable[bytes] | bytes) -> None:
        """Extract a tar archive in a folder of a container, which need not run. Raises as `create`."""

        async def ask(client: aiodocker.Docker) -> None:
            # What the client's library types as bytes goes out as it comes.
            await _container(client, container).put_archive(path, cast("Any", data))

        await self.call("fill a volume", ARCHIVE_SECONDS, ask, waits=True)

    async def peek(self, container: str, path: str, bytes_max: int) -> bytes | None:
        """Return the beginning of the tar archive of what a container, which need not run, has at a path.

        None where it has nothing there. A link at the path is not followed. Raises as `create`.
        """

        async def ask(client: aiodocker.Docker) -> bytes:
            if client.api_version == "auto":
                await client.version()
            url = f"{client.docker_host}/{client.api_version}/containers/{container}/archive"
            # The library's own call reads the archive to its end, however much that is.
            async with client.session.get(url, params={"path": path}) as answer:
                data = b""
                while len(data) < bytes_max and (piece := await answer.content.read(bytes_max - len(data))):
                    data += piece
                if answer.status >= 400:
                    from aiodocker import DockerError

                    raise DockerError(answer.status, data.decode(errors="replace"))
                return data

        return await self.find("look into an image", ask)

    async def has_path(self, container: str, path: str) -> bool:
        """Return whether a container, which need not run, has a small file. Raises as `create`."""

        async def ask(client: aiodocker.Docker) -> bool:
            archive = await _container(client, container).get_archive(path)
            archive.close()
            return True

        return await self.find("look into a volume", ask) or False


def _container(client: aiodocker.Docker, container: str) -> Any:
    """Return the library's own object for a container; its types are not told."""
    containers: Any = client.containers
    return containers.container(container)


def _instant(nanoseconds: int) -> str:
    """Return a Unix time as the engine takes it."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"
