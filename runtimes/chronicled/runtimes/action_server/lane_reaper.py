"""The lane reaper: parent of a lane's shell, and of everything that the shell's commands leave behind.

It does what must be done from within the process tree: forks the shell, collects it and says how it ended, ends
processes by their place in the tree. One packet is one request or one notice:

    server                                    lane reaper
      shell CWD NUL PROGRAM + 4 descriptors ──▶            tty, output, control, status
                                            ◀── shell PID  or refused WHY
      program SERIAL + 3 descriptors        ──▶            tty, where output goes, what to run (spawning.py)
                                            ◀── program PID  or refused WHY
                                            ◀── failed SERIAL PLACE ERRNO, when it could not be executed
                                            ◀── over SERIAL STATUS, when it has ended
      look SERIAL GROUP DEVICE CONTROL RAW  ──▶            does that group wait for that terminal (waiting.py)
                                            ◀── looked SERIAL VERDICT NANOSECONDS, of the processor
      spare PID:START ...                   ──▶            part of a list too long for one packet; no answer
      term SHELL | kill SHELL               ──▶            what is not spared and not SHELL (0: the shell too)
                                            ◀── ended KILLED LEFT
                                            ◀── died PID STATUS, whenever a shell has ended

When the server goes away, or the reaper dies, it kills everything below it and exits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import termios
import time
from collections.abc import Callable

from chronicled.runtimes.action_server import kernel, process_tree, spawning, waiting
from chronicled.runtimes.action_server.process_tree import Process

__all__ = ["PACKET_BYTES_MAX", "main"]

PACKET_BYTES_MAX = 64 << 10
_KILL_SECONDS = 1.2
_KILL_SECONDS_SLOW = 2.5
"""Where orphans leave the tree (gVisor) a fork and each look take many times as long. Less than the server waits."""
_END_SECONDS = 10.0


def main(requests: socket.socket, environment: dict[bytes, bytes]) -> None:
    """Be a lane's reaper; does not return."""
    adopts = kernel.adopt_orphans()
    # The terminal of the lane's programs hangs on this process: they come and go, and their background jobs stay.
    os.setsid()
    # It says which of them is in the foreground without being there itself.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    LaneReaper(requests, environment, adopts=adopts).run()
    process_tree.end(os.getpid(), _END_SECONDS, collect=True)
    os._exit(0)


class LaneReaper:
    """The lane reaper's loop."""

    def __init__(self, requests: socket.socket, environment: dict[bytes, bytes], *, adopts: bool) -> None:
        requests.setblocking(True)
        self._socket = requests
        self._environment = environment
        self._adopts = adopts
        self._spared: set[Process] = set()
        self._shells: set[int] = set()
        self._programs: dict[int, int] = {}
        """Serials by pid."""
        self._over = False

    def run(self) -> None:
        """Serve until the server goes away or the reaper dies."""
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, self._terminate)
        poll = select.poll()
        poll.register(wake_read, select.POLLIN)
        poll.register(self._socket, select.POLLIN)
        while not self._over:
            for descriptor, _ in poll.poll():
                if descriptor == wake_read:
                    os.read(wake_read, 4096)
                    self._collect()
                elif not self._serve():
                    return

    def _terminate(self, _number: int, _frame: object) -> None:
        self._over = True

    def _collect(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._shells:
                self._shells.discard(pid)
                self._answer(b"died %d %d" % (pid, os.waitstatus_to_exitcode(status)))
            elif pid in self._programs:
                self._answer(b"over %d %d" % (self._programs.pop(pid), os.waitstatus_to_exitcode(status)))

    def _answer(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError:
            self._over = True

    def _serve(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._socket, PACKET_BYTES_MAX, 8)
        except OSError:
            return False
        if not message:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        name, _, rest = message.partition(b" ")
        if name == b"shell":
            self._start_shell(rest, descriptors)
        elif name == b"program":
            self._start_program(int(rest), descriptors)
        elif name == b"look":
            serial, group, device, control, raw = map(int, rest.split())
            begun = time.process_time_ns()
            verdict = waiting.look(os.getpid(), group, device, control, raw=bool(raw))
            self._answer(b"looked %d %s %d" % (serial, verdict, time.process_time_ns() - begun))
        elif name == b"spare":
            for entry in rest.split():
                pid, _, start = entry.partition(b":")
                self._spared.add((int(pid), int(start)))
        elif name == b"term":
            self._answer(b"ended %d 0" % self._ask_to_end(int(rest)))
        elif name == b"kill":
            seconds = _KILL_SECONDS if self._adopts else _KILL_SECONDS_SLOW
            killed, left = process_tree.end(os.getpid(), seconds, frozenset(self._spared), int(rest))
            self._spared.clear()
            # First that a shell of ours has died by it, then how it went: who asked tells both at once.
            self._collect()
            self._answer(b"ended %d %d" % (killed, len(left)))
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _ask_to_end(self, shell: int) -> int:
        found = process_tree.descendants(os.getpid(), frozenset(self._spared), shell)
        for process in found:
            process_tree.send(process, signal.SIGTERM)
            process_tree.send(process, signal.SIGCONT)
        return len(found)

    def _start_shell(self, request: bytes, descriptors: list[int]) -> None:
        directory, _, program = request.partition(b"\0")
        if len(descriptors) != 4:
            self._answer(b"refused a shell needs four descriptors")
            return

        def become() -> None:
            spawning.become_shell(directory, program, descriptors, self._environment)

        pid = self._fork(become)
        self._shells.add(pid)
        self._answer(b"shell %d" % pid)

    def _start_program(self, serial: int, descriptors: list[int]) -> None:
        if len(descriptors) != 3:
            self._answer(b"refused a program needs three descriptors")
            return
        tty, output, told = descriptors
        # Once it hangs here, Linux takes this for done and gVisor for a mistake.
        with contextlib.suppress(OSError):
            fcntl.ioctl(tty, termios.TIOCSCTTY, 0)

        def become() -> None:
            reply = socket.socket(fileno=fcntl.fcntl(self._socket.fileno(), fcntl.F_DUPFD_CLOEXEC, 400))
            try:
                spawning.become_program(_read(told), tty, output)
            except spawning.Failure as failure:
                reply.send(b"failed %d %s %d" % (serial, failure.place.encode(), failure.number))

        try:
            pid = self._fork(become)
        except OSError as error:
            self._answer(b"refused %d" % (error.errno or 0))
            return
        self._programs[pid] = serial
        spawning.take_foreground(tty, pid)
        self._answer(b"program %d" % pid)

    def _fork(self, become: Callable[[], None]) -> int:
        parent = os.getpid()
        # Until it has let go of this process's handlers, a signal to the child must wait.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    signal.set_wakeup_fd(-1)
                    kernel.die_with_parent(signal.SIGKILL, parent)
                    become()
                finally:
                    os._exit(127)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read(descriptor: int) -> bytes:
    parts: list[bytes] = []
    while part := os.pread(descriptor, 1 << 20, sum(map(len, parts))):
        parts.append(part)
    return b"".join(parts)


def _note(_number: int, _frame: object) -> None:
    """Take the signal: the wake-up pipe does the rest."""
