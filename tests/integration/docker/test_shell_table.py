"""The shell table and the keyboard programs in containers: Debian, busybox with musl, and an image of one text file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.fixture import DEBIAN, FILE, MUSL
from tests.integration.action_server.keyboards import KEYBOARDS, QUIET, WAIT_IN_ANY_CASE
from tests.integration.action_server.shell_cases import CASES, PLACES, PROGRAMS, needs, play
from tests.integration.docker.host import running, runtime_of, serving

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.testing import FrameWorker

pytestmark = pytest.mark.usefixtures("engine")

CASES_MIN = {DEBIAN: 160, MUSL: 120, FILE: 80}
"""So many cases at least must each image have played."""
TOLD_SECONDS_MAX = 10.0


async def offered(worker: FrameWorker) -> frozenset[str]:
    """Return the programs and places that the image has."""
    script = (
        f"for p in {PROGRAMS}; do type -P $p >/dev/null && echo $p; done;"
        f" for p in {' '.join(PLACES)} /bin/kill /bin/true; do [ -e $p ] && echo $p; done;"
        " timeout --version 2>&1 | grep -q coreutils && echo gnu"
    )
    _, output = await worker.run(script)
    return frozenset(output.decode().split())


@pytest.mark.parametrize("image", [DEBIAN, MUSL, FILE])
async def test_commands_end_in_any_image_as_bash_has_it(image: str, tmp_path: Path) -> None:
    """Every case whose programs the image has ends there as it does anywhere, each in a lane of its own."""
    runtime = runtime_of(processes_max=2000)
    failed: dict[str, str] = {}
    played = 0
    async with running(runtime), serving(runtime, tmp_path, image=image) as (worker, *_):
        has = await offered(worker)
        for number, case in enumerate(CASES):
            if not needs(case) <= has:
                continue
            played += 1
            try:
                await play(worker, case, f"case-{number}")
            except AssertionError as error:
                failed[case] = str(error)
    assert failed == {}
    assert played >= CASES_MIN[image]


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


@pytest.mark.parametrize("tty", [False, True], ids=["pipe", "tty"])
@pytest.mark.parametrize(("image", "commands"), [(DEBIAN, KEYBOARDS), (FILE, {})], ids=["debian", "file"])
async def test_keyboard_programs_end_or_say_so(image: str, commands: dict[str, str], tty: bool, tmp_path: Path) -> None:
    """In a container too a program that wants a keyboard ends by itself or says so within ten seconds."""
    builtins = {name: WAIT_IN_ANY_CASE[name] for name in ("read", "read -s", "select", "while read")}
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path, image=image) as (worker, *_):
        found = {name: await _end(worker, name, command, tty=tty) for name, command in (commands or builtins).items()}
        must = WAIT_IN_ANY_CASE if commands else builtins
        assert {found[name] for name in must} == {"waits"}
        assert set(found.values()) <= {"waits", "ended ok", "ended failed"}
        quiet = [name for name in QUIET if "python3" not in name and "sleep" not in QUIET[name]]
        for name in quiet if not commands else ("sleep", "cat of a pipe", "a job that would read", "wait"):
            action = await worker.dispatch("run", {"command": QUIET[name], "tty": tty}, lane=name)
            await worker.result(action)
            assert not any(isinstance(frame, frames.Waiting) and frame.action == action for frame in worker.seen)


def test_the_table_knows_what_it_needs() -> None:
    """Negative control: a case that names programs is not played without them; many cases need nothing but bash."""
    assert needs("pipes and process substitution") == {"cat", "tac", "/dev/fd"}
    assert needs("success and failure") == frozenset()
    assert sum(not needs(case) for case in CASES) >= CASES_MIN[FILE]
