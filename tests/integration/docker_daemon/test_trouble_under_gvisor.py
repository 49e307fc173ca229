"""Trouble under gVisor: strangers at the engine, its restarts, what commands leave; as with any container."""

from __future__ import annotations

import signal
from collections.abc import Generator

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.engine.own import RUNSC, OwnEngine, own_engine
from tests.integration.docker_daemon import test_engine, test_trouble, test_under_gvisor
from tests.integration.docker_daemon.conftest import LaunchDocker

pytestmark = pytest.mark.slow

engine = test_under_gvisor.engine
launch = test_under_gvisor.launch
daemon = test_under_gvisor.daemon


@pytest.fixture
def own(usual_engine: Engine, request: pytest.FixtureRequest) -> Generator[OwnEngine]:
    """An engine of the test's own that has gVisor, and can be restarted."""
    with own_engine(usual_engine, [MUSL], runtimes={"runsc": RUNSC}, **{"live-restore": request.param}) as own:
        yield own


test_a_warm_pool_that_cannot_start_ends_nobody = test_trouble.test_a_warm_pool_that_cannot_start_ends_nobody
test_what_commands_have_dug_goes_with_the_sandbox = test_trouble.test_what_commands_have_dug_goes_with_the_sandbox
test_a_strangers_pause_holds_up_nobody = test_trouble.test_a_strangers_pause_holds_up_nobody
test_a_copied_data_directory = test_trouble.test_a_copied_data_directory_touches_nothing_of_the_first
test_folders_of_a_warm_pool_go_after_a_crash = test_trouble.test_folders_of_a_warm_pool_go_after_a_crash
test_what_an_absent_engine_left_is_swept = test_engine.test_what_an_absent_engine_left_is_swept


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live-restore"])
async def test_with_live_restore_actions_run_through(own: OwnEngine, launch: LaunchDocker) -> None:
    """What runs ends `ok` across the death of the engine, in the same generation."""
    await test_engine.test_with_live_restore_actions_run_through(own, launch, signal.SIGKILL)


@pytest.mark.parametrize("own", [False], indirect=True, ids=["no live-restore"])
async def test_without_live_restore_what_ran_is_told_lost(own: OwnEngine, launch: LaunchDocker) -> None:
    """Seconds after the engine is back every action has its end, and the next ones meet new sandboxes."""
    await test_engine.test_without_live_restore_what_ran_is_told_lost(own, launch, signal.SIGTERM)


@pytest.mark.parametrize("own", [True], indirect=True, ids=["live-restore"])
async def test_a_daemon_starts_without_its_engine(own: OwnEngine, launch: LaunchDocker) -> None:
    """It serves, and finds its sandboxes when the engine is back."""
    await test_engine.test_a_daemon_starts_without_its_engine(own, launch, signal.SIGKILL)
