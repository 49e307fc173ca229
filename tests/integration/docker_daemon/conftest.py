"""Daemons whose sessions have containers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.integration.daemon.process import DaemonProcess

LaunchDocker = Callable[..., Awaitable[DaemonProcess]]


@asynccontextmanager
async def launching(directory: Path, *common: str) -> AsyncGenerator[LaunchDocker]:
    """Give what starts daemons on an engine, each with its settings; they and their sandboxes end with the context."""
    started: list[DaemonProcess] = []

    async def start(engine: Engine, *settings: str, configuration: str = "") -> DaemonProcess:
        place = directory / f"d{len(started)}"
        place.mkdir()
        program: tuple[str, ...] = ("-m", "chronicled.daemon")
        if configuration:
            (place / "configuration.toml").write_text(configuration)
            program = (*program, "--config", str(place / "configuration.toml"))
        own = (f"docker.host={engine.host}", f"docker.image={MUSL}", "runtime.default=docker", *common, *settings)
        daemon = DaemonProcess(place, *own, program=program)
        started.append(daemon)
        return await daemon.start()

    yield start
    for daemon in started:
        await daemon.aclose()


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[LaunchDocker]:
    """Start daemons with their defaults."""
    async with launching(tmp_path) as launch:
        yield launch


@pytest.fixture
async def daemon(launch: LaunchDocker, engine: Engine) -> DaemonProcess:
    """A daemon with its defaults."""
    return await launch(engine)
