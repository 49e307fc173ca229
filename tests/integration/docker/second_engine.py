"""An engine of the test's own, to be stopped and killed: own data, own socket, no bridge, nothing shared."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.engine.fixture import MUSL
from tests.integration.docker.host import docker

from chronicled.runtimes.action_server import process_tree

ANSWER_SECONDS = 60.0


class SecondEngine:
    """A dockerd.

    Args:
        directory: Where everything of it is.
        live_restore: Whether containers live on without it.
    """

    def __init__(self, directory: Path, *, live_restore: bool) -> None:
        self.host = f"unix://{directory}/engine.sock"
        self._directory = directory
        self._live_restore = live_restore
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    # In the machine's own network namespace, `--bridge=none` would remove the other engine's docker0.
                    *("unshare", "--net"),
                    "dockerd",
                    f"--data-root={self._directory}/data",
                    f"--exec-root={self._directory}/exec",
                    f"--pidfile={self._directory}/pid",
                    f"--host={self.host}",
                    "--bridge=none",
                    "--iptables=false",
                    "--ip6tables=false",
                    "--log-level=warn",
                    *(["--live-restore"] if self._live_restore else []),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):
                docker("version", host=self.host)
                return
            assert self._process.poll() is None, (self._directory / "log").read_text()
            assert time.monotonic() < deadline, (self._directory / "log").read_text()
            time.sleep(0.05)

    def end(self, number: int) -> None:
        """Send dockerd a signal and wait until it has gone, and its containerd with it."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(ANSWER_SECONDS)
        self._process = None
        (self._directory / "pid").unlink(missing_ok=True)
        inner = self._directory / "exec" / "containerd" / "containerd.pid"
        if inner.exists():
            # It dies with dockerd. Where nobody collects it, the next dockerd would take the dead one for its own.
            deadline = time.monotonic() + ANSWER_SECONDS
            while _lives(int(inner.read_text())):
                assert time.monotonic() < deadline, "containerd outlives its dockerd"
                time.sleep(0.01)
            inner.unlink()

    def close(self) -> None:
        """Remove its containers, end it, and take away what it has mounted."""
        try:
            if self._process is None:
                self.start()
            for container in docker("ps", "-aq", host=self.host).split():
                docker("rm", "-f", container, host=self.host)
            self.end(signal.SIGTERM)
        finally:
            if self._process is not None:
                self._process.kill()
                self._process.wait(ANSWER_SECONDS)
            with open("/proc/mounts", encoding="utf-8") as mounts:
                points = [line.split()[1] for line in mounts]
            for point in sorted(points, reverse=True):
                if point.startswith(f"{self._directory}/"):
                    subprocess.run(["umount", "-l", point], check=False)


def _lives(pid: int) -> bool:
    known = process_tree.identify(pid)
    return known is not None and known[2] not in b"ZXx"


@contextmanager
def second_engine(*, live_restore: bool) -> Generator[SecondEngine]:
    """Give an engine with one small image; afterwards nothing of it is left."""
    # Below a short path: the socket's has 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="chronicled-engine-", dir="/var/tmp"))
    engine = SecondEngine(directory, live_restore=live_restore)
    try:
        engine.start()
        with subprocess.Popen(["docker", "save", MUSL], stdout=subprocess.PIPE) as saving:
            subprocess.run(
                ["docker", "--host", engine.host, "load", "-q"],
                stdin=saving.stdout,
                check=True,
                timeout=ANSWER_SECONDS,
                env=os.environ,
                stdout=subprocess.DEVNULL,
            )
        yield engine
    finally:
        engine.close()
        shutil.rmtree(directory, ignore_errors=True)
