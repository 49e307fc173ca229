"""The life of a daemon: started in one order, drained in the other."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

import anyio
import structlog

from chronicled.daemon.http.server import Api, Listener
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.daemon.notify import notify
from chronicled.daemon.waits import Waits
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE
from chronicled.events.ids import IdSource
from chronicled.events.kinds.lifecycle import DaemonStarted, DaemonStopped
from chronicled.events.store import Append, EventStore

__all__ = ["Bound", "Journal", "Service", "boot_id", "serve_until_stopped"]

SYSTEM_TENANT: Final = "_system"
DAEMON_SESSION: Final = "daemon"
FINISH_SECONDS: Final = 2.0

log: Any = structlog.get_logger("chronicled")


def boot_id() -> str:
    """Return what the kernel calls this boot; the host's name where it does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read(64).strip()
    except OSError:
        return platform.node()


class Journal:
    """The daemon's own events, in a session of its own."""

    def __init__(self, store: EventStore, codec: Codec, ids: IdSource) -> None:
        self._store = store
        self._codec = codec
        self._ids = ids

    async def started(self, schema: int) -> None:
        """Append `daemon_started`; what a crash left unsynced in the log is durable when this returns."""
        payload = DaemonStarted(
            version=version("chronicled"),
            boot_id=boot_id(),
            pid=os.getpid(),
            incarnation=self._store.incarnation,
            schema=schema,
        )
        create = await self._store.last(SYSTEM_TENANT, DAEMON_SESSION) is None
        await self._append("daemon_started", payload, create=create)

    async def stopped(self, reason: str) -> None:
        """Append `daemon_stopped`."""
        await self._append("daemon_stopped", DaemonStopped(reason=reason), create=False)

    async def _append(self, kind: str, payload: Any, *, create: bool) -> None:
        draft = self._codec.draft(
            LIFECYCLE, kind, payload, tenant=SYSTEM_TENANT, session=DAEMON_SESSION, id=self._ids.new()
        )
        await self._store.append(Append((draft,), create=create))


class Service(Protocol):
    """Something that runs beside the API for as long as the daemon does: the worker, the loop's monitor."""

    async def run(self) -> None:
        """Run until cancelled."""
        ...


class Bound:
    """A listening socket and the server behind it."""

    def __init__(self, listener: Listener, start: Callable[[Listener], Awaitable[asyncio.AbstractServer]]) -> None:
        self.listener = listener
        self._start = start
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Accept connections."""
        self._server = await self._start(self.listener)

    async def stop(self) -> None:
        """Accept no more; end what is still connected."""
        if self._server is not None:
            self._server.close()
        self.listener.pre_shutdown()
        await self.listener.shutdown(FINISH_SECONDS)


async def serve_until_stopped(
    api: Api,
    bounds: Sequence[Bound],
    subscribers: Subscribers,
    waits: Waits,
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set, then drain: nothing new is taken, what is being answered is finished, within bounds.

    Streams end at once (their readers come back with a cursor); waits are answered with what is known so far.
    """
    for bound in bounds:
        await bound.start()
    notify("READY=1\nSTATUS=serving")
    log.info("serving", pid=os.getpid())
    await stop.wait()
    notify("STOPPING=1\nSTATUS=draining")
    log.info("draining", requests=api.in_flight)
    api.draining = True
    waits.release()
    subscribers.close()
    with anyio.move_on_after(api.limits.drain_seconds):
        await api.idle()
    for bound in bounds:
        await bound.stop()


def on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
