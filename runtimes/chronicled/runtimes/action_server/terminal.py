"""A lane's terminal: the pseudo-terminal that its commands read from, and write to where they ask for one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable
from typing import Final

__all__ = ["MarkFilter", "Terminal"]

_ROWS, _COLUMNS = 50, 200
_INPUT_BYTES_MAX: Final = 1 << 20
_READ_BYTES: Final = 1 << 16


class MarkFilter:
    """Takes one marker out of a stream, wherever the stream is cut, and says when it has passed.

    A terminal delivers what was written to it late, so that a marker written last is the only sign that all is there.
    """

    def __init__(self, mark: bytes) -> None:
        self.passed = False
        self._mark = mark
        self._held: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return what of the stream so far is certainly not the marker."""
        if self.passed:
            return data
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self.passed = True
            self._held = b""
            return data[:at] + data[at + len(self._mark) :]
        keep = min(len(self._mark) - 1, len(data))
        while keep and not self._mark.startswith(data[len(data) - keep :]):
            keep -= 1
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        """Return what was held back, once no marker is awaited any more."""
        held, self._held = self._held, b""
        return held


class Terminal:
    """A pseudo-terminal with the master side here; no echo, and output as it was written (no CR before LF).

    Args:
        printed: Called with what programs write to the terminal.
    """

    def __init__(self, printed: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._printed = printed
        self._master, self.slave = os.openpty()
        self._typed = bytearray()
        self._open = True
        attributes = termios.tcgetattr(self.slave)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~(termios.ECHO | termios.ECHONL)
        self._sane = attributes
        self.make_sane()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        os.set_blocking(self._master, False)
        self._loop.add_reader(self._master, self._readable)

    def make_sane(self) -> None:
        """Undo what the last program did to the settings, and drop what it has not read: it is nobody else's input."""
        self._typed.clear()
        termios.tcsetattr(self.slave, termios.TCSANOW, self._sane)
        termios.tcflush(self.slave, termios.TCIFLUSH)
        termios.tcflow(self.slave, termios.TCOON)

    def type(self, data: bytes) -> None:
        """Type this. More than a MiB that nobody has read is dropped."""
        if self._open and len(self._typed) + len(data) <= _INPUT_BYTES_MAX:
            self._typed += data
            self._writable()

    def signal_foreground(self, number: int, shell: int) -> None:
        """Send a signal to the foreground process group; the shell's own group gets no other than SIGINT."""
        with contextlib.suppress(OSError):
            group = os.tcgetpgrp(self._master)
            if group > 1 and (group != shell or number == signal.SIGINT):
                os.killpg(group, number)

    def drain(self) -> None:
        """Take what has arrived by now."""
        while self._open and self._readable():
            pass

    def close(self) -> None:
        """Close both sides. Idempotent."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._master)
            self._loop.remove_writer(self._master)
            os.close(self._master)
            os.close(self.slave)

    def _readable(self) -> bool:
        try:
            data = os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            # No process has the terminal open any more (we hold the other side, so this is rare).
            self._loop.remove_reader(self._master)
            return False
        self._printed(data)
        return bool(data)

    def _writable(self) -> None:
        try:
            while self._typed:
                del self._typed[: os.write(self._master, self._typed)]
        except BlockingIOError:
            self._loop.add_writer(self._master, self._writable)
            return
        except OSError:
            self._typed.clear()
        self._loop.remove_writer(self._master)
