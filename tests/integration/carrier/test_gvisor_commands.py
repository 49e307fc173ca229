"""What `run` does under gVisor: programs without a shell, variables, terminals, and who waits for the keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine.fixture import MUSL
from tests.engine.own import OwnEngine
from tests.integration.carrier.containers import container
from tests.integration.carrier.test_gvisor import AS_FIRST_PROCESS

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.carrier import Carrier
from chronicled.runtimes.testing import FrameWorker

TOLD_SECONDS_MAX = 10.0


async def ends_or_waits(worker: FrameWorker, **payload: Any) -> str:
    """Return `waits`, or how it ended."""
    action = await worker.dispatch("run", payload)

    def waits() -> bool:
        return any(isinstance(frame, frames.Waiting) and frame.action == action for frame in worker.seen)

    await worker.until(lambda: action in worker.results or waits(), TOLD_SECONDS_MAX)
    if action in worker.results:
        return str(worker.results[action].outcome)
    await worker.send(frames.Cancel(action=action))
    assert (await worker.result(action)).outcome is Outcome.CANCELLED
    return "waits"


async def test_programs_variables_and_terminals(gvisor: OwnEngine, carrier: Carrier, tmp_path: Path) -> None:
    """Programs without a shell, their exit codes and input, session variables and terminal output are as anywhere."""
    async with container(gvisor, tmp_path, MUSL, carrier.path, AS_FIRST_PROCESS, "inband") as (worker, _):
        await worker.send(frames.Environment(variables={"A": "one two"}))
        action = await worker.dispatch("run", {"argv": ["/bin/sh", "-c", 'echo "$A" $#; exit 4', "x", "*", ""]})
        assert (await worker.result(action)).fields["exit_code"] == 4
        assert worker.output(action) == b"one two 2\n"
        action = await worker.dispatch("run", {"argv": ["none"]})
        assert (await worker.result(action)).fields["exit_code"] == 127
        action = await worker.dispatch("run", {"argv": ["/bin/sh", "-c", "read x; echo $x"]})
        await worker.send(frames.Input(action=action, data=b"word\n"))
        await worker.result(action)
        assert worker.output(action) == b"word\n"
        _, output = await worker.run('test -t 1 && printf "\\033[1m%s\\n" "$A"', tty=True)
        assert output == b"\x1b[1mone two\n"


async def test_who_waits_is_told_by_what_remains(gvisor: OwnEngine, carrier: Carrier, tmp_path: Path) -> None:
    """Where the kernel does not say what a process is blocked in, a changed terminal or a prompt that stands tells."""
    async with container(gvisor, tmp_path, MUSL, carrier.path, AS_FIRST_PROCESS, "inband") as (worker, _):
        for command in ("vi file", "read -r -s -p 'secret: ' x", "printf 'name? '; read -r x", "less /etc/passwd"):
            assert await ends_or_waits(worker, command=command, tty=True) == "waits", command
        for command in ("sleep 3", "sleep 3 | cat", "while [ $SECONDS -lt 3 ]; do :; done"):
            assert await ends_or_waits(worker, command=command) == "ok", command
