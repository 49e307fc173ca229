"""The faulty disk, compiled once, and the appender under it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from chronicled.events.ids import normal_id
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.verification import verify_file

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How an appender ended."""

    code: int
    acked: list[str]
    injected: bool
    errors: str


@dataclass(frozen=True)
class FaultyDisk:
    """Runs the appender with its log on a disk that fails."""

    library: Path
    directory: Path
    pipe_bytes: int = -1
    """Of what an appender tells before it has to wait for who reads that; -1: as the system has it."""

    @property
    def log(self) -> Path:
        """Where the log is."""
        return self.directory / "data" / LOG_NAME

    @property
    def used(self) -> int:
        """Bytes of the files on it, as the quota counts them."""
        data = self.directory / "data"
        return sum(file.stat().st_size for file in data.iterdir() if not file.name.endswith("-shm"))

    def start(self, count: int, *arguments: str, **faults: str) -> subprocess.Popen[str]:
        """Start the appender."""
        (self.directory / "data").mkdir(exist_ok=True)
        environment = os.environ | {
            "LD_PRELOAD": str(self.library),
            "FAULT_DIRECTORY": str(self.directory / "data"),
            "FAULT_MARK": str(self.directory / "mark"),
            **{f"FAULT_{name.upper()}": value for name, value in faults.items()},
        }
        command = [sys.executable, "-m", "tests.faults.appender", str(self.log), str(count), *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, pipesize=self.pipe_bytes
        )

    def finish(self, process: subprocess.Popen[str]) -> Outcome:
        """Wait for its end, at most a minute."""
        output, errors = process.communicate(timeout=60)
        acked = [normal_id(line) for line in output.splitlines() if len(line) == 36]
        mark = self.directory / "mark"
        injected = mark.exists()
        mark.unlink(missing_ok=True)
        return Outcome(process.returncode, acked, injected, errors)

    def run(self, count: int, *arguments: str, **faults: str) -> Outcome:
        """Start it and wait for its end."""
        return self.finish(self.start(count, *arguments, **faults))

    def missing(self, acked: list[str]) -> list[str]:
        """Open the log on a sound disk; return the acked ids that are not in it. Asserts that it verifies."""

        async def look() -> list[str]:
            async with await SqliteStore.open(self.log) as store:
                assert await store.verify() == ()
                return [id for id in acked if await store.find("default", id) is None]

        missing = asyncio.run(look())
        assert verify_file(self.log).problems == ()
        return missing

    def clear(self) -> None:
        """Begin again with an empty disk."""
        shutil.rmtree(self.directory / "data", ignore_errors=True)
        (self.directory / "armed").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the disk that fails."""
    target = tmp_path_factory.mktemp("faulty") / "faulty_disk.so"
    source = Path(__file__).with_name("faulty_disk.c")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: install gcc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(target), str(source), "-ldl"], check=True)
    return target


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> FaultyDisk:
    """Return an empty disk that can be made to fail."""
    return FaultyDisk(library, tmp_path)
