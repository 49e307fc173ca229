"""Trouble from all sides, through a whole daemon: strangers at the engine, wrong settings, what commands leave."""

from __future__ import annotations

import asyncio
import os
import shutil

from tests.awake import awake
from tests.engine.fixture import DEBIAN, MUSL, Engine
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.docker_daemon.conftest import LaunchDocker
from tests.integration.docker_daemon.sessions import Session

NO_SUCH_IMAGE = """\
[runtime]
warm = [{ image = "chronicled-test/is-not-there:1" }]
[images]
pull = "never"
"""
WARM = f"""\
[runtime]
offered = ["docker"]
warm = [{{ image = "{MUSL}", count = 2 }}]
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


async def test_a_strangers_pause_holds_up_nobody(daemon: DaemonProcess, engine: Engine) -> None:
    """Within seconds the sandbox goes on, the log says that it stood still, and what ran in it ends as it would."""
    session = await Session.create(daemon, engine)
    running = await session.begin("sleep 2; echo through")
    for count in (1, 2):
        await session.docker("pause", await session.container())
        began = awake()
        await session.tells("sandbox_resumed", count)
        assert awake() - began < 5.0
        assert await session.state() == "running"
    assert len(await session.told("sandbox_paused")) == 2
    ended = await session.ended(running)
    assert (ended["outcome"], ended["output"]) == ("ok", "begun\nthrough\n")
    # One that the session asks for stays.
    await daemon.post(f"{session.path}/pause")
    await session.tells("sandbox_paused", 3)
    await asyncio.sleep(1.5)  # what the engine tells of it has come by then
    assert await session.state() == "paused"
    # And goes on when the session wants it to, not when somebody else does.
    await session.docker("unpause", await session.container())
    await session.tells("sandbox_paused", 4)
    assert await session.state() == "paused"
    assert len(await session.told("sandbox_resumed")) == 3
    assert (await session.run("echo awake"))["output"] == "awake\n"
    assert len(await session.generations()) == 1


async def test_a_copied_data_directory_touches_nothing_of_the_first(launch: LaunchDocker, engine: Engine) -> None:
    """A daemon on a copy cannot know, says so, and has a sandbox of its own; what runs for the first one goes on."""
    first = await launch(engine, "runtime.unreachable_seconds=1")
    session = await Session.create(first, engine)
    running = await session.begin("read go; echo went on")
    await first.copy_data(first.directory / "copy")
    copy = await launch(engine, "runtime.unreachable_seconds=1")
    await copy.stop()
    await asyncio.to_thread(shutil.rmtree, copy.data)
    await asyncio.to_thread(shutil.move, first.directory / "copy", copy.data)
    await copy.start()
    copied = Session(copy, engine, "s")
    ended = await copied.ended(running)
    assert (ended["outcome"], ended["reason"]) == ("unknown", "another_instance"), ended
    assert (await copied.run("echo another"))["output"] == "another\n"
    await copy.call("DELETE", copied.path)
    await copied.tells("sandbox_removed", 2)
    assert await session.state() == "running"
    await first.post(f"{session.path}/actions/{running}/input", {"data": "go\n"})
    assert (await session.ended(running))["output"].endswith("went on\n")


async def test_folders_of_a_warm_pool_go_after_a_crash(launch: LaunchDocker, engine: Engine) -> None:
    """What the log never knew leaves nothing on the disk: token, settings and spool go with the next start."""
    daemon = await launch(engine, configuration=WARM)
    session = await Session.create(daemon, engine)
    await session.run("true")

    def places() -> set[str]:
        roots = (daemon.data / "sandboxes", daemon.data / "run" / "sandboxes")
        return {name for root in roots for name in os.listdir(root)}

    def spools() -> set[str]:
        return set(os.listdir(daemon.data / "spool"))

    async def waiting() -> bool:
        return len(places()) >= 3 and len(spools()) >= 3

    await until(waiting)
    (own,) = {path.name for path in (daemon.data / "run" / "sandboxes").iterdir()} & {
        event["payload"]["sandbox"] for event in await session.told("sandbox_requested")
    }
    before, spooled = places(), spools()
    await daemon.kill()
    await daemon.start()
    generations = set(await session.generations())

    async def tidy() -> bool:
        return (places() & before, spools() & spooled) == ({own}, generations)

    await until(tidy)
    assert (await session.run("echo still"))["output"] == "still\n"
