"""A daemon for one measurement, in a directory of its own, ended afterwards with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.plain_http import Connection

__all__ = ["Served", "memory", "served"]

READY_SECONDS_MAX = 30.0
PROBE_SECONDS = 0.002


class Served:
    """A data directory and the daemon that serves it."""

    def __init__(self, directory: Path, settings: str = "") -> None:
        self.directory = directory
        self.configuration = directory / "settings.toml"
        self.configuration.write_text(settings)
        self.socket = str(directory / "socket")
        self.ready_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the daemon and wait until `/readyz` says so; `ready_seconds` counts from the moment of the exec."""
        command = [str(Path(sys.executable).with_name("chronicled")), "serve"]
        begin = time.perf_counter()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *command,
                    *("--config", str(self.configuration)),
                    *("--data", str(self.directory / "data"), "--socket", self.socket),
                ],
                stderr=log,
                stdout=log,
            )
        while not self._ready():
            if self._process.poll() is not None or time.perf_counter() - begin > READY_SECONDS_MAX:
                raise RuntimeError(f"the daemon did not get ready:\n{(self.directory / 'log').read_text()[-3000:]}")
            time.sleep(PROBE_SECONDS)
        self.ready_seconds = time.perf_counter() - begin

    def stop(self) -> None:
        """End the daemon in order."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)

    def _ready(self) -> bool:
        connection = Connection(self.socket)
        try:
            connection.call("GET", "/readyz")
        except (OSError, RuntimeError):
            return False
        finally:
            connection.close()
        return True


@contextlib.contextmanager
def served(settings: str = "") -> Generator[Served]:
    """Start a daemon in a fresh directory, with settings in TOML; close its sessions and end it afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        daemon = Served(Path(directory), settings)
        daemon.start()
        try:
            yield daemon
            connection = Connection(daemon.socket)
            for session in connection.call("GET", "/v1/sessions")["sessions"]:
                connection.call("DELETE", f"/v1/sessions/{session['session']}")
            connection.close()
        finally:
            daemon.stop()
            _end_sandboxes(daemon.directory)


def _end_sandboxes(directory: Path) -> None:
    """End what a failed measurement left: sandboxes outlive their daemon by design."""
    mark = str(directory).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def memory(pid: int, field: str) -> float:
    """Return a field of `/proc/PID/status` in MB (10^6 bytes): `VmRSS` now, `VmHWM` at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has no {field}")
