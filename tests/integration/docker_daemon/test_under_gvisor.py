"""The life and the deaths of containers under gVisor: what is promised of any container, by one the daemon's setting.

Not here is what wants limits of memory, which gVisor keeps on no engine of the tests, and what kills single processes
of a sandbox from outside, which has one there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.own import OwnEngine
from tests.integration.daemon.process import DaemonProcess
from tests.integration.docker_daemon import test_life, test_outcomes
from tests.integration.docker_daemon.conftest import LaunchDocker, launching

pytestmark = pytest.mark.slow

SETTINGS = ("docker.isolation=gvisor", "docker.limits_unkept_allowed=true")


@pytest.fixture(scope="module")
def engine(gvisor: OwnEngine) -> OwnEngine:
    """An engine that has gVisor."""
    return gvisor


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[LaunchDocker]:
    """Start daemons whose sandboxes are all gVisor's."""
    async with launching(tmp_path, *SETTINGS) as launch:
        yield launch


@pytest.fixture
async def daemon(launch: LaunchDocker, engine: OwnEngine) -> DaemonProcess:
    """A daemon with that setting."""
    return await launch(engine)


test_a_restart_makes_a_new_generation = test_life.test_a_restart_makes_a_new_generation
test_a_paused_sandbox = test_life.test_a_paused_sandbox_stands_still_and_an_action_wakes_it
test_a_paused_sandbox_outlives_its_daemon = test_life.test_a_paused_sandbox_outlives_its_daemon
test_closing_a_paused_session_removes_its_container = test_life.test_closing_a_paused_session_removes_its_container
test_an_action_outlives_the_daemon = test_life.test_an_action_outlives_the_daemon
test_an_idle_session_closes = test_life.test_an_idle_session_closes_and_keep_alive_puts_it_off
test_the_life_deadline_ends_what_runs = test_life.test_the_life_deadline_ends_what_runs
test_a_session_takes_a_warm_sandbox = test_life.test_a_session_takes_a_warm_sandbox
test_a_session_keeps_the_image = test_life.test_a_session_keeps_the_image_that_it_began_with
test_a_sandbox_that_cannot_start_says_why = test_life.test_a_sandbox_that_cannot_start_says_why
test_death_while_the_daemon_is_away = test_outcomes.test_death_while_the_daemon_is_away


@pytest.mark.parametrize(
    ("way", "outcome"),
    [
        ("docker kill", "killed"),
        ("docker kill of a paused one", "killed"),
        ("docker rm -f", "sandbox_lost"),
        ("docker stop", "sandbox_lost"),
        ("kill of process 1", "killed"),
    ],
)
async def test_a_container_that_somebody_ends(daemon: DaemonProcess, engine: OwnEngine, way: str, outcome: str) -> None:
    """What ran says so with its output, what waited never ran, a neighbour feels nothing, and the session goes on."""
    # A frozen one does not take the signal: the engine waits ten seconds before it ends the process that carries it.
    engine_seconds = 10.0 if "paused" in way or "stop" in way else 0.0
    await test_outcomes.end_from_outside(daemon, engine, way, outcome, engine_seconds)
