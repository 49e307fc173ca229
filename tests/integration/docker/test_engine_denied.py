from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.awake import awake
from tests.integration.docker.host import runtime_of

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.docker import runtime as docker_runtime
from chronicled.runtimes.docker.failure import EngineDenied, EngineUnreachable
from chronicled.runtimes.docker.notices import Notices
from chronicled.runtimes.testing import make_spec

NOBODY = 65534


@contextmanager
def denied(path: Path) -> Generator[None]:
    """Have an engine's socket that this process may not use; as root, this process is nobody meanwhile."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    path.chmod(0)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(before)
        listener.close()


async def test_an_engine_that_may_not_be_used_is_told_at_once(tmp_path: Path) -> None:
    """Without rights on the socket a start fails at once, names socket and user, and says that nothing was made."""
    spec, path = make_spec(tmp_path), tmp_path / "engine.sock"
    runtime = runtime_of(f"unix://{path}")
    try:
        with pytest.raises(EngineUnreachable) as away:
            await runtime.engine.facts()  # nobody could import what this needs
        assert not isinstance(away.value, EngineDenied)
        with denied(path):
            began = awake()
            with pytest.raises(EngineDenied):
                await runtime.engine.facts()
            with pytest.raises(SandboxStartFailed) as failed:
                await runtime.start(spec)
            assert awake() - began < docker_runtime.REACH_SECONDS / 2
    finally:
        await runtime.engine.aclose()
    assert str(path) in failed.value.detail
    assert "user" in failed.value.detail
    assert failed.value.extra == {"made": False}


async def test_an_engine_that_is_away_is_waited_for_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start waits for an engine that is being restarted; one that stays away fails it, and nothing was made."""
    monkeypatch.setattr(docker_runtime, "REACH_SECONDS", 0.5)
    runtime = runtime_of(f"unix://{tmp_path}/none.sock")
    began = time.monotonic()
    try:
        with pytest.raises(SandboxStartFailed) as failed:
            await runtime.start(make_spec(tmp_path))
    finally:
        await runtime.engine.aclose()
    assert time.monotonic() - began >= 0.5
    assert failed.value.extra == {"made": False}


async def test_an_engine_that_stays_away_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked, the log has one line of an engine that is away for one and the same reason."""

    class Enough(Exception):
        """The test has seen it."""

    asked = 0

    async def lost(*_: object) -> str:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise Enough
        return "away"

    runtime = runtime_of(f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr(runtime.engine, "_events", lost)
    monkeypatch.setattr("chronicled.runtimes.docker.notices.RETRY_SECONDS_MIN", 0.01)
    with capture_logs() as logs, pytest.raises(Enough):
        await Notices(runtime.engine, "instance").run()
    assert [entry["event"] for entry in logs] == ["engine_events_ended"]
