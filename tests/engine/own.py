"""An engine of a test's own, beside whatever engine there is: for what needs another configuration, or a restart."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from tests.engine.fixture import DEBIAN, FILE, MUSL, REMEDY, Engine

__all__ = ["RUNSC", "OwnEngine", "gvisor", "own_engine"]

RUNSC: Final = {
    "path": "/usr/bin/runsc",
    # Without cgroups of its own, and with sockets of the host in mounted folders.
    "runtimeArgs": ["--ignore-cgroups", "--network=none", "--fsgofer-host-uds"],
}
_UP_SECONDS: Final = 40.0
_DOWN_SECONDS: Final = 30.0


class OwnEngine(Engine):
    """A dockerd with its own directories, socket and network namespace: it touches nothing of another's.

    Without the namespace it would take the other's bridge `docker0`, or with `--bridge=none` even remove it. Containers
    with a network reach each other, and nothing outside.

    Args:
        directory: Where everything of it goes; its path must be short, for it holds Unix sockets.
        architecture: Of its processors.
        configuration: Its `daemon.json`.
    """

    def __init__(self, directory: Path, architecture: str, configuration: Mapping[str, Any]) -> None:
        super().__init__(architecture, f"unix://{directory}/docker.sock")
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        self.handed: tuple[int, ...] = ()
        """Descriptors that it gets from this process."""
        self._configuration = dict(configuration)
        self.configure({})

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change its `daemon.json`, for the next start."""
        self._configuration |= changes
        (self.directory / "daemon.json").write_text(json.dumps(self._configuration))

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._forget_containerd()
        words = {
            "config-file": "daemon.json",
            "data-root": "data",
            "exec-root": "exec",
            "pidfile": "dockerd.pid",
        }
        places = [f"--{name}={self.directory / place}" for name, place in words.items()]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command([*places, f"--host={self.host}", "--log-level=warn"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.handed,
            )
        deadline = time.monotonic() + _UP_SECONDS
        while not self.answers:
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, f"dockerd is not up: {(self.directory / 'log').read_text()}"
            time.sleep(0.05)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the words that start a dockerd with these arguments."""
        return ["unshare", "--net", "dockerd", *arguments]

    def _forget_containerd(self) -> None:
        """See to it that the containerd of one that was killed is dead, and not taken for alive.

        It dies with its dockerd; where nobody reaps it, the next dockerd would wait for a zombie to answer.
        """
        note = self.directory / "exec" / "containerd" / "containerd.pid"
        if not note.exists():
            return
        status = Path(f"/proc/{note.read_text().strip()}/stat")
        deadline = time.monotonic() + _DOWN_SECONDS
        with contextlib.suppress(OSError):
            while status.read_text().rpartition(")")[2].split()[0] != "Z":
                assert time.monotonic() < deadline, "containerd has outlived its dockerd"
                time.sleep(0.01)
        note.unlink()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end; its containers live on only with `live-restore`. Idempotent."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(_DOWN_SECONDS)
            self.process = None

    def close(self) -> None:
        """Remove its containers and end it, even if it has ended before them."""
        if self.process is None or self.process.poll() is not None:
            # It is the one who knows them.
            self.start()
        if containers := self("ps", "--all", "--quiet").split():
            self("rm", "--force", "--volumes", *containers)
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            # It waits for whoever still listens to it.
            self.stop(signal.SIGKILL)
        # One that was killed has left what it had mounted.
        table = Path("/proc/self/mounts").read_text().splitlines()
        mounted = [point for line in table if (point := line.split()[1]).startswith(f"{self.directory}/")]
        for point in reversed(mounted):
            subprocess.run(["umount", "--lazy", point], check=False)

    def load(self, source: Engine, names: Sequence[str]) -> None:
        """Copy images from another engine."""
        archive = self.directory / "images.tar"
        source("save", "--output", str(archive), *names)
        self("load", "--quiet", "--input", str(archive))
        archive.unlink()


@contextlib.contextmanager
def own_engine(
    source: Engine, images: Sequence[str], kind: type[OwnEngine] = OwnEngine, **configuration: Any
) -> Generator[OwnEngine]:
    """Run an engine of one's own with images of another's; at the end nothing of it is left.

    Skips the test where this is not allowed: it takes root.
    """
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip(f"a second engine needs root and dockerd; {REMEDY}")
    directory = Path(tempfile.mkdtemp(prefix="chronicled-engine-"))
    try:
        engine = kind(directory, source.architecture, configuration)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    try:
        engine.start()
        engine.load(source, images)
        yield engine
    finally:
        engine.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def gvisor(usual_engine: Engine) -> Generator[OwnEngine]:
    """An engine with gVisor as its runtime `runsc`, and three images: Debian and the two small ones."""
    if not os.path.exists(str(RUNSC["path"])):
        pytest.skip("gVisor is not installed; as root on Debian: tests/engine/start runsc")
    with own_engine(usual_engine, (DEBIAN, MUSL, FILE), runtimes={"runsc": RUNSC}) as own:
        yield own
