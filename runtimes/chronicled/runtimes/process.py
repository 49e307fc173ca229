"""The process runtime: sandboxes that are plain process trees of this machine. No isolation: for trusted code.

A sandbox is named by boot id, pid and start time of its reaper; a file that the reaper, the server and the lane reapers
hold locked says whether any of them lives. They outlive the worker. Nothing here waits on the event loop for the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import msgspec

import chronicled.events.outcome
from chronicled.events.errors import SandboxStartFailed, SandboxUnreachable, UnitBroken
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes import process_proof
from chronicled.runtimes.action_server import bootstrap, process_tree, settings
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.action_server.frames import Transfer
from chronicled.runtimes.action_server.process_tree import Process
from chronicled.runtimes.removal import remove_tree
from chronicled.runtimes.runtime import Handle, Report, RuntimeDefaults, SandboxDefaults, SandboxSpec

if TYPE_CHECKING:
    from chronicled.runtimes.delivery.delivery import Delivery

__all__ = ["HINTS", "PATH_DEFAULT", "ProcessRuntime", "ProcessSandbox", "clean_environment", "import_paths"]

ANOTHERS: Final = "another_instance"
"""End of a sandbox, as far as this instance can tell, that is another's: this log is a copy of that one's."""
START_SECONDS: Final = 20.0
END_SECONDS: Final = 25.0
PATH_DEFAULT: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HINTS: Final[Mapping[str, str]] = {
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONUNBUFFERED": "1",
}
"""Commands have a terminal for input, but nobody sits at it."""
FAULT_POINT_VARIABLE: Final = "CHRONICLED_FAULT_POINT"
GENERATION_VARIABLE: Final = process_proof.GENERATION_VARIABLE


class ProcessRuntime(RuntimeDefaults):
    """Starts sandboxes as processes of this user.

    Args:
        directory: Folder of the instance's sandboxes; each has a folder of its id in it, with its lock and its log.
        fault_point: Handed to action servers, for crash tests; None takes it from this process's environment.
        transfers: Ways of transfer that action servers offer to the worker.
        delivery: Units of third parties, brought into every sandbox; None has none.
    """

    def __init__(
        self,
        directory: str,
        *,
        fault_point: str | None = None,
        transfers: Sequence[Transfer] = ("descriptors", "inband"),
        delivery: Delivery | None = None,
    ) -> None:
        self._delivery = delivery
        self._directory = os.path.abspath(directory)
        self._transfers = " ".join(transfers)
        self._fault_point = os.environ.get(FAULT_POINT_VARIABLE, "") if fault_point is None else fault_point

    @property
    def name(self) -> str:
        """`process`."""
        return "process"

    def may_dial(self, sandbox: str, peer: Peer) -> bool:
        """Return whether the process is this user's; see `Runtime.may_dial`."""
        return peer.uid == os.geteuid()

    @property
    def isolated(self) -> bool:
        """False: code in a sandbox can reach what this user can reach."""
        return False

    def refuses(self, request: SandboxRequest, image: str | None = None) -> list[str]:
        """Everything but the machine as it is; see `Runtime.refuses`."""
        plain = SandboxRequest()
        asked = [name for name in request.__struct_fields__ if getattr(request, name) != getattr(plain, name)]
        if request.network == "open":
            # What its sandboxes have anyway.
            asked.remove("network")
        reasons = [f"{name}: the process runtime cannot give it" for name in asked]
        if image is not None:
            reasons.insert(0, "image: sandboxes of the process runtime have none")
        return reasons

    async def start(self, spec: SandboxSpec, report: Report | None = None) -> ProcessSandbox:
        """Start a sandbox; see `Runtime.start`."""
        if reasons := self.refuses(spec.request):
            raise SandboxStartFailed("; ".join(reasons))
        try:
            pid, ready = await anyio.to_thread.run_sync(self._spawn, spec)
        except (OSError, ValueError, UnitBroken) as error:
            raise SandboxStartFailed(f"the sandbox's process could not be started: {error}") from error
        process = process_tree.identify(pid)
        sandbox = ProcessSandbox(self._folder(spec.sandbox), spec.generation, process[0] if process else (pid, 0))
        try:
            with anyio.fail_after(START_SECONDS):
                await anyio.wait_readable(ready)
            if os.read(ready, 1) == b"\n":
                return sandbox
            raise SandboxStartFailed(f"the action server did not come up; see {self._folder(spec.sandbox)}/server.log")
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await sandbox.kill()
            if isinstance(error, TimeoutError):
                raise SandboxStartFailed(f"the action server was not up after {START_SECONDS} s") from None
            raise
        finally:
            os.close(ready)

    async def attach(self, handle: Handle, spec: SandboxSpec) -> ProcessSandbox | None:
        """Find a sandbox again, or prove it dead; see `Runtime.attach`."""
        if handle.get("boot_id") != process_proof.boot_id():
            # No process outlives its boot.
            return None
        sandbox = ProcessSandbox(self._folder(spec.sandbox), spec.generation, _process(handle))
        if await self._is_anothers(handle, spec):
            return None
        if sandbox.alive:
            return sandbox
        await sandbox.kill()
        return None

    async def _is_anothers(self, handle: Handle, spec: SandboxSpec) -> bool:
        """Return whether it lives, and the instance of whose data directory this one is a copy has it.

        A living sandbox of this instance holds the lock in its folder here; the copy of that file is another one.
        """
        process, folder = _process(handle), self._folder(spec.sandbox)
        if not process_proof.is_alive(process) or await anyio.to_thread.run_sync(process_proof.is_locked, folder):
            return False
        # Its reaper is the last to let go of the lock, and that only by its own end.
        return process_proof.is_alive(process)

    async def epitaph(self, handle: Handle, spec: SandboxSpec) -> str:
        """Return what the reaper said at its end; see `Runtime.epitaph`."""
        if handle.get("boot_id") != process_proof.boot_id():
            return "host_rebooted"
        if await self._is_anothers(handle, spec):
            return ANOTHERS
        return await anyio.to_thread.run_sync(lambda: process_proof.last_words(self._folder(spec.sandbox))[0])

    async def remove(self, sandbox: str) -> None:
        """Kill and remove whatever is left of a sandbox; see `Runtime.remove`."""
        folder = self._folder(sandbox)
        # Where nobody holds the lock here, what has its name lives for another instance: this folder is a copy.
        if await anyio.to_thread.run_sync(process_proof.is_locked, folder):
            reapers = await anyio.to_thread.run_sync(process_proof.find_reapers, sandbox)
            # All of them first: the end of each is proven by a lock that they share.
            for process, _ in reapers:
                process_tree.send(process, signal.SIGTERM)
            for process, generation in reapers:
                await ProcessSandbox(folder, generation, process).kill()
        if await anyio.to_thread.run_sync(process_proof.is_locked, folder):
            raise SandboxUnreachable(f"sandbox {sandbox} is not known any more, but cannot be proven dead")
        await anyio.to_thread.run_sync(remove_tree, folder)

    async def sweep(self, known: Collection[str], head: int = 0) -> Sequence[str]:
        """Kill and remove every sandbox in the instance's folder that is not known; see `Runtime.sweep`.

        The folder is the instance's alone, so there is no need to look at positions.
        """
        try:
            names = await anyio.to_thread.run_sync(os.listdir, self._directory)
        except FileNotFoundError:
            return []
        removed: list[str] = []
        for name in sorted(set(names).difference(known)):
            await self.remove(name)
            removed.append(name)
        return removed

    def _folder(self, sandbox: str) -> str:
        return os.path.join(self._directory, sandbox)

    def _spawn(self, spec: SandboxSpec) -> tuple[int, int]:
        """Start the reaper; return its pid and a descriptor that tells when its server is up."""
        folder = self._folder(spec.sandbox)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.makedirs(spec.working_directory, mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as stack:
            lock = process_proof.open_lock(folder)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            told = os.memfd_create("chronicled-settings", os.MFD_CLOEXEC)
            stack.callback(os.close, told)
            os.write(told, settings.encode(self._settings(spec)))
            log = os.open(f"{folder}/server.log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, log)
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, null)
            ready, up = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, up)
            try:
                return _spawn(spec, {0: null, 1: null, 2: log, 3: told, 4: lock, 5: up}), ready
            except BaseException:
                os.close(ready)
                raise

    def _settings(self, spec: SandboxSpec) -> settings.Settings:
        told = settings.Settings()
        told.generation, told.sandbox, told.token = spec.generation, spec.sandbox, spec.token
        told.socket_directory = os.path.abspath(spec.socket_directory)
        told.working_directory = os.path.abspath(spec.working_directory)
        told.fault_point = self._fault_point
        told.transfers = self._transfers
        if self._delivery is None:
            told.import_paths = import_paths()
        else:
            # Nothing of this process's own packages is seen then but what the units have named.
            tree = self._delivery.tree()
            told.import_paths, told.unit_paths = [tree.site], [tree.units]
            told.executors += self._delivery.executors
        environment = clean_environment(told.working_directory, os.environ) | spec.environment
        environment[GENERATION_VARIABLE] = spec.generation
        told.environment = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
        return told


