"""What an engine's restart does to sessions, through a real daemon: with live-restore they do not feel it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator

import pytest
from tests.awake import awake
from tests.engine.fixture import MUSL, Engine
from tests.engine.own import OwnEngine, own_engine
from tests.integration.daemon.process import until
from tests.integration.docker_daemon.conftest import LaunchDocker
from tests.integration.docker_daemon.sessions import Session

pytestmark = pytest.mark.slow

TOLD_SECONDS = 5.0


@pytest.fixture
def own(engine: Engine, request: pytest.FixtureRequest) -> Generator[OwnEngine]:
    """An engine of the test's own."""
    with own_engine(engine, [MUSL], **{"live-restore": request.param}) as own:
        yield own


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live-restore"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_with_live_restore_actions_run_through(
    own: OwnEngine, launch: LaunchDocker, number: signal.Signals
) -> None:
    """What runs ends `ok`, and what is asked while the engine is away runs too, in the same generation."""
    daemon = await launch(own)
    session = await Session.create(daemon, own)
    running = await session.begin("sleep 2; echo through")
    await asyncio.to_thread(own.stop, number)
    assert (await session.run("echo meanwhile", lane="side"))["output"] == "meanwhile\n"
    await asyncio.to_thread(own.start)
    assert (await session.ended(running))["output"] == "begun\nthrough\n"
    assert len(await session.generations()) == 1
    # Its end is noticed again.
    running = await session.begin("sleep 60")
    await session.docker("kill", await session.container())
    assert (await session.ended(running, TOLD_SECONDS))["outcome"] == "killed"


@pytest.mark.parametrize("own", [False], indirect=True, ids=["no live-restore"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_without_live_restore_what_ran_is_told_lost(
    own: OwnEngine, launch: LaunchDocker, number: signal.Signals
) -> None:
    """Seconds after the engine is back every action has its end, and the next ones meet new sandboxes."""
    daemon = await launch(own)
    sessions = [await Session.create(daemon, own, name) for name in ("one", "two")]
    running = [await session.begin("sleep 60") for session in sessions]
    await asyncio.to_thread(own.stop, number)
    await asyncio.to_thread(own.start)
    begin = awake()
    for session, action in zip(sessions, running, strict=True):
        ended = await session.ended(action, TOLD_SECONDS)
        assert (ended["outcome"], ended["effects"]) in {("sandbox_lost", "possible"), ("killed", "possible")}, ended
        assert ended["output"] == "begun\n"
    assert awake() - begin < TOLD_SECONDS
    for session in sessions:
        assert (await session.run("echo again"))["output"] == "again\n"
        assert len(await session.generations()) == 2


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live-restore"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["no socket", "dead socket"])
async def test_a_daemon_starts_without_its_engine(own: OwnEngine, launch: LaunchDocker, number: signal.Signals) -> None:
    """It serves, says nothing of sandboxes that it cannot ask about, and finds them when the engine is back."""
    daemon = await launch(own)
    session = await Session.create(daemon, own)
    running = await session.begin("sleep 3; echo through")
    await daemon.kill()
    await asyncio.to_thread(own.stop, number)
    await daemon.start()
    assert daemon.ready_seconds < 5.0
    status = (await daemon.get(f"{session.path}/actions/{running}")).json["status"]
    assert status == "running"
    await asyncio.to_thread(own.start)
    ended = await session.ended(running)
    assert (ended["outcome"], ended["output"]) == ("ok", "begun\nthrough\n")
    assert len(await session.generations()) == 1


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live-restore"])
async def test_what_an_absent_engine_left_is_swept(own: OwnEngine, launch: LaunchDocker) -> None:
    """A session that is closed while the engine is away loses its container when it is back."""
    daemon = await launch(own, "runtime.sweep_seconds=0.5")
    session = await Session.create(daemon, own)
    await session.run("true")
    await asyncio.to_thread(own.stop, signal.SIGKILL)
    assert (await daemon.call("DELETE", session.path)).status == 200
    await asyncio.to_thread(own.start)

    async def removed() -> bool:
        return bool(await session.told("sandbox_removed"))

    await until(removed, 60.0)
    assert await session.state() == "gone"
