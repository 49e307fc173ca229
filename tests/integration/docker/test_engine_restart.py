from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.awake import within
from tests.engine.fixture import MUSL, Engine
from tests.engine.own import OwnEngine, own_engine
from tests.integration.docker.host import running, runtime_of, serving

pytestmark = pytest.mark.slow

BACK_SECONDS = 5.0


@pytest.fixture
def restartable(engine: Engine, request: pytest.FixtureRequest) -> Generator[OwnEngine]:
    """An engine of the test's own."""
    with own_engine(engine, [MUSL], **{"live-restore": request.param == "live-restore"}) as own:
        yield own


@pytest.mark.parametrize("restartable", ["live-restore"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_with_live_restore_an_engine_restart_is_not_felt(
    restartable: OwnEngine, number: signal.Signals, tmp_path: Path
) -> None:
    """Sandboxes work on while the engine is away and after it is back; only then can they be told dead or be ended."""
    runtime = runtime_of(restartable.host, image=MUSL)
    async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, spec):
        waiting = asyncio.create_task(sandbox.wait_ended())
        action = await worker.dispatch("run", {"command": "read line; echo $line"})
        await asyncio.to_thread(restartable.stop, number)
        _, output = await worker.run("echo alone", lane="other")
        assert output == b"alone\n"
        await asyncio.to_thread(restartable.start)
        attached = await runtime.attach(sandbox.handle, spec)
        assert attached is not None
        _, output = await worker.run("echo after", lane="other")
        assert output == b"after\n"
        assert not waiting.done()
        assert action not in worker.results
        await sandbox.kill()
        async with within(BACK_SECONDS):
            assert await waiting == "killed"


@pytest.mark.parametrize("restartable", ["no live-restore"], indirect=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_without_live_restore_an_engine_restart_ends_sandboxes(
    restartable: OwnEngine, number: signal.Signals, tmp_path: Path
) -> None:
    """What the engine takes along is told dead within seconds of its return, and a new sandbox starts."""
    runtime = runtime_of(restartable.host, image=MUSL)
    async with running(runtime):
        async with serving(runtime, tmp_path) as (_, sandbox, spec):
            waiting = asyncio.create_task(sandbox.wait_ended())
            await asyncio.to_thread(restartable.stop, number)
            await asyncio.to_thread(restartable.start)
            async with within(BACK_SECONDS):
                reason = await waiting
            assert reason in {"terminated", "killed", "ended"}
            assert await runtime.attach(sandbox.handle, spec) is None
        async with serving(runtime, tmp_path) as (worker, *_):
            _, output = await worker.run("echo again")
            assert output == b"again\n"


@pytest.mark.parametrize("restartable", ["live-restore"], indirect=True)
async def test_a_sandbox_that_dies_while_the_engine_is_away_is_told_dead(
    restartable: OwnEngine, tmp_path: Path
) -> None:
    """Nothing is claimed while the engine is away; what happened meanwhile is known seconds after it is back."""
    runtime = runtime_of(restartable.host, image=MUSL)
    async with running(runtime), serving(runtime, tmp_path) as (worker, sandbox, _):
        waiting = asyncio.create_task(sandbox.wait_ended())
        await asyncio.to_thread(restartable.stop, signal.SIGTERM)
        assert worker.connection is not None
        os.kill(worker.connection.peer.pid, signal.SIGKILL)
        await worker.until(lambda: worker.lost is not None)
        assert not waiting.done()
        await asyncio.to_thread(restartable.start)
        async with within(BACK_SECONDS):
            assert await waiting
