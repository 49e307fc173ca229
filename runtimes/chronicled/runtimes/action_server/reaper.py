"""The reaper: top of a generation's process tree, and the proof of its death.

It forks the action server, and at its request one lane reaper for each lane. Whatever loses its parent anywhere below
becomes the reaper's child, so when it exits by itself nothing of the generation lives. It loads neither asyncio nor
msgspec, has no thread, and forks in a millisecond.

Death of any one of them ends well: without the server the reaper kills all and exits; without the reaper the server is
killed by the kernel and each lane reaper kills what is below it; without a lane reaper its orphans come here and are
killed. All three hold the generation's lock file open, so its lock is free only once all of them are gone.

In a container nobody reads that file: the exit status says how it ended (`exit_status`, `ending`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from types import ModuleType

from chronicled.runtimes.action_server import kernel, lane_reaper, process_tree
from chronicled.runtimes.action_server.settings import Settings

__all__ = ["ending", "exit_status", "load_server", "main"]

_END_SECONDS = 20.0
_STRAYS_SECONDS = 1.0
_AGAIN_SECONDS = 0.5
"""Until what could not be killed is tried again."""
_LANES_REMEMBERED = 64
_UNENDING = 75
_FORWARDERS_MAX = 1000
_TERMINATED = 143
_SIGNALLED = 160
"""Added to the number of the server's signal; 128 is added where the reaper itself was killed."""


def main(settings: Settings, lock_descriptor: int, up_descriptor: int) -> None:
    """Be the reaper of one generation; does not return. The server writes a line to `up_descriptor` once it is up."""
    kernel.forbid_inspection()
    if not kernel.adopt_orphans():
        process_tree.look_for_orphans()
    for descriptor in (lock_descriptor, up_descriptor):
        os.set_inheritable(descriptor, False)
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    reaper = Reaper(settings, lock_descriptor, up_descriptor)
    status = _UNENDING
    try:
        status = reaper.run()
    finally:
        os._exit(status)


def load_server() -> ModuleType:
    """Import the server, which the reaper itself has no use for.

    Nothing in it speaks TLS; without TLS asyncio loads in half the time and memory. For the few digests that it makes,
    Python's own hash functions do: OpenSSL's would be a fifth of an idle server's memory.
    """
    # None means "not there" to the import system.
    sys.modules["_hashlib"] = None  # type: ignore[assignment]  # what typeshed does not know
    sys.modules["ssl"] = None  # type: ignore[assignment]  # typeshed knows modules only
    try:
        from chronicled.runtimes.action_server import server_process
    finally:
        del sys.modules["ssl"]
    return server_process


