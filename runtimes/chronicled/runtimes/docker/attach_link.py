"""Links over the standard streams of containers: for engines that can share no directory with this host.

The library's attachment does all that is needed: it upgrades the connection (TLS too), takes the engine's headers off
the output, stops reading while nobody takes what came, and leaves the container its standard input when it goes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.worker.attach_link import AttachedStream, listen_attached
from chronicled.runtimes.worker.link import Accept

if TYPE_CHECKING:
    import aiodocker
    from aiodocker.stream import Stream

__all__ = ["AttachLines", "Client"]

TELL_SECONDS: Final = 20.0
ATTACH_SECONDS: Final = 20.0
DETACH_SECONDS: Final = 2.0
_STDOUT: Final = 1


class Client(Protocol):
    """Where the engine's client comes from."""

    async def client(self) -> aiodocker.Docker:
        """Return it; raises OSError where it cannot be."""
        ...


class _ContainerStream:
    """One attachment; an `AttachedStream`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def read(self) -> bytes:
        """Return what came next on standard output; what the server complains of on the other stream is not ours."""
        while True:
            try:
                message = await self._stream.read_out()
            except Exception as error:
                raise _broken(error) from error
            if message is None:
                return b""
            if message.stream == _STDOUT and message.data:
                return message.data

    async def write(self, data: bytes) -> None:
        """Write to standard input."""
        try:
            await self._stream.write_in(data)
        except Exception as error:
            raise _broken(error) from error

    async def close(self) -> None:
        """Detach; see `AttachedStream.close`."""
        try:
            await self._stream.close()
        except Exception as error:
            # The library asserts that there is a connection: there is none any more, which is what was wanted.
            _broken(error)


class _Line:
    """How one sandbox can be reached, once it can."""

    def __init__(self) -> None:
        self.container = ""
        self.token = ""
        self.opened = anyio.Event()
        self.listeners = 0
        """How many have listened; only the last one does."""


class AttachLines:
    """Lines to the containers of one engine, each known to the worker by the directory that a socket would be in.

    Args:
        client: Gives the engine's client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lines: dict[str, _Line] = {}

    async def tell(self, container: str, told: bytes) -> None:
        """Write what the action server is told at its start: once, before anything else.

        Raises:
            SandboxStartFailed: it could not be written; the container is of no use.
        """
        try:
            with anyio.fail_after(TELL_SECONDS):
                stream = await self._attach(container)
                try:
                    await stream.write(len(told).to_bytes(4, "big") + told)
                finally:
                    with anyio.CancelScope(shield=True), anyio.move_on_after(DETACH_SECONDS):
                        await stream.close()
        except (OSError, TimeoutError) as error:
            raise SandboxStartFailed(f"The action server could not be told its settings: {error}") from error

    def open(self, directory: str, container: str, token: str) -> None:
        """Say how the sandbox of a directory is reached from now on."""
        line = self._line(directory)
        line.container, line.token = container, token
        line.opened.set()

    @asynccontextmanager
    async def listen(self, directory: str, accept: Accept) -> AsyncGenerator[None]:
        """Keep attached to the sandbox of a directory, once it is open, in place of who listened before; a `Listen`.

        Cancellation: safe; the sandbox keeps its streams.
        """
        line = self._line(directory)
        line.listeners += 1
        listener = line.listeners
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._keep, line, listener, accept)
                yield
                tasks.cancel_scope.cancel()
        finally:
            if line.listeners == listener:
                self._lines.pop(directory, None)

    async def _keep(self, line: _Line, listener: int, accept: Accept) -> None:
        await line.opened.wait()
        async with listen_attached(partial(self._attach_for, line, listener), line.token, accept):
            await anyio.sleep_forever()

    async def _attach_for(self, line: _Line, listener: int) -> AttachedStream:
        if line.listeners != listener:
            # Somebody has taken the sandbox over: attaching again would throw them out.
            await anyio.sleep_forever()
        return await self._attach(line.container)

    def _line(self, directory: str) -> _Line:
        return self._lines.setdefault(directory, _Line())

    async def _attach(self, container: str) -> AttachedStream:
        # In the library the call takes any further fields, of no known type.
        containers: Any = (await self._client.client()).containers
        stream: Stream = containers.container(container).attach(stdin=True, stdout=True)
        try:
            with anyio.fail_after(ATTACH_SECONDS):
                await stream.__aenter__()
        except Exception as error:
            raise _broken(error) from error
        return _ContainerStream(stream)


def _broken(error: Exception) -> OSError:
    """Return the one error that an attachment has; the library has many, and assertions among them."""
    return OSError(f"{type(error).__name__}: {error}")
