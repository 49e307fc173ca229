"""The composition root: the only place that knows which classes stand behind the protocols."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog

from chronicled.daemon.catalogue import Catalogue
from chronicled.daemon.configuration import Configuration
from chronicled.daemon.fail_stop import arm_fault_point, exit_code, stop_now
from chronicled.daemon.guarded_store import GuardedStore
from chronicled.daemon.http.action_routes import ActionRoutes
from chronicled.daemon.http.event_routes import EventRoutes
from chronicled.daemon.http.follow import Follower
from chronicled.daemon.http.health_routes import HealthRoutes
from chronicled.daemon.http.identity import PeerIdentity
from chronicled.daemon.http.openapi import document
from chronicled.daemon.http.route import Route, Router
from chronicled.daemon.http.server import Api, Listener
from chronicled.daemon.http.session_routes import SessionRoutes
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.daemon.instance import load_instance
from chronicled.daemon.lifecycle import Bound, Journal, on_signals, serve_until_stopped
from chronicled.daemon.listening import UnixListener
from chronicled.daemon.locations import make_private
from chronicled.daemon.logs import configure_logs
from chronicled.daemon.loop_monitor import watch_loop
from chronicled.daemon.metrics import Metrics
from chronicled.daemon.submission import Submission
from chronicled.daemon.waits import Waits
from chronicled.events.codec import Codec
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError
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
    socket, the database is too new, isolation); 70 when the log failed. Sandboxes live on, whatever the code.
    """
    configure_logs(configuration.log)
    try:
        if setting := os.environ.get("CHRONICLED_FAULT_POINT"):
            arm_fault_point(setting)
        asyncio.run(_run(configuration))
    except ChronicledError as error:
        log.error("the daemon cannot run", code=error.code, detail=error.detail)
        return exit_code(error)
    return 0


async def _run(configuration: Configuration) -> None:
    settings = configuration
    data = make_private(settings.data.directory)
    stop = asyncio.Event()
    on_signals(stop)
    async with AsyncExitStack() as stack:
        store = GuardedStore(await _open_store(settings, Path(data), stack), stop_now)
        instance = load_instance(data, fresh=store.head == 0)
        stream = LogStream(store)
        stack.push_async_callback(stream.aclose)
        registry = builtin_registry()
        codec = Codec(registry)
        ids = SystemIds()
        metrics = Metrics()
        catalogue = Catalogue(registry)
        waits = Waits(registry, settings.limits.waits_max)

        def committed(events: tuple[Event, ...]) -> None:
            catalogue.committed(events)
            waits.committed(events)
            metrics.committed(events)

        store.listen(committed)
        journal = Journal(store, codec, ids)
        await journal.started(1)
        submission = Submission(store, codec, ids, instance.request_key)
        subscribers = Subscribers(settings.limits.subscribers_max)
        limits = settings.limits
        routes: list[Route] = [
            *SessionRoutes(submission, catalogue, codec, {"process": False}, settings.runtime.default).routes(),
            *ActionRoutes(
                submission, store, catalogue, waits, limits.wait_seconds_max, limits.actions_per_request_max
            ).routes(),
            *EventRoutes(store, Follower(stream, subscribers, limits.write_seconds_max)).routes(),
        ]
        health = HealthRoutes(
            metrics,
            lambda: "The daemon is stopping." if api.draining else None,
            lambda: document(routes, registry, limits.actions_per_request_max),
        )
        routes += health.routes()
        api = Api(Router(routes), limits, metrics, stop_now)
        unix = stack.enter_context(UnixListener(settings.http.socket))
        loop = asyncio.get_running_loop()
        bounds = [
            Bound(
                Listener(api, PeerIdentity(settings.http.allowed_uids), limits.connections_max),
                lambda listener: loop.create_unix_server(listener, sock=unix.listen()),
            )
        ]
        monitor = asyncio.create_task(watch_loop(metrics))
        await serve_until_stopped(api, bounds, subscribers, waits, stop)
        monitor.cancel()
        await journal.stopped("signal")


async def _open_store(settings: Configuration, data: Path, stack: AsyncExitStack) -> EventStore:
    # Imported when asked for: the one that is not used costs nothing.
    lock = stack.enter_context(DirectoryLock(data))
    if settings.data.store == "memory":
        from chronicled.storage.memory import MemoryStore

        return await stack.enter_async_context(await MemoryStore.open())
    from chronicled.storage.sqlite import LOG_NAME, SqliteStore

    return await stack.enter_async_context(await SqliteStore.open(data / LOG_NAME, lock=lock))
