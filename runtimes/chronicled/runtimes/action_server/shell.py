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
from chronicled.runtimes.action_server import process_tree
from chronicled.runtimes.action_server.console import Console, signal_group
from chronicled.runtimes.action_server.spawning import OUTPUT_DESCRIPTOR, STATUS_DESCRIPTOR, TTY_DESCRIPTOR
from chronicled.runtimes.action_server.supervision import LaneSupervisor
from chronicled.runtimes.action_server.variables import SessionVariables

__all__ = ["Finished", "Shell", "ShellFailed"]

_START_SECONDS: Final = 10.0
_READING_SECONDS: Final = 0.01
_SETTLE_SECONDS: Final = 0.1
_SETTLE_TRIES: Final = 3
"""With a SIGINT on its way bash may drop the line that it is asked with; together less than an ending has time for."""
_SETTLE_TRIES_SLOW: Final = 12
"""Where a kernel of its own (gVisor) shares a busy machine."""
_PROBES: Final = 2
"""So many looks must find that it has read past its command before it counts as lost."""
_STATUS_BYTES_MAX: Final = 1 << 16
# An interactive bash says `exit` on standard error when it is told to exit; no caller asked for that line. The alias
# takes it away (with what a trap on EXIT writes to standard error); whoever removes the alias sees the line again.
_INITIAL: Final = (
    b"exec 2>/dev/null; set +H +o history; history -c; shopt -u checkwinsize; PS1= PS2= PS0= ;"
    b" unset PROMPT_COMMAND MAILCHECK HISTFILE;"
    b" alias exit='\\builtin exit 2>/dev/null'\n"
)
_STATUS: Final = re.compile(rb"(\d+)\0(\d+)\0([^\0]*)\0")


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
        between: Takes what background jobs print while no command runs.
        variables: What the session has set since it began; exported before the next command.
    """

    def __init__(
        self, supervisor: LaneSupervisor, between: Callable[[memoryview], None], variables: SessionVariables
    ) -> None:
        self.pid = 0
        self.dead: Finished | None = None
        self.abandoned = False
        """It was killed because it could not tell the end of its command."""
        self.console = Console(between)
        self._supervisor = supervisor
        self._variables = variables
        self._variables_seen = 0
        self._loop = asyncio.get_running_loop()
        self._control, self._status = -1, -1
        self._unsent = bytearray()
        self._partial = b""
        self._serial = 0
        self._repeated_bytes = 0
        self._read_at = 0.0
        self._finished: asyncio.Future[Finished] | None = None
        self._settled: asyncio.Future[None] | None = None
        self._pending: Finished | None = None
        self._exit_code = 0
        self._former_groups: set[int] = set()
        self._probed = -1
        self._probes_left = 0

    async def start(self, program: str, directory: str) -> None:
        """Start bash in the directory.

        Raises:
            ShellFailed: it did not come up.
            ReaperLost: the lane reaper is gone.
        """
        control_theirs, self._control = os.pipe2(os.O_CLOEXEC)
        self._status, status_theirs = os.pipe2(os.O_CLOEXEC)
        for descriptor in (self._control, self._status):
            os.set_blocking(descriptor, False)
        try:
            theirs = (self.console.terminal.slave, self.console.output_theirs, control_theirs, status_theirs)
            self.pid = await self._supervisor.start_shell(program, directory, theirs)
        finally:
            for descriptor in (control_theirs, status_theirs):
                os.close(descriptor)
            self.console.hand_away()
        self._loop.add_reader(self._status, self._read_status)
        finished = self._send(_INITIAL + self._exports() + self._tail())
        await asyncio.wait((finished,), timeout=_START_SECONDS)
        if not finished.done() or finished.result().died:
            raise ShellFailed(f"{program} did not come up in {directory}")

    def run(
        self,
        command: bytes,
        deliver: Callable[[memoryview], None],
        *,
        tty: bool = False,
        environment: Mapping[str, str] | None = None,
        directory: str | None = None,
    ) -> asyncio.Future[Finished]:
        """Start a command; the future is done when it has ended or the shell has died, all of its output delivered.

        What it left in the background keeps running, and what that prints later is delivered between commands. The
        future never fails. One command at a time.
        """
        self.console.begin(deliver, tty=tty)
        # Bash tells of jobs that have ended when it has run this, to nowhere; else it would tell amidst the output.
        line = bytearray(b":\n")
        line += self._exports()
        if self._exit_code:
            # `echo $?` tells of the command before it, as in any shell, and not of our own status line.
            line += b"(\\builtin exit %d)\n" % self._exit_code
        if directory is not None:
            line += b"\\builtin cd -- " + quote(os.fsencode(directory)) + b" && "
        for name, value in (environment or {}).items():
            line += name.encode() + b"=" + quote(value.encode(errors="surrogateescape")) + b" "
        target = TTY_DESCRIPTOR if tty else OUTPUT_DESCRIPTOR
        line += (
            b"\\eval "
            + quote(command)
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
        self._settled = None
        self._repeated_bytes = 0
        self._read_at = self._loop.time()
        if not self.console.terminal.foreground:
            # Jobs of commands before this one stay in the background, and so does the shell's own group.
            self._former_groups = {self.pid, *process_tree.groups_of_children(self.pid)}
        line += self._tail()
        return self._send(line)

    def type(self, data: bytes) -> None:
        """Type this to whatever reads from the terminal."""
        self.console.terminal.type(data)

    def interrupt(self, number: int) -> None:
        """Send a signal to the foreground process group of the running command, once it runs."""
        if self._when_running(lambda: self.interrupt(number)):
            signal_group(self.foreground, number, self.pid)
            self._repeat_status()

    def interrupt_all(self) -> None:
        """Send SIGINT to the foreground process group and to bash, so that it drops the rest of the command too."""
        if self._when_running(self.interrupt_all):
            signal_group(self.foreground, signal.SIGINT, self.pid)
            self.interrupt_shell()

    def interrupt_shell(self) -> None:
        """Send SIGINT to bash alone, so that it drops what is left of the command once what runs is gone."""
        if self._when_running(self.interrupt_shell):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGINT)
            self._repeat_status()

    async def settle(self) -> bool:
        """Return whether bash has read all that it was sent and done what it had pending by then, for a while at most.

        It runs traps on signals before it begins the next line, so an answer to a line of ours says that they are over.
        Only between two commands; False for a shell that is dead, or busy with such a trap.
        """
        self._serial += 1
        self._settled = settled = self._loop.create_future()
        for _ in range(_SETTLE_TRIES_SLOW if process_tree.orphans_leave() else _SETTLE_TRIES):
            if self.dead is not None:
                return False
            self._unsent += self._tail()
            self._write_control()
            await asyncio.wait((settled,), timeout=_SETTLE_SECONDS)
            if settled.done():
                return self.dead is None
        return False

    @property
    def foreground(self) -> int:
        """The terminal's foreground process group; 0 for none.

        Where it is not told (gVisor), the job that the command has begun last, or the shell itself: with job control
        each job is a group. A job that the command has put into the background after that is taken for it.
        """
        if (told := self.console.terminal.foreground) or not self.pid:
            return told
        groups = process_tree.groups_of_children(self.pid)
        return next((group for group in groups if group not in self._former_groups), self.pid)

    @property
    def control(self) -> int:
        """Inode of the pipe from which it has its commands; 0 while one of them has not been read whole."""
        if self._control < 0:
            return 0
        waiting = array.array("i", [0])
        fcntl.ioctl(self._control, termios.FIONREAD, waiting)
        return 0 if self._unsent or waiting[0] or self._pending is not None else os.fstat(self._control).st_ino

    def abandon(self) -> None:
        """Kill it: it has read all that there was and waits for more, but has not told the end of its command.

        A command can have put a function in the place of a builtin, or closed what the end is told on.
        """
        if self.dead is None:
            self.abandoned = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def reads_on(self) -> bool:
        """Return whether it has read past the command that has not ended, as it was found in several calls in a row.

        The first call sends a status line for that. A shell that runs something leaves it unread, and one that has
        ended its command tells so as soon as it has read it.
        """
        if not self.control:
            return False
        if self._probed != self._serial:
            self._probed, self._probes_left = self._serial, _PROBES
            self._repeat_status()
        self._probes_left -= 1
        return self._probes_left < 0

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
            if self._settled is not None and not self._settled.done():
                self._settled.set_result(None)
            self._ended(self.dead)

    def close(self) -> None:
        """Close every descriptor; the process is the lane reaper's. Idempotent."""
        self.died(-signal.SIGKILL)
        self.console.close()
        for descriptor in (self._control, self._status):
            if descriptor >= 0:
                self._loop.remove_reader(descriptor)
                self._loop.remove_writer(descriptor)
                os.close(descriptor)
        self._control = self._status = -1

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
            if int(match[1]) != self._serial:
                continue
            if self._settled is not None:
                if not self._settled.done():
                    self._settled.set_result(None)
            elif self._pending is None:
                self._exit_code = int(match[2])
                self._ended(Finished(self._exit_code, os.fsdecode(match[3]), died=False))
        self._partial = self._partial[end:]

    def _ended(self, finished: Finished) -> None:
        self._pending = finished
        future = self._finished

        def complete() -> None:
            if future is not None and not future.done():
                future.set_result(finished)

        self.console.end(complete)

    def _exports(self) -> bytes:
        """Return lines that give the shell what the session has set meanwhile, told to nobody.

        A trace could go to a file (BASH_XTRACEFD), so it is off while values are on the line.
        """
        changed = self._variables.since(self._variables_seen)
        self._variables_seen = self._variables.changes
        if not changed:
            return b""
        lines = bytearray(b"_chronicled_options=:$SHELLOPTS:; \\builtin set +xv +o history\n")
        for name, value in changed.items():
            # A subshell finds out whether it is readonly: to try would end a strict shell.
            lines += b"(\\builtin unset -v %s) 2>/dev/null && " % name
            if value is None:
                lines += b"\\builtin unset -v %s\n" % name
            else:
                lines += b"\\builtin export %s=%s\n" % (name, quote(value))
        for mark, option in ((b"xtrace:", b"-x"), (b"verbose:", b"-v"), (b":history:", b"-o history")):
            lines += b'\\builtin test "${_chronicled_options/%s}" = "$_chronicled_options" || \\builtin set %s\n' % (
                mark,
                option,
            )
        return bytes(lines + b"\\builtin unset -v _chronicled_options\n")


def quote(data: bytes) -> bytes:
    """Return the bytes as one word of bash."""
    return b"'" + data.replace(b"'", b"'\\''") + b"'"
