"""Connections to an engine: its address, its clients, and calls with a bound on every wait and errors of ours.

One client is for calls, another for what waits long (one open request for each living sandbox, and the events): calls
never queue behind waits. Connections are not kept between calls, so that a restarted engine is just a new connection.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread

from chronicled.events.errors import ConfigurationError
from chronicled.runtimes.docker import engine_tls
from chronicled.runtimes.docker.failure import EngineDenied, EngineRefused, EngineUnreachable, denied

if TYPE_CHECKING:
    import aiodocker

__all__ = ["CALL_SECONDS", "Connections", "address"]

CALL_SECONDS: Final = 30.0
CALLS_MAX: Final = 32
"""Calls in flight; further ones queue."""
_SOCKETS: Final = ("/var/run/docker.sock", "/run/docker.sock")
_UNREACHABLE_STATUS: Final = 900
"""What aiodocker calls a failed connection."""

Answer = TypeVar("Answer")


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


class Connections:
    """The connections to one engine. Close them with `aclose`; what is called after that connects anew.

    Args:
        host: Its address; empty is DOCKER_HOST, or the usual socket.
        tls_directory: Folder of `ca.pem`, `cert.pem` and `key.pem`, for `tcp://`.

    Raises:
        ConfigurationError: the address cannot be used.
    """

    def __init__(self, host: str = "", tls_directory: str = "") -> None:
        self.address = address(host, os.environ)
        self._tls_directory = engine_tls.files_of(tls_directory, os.environ)
        self.call_seconds = CALL_SECONDS
        """How long it may take over what it answers from memory, or by sending a signal."""
        self._calls: aiodocker.Docker | None = None
        self._waits: aiodocker.Docker | None = None
        self._former: list[aiodocker.Docker] = []
        """Those with certificates that have been changed since: what is open over them goes on."""
        self._stamp: engine_tls.Stamp = ()
        self._opening = anyio.Lock()
        self.losses: int = 0
        """How often it was found not to answer."""

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, as far as its address tells."""
        return self.address.startswith("unix://")

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        clients, self._former = (self._calls, self._waits, *self._former), []
        self._calls = self._waits = None
        for client in clients:
            if client is not None:
                await client.close()
                await client.connector.close()

    # -- calls -----------------------------------------------------------------------------------------------------

    async def act(
        self, what: str, ask: Callable[[aiodocker.Docker], Awaitable[Any]], seconds: float | None = None
    ) -> bool:
        """Have the engine do something; return False where there is nothing to do it to, or it is done. As `call`."""
        try:
            await self.call(what, seconds or self.call_seconds, ask)
        except EngineRefused as error:
            if error.engine_status not in (404, 409):
                raise
            return False
        return True

    async def find(
        self,
        what: str,
        ask: Callable[[aiodocker.Docker], Awaitable[Answer]],
        seconds: float | None = None,
        *,
        waits: bool = False,
    ) -> Answer | None:
        """Return the engine's answer, None where it does not know what is asked about. As `call`."""
        try:
            return await self.call(what, seconds or self.call_seconds, ask, waits=waits)
        except EngineRefused as error:
            if error.engine_status != 404:
                raise
            return None

    async def call(
        self,
        what: str,
        seconds: float,
        ask: Callable[[aiodocker.Docker], Awaitable[Answer]],
        *,
        waits: bool = False,
    ) -> Answer:
        """Return the engine's answer.

        Args:
            what: What it is asked to do, for the error.
            seconds: How long it may take.
            ask: Asks it, and reads the answer.
            waits: It may take long: it does not count among the calls in flight.

        Raises:
            EngineRefused: it answered with an error.
            EngineUnreachable: it did not answer; `EngineDenied` where this user may not even ask.
        """
        import aiodocker
        import aiohttp

        try:
            with anyio.fail_after(seconds):
                return await ask(await self.client_for(waits=waits))
        except aiodocker.DockerError as error:
            if error.status != _UNREACHABLE_STATUS:
                raise EngineRefused(self._said(error), engine_status=error.status) from None
            raise self._lost(what, error, error.message) from None
        except TimeoutError:
            self.losses += 1
            raise EngineUnreachable(f"The engine did not {what} within {seconds:g} s.") from None
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            # Cut off in the middle of an answer, or an answer that is none.
            raise self._lost(what, error, repr(error)) from None

    def _said(self, error: aiodocker.DockerError) -> str:
        told = _sentence(error.message)
        if not self.local and not self._tls_directory and "HTTPS server" in told:
            told += " (docker.tls_directory, or DOCKER_TLS_VERIFY with DOCKER_CERT_PATH)"
        return told

    def _lost(self, what: str, error: BaseException, told: str) -> EngineUnreachable:
        self.losses += 1
        if self.local and denied(error):
            path = self.address.removeprefix("unix://")
            return EngineDenied(
                f"The engine's socket {path} may not be used by this user (uid {os.geteuid()}): add it to the socket's "
                "group, or name an engine of its own (docker.host, DOCKER_HOST)."
            )
        if self._tls_directory and (trouble := engine_tls.trouble_of(error, self._tls_directory)):
            told = trouble
            if self._stamp != engine_tls.stamp_of(self._tls_directory):
                # The next call looks at the files again.
                self._former += [client for client in (self._calls, self._waits) if client is not None]
                self._calls = self._waits = None
        return EngineUnreachable(f"The engine could not be asked to {what}: {_sentence(told)}")

    async def client(self) -> aiodocker.Docker:
        """Return a client for long calls, such as pulls; it stays the engine's: do not close it."""
        return await self.client_for(waits=True)

    async def client_for(self, *, waits: bool) -> aiodocker.Docker:
        """Return the client for calls, or for what waits long.

        Raises:
            OSError: what TLS needs cannot be used.
        """
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
        from chronicled.runtimes.docker.tls_connector import TlsConnector

        self._stamp = engine_tls.stamp_of(self._tls_directory)
        context = await anyio.to_thread.run_sync(engine_tls.context_of, self._tls_directory)
        connector = TlsConnector(context, limit)
        return aiodocker.Docker(f"https://{self.address.removeprefix('tcp://')}", connector=connector, timeout=timeout)


def _sentence(message: str) -> str:
    """Return the engine's message on one line, of a bounded length."""
    return " ".join(message.split())[:1000]
