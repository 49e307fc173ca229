"""One persistent bash, driven without prompts, markers in its output, polls or sleeps.

Bash reads its own commands from a control pipe; its controlling terminal is on a private descriptor, its own output
goes nowhere. A command is one line, `eval '<quoted>'` with the terminal as its input and the output pipe (or the
terminal) as its output, then a line that writes exit code and directory to a status pipe. So nothing that a command
prints, reads or sets (PS1, traps, `set -x`) is taken for ours, and an unclosed quote is bash's own to report.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import re
import signal
import termios
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from chronicled.events.errors import SandboxError
from chronicled.runtimes.action_server.lane_reaper import OUTPUT_DESCRIPTOR, STATUS_DESCRIPTOR, TTY_DESCRIPTOR
from chronicled.runtimes.action_server.supervision import LaneSupervisor
from chronicled.runtimes.action_server.terminal import MarkFilter, Terminal

__all__ = ["Finished", "Shell", "ShellFailed"]

_START_SECONDS: Final = 10.0
_MARK_SECONDS: Final = 1.0
_READING_SECONDS: Final = 0.01
_PIPE_BYTES: Final = 1 << 20
_STATUS_BYTES_MAX: Final = 1 << 16
# An interactive bash says `exit` on standard error when it is told to exit; no caller asked for that line. The alias
# takes it away (with what a trap on EXIT writes to standard error); whoever removes the alias sees the line again.
_INITIAL: Final = (
    b"set +H +o history; history -c; shopt -u checkwinsize; PS1= PS2= PS0= ; unset PROMPT_COMMAND MAILCHECK HISTFILE;"
    b" alias exit='\\builtin exit 2>/dev/null'\n"
)
_STATUS: Final = re.compile(rb"(\d+)\0(\d+)\0([^\0]*)\0")

# One buffer for all shells: what is read is passed on before the loop goes on.
_buffer: Final = memoryview(bytearray(1 << 18))


class ShellFailed(SandboxError):
    """Raised when a shell cannot be started."""

    code = "shell-failed"
    title = "The shell could not be started"


class Finished(NamedTuple):
    """How a command ended."""

    exit_code: int
    """Of the command; of the shell itself, when it `died`, and then negative for the signal that killed it."""
    directory: str | None
    died: bool


class Shell:
    """A running bash of one lane.

    Args:
        supervisor: The lane's reaper.
        deliver: Takes what commands print, as it comes; replaced from action to action.
    """

    def __init__(self, supervisor: LaneSupervisor, deliver: Callable[[memoryview], None]) -> None:
        self.pid = 0
        self.deliver = deliver
        self.dead: Finished | None = None
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._terminal = Terminal(self._printed)
        self._output, self._control, self._status = -1, -1, -1
        self._unsent = bytearray()
        self._partial = b""
        self._serial = 0
        self._repeated_bytes = 0
        self._read_at = 0.0
        self._finished: asyncio.Future[Finished] | None = None
        self._pending: Finished | None = None
        self._exit_code = 0
        self._mark: MarkFilter | None = None

    async def start(self, program: str, directory: str) -> None:
        """Start bash in the directory.

        Raises:
            ShellFailed: it did not come up.
            ReaperLost: the lane reaper is gone.
        """
        control_theirs, self._control = os.pipe2(os.O_CLOEXEC)
        self._status, status_theirs = os.pipe2(os.O_CLOEXEC)
        self._output, output_theirs = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        for descriptor in (self._control, self._status, self._output):
            os.set_blocking(descriptor, False)
        try:
            theirs = (self._terminal.slave, output_theirs, control_theirs, status_theirs)
            self.pid = await self._supervisor.start_shell(program, directory, theirs)
        finally:
            for descriptor in (control_theirs, status_theirs, output_theirs):
                os.close(descriptor)
        self._loop.add_reader(self._output, self._read_output)
        self._loop.add_reader(self._status, self._read_status)
        finished = self._send(_INITIAL + self._tail())
        await asyncio.wait((finished,), timeout=_START_SECONDS)
        if not finished.done() or finished.result().died:
            raise ShellFailed(f"{program} did not come up in {directory}")

    def run(
        self,
        command: bytes,
        *,
        tty: bool = False,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
    ) -> asyncio.Future[Finished]:
        """Start a command; the future is done when it has ended or the shell has died, all of its output delivered.

        What it left in the background keeps running, and what that prints is delivered too, later. The future never
        fails. One command at a time.
        """
        self._terminal.make_sane()
        # Bash tells of jobs that have ended when it has run this, to nowhere; else it would tell amidst the output.
        line = bytearray(b":\n")
        if self._exit_code:
            # `echo $?` tells of the command before it, as in any shell, and not of our own status line.
            line += b"(\\builtin exit %d)\n" % self._exit_code
        if directory is not None:
            line += b"\\builtin cd -- " + _quote(os.fsencode(directory)) + b" && "
        for name, value in (environment or {}).items():
            line += name.encode() + b"=" + _quote(value.encode(errors="surrogateescape")) + b" "
        target = TTY_DESCRIPTOR if tty else OUTPUT_DESCRIPTOR
        line += (
            b"\\eval "
            + _quote(command)
            + b" <&%d >&%d 2>&1 %d<&- %d>&- %d>&-"
            % (
                TTY_DESCRIPTOR,
                target,
                TTY_DESCRIPTOR,
                STATUS_DESCRIPTOR,
                OUTPUT_DESCRIPTOR,
            )
        )
        self._serial += 1
        self._repeated_bytes = 0
        self._read_at = self._loop.time()
        line += self._tail()
        self._mark = None
        if tty:
            nonce = os.urandom(12).hex().encode()
            self._mark = MarkFilter(b"\x1b]7777;" + nonce + b"\x07")
            line += b"\\builtin printf '\\e]7777;%s\\a' >&%d\n" % (nonce, TTY_DESCRIPTOR)
        return self._send(line)

    def type(self, data: bytes) -> None:
        """Type this to whatever reads from the terminal."""
        self._terminal.type(data)

    def interrupt(self, number: int) -> None:
        """Send a signal to the foreground process group of the running command, once it runs."""
        if self._when_running(lambda: self.interrupt(number)):
            self._terminal.signal_foreground(number, self.pid)
            self._repeat_status()

    def interrupt_all(self) -> None:
        """Send SIGINT to the foreground process group and to bash, so that it drops the rest of the command too."""
        if self._when_running(self.interrupt_all):
            self._terminal.signal_foreground(signal.SIGINT, self.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)
            self._repeat_status()

    @property
    def ignores_interrupts(self) -> bool:
        """Whether a command has made bash itself ignore SIGINT."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as file:
                ignored = next((line for line in file if line.startswith(b"SigIgn:")), b"SigIgn: 0")
        except OSError:
            return False
        return bool(int(ignored.split()[1], 16) & 1 << (signal.SIGINT - 1))

    def died(self, code: int) -> None:
        """Take note that the shell has ended: exit code, or negative the signal."""
        if self.dead is None:
            self.dead = Finished(code, None, died=True)
            self._drain()
            self._finish(self.dead)

    def close(self) -> None:
        """Close every descriptor; the process is the lane reaper's. Idempotent."""
        self.died(-signal.SIGKILL)
        self._terminal.close()
        for descriptor in (self._output, self._control, self._status):
            if descriptor >= 0:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
                os.close(descriptor)
        self._output = self._control = self._status = -1

    def _tail(self) -> bytes:
        # Plain commands, no helper function: they survive `unset -f`, aliases and a parser upset by a bad eval. The two
        # needless redirections are a check: a shell that has lost a descriptor of ours would fail to run the next
        # command and blame it, so it exits now, and the command that closed the descriptor is told.
        return b'\n\\builtin printf \'%d\\0%%d\\0%%s\\0\' "$?" "${PWD-}" <&%d %d>&%d >&%d || \\builtin exit 125\n' % (
            self._serial,
            TTY_DESCRIPTOR,
            OUTPUT_DESCRIPTOR + 1,
            OUTPUT_DESCRIPTOR,
            STATUS_DESCRIPTOR,
        )

    def _when_running(self, again: Callable[[], None]) -> bool:
        """Return whether the command runs; call `again` soon if bash is still reading it.

        A SIGINT while bash reads a line makes it drop what it has, and take the rest for a command of its own. Bash
        reads a KiB ahead: once the control pipe is empty, the line is parsed a moment later.
        """
        if self._finished is None or self._finished.done() or self.dead is not None:
            return False
        waiting = array.array("i", [0])
        fcntl.ioctl(self._control, termios.FIONREAD, waiting)
        unread = len(self._unsent) + waiting[0] - self._repeated_bytes
        if unread > 0:
            self._read_at = self._loop.time()
        if unread >= 0 and self._loop.time() < self._read_at + _READING_SECONDS:
            serial = self._serial
            self._loop.call_later(_READING_SECONDS, lambda: again() if serial == self._serial else None)
            return False
        return unread == 0

    def _repeat_status(self) -> None:
        # A SIGINT between command and status line makes bash drop the status line: a second one, ignored if the first
        # was not lost, keeps the end of the command from being missed.
        if self._finished is not None and not self._finished.done() and self.dead is None:
            tail = self._tail()
            self._repeated_bytes += len(tail)
            self._unsent += tail
            self._write_control()

    def _send(self, line: bytes | bytearray) -> asyncio.Future[Finished]:
        finished: asyncio.Future[Finished] = self._loop.create_future()
        self._finished, self._pending = finished, None
        if self.dead is not None:
            finished.set_result(self.dead)
            return finished
        self._unsent += line
        self._write_control()
        return finished

    def _write_control(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._control, self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._control, self._write_control)
            return
        except OSError:
            # The shell is gone or has closed its end: its death says the rest.
            self._unsent.clear()
        self._loop.remove_writer(self._control)

    def _read_output(self) -> None:
        self._take_output(len(_buffer))

    def _take_output(self, limit: int) -> int:
        try:
            count = os.readv(self._output, [_buffer[:limit]])
        except BlockingIOError:
            return 0
        except OSError:
            count = 0
        if count:
            self.deliver(_buffer[:count])
        else:
            self._loop.remove_reader(self._output)
        return count

    def _printed(self, data: bytes) -> None:
        if self._mark is not None:
            data = self._mark.feed(data)
            if self._mark.passed and self._pending is not None:
                self.deliver(memoryview(data))
                self._finish(self._pending)
                return
        if data:
            self.deliver(memoryview(data))

    def _read_status(self) -> None:
        try:
            data = os.read(self._status, _STATUS_BYTES_MAX)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._status)
            return
        self._partial = (self._partial + data)[-_STATUS_BYTES_MAX:]
        end = 0
        for match in _STATUS.finditer(self._partial):
            end = match.end()
            if int(match[1]) == self._serial and self._pending is None:
                self._exit_code = int(match[2])
                self._ended(Finished(self._exit_code, os.fsdecode(match[3]), died=False))
        self._partial = self._partial[end:]

    def _ended(self, finished: Finished) -> None:
        self._pending = finished
        self._drain()
        if self._mark is None or self._mark.passed:
            self._finish(finished)
        else:
            serial = self._serial
            self._loop.call_later(_MARK_SECONDS, lambda: self._finish(finished) if serial == self._serial else None)

    def _drain(self) -> None:
        """Deliver everything that is in the pipe and at the terminal now, and not what comes after."""
        if self._output < 0:
            return
        waiting = array.array("i", [0])
        fcntl.ioctl(self._output, termios.FIONREAD, waiting)
        left = waiting[0]
        while left > 0 and (count := self._take_output(min(left, len(_buffer)))):
            left -= count
        self._terminal.drain()

    def _finish(self, finished: Finished) -> None:
        if self._finished is None or self._finished.done():
            return
        if self._mark is not None and (rest := self._mark.rest()):
            self.deliver(memoryview(rest))
        self._finished.set_result(finished)


def _quote(data: bytes) -> bytes:
    return b"'" + data.replace(b"'", b"'\\''") + b"'"
