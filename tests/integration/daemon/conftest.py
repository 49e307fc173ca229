"""Daemons for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.integration.daemon.process import DaemonProcess

Launch = Callable[..., Awaitable[DaemonProcess]]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    """Start daemons, each call one in a directory of its own unless it is named; all end with the test."""
    started: list[DaemonProcess] = []

    async def start(*settings: str, name: str | None = None) -> DaemonProcess:
        directory = tmp_path / (name or f"d{len(started)}")
        directory.mkdir(exist_ok=True)
        daemon = DaemonProcess(directory, *settings)
        started.append(daemon)
        return await daemon.start()

    yield start
    for daemon in started:
        await daemon.aclose()


@pytest.fixture
async def daemon(launch: Launch) -> DaemonProcess:
    """A daemon with its defaults."""
    return await launch()


@pytest.fixture
async def session(daemon: DaemonProcess) -> str:
    """The path of an open session."""
    answer = await daemon.post("/v1/sessions", {"session": "s"})
    assert answer.status == 201, answer
    return "/v1/sessions/s"
