"""Trouble from all sides, through a whole daemon: strangers at the engine, wrong settings, what commands leave."""

from __future__ import annotations

import asyncio

from tests.engine.fixture import DEBIAN, Engine
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.docker_daemon.conftest import LaunchDocker
from tests.integration.docker_daemon.sessions import Session

NO_SUCH_IMAGE = """\
[runtime]
warm = [{ image = "chronicled-test/is-not-there:1" }]
[images]
pull = "never"
"""
DIG = 'python3 -c \'import os; [(os.mkdir("d"), os.chdir("d")) for _ in range(1500)]\''
"""Folders in folders, more than calls may nest."""


async def test_a_warm_pool_that_cannot_start_ends_nobody(launch: LaunchDocker, engine: Engine) -> None:
    """Its image is not there: that is told in the daemon's log, and sessions get their sandboxes all the same."""
    daemon = await launch(engine, configuration=NO_SUCH_IMAGE)

    async def told() -> bool:
        return "warm_start_failed" in daemon.log_text()

    await until(told)
    session = await Session.create(daemon, engine)
    assert (await session.run("echo here"))["output"] == "here\n"
    assert "is-not-there" in daemon.log_text()


async def test_what_commands_have_dug_goes_with_the_sandbox(daemon: DaemonProcess, engine: Engine) -> None:
    """A tree that is deeper than calls may nest does not keep its session from ending, and nothing of it is left."""
    session = await Session.create(daemon, engine, image=DEBIAN)
    assert (await session.run(DIG))["outcome"] == "ok"
    (home,) = (daemon.data / "sandboxes").glob("*/home")
    assert (home / "d" / "d").is_dir()
    await daemon.call("DELETE", session.path)
    await session.tells("sandbox_removed")
    assert not await asyncio.to_thread(home.parent.exists)
