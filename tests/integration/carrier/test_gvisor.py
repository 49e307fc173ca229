"""The carrier under gVisor, whose kernel lacks much of what the action server builds on elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.fixture import FILE, MUSL
from tests.engine.own import OwnEngine
from tests.integration.carrier.containers import container

from chronicled.events.outcome import Outcome
from chronicled.runtimes.carrier import Carrier
from chronicled.runtimes.testing import eventually

BELOW_AN_INIT = ("--runtime", "runsc", "--network", "none", "--init")
AS_FIRST_PROCESS = ("--runtime", "runsc", "--network", "none", "--user", "12345:12345", "--cap-drop", "ALL")
PLACES = pytest.mark.parametrize("options", [BELOW_AN_INIT, AS_FIRST_PROCESS], ids=["init", "first process, uid"])


def running(gvisor: OwnEngine, name: str) -> str:
    """Return the command lines in a container."""
    return gvisor("exec", name, "/bin/ps", "-o", "args")


@PLACES
@pytest.mark.parametrize("image", [MUSL, FILE])
async def test_a_gvisor_sandbox_runs_commands(
    gvisor: OwnEngine, carrier: Carrier, tmp_path: Path, image: str, options: tuple[str, ...]
) -> None:
    """An unmodified image reaches Hello under gVisor too; what it prints comes in-band, byte for byte."""
    async with container(gvisor, tmp_path, image, carrier.path, options, "inband") as (worker, _):
        result, output = await worker.run("echo hi; echo no >&2; (exit 3)")
        assert (result.outcome, result.fields["exit_code"], output) == (Outcome.FAILED, 3, b"hi\nno\n")
        _, output = await worker.run("for i in 1 2 3; do printf '\\0\\377%d' $i; done")
        assert output == b"\0\xff1\0\xff2\0\xff3"


@PLACES
async def test_an_end_under_gvisor_kills_what_the_command_detached_and_nothing_else(
    gvisor: OwnEngine, carrier: Carrier, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Orphans go to the first process there: those of the command die with it, those of another lane stay."""
    async with container(gvisor, tmp_path, MUSL, carrier.path, options, "inband") as (worker, name):
        await worker.run("sleep 4001 & (setsid sleep 4002 &)", lane="other")
        nasty = "trap '' TERM INT HUP; (setsid nohup sleep 9 &) & (sleep 99 & disown); sh -c '(sleep 98 &)'; sleep 97"
        result, _ = await worker.run(nasty, timeout_seconds=0.5)
        assert result.outcome is Outcome.TIMEOUT
        await eventually(lambda: "sleep 9" not in running(gvisor, name))
        assert "sleep 4001" in running(gvisor, name)
        assert "sleep 4002" in running(gvisor, name)


@PLACES
async def test_the_end_of_the_server_ends_a_gvisor_sandbox(
    gvisor: OwnEngine, carrier: Carrier, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """When the action server is killed from within, the container is over within seconds."""
    async with container(gvisor, tmp_path, MUSL, carrier.path, options, "inband") as (worker, name):
        await worker.run("(setsid sleep 4002 &)")
        assert worker.hello is not None
        await worker.dispatch("run", {"command": f"kill -9 {worker.hello.pid}"})
        assert int(gvisor("wait", name)) != 0
