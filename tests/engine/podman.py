"""Podman of a test's own, behind its Docker-compatible socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.engine.fixture import REMEDY, Engine
from tests.engine.users import as_account

__all__ = ["Podman", "RootlessPodman", "own_podman"]

_UP_SECONDS: Final = 40.0
_DOWN_SECONDS: Final = 30.0


class Podman(Engine):
    """Podman's service with storage, state and network namespace of its own: it touches nothing of another's.

    Args:
        directory: Where everything of it goes; its path must be short, for it holds Unix sockets.
        architecture: Of its processors.
    """

    def __init__(self, directory: Path, architecture: str) -> None:
        super().__init__(architecture, f"unix://{directory}/podman.sock")
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        places = {"root": "root", "runroot": "run", "tmpdir": "tmp"}
        ways = {"storage-driver": "overlay", "cgroup-manager": "cgroupfs", "events-backend": "file"}
        options = [f"--{name}={self.directory / place}" for name, place in places.items()]
        options += [f"--{name}={way}" for name, way in ways.items()]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(["podman", *options, "system", "service", "--time=0", self.host]),
                # Its monitors leave a file `oom` where they were started from.
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _UP_SECONDS
        while not self.answers:
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, f"podman is not up: {(self.directory / 'log').read_text()}"
            time.sleep(0.05)

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the words that start it."""
        return ["unshare", "--net", *words]

    def stop(self) -> None:
        """End the service; containers live on. Idempotent."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(_DOWN_SECONDS)
            self.process = None

    def close(self) -> None:
        """Remove its containers, end it, and unmount what it leaves mounted."""
        if self.process is None:
            self.start()
        if containers := self("ps", "--all", "--quiet").split():
            self("rm", "--force", "--volumes", *containers)
        self.stop()
        table = Path("/proc/self/mounts").read_text().splitlines()
        mounted = [point for line in table if (point := line.split()[1]).startswith(f"{self.directory}/")]
        for point in reversed(mounted):
            subprocess.run(["umount", "--lazy", point], check=False)


class RootlessPodman(Podman):
    """Podman that runs as an ordinary user, in that user's own namespaces."""

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the words that start it, as that user."""
        return as_account(self.directory, {"HOME": "root", "XDG_RUNTIME_DIR": "run"}, words, ("tmp",))


@contextlib.contextmanager
def own_podman(source: Engine, images: Sequence[str], kind: type[Podman] = Podman) -> Generator[Podman]:
    """Run a Podman of one's own with images of another engine; at the end nothing of it is left.

    Skips the test where this is not allowed: it takes root.
    """
    if os.geteuid() != 0 or shutil.which("podman") is None or shutil.which("catatonit") is None:
        remedy = REMEDY.replace("start ", "start podman catatonit ")
        pytest.skip(f"a Podman of its own needs root, podman and catatonit; {remedy}")
    directory = Path(tempfile.mkdtemp(prefix="chronicled-podman-"))
    podman = kind(directory, source.architecture)
    try:
        podman.start()
        archive = directory / "images.tar"
        source("save", "--output", str(archive), *images)
        podman("load", "--quiet", "--input", str(archive))
        archive.unlink()
        yield podman
    finally:
        podman.close()
        shutil.rmtree(directory, ignore_errors=True)