class Reaper:
    """The reaper's loop."""

    def __init__(self, settings: Settings, lock_descriptor: int, up_descriptor: int) -> None:
        self._settings = settings
        self._up_descriptor = up_descriptor
        self._lock_descriptor = lock_descriptor
        self._lanes: set[int] = set()
        self._killed: dict[int, int] = {}
        """Strays killed at the death of a lane reaper, by its pid, for who asks."""
        self._strays_left = 0
        self._server = 0
        self._forwarder = 0
        self._forwarders_left = _FORWARDERS_MAX
        self._reason = ""
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._socket, self._server_side = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def run(self) -> int:
        """Serve until the generation ends; return the exit status."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, self._terminate)
        self._start_server()
        self._start_forwarder()
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        while not self._reason:
            if not (ready := poll.poll(_AGAIN_SECONDS * 1000 if self._strays_left else None)):
                self._end_strays(0.0)
            for descriptor, _ in ready:
                if descriptor == self._wake_read:
                    self._drain()
                    self._collect()
                elif not self._serve():
                    # The server has gone or goes: its exit says how.
                    poll.unregister(self._socket)
        if self._forwarder:
            # Ours, and not counted among what the generation's commands left behind.
            os.kill(self._forwarder, signal.SIGKILL)
            os.waitpid(self._forwarder, 0)
        killed, left = process_tree.end(os.getpid(), _END_SECONDS, collect=True)
        os.pwrite(self._lock_descriptor, f"{self._reason} {killed}\n".encode(), 0)
        return _UNENDING if left else exit_status(self._reason)

    def _terminate(self, _number: int, _frame: object) -> None:
        self._reason = self._reason or "terminated"

    def _start_server(self) -> None:
        parent = os.getpid()
        self._server = os.fork()
        if self._server == 0:
            status = 1
            try:
                kernel.die_with_parent(signal.SIGKILL, parent)
                self._leave_loop()
                self._socket.close()
                server_process = load_server()
                status = server_process.main(self._settings, self._server_side, self._up_descriptor)
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
            finally:
                sys.stderr.flush()
                os._exit(status)
        self._server_side.close()
        os.close(self._up_descriptor)

    def _start_forwarder(self) -> None:
        # Anything in the sandbox may kill it: it comes back, though not for ever.
        self._forwarder = 0
        if not self._settings.egress_port or not self._forwarders_left:
            return
        self._forwarders_left -= 1
        parent = os.getpid()
        self._forwarder = os.fork()
        if self._forwarder == 0:
            try:
                kernel.die_with_parent(signal.SIGKILL, parent)
                self._leave_loop()
                self._socket.close()
                # Here and not above: the reaper itself has no use for it.
                from chronicled.runtimes.action_server import egress

                egress.main(self._settings.egress_port, self._settings.socket_directory)
            except BaseException as error:
                sys.excepthook(type(error), error, error.__traceback__)
            finally:
                sys.stderr.flush()
                os._exit(1)

    def _leave_loop(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _drain(self) -> None:
        try:
            while os.read(self._wake_read, 512):
                pass
        except BlockingIOError:
            pass

    def _collect(self) -> None:
        died: list[int] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self._server:
                self._reason = self._reason or _describe(status)
            elif pid == self._forwarder:
                self._start_forwarder()
            elif pid in self._lanes:
                self._lanes.discard(pid)
                died.append(pid)
        if died and not self._reason:
            self._killed[died[0]] = self._end_strays(_STRAYS_SECONDS)
            while len(self._killed) > _LANES_REMEMBERED:
                del self._killed[next(iter(self._killed))]

    def _end_strays(self, seconds: float) -> int:
        """Kill what hangs here without being the server or a lane reaper, with all below it; return how many."""
        spared = frozenset(
            known[0]
            for pid in (self._server, self._forwarder, *self._lanes)
            if (known := process_tree.identify(pid)) is not None
        )
        killed, left = process_tree.end(os.getpid(), seconds, spared)
        self._strays_left = len(left)
        return killed

    def _serve(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, 64, 4)
        except OSError:
            return False
        if message == b"lane" and len(descriptors) == 1:
            answer = b"lane %d" % self._start_lane(descriptors[0])
        elif message.startswith(b"strays "):
            lane = int(message[len(b"strays ") :])
            # It may be dead and not collected: what it left behind would be counted at nobody's.
            self._collect()
            killed = self._killed.pop(lane, 0) + self._end_strays(_STRAYS_SECONDS)
            answer = b"strays %d %d" % (killed, self._strays_left)
        elif message:
            answer = b"refused"
        else:
            return False
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            self._socket.send(answer)
        except OSError:
            return False
        return True

    def _start_lane(self, descriptor: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                kernel.die_with_parent(signal.SIGTERM, parent)
                self._leave_loop()
                self._socket.close()
                lane_reaper.main(socket.socket(fileno=descriptor), self._settings.environment)
            finally:
                os._exit(1)
        self._lanes.add(pid)
        # Another one had that number before.
        self._killed.pop(pid, None)
        return pid


def _note(_number: int, _frame: object) -> None:
    """Take the signal: the wake-up pipe does the rest."""


def exit_status(reason: str) -> int:
    """Return the exit status that tells the reason; `ending` turns it back."""
    name, _, number = reason.rpartition("-")
    if name == "server-signal":
        return _SIGNALLED + int(number)
    if name == "server-exit":
        return int(number)
    return _TERMINATED if reason == "terminated" else 0


def ending(status: int) -> str:
    """Return why a generation ended whose reaper's exit status this is, as far as it tells."""
    if status == 0:
        return "ended"
    if status == _TERMINATED:
        return "terminated"
    if status > _SIGNALLED:
        return f"server-signal-{status - _SIGNALLED}"
    return f"killed-signal-{status - 128}" if status > 128 else f"server-exit-{status}"


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return "ended"
    return f"server-signal-{-code}" if code < 0 else f"server-exit-{code}"
