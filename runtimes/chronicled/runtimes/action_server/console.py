"""What a command has instead of a screen and a keyboard: a terminal, and a pipe for its output.

A terminal delivers late what was written to it. A mark that is written behind a command's output, and taken out again
on its way, tells that all of it has come. The pipe needs none: it holds exactly what was written.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import signal
import termios
from collections.abc import Callable
from typing import Final

from chronicled.runtimes.action_server.terminal import MarkFilter, Terminal

__all__ = ["Console", "signal_group"]

_MARK_SECONDS: Final = 1.0
_PIPE_BYTES: Final = 1 << 20

# One buffer for all consoles: what is read is passed on before the loop goes on.
_buffer: Final = memoryview(bytearray(1 << 18))


class Console:
    """A terminal and an output pipe for one command after another.

    Args:
        between: Takes what is printed while no command runs, as it comes.
    """

    def __init__(self, between: Callable[[memoryview], None]) -> None:
        self._between = between
        self._deliver = between
        self.printed_at = 0.0
        """Loop time of the last output."""
        self.unfinished_line = False
        """Whether the last output did not end with a newline."""
        self._loop = asyncio.get_running_loop()
        self.terminal = Terminal(self._printed)
        self._output, self.output_theirs = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.set_blocking(self._output, False)
        self._loop.add_reader(self._output, self._read_output)
        self._tty = False
        self._held = False
        self._filter: MarkFilter | None = None
        self._complete: Callable[[], None] | None = None
        self._patience: asyncio.TimerHandle | None = None

    def begin(self, deliver: Callable[[memoryview], None], *, tty: bool) -> None:
        """A command begins, which prints to the terminal or to the pipe; `deliver` takes what it prints."""
        self.settle()
        self.terminal.make_sane()
        self._deliver = deliver
        self._tty = tty
        self.unfinished_line = False

    def end(self, complete: Callable[[], None]) -> None:
        """The command has ended: call `complete` once everything that it printed has been delivered, no more."""
        self.settle()
        self.hold(False)
        self.drain()
        self._complete = complete
        if not self._tty:
            self.settle()
            return
        self._tty = False
        mark = b"\x1b]7777;%039d\x07" % int.from_bytes(os.urandom(16), "big")
        self._filter = MarkFilter(mark)
        self._patience = self._loop.call_later(_MARK_SECONDS, self.settle)
        self.terminal.mark(mark)

    def settle(self) -> None:
        """Wait no longer for output of a command that has ended."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        passing, self._filter = self._filter, None
        if passing is not None and (rest := passing.rest()):
            self._hand_over(memoryview(rest))
        complete, self._complete = self._complete, None
        if complete is not None:
            self._deliver = self._between
            complete()

    def hold(self, held: bool) -> None:
        """Read no more for now, so that who prints waits; or go on."""
        if self._output < 0 or held == self._held:
            return
        self._held = held
        self.terminal.hold(held)
        if held:
            self._loop.remove_reader(self._output)
        else:
            self._loop.add_reader(self._output, self._read_output)

    def drain(self) -> None:
        """Deliver everything that is in the pipe and at the terminal now, and not what comes after."""
        if self._output < 0:
            return
        waiting = array.array("i", [0])
        fcntl.ioctl(self._output, termios.FIONREAD, waiting)
        left = waiting[0]
        while left > 0 and (count := self._take_output(min(left, len(_buffer)))):
            left -= count
        self.terminal.drain()

    def hand_away(self) -> None:
        """Close the pipe's writing end here, once a process that lives as long as the console has it."""
        if self.output_theirs >= 0:
            os.close(self.output_theirs)
            self.output_theirs = -1

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        self.settle()
        self.terminal.close()
        self.hand_away()
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1

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
            self._hand_over(_buffer[:count])
        else:
            self._loop.remove_reader(self._output)
        return count

    def _printed(self, data: bytes) -> None:
        if self._filter is None:
            self._hand_over(memoryview(data))
            return
        before, after = self._filter.split(data)
        if before:
            self._hand_over(memoryview(before))
        if self._filter.passed:
            self.settle()
            if after:
                self._hand_over(memoryview(after))

    def _hand_over(self, data: memoryview) -> None:
        self.printed_at = self._loop.time()
        self.unfinished_line = data[-1] != 10
        self._deliver(data)


def signal_group(group: int, number: int, shell: int = 0) -> None:
    """Send a signal to a terminal's foreground process group; the shell's own group gets no other than SIGINT."""
    if group > 1 and (group != shell or number == signal.SIGINT):
        with contextlib.suppress(OSError):
            os.killpg(group, number)
