"""Processes that the kernel does not let go for as long as it likes: of a command, and of the sandbox's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.awake import awake

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server import process_tree
from chronicled.runtimes.testing import FrameWorker, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to freeze a disk takes root: sudo make test")

DISK_BYTES = 16 << 20
DEADLINE_SECONDS = 0.4
DEADLINE_SECONDS_MAX = 5.0
SECONDS_MAX = 30.0
GIVEN_UP_SECONDS = 20.0
"""An ending is given up five seconds after the deadline; one that is not would never be over."""


def system(*words: str) -> None:
    """Run a program of the system."""
    subprocess.run(words, check=True, capture_output=True, timeout=SECONDS_MAX)


@pytest.fixture
def frozen(tmp_path: Path) -> Generator[tuple[Path, Callable[[], None]]]:
    """A frozen disk of its own, and what thaws it."""
    missing = [name for name in ("mkfs.ext4", "fsfreeze") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"a disk that can be frozen needs {', '.join(missing)}: install e2fsprogs and util-linux")
    disk, place = tmp_path / "disk", tmp_path / "place"
    disk.touch()
    os.truncate(disk, DISK_BYTES)
    place.mkdir()
    system("mkfs.ext4", "-q", str(disk))
    try:
        system("mount", "-o", "loop", str(disk), str(place))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no disk in a file can be mounted here: {error.stderr.decode(errors='replace')}")
    with contextlib.ExitStack() as stack:
        stack.callback(system, "umount", str(place))
        system("fsfreeze", "-f", str(place))
        thaw = stack.enter_context(contextlib.ExitStack())
        thaw.callback(system, "fsfreeze", "-u", str(place))
        yield place, thaw.close


@contextlib.contextmanager
def frozen_process(pid: int) -> Generator[None]:
    """Have the kernel give a process no turn, though nobody has stopped it."""
    first = Path("/sys/fs/cgroup/freezer")
    group = (first if first.is_dir() else first.parent) / f"chronicled-{uuid4()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"control groups cannot be made here ({error}): sudo make test, outside of a container")
    name, on, off = ("freezer.state", "FROZEN", "THAWED") if first.is_dir() else ("cgroup.freeze", "1", "0")
    try:
        (group / "cgroup.procs").write_text(str(pid))
        (group / name).write_text(on)
        yield
    finally:
        (group / name).write_text(off)
        with contextlib.suppress(ProcessLookupError):
            (group.parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def held(pid: int) -> bool:
    """Return whether the process is blocked where no signal reaches it."""
    known = process_tree.identify(pid)
    return known is not None and known[2] == b"D"


COMMANDS = {
    "in the foreground": ("sh -c 'echo $$; exec touch PLACE/file'", True),
    "in the background": ("sh -c 'echo $$; exec touch PLACE/file' & sleep 600", False),
    "detached": ("setsid sh -c 'echo $$; exec touch PLACE/file' & sleep 600", False),
}
"""Each begins by printing the pid that is held; and whether it costs the shell, which waits for it, its life."""


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
@pytest.mark.parametrize("name", COMMANDS)
async def test_a_command_that_the_kernel_holds_is_told_as_it_is(
    worker: FrameWorker, frozen: tuple[Path, Callable[[], None]], name: str
) -> None:
    """It is over in time, what could not be killed is counted, and it dies as soon as the kernel lets it go."""
    place, thaw = frozen
    command, restarted = COMMANDS[name]
    deadline = DEADLINE_SECONDS
    while True:
        begin = awake()
        result, output = await worker.run(command.replace("PLACE", str(place)), timeout_seconds=deadline)
        assert awake() - begin < deadline + 2.0
        pid = next((int(line) for line in output.splitlines() if line.isdigit()), 0)
        # A busy machine may not have let it come so far.
        if held(pid) or deadline > DEADLINE_SECONDS_MAX:
            break
        deadline *= 4
    assert held(pid)
    assert (result.outcome, result.effects) == (Outcome.TIMEOUT, Effects.POSSIBLE)
    assert result.message == "1 process could not be killed: the kernel holds it"
    assert (result.state_lost, result.fields["terminal_restarted"]) == (restarted, restarted)
    assert (await worker.run("echo alive"))[1] == b"alive\n"
    thaw()
    await eventually(lambda: process_tree.identify(pid) is None)


@pytest.mark.parametrize("transfer", ["descriptors"], indirect=True)
@pytest.mark.parametrize("trap", ["", "trap '' INT TERM; "])
async def test_an_ending_that_is_given_up_leaves_nothing(worker: FrameWorker, trap: str) -> None:
    """With a lane reaper that does nothing at all the action is over, and all of its lane goes as soon as it can."""
    _, output = await worker.run("echo $PPID")
    with frozen_process(int(output)):
        command = f"{trap}setsid sleep 605 & echo $!; sleep 605"
        result, output = await worker.run(command, timeout_seconds=2.0)
        assert (result.outcome, result.effects) == (Outcome.TIMEOUT, Effects.POSSIBLE)
        assert result.duration_seconds is not None
        assert result.duration_seconds < GIVEN_UP_SECONDS
    pid = next(int(line) for line in output.splitlines() if line.isdigit())
    await eventually(lambda: process_tree.identify(pid) is None)
    after, _ = await worker.run("true")
    # Told once, by the first that knows.
    assert result.state_lost != (after.reason == "state_lost")
    assert (await worker.run("echo alive"))[1] == b"alive\n"
