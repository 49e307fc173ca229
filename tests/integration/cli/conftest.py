"""A daemon that was started by the command line, and the command line itself as a person or a script runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest

BIN = Path(sys.executable).parent / "chronicled"
READY_SECONDS_MAX = 60.0
END_SECONDS_MAX = 30.0


Done = subprocess.CompletedProcess[bytes]


class Commands:
    """One data directory, the daemon on it, and commands against it."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.socket = directory / "s"
        self.log = directory / "log"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CHRONICLED_")}
        self.environment["CHRONICLED_SOCKET"] = str(self.socket)
        self.daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and wait until it is ready."""
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [BIN, "serve", "--data", self.data, "--socket", self.socket],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + READY_SECONDS_MAX
        while self.run("session", "ls").returncode != 0:
            assert self.daemon.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()

    def kill(self) -> None:
        """Kill the daemon as a crash does."""
        assert self.daemon is not None
        self.daemon.kill()
        self.daemon.wait(END_SECONDS_MAX)

    def stop(self) -> int:
        """End the daemon in order; its sandboxes go with their sessions first."""
        for session in self.json_lines("session", "ls", "--json"):
            if session["status"] == "open":
                self.run("session", "close", session["session"])
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGTERM)
        return self.daemon.wait(END_SECONDS_MAX)

    def run(
        self, *arguments: str | Path, environment: Mapping[str, str] | None = None, typed: bytes | None = None
    ) -> Done:
        """Run one command to its end."""
        return subprocess.run(
            [BIN, *arguments],
            env={**self.environment, **(environment or {})},
            input=typed or b"",
            capture_output=True,
            timeout=END_SECONDS_MAX,
        )

    def spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one command, its output in pipes."""
        return subprocess.Popen(
            [BIN, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def json_lines(self, *arguments: str) -> list[Any]:
        """Run one command and return its lines of JSON."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def line_of(pipe: IO[bytes] | None) -> bytes:
    """Return the next line of a spawned command."""
    assert pipe is not None
    return pipe.readline()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A running daemon and its command line, shared by the tests of a file."""
    found = Commands(tmp_path_factory.mktemp("cli"))
    found.start()
    yield found
    assert found.stop() == 0, found.log.read_text()
