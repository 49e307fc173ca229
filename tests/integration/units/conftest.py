"""Daemons that load units which are put on their path."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.daemon.process import DaemonProcess

LaunchUnits = Callable[..., Awaitable[DaemonProcess]]


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a copy of the test's unit, to be changed at will."""
    folder = tmp_path / "packages"
    shutil.copytree(Path(__file__).parent / "packages", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
async def launch(tmp_path: Path, packages: Path) -> AsyncIterator[LaunchUnits]:
    """Start daemons; those of one name have one data directory. All end with the test."""
    started: list[DaemonProcess] = []

    async def start(
        *settings: str, load: str = "beta.unit:UNIT", name: str = "d", environment: dict[str, str] | None = None,
        ready: bool = True,
    ) -> DaemonProcess:  # fmt: skip
        (tmp_path / name).mkdir(exist_ok=True)
        environment = {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
        daemon = DaemonProcess(tmp_path / name, f"units.load={load}", *settings, environment=environment)
        started.append(daemon)
        if not ready:
            daemon.spawn()
            return daemon
        return await daemon.start()

    yield start
    for daemon in started:
        await daemon.aclose()
