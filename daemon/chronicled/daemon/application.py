"""The composition root: the only place that knows which classes stand behind the protocols."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import structlog

from chronicled.daemon.catalogue import Catalogue
from chronicled.daemon.configuration import Configuration
from chronicled.daemon.fail_stop import EXIT_FAILED, arm_fault_point, exit_code, stop_now
from chronicled.daemon.guarded_store import GuardedStore
from chronicled.daemon.http.action_routes import ActionRoutes
from chronicled.daemon.http.blob_routes import BlobRoutes
from chronicled.daemon.http.event_routes import EventRoutes
from chronicled.daemon.http.follow import Follower
from chronicled.daemon.http.health_routes import HealthRoutes
from chronicled.daemon.http.identity import PeerIdentity, TokenIdentity
from chronicled.daemon.http.openapi import document
from chronicled.daemon.http.output_routes import LiveOutputs, OutputRoutes
from chronicled.daemon.http.route import Route, Router
from chronicled.daemon.http.server import Api, Listener
from chronicled.daemon.http.session_routes import SessionRoutes
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.daemon.instance import load_instance
from chronicled.daemon.lifecycle import Bound, Drain, Journal, on_signals, serve_until_stopped
from chronicled.daemon.listening import UnixListener, listen_tcp, read_token
from chronicled.daemon.locations import make_private
from chronicled.daemon.logs import configure_logs
from chronicled.daemon.loop_monitor import watch_loop
from chronicled.daemon.metrics import Metrics
from chronicled.daemon.submission import Submission
from chronicled.daemon.waits import Waits
from chronicled.events.blobs import BlobStore
from chronicled.events.codec import Codec
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, Refused
from chronicled.events.ids import SystemIds
from chronicled.events.registry import builtin_registry
from chronicled.events.store import EventStore
from chronicled.storage.lock import DirectoryLock
from chronicled.storage.stream import LogStream

__all__ = ["serve"]

log: Any = structlog.get_logger("chronicled")


def serve(configuration: Configuration) -> int:
    """Run a daemon until SIGTERM or SIGINT and return its exit code.

    0 after an orderly end; 2 for a wrong configuration; 4 when it is refused (another daemon has the data or the
    socket, the database is too new, isolation); 70 when something failed inside. Sandboxes live on, whatever the code.
    """
    configure_logs(configuration.log)
    try:
        if setting := os.environ.get("CHRONICLED_FAULT_POINT"):
            arm_fault_point(setting)
        asyncio.run(_run(configuration))
    except ChronicledError as error:
        log.error("the daemon cannot run", code=error.code, detail=error.detail)
        return exit_code(error)
    except BaseExceptionGroup:
        log.exception("something failed inside")
        return EXIT_FAILED
    return 0


async def _run(settings: Configuration) -> None:
    stop = asyncio.Event()
    on_signals(stop)
    async with AsyncExitStack() as stack:
        application = Application(settings, stack)
        await application.open()
        await application.serve(stop)


class Application:
    """A daemon's parts, put together in the order of a start: claim the places, open the log, record the start, fold.

    Args:
        settings: The configuration.
        stack: Closes what was opened, in reverse order.
    """

    def __init__(self, settings: Configuration, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._registry = builtin_registry()
        self._codec = Codec(self._registry)
        self._ids = SystemIds()
        self._metrics = Metrics(self._registry)
        self._catalogue = Catalogue(self._registry)
        self._waits = Waits(self._registry, settings.limits.waits_max)
        self._subscribers = Subscribers(settings.limits.subscribers_max)

    async def open(self) -> None:
        """Open everything; when it returns, the daemon can serve.

        Raises:
            DataDirectoryBusy: another daemon has the data directory or the socket; nothing was written.
            Refused: a directory or file is not private, or sandboxes are not isolated and TCP is asked for.
            SchemaTooNew, LogCorrupt, StoreFailed: the log cannot be opened.
        """
        settings, stack = self._settings, self._stack
        self._check_isolation()
        data = Path(make_private(settings.data.directory))
        lock = stack.enter_context(DirectoryLock(data))
        self._unix = stack.enter_context(UnixListener(settings.http.socket))
        self._store = GuardedStore(await self._open_store(data, lock), stop_now)
        self._instance = load_instance(str(data), fresh=self._store.head == 0)
        self._stream = LogStream(self._store)
        stack.push_async_callback(self._stream.aclose)
        self._journal = Journal(self._store, self._codec, self._ids)
        # Synced before anything is folded or served: what a crash left behind in the log is durable from here on.
        await self._journal.started(1)
        await self._catalogue.load(self._store)
        self._store.listen(self._committed)
        self._blobs = await self._open_blobs(data)
        self._outputs = self._make_outputs()
        self._submission = Submission(self._store, self._codec, self._ids, self._instance.request_key)
        self._gauges()

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain and record the end."""
        api = self._make_api()
        drain = Drain(api, self._subscribers, self._waits)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_loop, self._metrics)
            await serve_until_stopped(self._listeners(api), drain, stop)
            tasks.cancel_scope.cancel()
        await self._journal.stopped("signal")

    def _check_isolation(self) -> None:
        runtimes = self._runtimes()
        settings = self._settings
        if settings.runtime.default not in runtimes:
            raise Refused(f"There is no runtime {settings.runtime.default!r}; there is {', '.join(sorted(runtimes))}.")
        exposed = sorted(name for name, isolated in runtimes.items() if not isolated)
        if settings.http.address is not None and exposed and not settings.runtime.allow_unisolated:
            raise Refused(
                f"The runtime {exposed[0]} does not keep sandboxes from the daemon's files and sockets, so it is for "
                "trusted code: it is not served over TCP unless runtime.allow_unisolated is true."
            )

    @staticmethod
    def _runtimes() -> dict[str, bool]:
        return {"process": False}

    async def _open_store(self, data: Path, lock: DirectoryLock) -> EventStore:
        # Imported when asked for: the one that is not used costs nothing.
        if self._settings.data.store == "memory":
            from chronicled.storage.memory import MemoryStore

            return await self._stack.enter_async_context(await MemoryStore.open())
        from chronicled.storage.sqlite import LOG_NAME, SqliteStore

        return await self._stack.enter_async_context(await SqliteStore.open(data / LOG_NAME, lock=lock))

    async def _open_blobs(self, data: Path) -> BlobStore:
        from chronicled.storage.blobs import FileBlobStore
        from chronicled.storage.disk import SystemDisk

        return await anyio.to_thread.run_sync(FileBlobStore, str(data / "blobs"), SystemDisk())

    @staticmethod
    def _make_outputs() -> LiveOutputs:
        from chronicled.runtimes.output.live import OutputBoard

        return OutputBoard()

    def _committed(self, events: tuple[Event, ...]) -> None:
        # The fold first: whoever is woken by this commit finds its status told.
        self._catalogue.committed(events)
        self._metrics.committed(events)
        self._waits.committed(events)

    def _gauges(self) -> None:
        metrics = self._metrics
        metrics.gauge("log_position", "Position of the last event.", lambda: self._store.head)
        metrics.gauge("actions_open", "Runnable actions that have not ended.", lambda: self._catalogue.open_actions)
        metrics.gauge("waits", "Requests that wait for an action's end.", lambda: self._waits.count)
        metrics.gauge("subscribers", "Event streams and outputs that are followed.", lambda: self._subscribers.count)

    def _make_api(self) -> Api:
        limits = self._settings.limits
        seconds = limits.write_seconds_max
        submission, store, catalogue = self._submission, self._store, self._catalogue
        follower = Follower(self._stream, self._subscribers, seconds)
        routes: list[Route] = []
        health = HealthRoutes(
            self._metrics,
            lambda: self._unready(api),
            lambda: document(routes, self._registry, limits.actions_per_request_max),
        )
        routes += SessionRoutes(
            submission, catalogue, self._codec, self._runtimes(), self._settings.runtime.default
        ).routes()
        routes += ActionRoutes(
            submission, store, catalogue, self._waits, limits.wait_seconds_max, limits.actions_per_request_max
        ).routes()
        routes += OutputRoutes(submission, store, self._outputs, self._blobs, self._subscribers, seconds).routes()
        routes += EventRoutes(store, follower).routes()
        routes += BlobRoutes(store, self._blobs, seconds).routes()
        routes += health.routes()
        api = Api(Router(routes), limits, self._metrics, stop_now)
        return api

    def _unready(self, api: Api) -> str | None:
        if api.draining:
            return "The daemon is stopping."
        return "The disk is full." if self._store.full else None

    def _listeners(self, api: Api) -> list[Bound]:
        http, limits = self._settings.http, self._settings.limits
        loop = asyncio.get_running_loop()
        peers = Listener(api, PeerIdentity(http.allowed_uids), limits.connections_max)
        bounds = [Bound(peers, lambda listener: loop.create_unix_server(listener, sock=self._unix.listen()))]
        if http.address is not None:
            path = http.token_file or os.path.join(self._settings.data.directory, "http.token")
            token = read_token(path, create=http.token_file is None)
            holders = Listener(api, TokenIdentity(token), limits.connections_max)
            listening = listen_tcp(http.address)
            self._stack.callback(listening.close)
            bounds.append(Bound(holders, lambda listener: loop.create_server(listener, sock=listening)))
        return bounds
