"""The engine: its API through aiodocker, with a bound on every wait and errors of ours.

One client is for calls, another for what waits long (one open request for each living sandbox, and the events): calls
never queue behind waits. Connections are not kept between calls, so that a restarted engine is just a new connection.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio
import anyio.to_thread
import msgspec

from chronicled.events.errors import ConfigurationError
from chronicled.runtimes.docker.container import Container
from chronicled.runtimes.docker.facts import EngineFacts, facts_of
from chronicled.runtimes.docker.failure import EngineRefused, EngineUnreachable

if TYPE_CHECKING:
    import aiodocker

__all__ = ["Engine", "address"]

CALL_SECONDS: Final = 30.0
ARCHIVE_SECONDS: Final = 300.0
CREATE_SECONDS: Final = 60.0
START_SECONDS: Final = 60.0
REMOVE_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 300.0
"""A wait for a container's end is asked again so often: a connection that was lost silently is noticed."""
CALLS_MAX: Final = 32
"""Calls in flight; further ones queue."""
_SOCKETS: Final = ("/var/run/docker.sock", "/run/docker.sock")
_UNREACHABLE_STATUS: Final = 900
"""What aiodocker calls a failed connection."""

Answer = TypeVar("Answer")
Document = dict[str, Any]


def address(host: str, environment: Mapping[str, str]) -> str:
    """Return the engine's address, `unix://PATH` or `tcp://HOST:PORT`: the setting, DOCKER_HOST, or the usual socket.

    Raises:
        ConfigurationError: it is of a form that is not spoken here.
    """
    found = host or environment.get("DOCKER_HOST", "")
    if not found:
        sockets = [path for path in _SOCKETS if os.path.exists(path)]
        rootless = os.path.join(environment.get("XDG_RUNTIME_DIR", ""), "docker.sock")
        if not sockets and os.path.isabs(rootless) and os.path.exists(rootless):
            sockets = [rootless]
        found = f"unix://{(sockets or _SOCKETS)[0]}"
    if not found.startswith(("unix:///", "tcp://")):
        raise ConfigurationError(f"docker.host: {found!r} is neither unix:///PATH nor tcp://HOST:PORT")
    return found


