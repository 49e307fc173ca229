"""The shell table and the keyboard programs in containers: Debian, busybox with musl, and an image of one text file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.engine.fixture import DEBIAN, FILE, MUSL
from tests.engine.own import OwnEngine
from tests.integration.action_server.keyboards import KEYBOARDS, ON_DEBIAN, QUIET, WAIT_IN_ANY_CASE
from tests.integration.action_server.shell_cases import CASES, PLACES, PROGRAMS, needs, play
from tests.integration.docker.host import isolated, running, runtime_of, serving

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import FrameWorker

pytestmark = pytest.mark.usefixtures("engine")

CASES_MIN = {DEBIAN: 160, MUSL: 120, FILE: 80}
"""So many cases at least must each image have played."""
SANDBOXES = 3
KEYBOARDS_AT_ONCE = 4
TOLD_SECONDS_MAX = 10.0
OF_LINUX = {
    # Limits that gVisor has not, or calls otherwise.
    "an argument that is too long for a program",
    "an environment that is too long",
    # Its /proc/self/fd cannot be listed by the `ls` of coreutils.
    "programs get three descriptors",
}

Result = TypeVar("Result")


async def offered(worker: FrameWorker) -> frozenset[str]:
    """Return the programs and places that the image has, under its kernel."""
    script = (
        f"for p in {PROGRAMS}; do type -P $p >/dev/null && echo $p; done;"
        f" for p in {' '.join({*PLACES} - {'/dev/tty'})} /bin/kill /bin/true; do [ -e $p ] && echo $p; done;"
        " (: </dev/tty) 2>/dev/null && echo /dev/tty; timeout --version 2>&1 | grep -q coreutils && echo gnu"
    )
    _, output = await worker.run(script)
    return frozenset(output.decode().split())


async def play_share(
    runtime: DockerRuntime, directory: Path, image: str, share: int, without: Collection[str]
) -> tuple[int, dict[str, str]]:
    """Play each n-th case whose programs are there in a lane of its own; return how many, and which failed."""
    await asyncio.to_thread(directory.mkdir)
    failed: dict[str, str] = {}
    async with serving(runtime, directory, image=image) as (worker, *_):
        has = await offered(worker)
        cases = [case for case in CASES if needs(case) <= has and case not in without][share::SANDBOXES]
        for number, case in enumerate(cases):
            try:
                await play(worker, case, f"case-{number}")
            except AssertionError as error:
                failed[case] = str(error)
    return len(cases), failed


async def play_all(runtime: DockerRuntime, directory: Path, image: str, without: Collection[str] = ()) -> int:
    """Play all cases, shared out among sandboxes side by side; fail where one failed, return how many there were."""
    async with running(runtime), asyncio.TaskGroup() as tasks:
        shares = [
            tasks.create_task(play_share(runtime, directory / str(share), image, share, without))
            for share in range(SANDBOXES)
        ]
    failed = {case: why for share in shares for case, why in share.result()[1].items()}
    assert failed == {}
    return sum(share.result()[0] for share in shares)


@pytest.mark.parametrize("image", [DEBIAN, MUSL, FILE])
async def test_commands_end_in_any_image_as_bash_has_it(image: str, tmp_path: Path) -> None:
    """Every case whose programs the image has ends there as it does anywhere, each in a lane of its own."""
    assert await play_all(runtime_of(processes_max=2000), tmp_path, image) >= CASES_MIN[image]


@pytest.mark.parametrize("image", [DEBIAN, MUSL, FILE])
async def test_commands_end_under_gvisor_as_bash_has_it(image: str, gvisor: OwnEngine, tmp_path: Path) -> None:
    """They do so under another kernel, without what that kernel does not have."""
    played = await play_all(isolated(gvisor.host, processes_max=2000), tmp_path, image, OF_LINUX)
    assert played >= CASES_MIN[image] - len(OF_LINUX)


async def _end(worker: FrameWorker, name: str, command: str, *, tty: bool) -> str:
    action = await worker.dispatch("run", {"command": command, "tty": tty}, lane=name)

    def waits() -> bool:
        return any(isinstance(frame, frames.Waiting) and frame.action == action for frame in worker.seen)

    await worker.until(lambda: action in worker.results or waits(), TOLD_SECONDS_MAX)
    if action in worker.results:
        return f"ended {worker.results[action].outcome}"
    await worker.send(frames.Cancel(action=action))
    assert (await worker.result(action)).outcome is Outcome.CANCELLED
    return "waits"


async def _stays_quiet(worker: FrameWorker, name: str, *, tty: bool) -> bool:
    action = await worker.dispatch("run", {"command": QUIET[name], "tty": tty}, lane=name)
    await worker.result(action)
    return not any(isinstance(frame, frames.Waiting) and frame.action == action for frame in worker.seen)


async def _each(names: Iterable[str], one: Callable[[str], Awaitable[Result]]) -> dict[str, Result]:
    """Do it for each, a few side by side: most of the time they wait."""
    gate = asyncio.Semaphore(KEYBOARDS_AT_ONCE)
    found: dict[str, Result] = {}

    async def do(name: str) -> None:
        async with gate:
            found[name] = await one(name)

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(do(name))
    return found


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
@pytest.mark.parametrize(("image", "commands"), [(DEBIAN, KEYBOARDS), (FILE, {})], ids=["debian", "file"])
async def test_keyboard_programs_end_or_say_so(image: str, commands: dict[str, str], tty: bool, tmp_path: Path) -> None:
    """In a container too a program that wants a keyboard ends by itself or says so within ten seconds."""
    builtins = {name: WAIT_IN_ANY_CASE[name] for name in ("read", "read -s", "select", "while read")}
    asked = commands or builtins
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path, image=image) as (worker, *_):
        found = await _each(asked, lambda name: _end(worker, name, asked[name], tty=tty))
        must = WAIT_IN_ANY_CASE if commands else builtins
        assert {found[name] for name in must} == {"waits"}
        assert set(found.values()) <= {"waits", "ended ok", "ended failed"}
        if commands and tty:
            # Not one of them ends for want of something else than a keyboard.
            assert {name: found[name] for name in ON_DEBIAN if found[name] != "waits"} == {}
        quiet = [name for name in QUIET if "python3" not in name and "sleep" not in QUIET[name]]
        names = quiet if not commands else ("sleep", "cat of a pipe", "a job that would read", "wait")
        told = await _each(names, lambda name: _stays_quiet(worker, name, tty=tty))
        assert [name for name in told if not told[name]] == []


def test_the_table_knows_what_it_needs() -> None:
    """Negative control: a case that names programs is not played without them; many cases need nothing but bash."""
    assert needs("pipes and process substitution") == {"cat", "tac", "/dev/fd"}
    assert needs("success and failure") == frozenset()
    assert sum(not needs(case) for case in CASES) >= CASES_MIN[FILE]
