"""A daemon as a child process that may be killed at any moment and started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.awake import awake
from tests.crash.wire import ready

__all__ = ["Daemon", "NotReady"]

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 20.0
PROBE_SECONDS = 0.005
PRODUCT = (str(Path(sys.executable).with_name("chronicled")), "serve")


class NotReady(Exception):
    """Raised when the daemon ended, or did not get ready in time; carries the end of its log."""


class Daemon:
    """One data directory, one socket, and whichever process serves them at the moment."""

    def __init__(self, directory: Path, launch: tuple[str, ...] = PRODUCT) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.socket = str(directory / "socket")
        self.log = directory / "daemon.log"
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None
        self.armed: str | None = None
        self.up = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id of the running daemon."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its wait status, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def spawn(self, armed: str | None = None) -> float:
        """Start the process, with a fault point armed where one is given; return the time of the start."""
        assert not self.alive
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
        if armed is not None:
            environment["CHRONICLED_FAULT_POINT"] = armed
        self.armed = armed
        with self.log.open("ab") as log:
            log.write(f"--- start, armed {armed}\n".encode())
            log.flush()
            begin = awake()
            self._process = subprocess.Popen(
                [*self._launch, "--data", str(self.data), "--socket", self.socket],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for the harness alone, which ends its daemon itself.
                start_new_session=True,
            )
        return begin

    async def wait_ready(self, begin: float) -> float | None:
        """Return the seconds from start to ready, or None when the process was killed on its way.

        Raises:
            NotReady: it ended by itself or took too long.
        """
        while awake() - begin < START_SECONDS_MAX:
            if await ready(self.socket):
                self.up.set()
                return awake() - begin
            if self.status == -signal.SIGKILL:
                return None
            if self.status is not None:
                raise NotReady(f"the daemon ended with status {self.status}:\n{self.tail()}")
            await asyncio.sleep(PROBE_SECONDS)
        raise NotReady(f"the daemon was not ready after {START_SECONDS_MAX} s:\n{self.tail()}")

    async def start(self, armed: str | None = None) -> float | None:
        """Start the process and wait until it is ready; see `wait_ready`."""
        return await self.wait_ready(self.spawn(armed))

    async def ended(self, seconds: float) -> bool:
        """Wait for the process to end by itself; False when it still runs after so long."""
        for _ in range(int(seconds / PROBE_SECONDS)):
            if not self.alive:
                break
            await asyncio.sleep(PROBE_SECONDS)
        if not self.alive:
            self.up.clear()
        return not self.alive

    def kill(self, with_signal: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal; for SIGKILL also reap. Nothing happens when it is dead already."""
        if self._process is None:
            return
        if with_signal is signal.SIGKILL:
            self.up.clear()
        self._process.send_signal(with_signal)
        if with_signal is signal.SIGKILL:
            self._process.wait(10)

    async def stop(self) -> None:
        """End it in order, or else by force."""
        if self.alive:
            self.kill(signal.SIGTERM)
            if not await self.ended(15.0):
                self.kill()
        with contextlib.suppress(ProcessLookupError):
            self.kill()

    def tail(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""