class ProcessSandbox(SandboxDefaults):
    """One sandbox of the process runtime.

    Args:
        folder: Its folder, with the lock file.
        generation: Id of the generation.
        process: The reaper.
    """

    def __init__(self, folder: str, generation: str, process: Process) -> None:
        self._folder = folder
        self._generation = generation
        self._process = process

    @property
    def handle(self) -> Handle:
        """Boot id, pid and start time of the reaper."""
        return {"boot_id": process_proof.boot_id(), "pid": self._process[0], "start_ticks": self._process[1]}

    @property
    def alive(self) -> bool:
        """Whether the reaper lives; the action server may be on its way out."""
        return process_proof.is_alive(self._process)

    async def wait_ended(self) -> str:
        """Return why it ended once no process of it lives; see `Sandbox.wait_ended`."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self._process[0])
            try:
                if self.alive:
                    await anyio.wait_readable(descriptor)
            finally:
                os.close(descriptor)
        _collect(self._process[0])
        await self._prove(END_SECONDS)
        return process_proof.last_words(self._folder)[0]

    async def kill(self) -> int:
        """End the generation, every process of it; see `Sandbox.kill`."""
        process_tree.send(self._process, signal.SIGTERM)
        process_tree.send(self._process, signal.SIGCONT)
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + END_SECONDS):
            await self.wait_ended()
            return process_proof.last_words(self._folder)[1]
        process_tree.send(self._process, signal.SIGKILL)
        killed = await self._prove(END_SECONDS)
        return killed + process_proof.last_words(self._folder)[1]

    async def _prove(self, seconds: float) -> int:
        """Return, with the number of processes killed for it, once the lock is free and no marked process lives."""
        deadline = time.monotonic() + seconds
        killed = 0
        while True:
            if not await anyio.to_thread.run_sync(process_proof.is_locked, self._folder):
                left = await anyio.to_thread.run_sync(process_proof.kill_marked, self._generation)
                killed += left
                if left == 0:
                    return killed
            if time.monotonic() > deadline:
                raise SandboxUnreachable(f"generation {self._generation} could not be proven dead in {seconds} s")
            await anyio.sleep(0.005)


def _process(handle: Handle) -> Process:
    return int(handle["pid"]), int(handle["start_ticks"])


def _collect(pid: int) -> None:
    # Ours to collect if it was started here; after the worker's restart it is init's.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def clean_environment(home: str, own: Mapping[str, str]) -> dict[str, str]:
    """Return what a shell starts with: a few facts of this machine, nothing of this process's own."""
    user = own.get("USER") or own.get("LOGNAME") or ("root" if os.geteuid() == 0 else f"uid{os.geteuid()}")
    return {
        "PATH": own.get("PATH") or PATH_DEFAULT,
        "HOME": home,
        "LANG": own.get("LANG", "C.UTF-8"),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/bash",
        **HINTS,
    }


def import_paths() -> list[str]:
    """Folders from which this process has the action server, the events and msgspec: its child uses them too."""
    files = (bootstrap.__file__, chronicled.events.outcome.__file__)
    # chronicled/runtimes/action_server/bootstrap.py and chronicled/events/outcome.py below their roots.
    roots = [os.path.abspath(files[0]).rsplit("/", 4)[0], os.path.abspath(files[1]).rsplit("/", 3)[0]]
    roots.append(os.path.dirname(os.path.dirname(os.path.abspath(msgspec.__file__))))
    return list(dict.fromkeys(roots))


def _spawn(spec: SandboxSpec, descriptors: Mapping[int, int]) -> int:
    # First out of the way of the numbers that are to be filled, then into them.
    copies = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 64) for target, source in descriptors.items()}
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", os.path.abspath(bootstrap.__file__), spec.sandbox, spec.generation],
            {"LANG": "C.UTF-8"},
            file_actions=[(os.POSIX_SPAWN_DUP2, copy, target) for target, copy in copies.items()],
            setsid=True,
            setsigmask=(),
        )
    finally:
        for copy in copies.values():
            os.close(copy)
