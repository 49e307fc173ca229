"""A lane's terminal: the pseudo-terminal that its commands read from, and write to where they ask for one.

Output passes as it was written (no CR before LF) and input is not echoed, unless a program changes that for itself.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import Final

__all__ = ["MarkFilter", "Terminal"]

_ROWS, _COLUMNS = 50, 200
_INPUT_BYTES_MAX: Final = 1 << 20
_READ_BYTES: Final = 1 << 16
_RETRY_SECONDS: Final = 0.002


class MarkFilter:
    """Takes one marker out of a stream, wherever the stream is cut, and says when it has passed.

    A terminal delivers what was written to it late, so that a marker written last is the only sign that all is there.
    """

    def __init__(self, mark: bytes) -> None:
        self.passed = False
        self._mark = mark
        self._held: bytes = b""

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what of the stream so far is certainly not the marker: what came before it, and what came after."""
        if self.passed:
            return b"", data
        data = self._held + data
        at = data.find(self._mark)
        if at >= 0:
            self.passed = True
            self._held = b""
            return data[:at], data[at + len(self._mark) :]
        keep = min(len(self._mark) - 1, len(data))
        while keep and not self._mark.startswith(data[len(data) - keep :]):
            keep -= 1
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep], b""

    def rest(self) -> bytes:
        """Return what was held back, once no marker is awaited any more."""
        held, self._held = self._held, b""
        return held


class Terminal:
    """A pseudo-terminal with the master side here.

    Args:
        printed: Called with what programs write to the terminal.
    """

    def __init__(self, printed: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._printed = printed
        self._master, self.slave = os.openpty()
        # A description of its own: whether it blocks must not be the programs' business.
        self._writer = os.open(os.ttyname(self.slave), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._typed = bytearray()
        self._mark = b""
        self._open = True
        attributes = termios.tcgetattr(self.slave)
        attributes[1] &= ~termios.OPOST
        attributes[3] &= ~(termios.ECHO | termios.ECHONL)
        self._sane = attributes
        self.device = os.fstat(self.slave).st_rdev
        """Device number, as the programs' descriptors have it."""
        self.make_sane()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        os.set_blocking(self._master, False)
        self._loop.add_reader(self._master, self._readable)

    @property
    def is_raw(self) -> bool:
        """Whether a program has taken the terminal out of line mode."""
        return self._open and not termios.tcgetattr(self.slave)[3] & termios.ICANON

    @property
    def is_changed(self) -> bool:
        """Whether a program has changed how the terminal treats input (line mode, echo, signals)."""
        return self._open and termios.tcgetattr(self.slave)[3] != self._sane[3]

    @property
    def foreground(self) -> int:
        """Foreground process group; 0 for none, or where it is told to nobody outside the session (gVisor)."""
        if not self._open:
            return 0
        try:
            return max(0, os.tcgetpgrp(self._master))
        except OSError:
            return 0

    @property
    def has_unread_input(self) -> bool:
        """Whether something was typed that nobody has read."""
        if not self._open:
            return False
        waiting = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.slave, termios.FIONREAD, waiting)
        return bool(self._typed or waiting[0])

    def make_sane(self) -> None:
        """Undo what the last program did to the settings, and drop what it has not read: it is nobody else's input."""
        self._typed.clear()
        self._mark = b""
        termios.tcsetattr(self.slave, termios.TCSANOW, self._sane)
        try:
            termios.tcflush(self.slave, termios.TCIFLUSH)
            termios.tcflow(self.slave, termios.TCOON)
        except termios.error as error:
            if error.args[0] != errno.ENOTTY:
                raise
            # A kernel that can do neither (gVisor).
            self._read_away()

    def _read_away(self) -> None:
        """Drop unread input by reading it, unfinished lines too."""
        raw = termios.tcgetattr(self.slave)
        raw[3] &= ~termios.ICANON
        termios.tcsetattr(self.slave, termios.TCSANOW, raw)
        reader = os.open(os.ttyname(self.slave), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            dropped = 0
            while dropped < _INPUT_BYTES_MAX and (part := os.read(reader, _READ_BYTES)):
                dropped += len(part)
        except OSError:
            # Nothing more to read.
            pass
        finally:
            os.close(reader)
            termios.tcsetattr(self.slave, termios.TCSANOW, self._sane)

    def type(self, data: bytes) -> None:
        """Type this. More than a MiB that nobody has read is dropped."""
        if self._open and len(self._typed) + len(data) <= _INPUT_BYTES_MAX:
            self._typed += data
            self._writable()

    def mark(self, data: bytes) -> None:
        """Write this as if a program had printed it, behind everything that programs have printed by now."""
        if not self._open:
            return
        # A program that ends with the terminal's output stopped or translated must not hold up or spell the mark.
        termios.tcsetattr(self.slave, termios.TCSANOW, self._sane)
        with contextlib.suppress(termios.error):
            # A kernel that cannot stop it either (gVisor) says no.
            termios.tcflow(self.slave, termios.TCOON)
        self._mark = data
        self._write_mark()

    def hold(self, held: bool) -> None:
        """Read no more for now, so that who prints waits; or go on."""
        if self._open and held:
            self._loop.remove_reader(self._master)
        elif self._open:
            self._loop.add_reader(self._master, self._readable)

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
            for descriptor in (self._master, self.slave, self._writer):
                os.close(descriptor)

    def _write_mark(self) -> None:
        if not self._open or not self._mark:
            return
        try:
            self._mark = self._mark[os.write(self._writer, self._mark) :]
        except BlockingIOError:
            pass
        except OSError:
            self._mark = b""
        if self._mark:
            self._loop.call_later(_RETRY_SECONDS, self._write_mark)

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
