"""The life of a daemon: started in one order, drained in the other."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import Any, Final

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
from chronicled.storage.log_schema import LOG_STEPS

__all__ = ["Bound", "Drain", "Journal", "boot_id", "on_signals", "serve_until_stopped"]

SYSTEM_TENANT: Final = "_system"
DAEMON_SESSION: Final = "daemon"
FINISH_SECONDS: Final = 2.0
SCHEMA: Final = LOG_STEPS[-1].number

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

    async def started(self) -> None:
        """Append `daemon_started`; what a crash left unsynced in the log is durable when this returns."""
        payload = DaemonStarted(
            version=version("chronicled"),
            boot_id=boot_id(),
            pid=os.getpid(),
            incarnation=self._store.incarnation,
            schema=SCHEMA,
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


class Bound:
    """A listening socket and the server behind it; `address` is what clients are given to reach it."""

    def __init__(
        self, address: str, listener: Listener, start: Callable[[Listener], Awaitable[asyncio.AbstractServer]]
    ) -> None:
        self.address = address
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


class Drain:
    """What has to come to rest before the daemon may end."""

    def __init__(self, api: Api, subscribers: Subscribers, waits: Waits) -> None:
        self._api = api
        self._subscribers = subscribers
        self._waits = waits

    async def run(self) -> None:
        """Take nothing new and finish what is being answered, within `limits.drain_seconds`.

        Streams end at once (their readers come back with a cursor); waits are answered with what is known so far.
        """
        api = self._api
        log.info("draining", requests=api.in_flight)
        api.draining = True
        self._waits.release()
        self._subscribers.close()
        with anyio.move_on_after(api.limits.drain_seconds):
            await api.idle()


async def serve_until_stopped(bounds: Sequence[Bound], drain: Drain, stop: asyncio.Event, data: str) -> None:
    """Accept connections until `stop` is set, then drain, then accept no more; `data` is for the log's first line."""
    for bound in bounds:
        await bound.start()
    notify("READY=1\nSTATUS=serving")
    log.info("serving", pid=os.getpid(), at=[bound.address for bound in bounds], data=data)
    try:
        await stop.wait()
        notify("STOPPING=1\nSTATUS=draining")
        await drain.run()
    finally:
        with anyio.CancelScope(shield=True):
            for bound in bounds:
                await bound.stop()


def on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM and SIGINT, and when the terminal is closed, unless `nohup` has us ignore that."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop.set)
