"""The lane reaper: parent of a lane's shell, and of everything that the shell's commands leave behind.

It does what must be done from within the process tree: forks the shell, collects it and says how it ended, ends
processes by their place in the tree. One packet is one request or one notice:

    server                                    lane reaper
      shell CWD NUL PROGRAM + 4 descriptors ──▶            tty, output, control, status
                                            ◀── shell PID  or refused WHY
      spare PID:START ...                   ──▶            part of a list too long for one packet; no answer
      term SHELL | kill SHELL               ──▶            what is not spared and not SHELL (0: the shell too)
                                            ◀── ended KILLED LEFT
                                            ◀── died PID STATUS, whenever a shell has ended

When the server goes away, or the reaper dies, it kills everything below it and exits.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import termios

from chronicled.runtimes.action_server import kernel, process_tree
from chronicled.runtimes.action_server.process_tree import Process

__all__ = ["CONTROL_DESCRIPTOR", "OUTPUT_DESCRIPTOR", "PACKET_BYTES_MAX", "STATUS_DESCRIPTOR", "TTY_DESCRIPTOR", "main"]

CONTROL_DESCRIPTOR = 0
TTY_DESCRIPTOR = 147
STATUS_DESCRIPTOR = 148
OUTPUT_DESCRIPTOR = 149
"""Numbers in the shell: its own input is the control pipe. The others are out of the way of bash, which takes 10 and
up, 63 and down (process substitution), 255 and down, and of what scripts like to use (`exec 200>lock`)."""
PACKET_BYTES_MAX = 64 << 10
_KILL_SECONDS = 1.2
_END_SECONDS = 10.0
_DEFAULTED = (
    "SIGPIPE",
    "SIGINT",
    "SIGQUIT",
    "SIGTERM",
    "SIGHUP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGCHLD",
    "SIGXFSZ",
)


def main(requests: socket.socket, environment: dict[bytes, bytes]) -> None:
    """Be a lane's reaper; does not return."""
    kernel.adopt_orphans()
    LaneReaper(requests, environment).run()
    process_tree.end(os.getpid(), _END_SECONDS, collect=True)
    os._exit(0)


class LaneReaper:
    """The lane reaper's loop."""

    def __init__(self, requests: socket.socket, environment: dict[bytes, bytes]) -> None:
        requests.setblocking(True)
        self._socket = requests
        self._environment = environment
        self._spared: set[Process] = set()
        self._shells: set[int] = set()
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
        name, _, rest = message.partition(b" ")
        if name == b"shell":
            self._start_shell(rest, descriptors)
        elif name == b"spare":
            for entry in rest.split():
                pid, _, start = entry.partition(b":")
                self._spared.add((int(pid), int(start)))
        elif name == b"term":
            self._answer(b"ended %d 0" % self._ask_to_end(int(rest)))
        elif name == b"kill":
            killed, left = process_tree.end(os.getpid(), _KILL_SECONDS, frozenset(self._spared), int(rest))
            self._spared.clear()
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
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                kernel.die_with_parent(signal.SIGKILL, parent)
                self._become_shell(directory, program, descriptors)
            finally:
                os._exit(127)
        self._shells.add(pid)
        self._answer(b"shell %d" % pid)

    def _become_shell(self, directory: bytes, program: bytes, descriptors: list[int]) -> None:
        signal.set_wakeup_fd(-1)
        for name in _DEFAULTED:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
        # Out of the way of the numbers that they are to get.
        tty, output, control, status = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 300) for number in descriptors)
        null = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, 300)
        for source, target in (
            (control, CONTROL_DESCRIPTOR),
            (null, 1),
            (null, 2),
            (tty, TTY_DESCRIPTOR),
            (status, STATUS_DESCRIPTOR),
            (output, OUTPUT_DESCRIPTOR),
        ):
            os.dup2(source, target)
        os.closerange(3, TTY_DESCRIPTOR)
        os.closerange(OUTPUT_DESCRIPTOR + 1, 300)
        try:
            os.chdir(directory)
        except OSError:
            os.chdir("/")
        os.execve(program, [program, b"--noprofile", b"--norc", b"--noediting", b"-i"], self._environment)


def _note(_number: int, _frame: object) -> None:
    """Take the signal: the wake-up pipe does the rest."""
