"""The proxy of one sandbox: it listens on a socket in the directory that the sandbox sees, and nowhere else."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import structlog
from anyio import CapacityLimiter
from anyio.abc import SocketListener, SocketStream

from chronicled.runtimes.action_server.address import bind
from chronicled.runtimes.docker.egress_connection import Budget, EgressConnection, answer, reply
from chronicled.runtimes.docker.egress_denials import Denials, Report
from chronicled.runtimes.docker.egress_dial import Resolve
from chronicled.runtimes.docker.egress_rules import Rules
from chronicled.runtimes.docker.network_settings import AllowSettings

__all__ = ["EGRESS_SOCKET", "EgressProxy"]

EGRESS_SOCKET: Final = "egress.sock"
"""Name of the socket, beside the worker's own."""
BACKLOG: Final = 64
REFUSALS_MAX: Final = 64
LOOK_UPS_MAX: Final = 3
"""Names of one sandbox that are looked up at one time: all share few threads, and a silent name server holds one."""

_log = structlog.get_logger("chronicled.egress")


class EgressProxy:
    """The proxy of one sandbox.

    Args:
        policy: Name of the network policy.
        settings: The policy.
        rules: Its entries.
        label: Names the sandbox in the worker's log.
        report: Puts denials into the session's stream.
        resolve: Turns names into addresses.
    """

    def __init__(
        self, policy: str, settings: AllowSettings, rules: Rules, label: str, report: Report, resolve: Resolve
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.rules = rules
        self.label = label
        self._resolve = resolve
        self._look_ups = CapacityLimiter(LOOK_UPS_MAX)
        self.budget = Budget(settings.bytes_max)
        self.denials = Denials(policy, report)
        self._open = 0
        self._refusing = 0

    async def resolve(self, name: str) -> list[str]:
        """Return the addresses of a name, in the sandbox's own turn; raises as `Resolve`."""
        async with self._look_ups:
            return await self._resolve(name)

    @asynccontextmanager
    async def listen(self, directory: str) -> AsyncGenerator[None]:
        """Serve on `egress.sock` in the directory until left; then every connection is closed and denials are told.

        Raises:
            OSError: the socket cannot be bound.
        """
        listener = await _bind(directory)
        async with anyio.create_task_group() as tasks, listener:
            tasks.start_soon(self.denials.run)
            tasks.start_soon(self._accept_all, listener)
            yield
            tasks.cancel_scope.cancel()

    async def _accept_all(self, listener: SocketListener) -> None:
        second, count = anyio.current_time(), 0
        async with anyio.create_task_group() as connections:
            while True:
                if anyio.current_time() >= second + 1:
                    second, count = anyio.current_time(), 0
                elif count >= self.settings.connections_per_second:
                    # Those who come meanwhile wait in the socket's queue.
                    await anyio.sleep(second + 1 - anyio.current_time())
                    continue
                try:
                    stream = await listener.accept()
                except anyio.BrokenResourceError as error:
                    _log.warning("accept_failed", sandbox=self.label, error=str(error.__cause__))
                    await anyio.sleep(0.1)
                    continue
                count += 1
                if self._open < self.settings.connections_max:
                    self._open += 1
                    connections.start_soon(self._serve, stream)
                elif self._refusing < REFUSALS_MAX:
                    self.denials.note("*", 0, "connections_max")
                    self._refusing += 1
                    connections.start_soon(self._turn_away, stream)
                else:
                    await anyio.aclose_forcefully(stream)

    async def _serve(self, stream: SocketStream) -> None:
        try:
            await EgressConnection(stream, self).serve()
        except Exception:
            # A mistake of ours ends one connection, and not those of everybody.
            _log.exception("egress_failed", sandbox=self.label)
        finally:
            self._open -= 1

    async def _turn_away(self, stream: SocketStream) -> None:
        try:
            text = f"this sandbox has its {self.settings.connections_max} connections; close some."
            await reply(stream, answer(503, text))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            pass
        finally:
            self._refusing -= 1
            await anyio.aclose_forcefully(stream)


async def _bind(directory: str) -> SocketListener:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    temporary = f".egress-{os.getpid()}-{os.urandom(4).hex()}"
    path = os.path.join(directory, temporary)
    try:
        bind(listening, directory, temporary)
        # For any user of the sandbox; nobody else reaches the directory.
        os.chmod(path, 0o666)
        listening.listen(BACKLOG)
        os.rename(path, os.path.join(directory, EGRESS_SOCKET))
        return await SocketListener.from_socket(listening)
    except BaseException:
        listening.close()
        raise
