"""Daemons whose sessions have containers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.integration.daemon.process import DaemonProcess

LaunchDocker = Callable[..., Awaitable[DaemonProcess]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[LaunchDocker]:
    """Start daemons on an engine, each with its settings; all of them, and their sandboxes, end with the test."""
    started: list[DaemonProcess] = []

    async def start(engine: Engine, *settings: str, configuration: str = "") -> DaemonProcess:
        directory = tmp_path / f"d{len(started)}"
        directory.mkdir()
        program: tuple[str, ...] = ("-m", "chronicled.daemon")
        if configuration:
            (directory / "configuration.toml").write_text(configuration)
            program = (*program, "--config", str(directory / "configuration.toml"))
        own = (f"docker.host={engine.host}", f"docker.image={MUSL}", "runtime.default=docker", *settings)
        daemon = DaemonProcess(directory, *own, program=program)
        started.append(daemon)
        return await daemon.start()

    yield start
    for daemon in started:
        await daemon.aclose()


@pytest.fixture
async def daemon(launch: LaunchDocker, engine: Engine) -> DaemonProcess:
    """A daemon with its defaults."""
    return await launch(engine)