class Engine:
    """One engine. Close it with `aclose`; what is called after that connects anew.

    Args:
        host: Its address; empty is DOCKER_HOST, or the usual socket.
        tls_directory: Folder of `ca.pem`, `cert.pem` and `key.pem`, for `tcp://`.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    def __init__(self, host: str = "", tls_directory: str = "") -> None:
        self.address = address(host, os.environ)
        if not tls_directory and os.environ.get("DOCKER_TLS_VERIFY"):
            tls_directory = os.environ.get("DOCKER_CERT_PATH", "")
        self._tls_directory = tls_directory
        self.call_seconds = CALL_SECONDS
        """How long it may take over what it answers from memory, or by sending a signal."""
        self._calls: aiodocker.Docker | None = None
        self._waits: aiodocker.Docker | None = None
        self._opening = anyio.Lock()
        self._facts: EngineFacts | None = None

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, as far as its address tells."""
        return self.address.startswith("unix://")

    async def connect(self) -> aiodocker.Docker:
        """Return the library's own client, for what has no call here; it is the engine's to close.

        Raises:
            OSError: what TLS needs cannot be read.
        """
        return await self._client(waits=True)

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        clients, self._calls, self._waits = (self._calls, self._waits), None, None
        for client in clients:
            if client is not None:
                await client.close()
                await client.connector.close()

    # -- the engine itself -----------------------------------------------------------------------------------------

    async def facts(self, *, fresh: bool = False) -> EngineFacts:
        """Return what the engine is and can: asked again after it was lost, or when it must be certain."""
        if self._facts is None or fresh:

            async def ask(client: aiodocker.Docker) -> EngineFacts:
                version = await client.version()
                system: Any = client.system
                return facts_of(cast("Document", await system.info()), version)

            self._facts = await self._call("describe itself", self.call_seconds, ask)
        return self._facts

    async def follow(self, filters: Document, since: int, take: Callable[[Document], None]) -> None:
        """Hand over the engine's events as they come, from `since` (nanoseconds, 0: from now on), until it goes away.

        Raises:
            EngineUnreachable: it went away, or was not there.
        """
        lost = await self._events({"filters": filters, **({"since": _instant(since)} if since else {})}, take)
        self._facts = None
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

        # What the client's library leaves open.
        events: Any = cast("Any", DockerEvents)(await self._client(waits=True))
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
        return await self._find("inspect an image", lambda client: client.images.inspect(name))

    async def volume_device(self, name: str) -> str:
        """Return what a named volume is mounted from, empty where that is the engine's own or it is not there yet."""

        async def ask(client: aiodocker.Docker) -> Document:
            volumes: Any = client.volumes
            return cast("Document", await (await volumes.get(name)).show())

        found = await self._find("inspect a volume", ask) or {}
        options = cast("dict[str, str]", found.get("Options") or {})
        return options.get("device", "")

    # -- containers ------------------------------------------------------------------------------------------------

    async def create(self, name: str, body: Document) -> str:
        """Make a container and return its id.

        Raises:
            EngineRefused: as the engine says.
            EngineUnreachable: it may be there or not.
        """

        async def ask(client: aiodocker.Docker) -> str:
            return (await client.containers.create(body, name=name)).id

        return await self._call("make a container", CREATE_SECONDS, ask)

    async def start(self, container: str) -> None:
        """Start a container. Raises as `create`."""
        await self._call("start a container", START_SECONDS, lambda client: _container(client, container).start())

    async def inspect(self, container: str) -> Container | None:
        """Return the engine's inspection of a container, None when there is none of this id or name on this engine."""

        async def ask(client: aiodocker.Docker) -> Container:
            return msgspec.convert(await _container(client, container).show(), Container)

        return await self._find("inspect a container", ask)

    async def wait(self, container: str) -> bool:
        """Return True once the container does not run or is not there, False when it still ran after a long while.

        Raises:
            EngineRefused, EngineUnreachable: the wait was cut short; it says nothing about the container.
        """

        async def ask(client: aiodocker.Docker) -> Any:
            return await _container(client, container).wait()

        with anyio.move_on_after(WAIT_SECONDS):
            await self._find("wait for a container", ask, WAIT_SECONDS + self.call_seconds, waits=True)
            return True
        return False

    async def kill(self, container: str, signal: str = "SIGKILL") -> bool:
        """Send a signal to a container's first process; return False where it does not run or is not there."""
        return await self._act("kill a container", lambda client: _container(client, container).kill(signal=signal))

    async def pause(self, container: str) -> None:
        """Pause a container. Raises as `create`."""
        await self._call("pause a container", self.call_seconds, lambda client: _container(client, container).pause())

    async def unpause(self, container: str) -> None:
        """Let a container go on. Raises as `create`."""
        await self._call(
            "unpause a container", self.call_seconds, lambda client: _container(client, container).unpause()
        )

    async def remove(self, container: str) -> bool:
        """Kill and remove a container with its own volumes; return False where it is gone, or on its way."""
        return await self._act(
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
                {"Id": each.id, **{name: each[name] for name in ("Labels", "Names", "State") if name in each}}
                for each in found
            ]

        return await self._call("list containers", self.call_seconds, ask)

    # -- archives --------------------------------------------------------------------------------------------------

    async def put_archive(self, container: str, path: str, data: AsyncIterable[bytes] | bytes) -> None:
        """Extract a tar archive in a folder of a container, which need not run. Raises as `create`."""

        async def ask(client: aiodocker.Docker) -> None:
            # What the client's library types as bytes goes out as it comes.
            await _container(client, container).put_archive(path, cast("Any", data))

        await self._call("fill a volume", ARCHIVE_SECONDS, ask, waits=True)

    async def has_path(self, container: str, path: str) -> bool:
        """Return whether a container, which need not run, has a small file. Raises as `create`."""

        async def ask(client: aiodocker.Docker) -> bool:
            archive = await _container(client, container).get_archive(path)
            archive.close()
            return True

        return await self._find("look into a volume", ask) or False

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _act(
        self, what: str, ask: Callable[[aiodocker.Docker], Awaitable[Any]], seconds: float | None = None
    ) -> bool:
        try:
            await self._call(what, seconds or self.call_seconds, ask)
        except EngineRefused as error:
            if error.engine_status not in (404, 409):
                raise
            return False
        return True

    async def _find(
        self,
        what: str,
        ask: Callable[[aiodocker.Docker], Awaitable[Answer]],
        seconds: float | None = None,
        *,
        waits: bool = False,
    ) -> Answer | None:
        try:
            return await self._call(what, seconds or self.call_seconds, ask, waits=waits)
        except EngineRefused as error:
            if error.engine_status != 404:
                raise
            return None

    async def _call(
        self,
        what: str,
        seconds: float,
        ask: Callable[[aiodocker.Docker], Awaitable[Answer]],
        *,
        waits: bool = False,
    ) -> Answer:
        """Return the engine's answer.

        Raises:
            EngineRefused: it answered with an error.
            EngineUnreachable: it did not answer.
        """
        import aiodocker
        import aiohttp

        try:
            with anyio.fail_after(seconds):
                return await ask(await self._client(waits=waits))
        except aiodocker.DockerError as error:
            if error.status != _UNREACHABLE_STATUS:
                raise EngineRefused(_sentence(error.message), status=error.status) from None
            self._facts = None
            raise EngineUnreachable(f"The engine could not be asked to {what}: {error.message}") from None
        except TimeoutError:
            self._facts = None
            raise EngineUnreachable(f"The engine did not {what} within {seconds:g} s.") from None
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            # Cut off in the middle of an answer, or an answer that is none.
            self._facts = None
            raise EngineUnreachable(f"The engine could not be asked to {what}: {error!r}") from None

    async def client(self) -> aiodocker.Docker:
        """Return a client for long calls, such as pulls; it stays the engine's: do not close it."""
        return await self._client(waits=True)

    async def _client(self, *, waits: bool) -> aiodocker.Docker:
        async with self._opening:
            client = self._waits if waits else self._calls
            if client is None:
                client = await self._open(limit=0 if waits else CALLS_MAX)
                if waits:
                    self._waits = client
                else:
                    self._calls = client
            return client

    async def _open(self, limit: int) -> aiodocker.Docker:
        # Late: together they are a third of a second, and a daemon without containers needs neither.
        import aiodocker
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
        if self.local:
            path = self.address.removeprefix("unix://")
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=limit, force_close=True)
            return aiodocker.Docker("unix://localhost", connector=connector, timeout=timeout)
        if not self._tls_directory:
            connector = aiohttp.TCPConnector(limit=limit, force_close=True)
            return aiodocker.Docker(self.address, connector=connector, timeout=timeout)
        context = await anyio.to_thread.run_sync(_tls, self._tls_directory)
        connector = aiohttp.TCPConnector(limit=limit, force_close=True, ssl=context)
        return aiodocker.Docker(f"https://{self.address.removeprefix('tcp://')}", connector=connector, timeout=timeout)


def _container(client: aiodocker.Docker, container: str) -> Any:
    """Return the library's own object for a container; its types are not told."""
    containers: Any = client.containers
    return containers.container(container)


def _instant(nanoseconds: int) -> str:
    """Return a Unix time as the engine takes it."""
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _tls(directory: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=os.path.join(directory, "ca.pem"))
    context.load_cert_chain(os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem"))
    return context


def _sentence(message: str) -> str:
    """Return the engine's message on one line, of a bounded length."""
    return " ".join(message.split())[:1000]
