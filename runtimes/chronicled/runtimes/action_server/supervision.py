"""The server's side of the reapers: requests and notices over their packet sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from chronicled.events.errors import SandboxError
from chronicled.runtimes.action_server import lane_reaper, process_tree
from chronicled.runtimes.action_server.process_tree import Process

__all__ = ["LaneSupervisor", "ReaperLost", "Supervisor"]

_ANSWER_SECONDS: Final = 3.0
_END_SECONDS: Final = 6.0
"""What it may take to kill hundreds of processes on a busy machine."""
_SLOW: Final = 4
"""So many times as long it may take where orphans leave the tree (gVisor): a fork and each look take longer there."""
_LOOK_SECONDS: Final = 0.05
_WAKES_MAX: Final = 3
"""So often a reaper that a command has stopped is woken for one answer; one that is stopped time and again is lost."""
_SPARED_PER_PACKET: Final = 2000
_NOTICES: Final = frozenset({b"died", b"failed", b"over", b"looked"})


class ReaperLost(SandboxError):
    """Raised when a reaper has died or does not answer."""

    code = "reaper-lost"
    title = "The process that supervises the shell is gone"


class PacketLink:
    """Requests in order and their answers; notices, which answer nothing, go to a callback."""

    def __init__(
        self, connected: socket.socket, pid: int, notice: Callable[[list[bytes]], None], lost: Callable[[], None]
    ) -> None:
        connected.setblocking(False)
        self._socket = connected
        known = process_tree.identify(pid)
        self._process = (pid, 0) if known is None else known[0]
        self._notice = notice
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._answers: deque[asyncio.Future[list[bytes]]] = deque()
        self._open = True
        self._loop.add_reader(connected.fileno(), self._readable)

    def tell(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send what has no answer.

        Raises:
            ReaperLost: the other side is gone, or stopped and its queue is full.
        """
        if not self._open:
            raise ReaperLost
        try:
            socket.send_fds(self._socket, [message], list(descriptors))
        except OSError as error:
            raise ReaperLost(f"the reaper takes no requests ({error.strerror})") from None

    async def ask(
        self, message: bytes, descriptors: Sequence[int] = (), seconds: float = _ANSWER_SECONDS
    ) -> list[bytes]:
        """Send a request, return the words of its answer.

        Args:
            message: The request.
            descriptors: What it hands over.
            seconds: How long the answer may take; longer where the kernel is slow.

        Raises:
            ReaperLost: the other side is gone, has not answered in time, or is stopped however often it is woken.
        """
        self.tell(message, descriptors)
        answer: asyncio.Future[list[bytes]] = self._loop.create_future()
        self._answers.append(answer)
        end = self._loop.time() + seconds * (_SLOW if process_tree.orphans_leave() else 1)
        wakes = _WAKES_MAX
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer, wakes
            stopped = process_tree.is_stopped(self._process)
            if self._loop.time() > end or (stopped and not wakes):
                self.close()
                return
            if stopped:
                wakes -= 1
                self.wake()
            timer = self._loop.call_later(_LOOK_SECONDS, look)

        timer = self._loop.call_later(_LOOK_SECONDS, look)
        try:
            return await asyncio.shield(answer)
        finally:
            timer.cancel()

    def wake(self) -> None:
        """Have it go on: a command may have stopped it."""
        process_tree.send(self._process, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, and close."""
        process_tree.send(self._process, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Close; waiting requests fail. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(ReaperLost())
                answer.exception()
        self._lost()

    def _readable(self) -> None:
        try:
            message = self._socket.recv(lane_reaper.PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self.close()
            return
        words = message.split(b" ")
        if words[0] in _NOTICES:
            self._notice(words)
        elif self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(words)


class Supervisor:
    """The link to the reaper."""

    def __init__(self, connected: socket.socket, lost: Callable[[], None]) -> None:
        self._link = PacketLink(connected, os.getppid(), lambda _: None, lost)

    async def lane(self, died: Callable[[int, int], None], lost: Callable[[], None]) -> LaneSupervisor:
        """Start a lane reaper.

        Args:
            died: Called with pid and exit code (negative: signal) when a shell of the lane has ended.
            lost: Called when the lane reaper itself has died.

        Raises:
            ReaperLost: the reaper is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            words = await self._link.ask(b"lane", [theirs.fileno()])
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return LaneSupervisor(ours, int(words[1]), died, lost)

    async def end_strays(self, lane: int) -> tuple[int, int]:
        """Kill what a dead lane reaper of this pid left behind; return how many were killed, how many are left.

        Those are killed later, as soon as the kernel lets them go.

        Raises:
            ReaperLost: the reaper is gone.
        """
        words = await self._link.ask(b"strays %d" % lane, seconds=_END_SECONDS)
        return int(words[1]), int(words[2])

    def close(self) -> None:
        """Close the link."""
        self._link.close()


class LaneSupervisor:
    """The link to one lane reaper."""

    def __init__(
        self, connected: socket.socket, pid: int, died: Callable[[int, int], None], lost: Callable[[], None]
    ) -> None:
        self.pid = pid
        self._link = PacketLink(connected, pid, self._take, self._over)
        self._died = died
        self._lost = lost
        self._serial = 0
        self._programs: dict[int, Callable[[list[bytes]], None]] = {}
        self._looks: dict[int, Callable[[bytes, float], None]] = {}

    async def start_shell(self, program: str, directory: str, descriptors: Sequence[int]) -> int:
        """Fork a shell in the directory (or `/` where there is none); return its pid.

        Args:
            program: Path of bash.
            directory: Where it starts.
            descriptors: Terminal, output, control and status, as the shell gets them.

        Raises:
            ReaperLost: the lane reaper is gone.
        """
        request = b"shell " + os.fsencode(directory) + b"\0" + os.fsencode(program)
        words = await self._link.ask(request, descriptors)
        if words[0] != b"shell":
            raise ReaperLost("the lane reaper could not start a shell")
        return int(words[1])

    async def start_program(self, tty: int, output: int, start: bytes, notice: Callable[[list[bytes]], None]) -> int:
        """Fork a program in the terminal's foreground; return its pid.

        Args:
            tty: The lane's terminal, always the same one.
            output: Where its output and errors go.
            start: What `spawning.encode_program` made.
            notice: Called with `failed SERIAL PLACE ERRNO` when it could not be executed, and with `over SERIAL
                STATUS` when it has ended (with `over` and `0 -9` when the lane reaper is gone).

        Raises:
            ReaperLost: the lane reaper is gone, or cannot fork.
        """
        self._serial += 1
        serial = self._serial
        told = os.memfd_create("chronicled-program", os.MFD_CLOEXEC)
        self._programs[serial] = notice
        try:
            view = memoryview(start)
            while view:
                view = view[os.write(told, view) :]
            words = await self._link.ask(b"program %d" % serial, [tty, output, told])
            if words[0] != b"program":
                raise ReaperLost("the lane reaper could not start a program")
            return int(words[1])
        except BaseException:
            self._programs.pop(serial, None)
            raise
        finally:
            os.close(told)

    def look(
        self, group: int, device: int, control: int, verdict: Callable[[bytes, float], None], *, raw: bool
    ) -> None:
        """Ask whether a foreground group waits for the terminal.

        `verdict` is called with one of `waiting.py` and how many seconds of a processor the look took.

        Raises:
            ReaperLost: the lane reaper is gone.
        """
        self._serial += 1
        self._link.tell(b"look %d %d %d %d %d" % (self._serial, group, device, control, raw))
        self._looks[self._serial] = verdict

    async def ask_to_end(self, spared: Iterable[Process], shell: int) -> int:
        """Send SIGTERM to what is neither spared nor the shell; return to how many.

        Raises:
            ReaperLost: the lane reaper is gone.
        """
        self._link.wake()
        self._spare(spared)
        return int((await self._link.ask(b"term %d" % shell))[1])

    async def end(self, spared: Iterable[Process], shell: int) -> tuple[int, int]:
        """Kill what is neither spared nor the shell (0: the shell too); return how many were killed, how many are left.

        Raises:
            ReaperLost: the lane reaper is gone.
        """
        self._link.wake()
        self._spare(spared)
        words = await self._link.ask(b"kill %d" % shell, seconds=_END_SECONDS)
        return int(words[1]), int(words[2])

    def kill(self) -> None:
        """Kill the lane reaper itself, when it does not answer; what hangs below it becomes the reaper's."""
        self._link.kill()

    def close(self) -> None:
        """Let the lane reaper end with everything below it."""
        self._link.close()

    def _take(self, words: list[bytes]) -> None:
        if words[0] == b"died":
            self._died(int(words[1]), int(words[2]))
        elif words[0] == b"looked":
            verdict = self._looks.pop(int(words[1]), None)
            if verdict is not None:
                verdict(words[2], int(words[3]) / 1e9)
        else:
            serial = int(words[1])
            notice = self._programs.get(serial) if words[0] == b"failed" else self._programs.pop(serial, None)
            if notice is not None:
                notice(words)

    def _over(self) -> None:
        self._looks.clear()
        programs, self._programs = self._programs, {}
        self._lost()
        for notice in programs.values():
            # The kernel kills a program with its parent.
            notice([b"over", b"0", b"-9"])

    def _spare(self, spared: Iterable[Process]) -> None:
        entries = [b"%d:%d" % process for process in spared]
        for start in range(0, len(entries), _SPARED_PER_PACKET):
            self._link.tell(b"spare " + b" ".join(entries[start : start + _SPARED_PER_PACKET]))
