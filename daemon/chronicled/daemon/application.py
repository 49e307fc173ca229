"""The composition root: the only place that knows which classes stand behind the protocols."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import structlog
from anyio import to_thread

from chronicled.daemon.configuration import Configuration
from chronicled.daemon.containers import engine_is_here, open_containers
from chronicled.daemon.exports import Exports
from chronicled.daemon.fail_stop import EXIT_FAILED, arm_fault_point, exit_code, stop_now
from chronicled.daemon.guarded_store import GuardedStore
from chronicled.daemon.http.identity import PeerIdentity, TokenIdentity
from chronicled.daemon.http.route import Router
from chronicled.daemon.http.server import Api, Listener
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.daemon.http.table import Parts, route_table
from chronicled.daemon.instance import Instance, load_instance
from chronicled.daemon.lifecycle import Bound, Drain, Journal, boot_id, on_signals, serve_until_stopped
from chronicled.daemon.listening import UnixListener, listen_tcp, read_token
from chronicled.daemon.local_worker_log import LocalWorkerLog
from chronicled.daemon.locations import make_private
from chronicled.daemon.logs import configure_logs, redact_logs
from chronicled.daemon.loop_monitor import watch_loop
from chronicled.daemon.metrics import Metrics
from chronicled.daemon.migration_progress import MigrationProgress
from chronicled.daemon.place_monitor import watch_place
from chronicled.daemon.registration import Registration
from chronicled.daemon.room import free_bytes, log_bytes
from chronicled.daemon.stores import STORES
from chronicled.daemon.submission import Submission
from chronicled.daemon.units.gate import PolicyGate
from chronicled.daemon.units.parts import UnitParts
from chronicled.daemon.vault import Vault
from chronicled.daemon.waits import Waits
from chronicled.events.clock import SystemClock
from chronicled.events.codec import Codec
from chronicled.events.errors import ChronicledError, Refused
from chronicled.events.ids import SystemIds
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.store import EventStore
from chronicled.events.worker_log import SessionKey
from chronicled.runtimes.news import News
from chronicled.runtimes.process import ProcessRuntime
from chronicled.runtimes.runtime import Runtime
from chronicled.runtimes.worker.settings import Directories, WorkerSettings
from chronicled.runtimes.worker.worker import Worker
from chronicled.storage.blobs import FileBlobStore
from chronicled.storage.cursors import CURSORS_NAME, CursorStore
from chronicled.storage.disk import SystemDisk
from chronicled.storage.formats import bring_formats
from chronicled.storage.lock import DirectoryLock
from chronicled.storage.projections import Projections, open_projections
from chronicled.storage.seal import Seal
from chronicled.storage.secrets import SecretStore
from chronicled.storage.stream import LogStream
from chronicled.storage.writer import SWITCH_SECONDS

if TYPE_CHECKING:
    from chronicled.daemon.image_jobs import ImageJobs
    from chronicled.runtimes.delivery.delivery import Delivery

__all__ = ["serve"]

PROJECTIONS_NAME: Final = "projections.sqlite"
CONTEXTS_NAME: Final = "contexts"

log: Any = structlog.get_logger("chronicled")
WORKER = "local"


def serve(configuration: Configuration) -> int:
    """Run a daemon until SIGTERM or SIGINT and return its exit code.

    0 after an orderly end; 2 for a wrong configuration; 4 when it is refused (another daemon has the data or the
    socket, the database is too new, isolation); 70 when something failed inside. Sandboxes live on, whatever the code.
    """
    configure_logs(configuration.log)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        if setting := os.environ.get("CHRONICLED_FAULT_POINT"):
            arm_fault_point(setting)
        asyncio.run(_run(configuration))
    except ChronicledError as error:
        log.error("the daemon cannot run", code=error.code, detail=error.detail)
        return exit_code(error)
    except Exception:
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
        self._units = UnitParts(settings.units, settings.data.directory)
        self._registry, chain = self._units.vocabulary
        self._redaction = SecretRedaction()
        redact_logs(self._redaction.everywhere)
        self._codec = Codec(self._registry, chain, self._redaction, rules=self._units.rules)
        self._ids = SystemIds()
        self._disk = SystemDisk()
        self._metrics = Metrics(self._registry)
        self._codec.told = self._metrics.unreadable
        self._waits = Waits(self._registry, settings.limits.waits_max)
        self._subscribers = Subscribers(settings.limits.subscribers_max)
        self._exports = Exports(
            Path(settings.data.directory), self._units.vocabulary, self._units.rules, settings.limits.exports_max
        )
        self._images: ImageJobs | None = None
        self._news = News()
        self._watch = self._units.watch()
        if self._watch is not None:
            self._watch.start()
            stack.callback(self._watch.stop)

    async def open(self) -> None:
        """Open everything; when it returns, the daemon can serve.

        Raises:
            DataDirectoryBusy: another daemon has the data directory or the socket; nothing was written.
            Refused: a directory or file is not private, or sandboxes are not isolated and TCP is asked for.
            SchemaTooNew, LogCorrupt, StoreFailed: the log cannot be opened.
        """
        settings, stack = self._settings, self._stack
        data = Path(make_private(settings.data.directory))
        self._lock = stack.enter_context(DirectoryLock(data))
        # Before anything in the directory is opened: a program that does not know a store's format touches nothing.
        await to_thread.run_sync(bring_formats, data, STORES)
        self._unix = stack.enter_context(UnixListener(settings.http.socket, shared=bool(settings.http.allowed_uids)))
        directories = self._make_directories(data)
        self._runtimes: dict[str, Runtime] = {}
        delivery = await self._units.delivery()
        if "process" in settings.runtime.offered:
            self._runtimes["process"] = ProcessRuntime(directories.sandboxes, delivery=delivery)
        self._store = GuardedStore(await self._open_store(data, self._lock), stop_now)
        instance = load_instance(str(data), fresh=self._store.head == 0)
        if "docker" in settings.runtime.offered and engine_is_here(settings):
            await self._open_docker(instance, delivery)
        self._runtimes |= self._units.open_runtimes(settings.runtime.offered, instance.instance, delivery)
        self._check_isolation()
        self._stream = LogStream(self._store)
        stack.push_async_callback(self._stream.aclose)
        self._journal = Journal(self._store, self._codec, self._ids)
        # Synced before anything is folded or served: what a crash left behind in the log is durable from here on.
        await self._journal.started()
        self._projections = await self._open_projections(data)
        self._vault = await self._open_vault(data)
        self._store.listen(self._metrics.committed)
        self._store.listen(self._waits.committed)
        self._blobs = await to_thread.run_sync(FileBlobStore, str(data / "blobs"), self._disk)
        gate = PolicyGate(self._units.policies(), self._codec, self._store, self._projections)
        self._submission = Submission(
            self._store, self._codec, self._blobs, self._ids, instance.request_key, self._vault, gate
        )
        self._worker = self._make_worker(directories)
        stack.enter_context(self._news.listen(self._worker.tell))
        self._add_gauges()

    async def _open_docker(self, instance: Instance, delivery: Delivery | None) -> None:
        self._runtimes["docker"], images = await open_containers(
            self._settings,
            self._stack,
            SystemClock(),
            self._news,
            instance=instance.instance,
            worker=WORKER,
            delivery=delivery,
        )
        from chronicled.daemon.image_jobs import ImageJobs
        from chronicled.daemon.image_stream import ImageStream

        told = ImageStream(self._store, self._codec, self._ids, instance.request_key)
        contexts = os.path.join(self._settings.data.directory, CONTEXTS_NAME)
        self._images = ImageJobs(images, told, self._ids, contexts, self._store.head)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain and record the end."""
        api = self._make_api()
        drain = Drain(api, self._subscribers, self._waits)
        # Before anything runs: an address that is taken is a plain refusal.
        bounds = self._listeners(api)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_loop, self._metrics)
            tasks.start_soon(watch_place, self._lock, stop_now)
            tasks.start_soon(self._vault.run)
            if self._images is not None:
                tasks.start_soon(self._images.run)
            worked = anyio.Event()
            tasks.start_soon(self._work, worked)
            await serve_until_stopped(bounds, drain, stop, self._settings.data.directory)
            self._worker.drain()
            await worked.wait()
            tasks.cancel_scope.cancel()
        await self._journal.stopped("signal")

    async def _work(self, worked: anyio.Event) -> None:
        await self._worker.run()
        worked.set()

    def _check_isolation(self) -> None:
        settings = self._settings
        if settings.runtime.default not in self._runtimes:
            known = ", ".join(sorted(self._runtimes)) or "none"
            raise Refused(f"There is no runtime {settings.runtime.default!r}; there is {known}.")
        exposed = sorted(name for name, runtime in self._runtimes.items() if not runtime.isolated)
        if settings.http.address is not None and exposed and not settings.runtime.allow_unisolated:
            raise Refused(
                f"The runtime {exposed[0]} does not keep sandboxes from the daemon's files and sockets, so it is for "
                "trusted code: it is not served over TCP unless runtime.allow_unisolated is true."
            )

    def _make_directories(self, data: Path) -> Directories:
        runtime = Path(make_private(self._settings.data.runtime_directory))
        return Directories(
            spool=make_private(str(data / "spool")),
            output=make_private(str(data / "output")),
            journal=make_private(str(data / "journal")),
            sandboxes=make_private(str(data / "sandboxes")),
            sockets=make_private(str(runtime / "sandboxes")),
        )

    async def _open_store(self, data: Path, lock: DirectoryLock) -> EventStore:
        # Imported when asked for: the one that is not used costs nothing.
        if self._settings.data.store == "memory":
            from chronicled.storage.memory import MemoryStore

            return await self._stack.enter_async_context(await MemoryStore.open())
        from chronicled.storage.sqlite import LOG_NAME, SqliteStore, is_being_rewritten

        if is_being_rewritten(data):
            raise Refused(f"{data} is a log that was being written anew and is not whole: run that again.")
        if not (data / LOG_NAME).exists() and (data / PROJECTIONS_NAME).exists():
            # Never begin a second chronicle in the place of one that is gone.
            raise Refused(
                f"{data / LOG_NAME} is missing, but what is derived from it is there: restore the log, or begin anew "
                "in another directory."
            )
        return await self._stack.enter_async_context(
            await SqliteStore.open(data / LOG_NAME, lock=lock, progress=MigrationProgress(SystemClock()))
        )

    async def _open_projections(self, data: Path) -> Projections:
        path = None if self._settings.data.store == "memory" else data / PROJECTIONS_NAME
        return await self._stack.enter_async_context(open_projections(path, self._store, self._codec))

    async def _open_vault(self, data: Path) -> Vault:
        projections = self._projections

        def over(key: SessionKey) -> bool:
            fold = projections.find(key.tenant, key.session)
            return fold is None or fold.over

        seal = Seal(str(data), os.environ.get("CREDENTIALS_DIRECTORY"), self._disk)
        store = SecretStore(str(data / "secrets"), seal, self._disk)
        vault = Vault(store, self._redaction, self._store, self._codec, self._ids, over)
        folds = (projections.find(key.tenant, key.session) for key in projections.unfinished())
        # Before the worker claims anything, and before anything is served: what cannot be redacted is not published.
        await vault.open([fold.key for fold in folds if fold is not None and fold.secret is not None])
        self._store.listen(vault.committed)
        return vault

    def _make_worker(self, directories: Directories) -> Worker:
        boot = boot_id()
        clock = SystemClock()
        worker_log = LocalWorkerLog(
            self._stream, self._blobs, self._projections, self._codec, self._ids, WORKER, boot, self._vault
        )
        settings = WorkerSettings(
            name=WORKER,
            boot_id=boot,
            command_seconds=self._settings.runtime.command_seconds_default,
            warm=self._settings.runtime.warm,
            starts_max=self._settings.runtime.starts_max,
            start_seconds=self._settings.runtime.start_seconds,
            sweep_seconds=self._settings.runtime.sweep_seconds,
            unclaimed_seconds=self._settings.runtime.unclaimed_seconds,
            unreachable_seconds=self._settings.runtime.unreachable_seconds,
            proof_seconds=self._settings.runtime.proof_seconds,
            output_bytes_max=self._settings.limits.output_bytes_max,
            download_bytes_max=self._settings.limits.download_bytes_max,
            drain_seconds=self._settings.limits.drain_seconds,
        )
        return Worker(
            worker_log,
            self._runtimes,
            directories,
            settings,
            self._codec,
            clock,
            self._ids,
            self._disk,
            self._redaction,
        )

    def _add_gauges(self) -> None:
        metrics, projections = self._metrics, self._projections

        def open_actions() -> int:
            folds = (projections.find(key.tenant, key.session) for key in projections.unfinished())
            return sum(len(fold) for fold in folds if fold is not None)

        metrics.gauge("log_position", "Position of the last event.", lambda: self._store.head)
        data = self._settings.data.directory
        metrics.gauge("log_bytes", "Bytes of the log's database.", lambda: log_bytes(data))
        metrics.gauge("data_free_bytes", "Bytes free on the data directory's disk.", lambda: free_bytes(data))
        metrics.gauge("actions_open", "Runnable actions that have not ended.", open_actions)
        metrics.gauge(
            "sessions_left_alone",
            "Unfinished sessions that only a newer version understands.",
            lambda: sum(
                1
                for key in projections.unfinished()
                if (fold := projections.find(key.tenant, key.session)) is not None and fold.newer is not None
            ),
        )
        metrics.gauge(
            "sessions_unfinished", "Sessions that are open or own something.", lambda: len(projections.unfinished())
        )
        worker = self._worker
        metrics.gauge("sandboxes_starting", "Sandboxes that start at the moment.", lambda: worker.starting)
        metrics.gauge("sandbox_starts_waiting", "Sandboxes that wait for their turn.", lambda: worker.waiting_to_start)
        metrics.gauge("sandboxes_warm", "Started sandboxes that wait for a session.", lambda: worker.warm)
        metrics.gauge("waits", "Requests that wait for an action's end.", lambda: self._waits.count)
        metrics.gauge("exports", "Sessions that are taken out.", lambda: self._exports.count)
        metrics.gauge("subscribers", "Event streams and outputs that are followed.", lambda: self._subscribers.count)

    def _make_api(self) -> Api:
        parts = Parts(
            store=self._store,
            stream=self._stream,
            projections=self._projections,
            blobs=self._blobs,
            cursors=CursorStore(Path(self._settings.data.directory, CURSORS_NAME), self._disk),
            outputs=self._worker.outputs,
            exports=self._exports,
            codec=self._codec,
            submission=self._submission,
            registration=Registration(self._vault, self._store, self._codec, self._ids),
            waits=self._waits,
            subscribers=self._subscribers,
            metrics=self._metrics,
            limits=self._settings.limits,
            runtimes=self._runtimes,
            runtime_default=self._settings.runtime.default,
            images=self._images,
            context_bytes_max=self._settings.images.build_context_bytes_max,
            unready=lambda: self._unready(api),
        )
        router = Router(route_table(parts))
        api = Api(router, self._settings.limits, self._metrics, stop_now, self._redaction.text)
        return api

    def _unready(self, api: Api) -> str | None:
        if api.draining:
            return "The daemon is stopping."
        return "The disk is full." if self._store.full else None

    def _listeners(self, api: Api) -> list[Bound]:
        http, limits = self._settings.http, self._settings.limits
        loop = asyncio.get_running_loop()
        peers = Listener(api, PeerIdentity(http.allowed_uids), limits.connections_max)
        unix = Bound(
            self._unix.path, peers, lambda listener: loop.create_unix_server(listener, sock=self._unix.listen())
        )
        bounds = [unix]
        if http.address is not None:
            path = http.token_file or os.path.join(self._settings.data.directory, "http.token")
            token = read_token(path, create=http.token_file is None)
            holders = Listener(api, TokenIdentity(token), limits.connections_max)
            listening = listen_tcp(http.address)
            self._stack.callback(listening.close)
            address = f"http://{http.address}"
            bounds.append(Bound(address, holders, lambda listener: loop.create_server(listener, sock=listening)))
        return bounds
