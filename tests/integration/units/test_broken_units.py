"""Units that are wrong: named at the start, and never half there."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from tests.integration.daemon.process import until
from tests.integration.units.asking import created, done
from tests.integration.units.conftest import LaunchUnits

BROKEN = {
    "beta.unit:FOREIGN": "does not bear the owner's prefix 'gamma'",
    "beta.unit:ABSENT": "has no attribute 'ABSENT'",
    "beta.kinds:KINDS": "is not one: beta.kinds:KINDS is a tuple",
    "no_such_module:UNIT": "No module named 'no_such_module'",
    "nobody": "There is no unit 'nobody' here; installed are:",
}


@pytest.mark.parametrize("load", BROKEN)
async def test_a_broken_unit_keeps_the_daemon_from_starting(launch: LaunchUnits, load: str) -> None:
    """It exits 2 and says which, why, and how to start without it."""
    daemon = await launch(load=f"beta.unit:UNIT,{load}", ready=False)
    assert await daemon.wait() == 2
    assert BROKEN[load] in daemon.log_text()
    assert "units.skip_broken = true" in daemon.log_text()
    assert not (daemon.data / "log.sqlite").exists()


async def test_a_skipped_unit_leaves_nothing_behind(launch: LaunchUnits) -> None:
    """With `skip_broken` the daemon starts, names it, and everything else works."""
    daemon = await launch("units.skip_broken=true", load="beta.unit:FOREIGN,beta.unit:UNIT")
    assert "unit_skipped" in daemon.log_text()
    path = await created(daemon)
    assert (await done(daemon, path, "turn"))["outcome"] == "ok"


async def test_what_waits_for_a_unit_that_is_gone_ends_with_the_reason(launch: LaunchUnits, packages: Path) -> None:
    """Its events are served as they are; its open actions end, the running one as it ends, the queued one `error`."""
    daemon = await launch(load="beta.unit:PLAIN")
    path = await created(daemon)
    ids: list[str] = []
    for _ in range(2):
        body = {"kind": "beta.do", "payload": {"what": "turn", "text": "abc", "seconds": 6, "on_state_loss": "run"}}
        ids.append((await daemon.post(f"{path}/actions", body)).json["action"]["id"])

    async def status(index: int) -> str:
        return str((await daemon.get(f"{path}/actions/{ids[index]}")).json["status"])

    async def running() -> bool:
        return bool(await daemon.events(f"{path}/events", "kind=progress"))

    await until(running)
    await daemon.kill()
    unit = packages / "beta" / "unit.py"
    whole = unit.read_text()
    unit.write_text(whole.replace("from beta.kinds", "import that_is_not_there\nfrom beta.kinds", 1))
    daemon = await launch("units.skip_broken=true", load="beta.unit:PLAIN")

    async def over() -> bool:
        return (await status(0), await status(1)) == ("ok", "error")

    await until(over)
    ended = (await daemon.get(f"{path}/actions/{ids[1]}")).json["observation"]["payload"]
    assert (ended["effects"], "that_is_not_there" in ended["message"]) == ("none", True)
    answer = await daemon.post(f"{path}/actions", {"kind": "beta.do", "payload": {"what": "turn"}})
    assert (answer.status, "that_is_not_there" in answer.json["detail"]) == (400, True)
    assert (await daemon.get("/openapi.json")).status == 200
    (action, *_) = await daemon.events(f"{path}/events", "kind=beta.do&category=action")
    assert action["payload"]["text"] == "abc"
    await daemon.stop()

    # And when the unit is back, everything reads as what it is.
    unit.write_text(whole)
    daemon = await launch(load="beta.unit:PLAIN")
    assert (await done(daemon, path, "turn"))["outcome"] == "ok"
    assert await status(1) == "error"


async def test_a_unit_with_a_policy_is_not_skipped(launch: LaunchUnits, packages: Path) -> None:
    """Without it everything would be accepted that it rejects: the daemon does not start, and says why."""
    daemon = await launch()
    await daemon.stop()
    unit = packages / "beta" / "unit.py"
    unit.write_text(unit.read_text().replace("from beta.kinds", "import that_is_not_there\nfrom beta.kinds", 1))
    daemon = await launch("units.skip_broken=true", ready=False)
    assert await daemon.wait() == 2
    assert "It has a policy, and is not skipped for that" in daemon.log_text()
    # Negative control: taken out on purpose, it does not hold up anybody.
    daemon = await launch("units.skip_broken=true", load="")
    path = await created(daemon)
    refused = await daemon.post(f"{path}/actions", {"kind": "beta.do", "payload": {"what": "forbidden"}})
    assert (refused.status, "is not loaded" in refused.json["detail"]) == (400, True)


async def test_the_plugins_command_names_what_is_broken(packages: Path, tmp_path: Path) -> None:
    """Without a daemon, by the same judgement: exit code 1, with the reason beside what is right."""
    configuration = tmp_path / "c.toml"
    configuration.write_text('[units]\nload = ["beta.unit:UNIT", "beta.unit:FOREIGN"]\n')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chronicled.cli", "plugins", "--json", "--config", str(configuration),
        env={**os.environ, "PYTHONPATH": str(packages)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    right, broken = (json.loads(line) for line in output.splitlines())
    assert (process.returncode, right["state"], broken["state"]) == (1, "loaded", "broken")
    assert "owner's prefix 'gamma'" in broken["reason"]


async def test_a_runtime_that_nobody_has_is_refused_by_name(launch: LaunchUnits) -> None:
    """`runtime.offered` names runtimes of ours and of loaded units, and nothing else."""
    daemon = await launch("runtime.offered=process,beta.box", ready=False)
    assert await daemon.wait() == 2
    assert "runtime.offered names 'beta.box'" in daemon.log_text()
