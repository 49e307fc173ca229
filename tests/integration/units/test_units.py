"""Units in a real daemon: loaded, delivered, executed, told of."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.integration.daemon.process import until
from tests.integration.units.asking import created, done, submitted
from tests.integration.units.conftest import LaunchUnits


async def test_an_action_of_a_unit_runs_and_its_executor_keeps_state(launch: LaunchUnits) -> None:
    """The executor is constructed once for a sandbox; a lane is in order; another session has its own."""
    daemon = await launch()
    path, other = await created(daemon), await created(daemon, "t")
    assert (await done(daemon, path, "turn", text="abc")) | {"duration_seconds": 0, "generation": ""} == {
        "outcome": "ok", "effects": "complete", "reason": None, "message": None, "deadline": None,
        "duration_seconds": 0, "generation": "", "said": "cba", "count": 1,
    }  # fmt: skip
    assert (await done(daemon, path, "turn"))["count"] == 2
    assert (await done(daemon, other, "turn"))["count"] == 1


async def test_a_session_says_what_its_sandbox_can_execute(launch: LaunchUnits) -> None:
    """`GET /v1/sessions/{session}` lists kinds with versions while there is a sandbox; so does the log."""
    daemon = await launch()
    path = await created(daemon)
    assert "kinds" not in (await daemon.get(path)).json
    await done(daemon, path, "turn")
    shown = (await daemon.get(path)).json
    assert (shown["kinds"]["beta.do"], shown["units"], shown["missing"]) == (1, {"beta": "beta (no distribution)"}, {})
    assert "run" in shown["kinds"]
    (started,) = await daemon.events(f"{path}/events", "kind=generation_started")
    assert started["payload"]["versions"] == {"beta.do": 1, "beta.take": 1}


async def test_kinds_of_units_are_described_to_clients_that_do_not_have_them(launch: LaunchUnits) -> None:
    """`/openapi.json` has their schemas; an action that does not fit is refused by the field."""
    daemon = await launch()
    path = await created(daemon)
    document = (await daemon.get("/openapi.json")).data
    assert b"beta.do" in document
    assert b"beta.note" in document
    answer = await daemon.post(f"{path}/actions", {"kind": "beta.do", "payload": {"what": 1}})
    assert (answer.status, "$.what" in answer.json["detail"]) == (400, True)
    note = await daemon.post(f"{path}/actions", {"kind": "beta.note", "payload": {"what": "w"}})
    assert note.status == 202


async def test_a_sandbox_sees_what_units_name_and_nothing_else_of_the_host(launch: LaunchUnits) -> None:
    """Our own modules, msgspec and the unit can be imported; what else is installed beside the daemon cannot."""
    daemon = await launch()
    path = await created(daemon)
    text = "beta msgspec chronicled aiohttp anyio structlog pytest pip"
    assert (await done(daemon, path, "seen", text=text))["said"] == "beta msgspec chronicled"
    folders = (await done(daemon, path, "path"))["said"].splitlines()
    assert [each for each in folders if "site-packages" in each] == []


async def test_what_an_executor_must_not_do_ends_its_action_alone(launch: LaunchUnits) -> None:
    """An exception and an exit become `failed` with their words; the sandbox and the executor's state live on."""
    daemon = await launch()
    path = await created(daemon)
    raised = await done(daemon, path, "raise", text="that is why")
    assert (raised["outcome"], raised["reason"], raised["effects"]) == ("failed", "executor_failed", "complete")
    assert "ValueError: that is why" in raised["message"]
    left = await done(daemon, path, "exit")
    assert (left["outcome"], left["reason"]) == ("failed", "executor_failed")
    assert "exit" in left["message"]
    assert (await done(daemon, path, "turn"))["count"] == 3


async def test_an_executor_gets_the_content_that_its_action_names(launch: LaunchUnits) -> None:
    """A blob of the session comes along as a descriptor, as with an upload; one of nobody's is refused."""
    daemon = await launch()
    path = await created(daemon)
    data = b"content " * 100_000
    headers = {"Content-Type": "application/octet-stream", "Prefer": "wait=20"}
    uploaded = await daemon.call("PUT", f"{path}/files?path=there", data=data, headers=headers)
    assert uploaded.status == 200, uploaded
    digest = uploaded.json["action"]["payload"]["content"]
    body = {"kind": "beta.take", "payload": {"content": digest}}
    answer = await daemon.post(f"{path}/actions", body, headers={"Prefer": "wait=20"})
    assert answer.json["observation"]["payload"].get("outcome") == "ok", answer
    assert answer.json["observation"]["payload"]["digest"] == digest == hashlib.sha256(data).hexdigest()
    body["payload"] = {"content": "0" * 64}
    assert (await daemon.post(f"{path}/actions", body)).status == 404


async def test_cancel_and_deadline_end_an_action_of_a_unit(launch: LaunchUnits) -> None:
    """As they end any other: soon, named, and the lane goes on."""
    daemon = await launch()
    path = await created(daemon)
    late = await done(daemon, path, "turn", seconds=60, timeout_seconds=0.3)
    assert (late["outcome"], late["deadline"], late["effects"]) == ("timeout", "command", "possible")
    answer = await daemon.post(f"{path}/actions", {"kind": "beta.do", "payload": {"what": "turn", "seconds": 60}})
    action = answer.json["action"]["id"]
    await daemon.post(f"{path}/actions/{action}/cancel")

    async def cancelled() -> bool:
        return bool((await daemon.get(f"{path}/actions/{action}")).json["status"] == "cancelled")

    await until(cancelled)
    assert (await done(daemon, path, "turn"))["outcome"] == "ok"


async def test_an_executor_that_cannot_be_imported_in_the_sandbox_is_named(launch: LaunchUnits) -> None:
    """Its kinds are missing from the handshake, with the reason in log and session; the action ends `error` with it."""
    daemon = await launch(load="beta.unit:LOST", name="lost")
    path = await created(daemon)
    assert (await done(daemon, path, "turn"))["outcome"] == "ok"
    assert "No module named 'beta.absent'" in (await daemon.get(path)).json["missing"]["beta"]


async def test_an_action_that_nothing_executes_ends_with_the_reason(launch: LaunchUnits, packages: Path) -> None:
    """An import that fails only in the sandbox: the daemon has the library, and nobody has said that it is needed."""
    executor = packages / "beta" / "executor.py"
    executor.write_text(executor.read_text().replace("import sys\n", "import sys\nimport yarl\n", 1))
    daemon = await launch()
    path = await created(daemon)
    ended = await done(daemon, path, "turn")
    assert (ended["outcome"], ended["effects"], ended["reason"]) == ("error", "none", "no_executor")
    assert "No module named 'yarl'" in ended["message"]
    (started,) = await daemon.events(f"{path}/events", "kind=generation_started")
    assert "beta.do" not in started["payload"]["kinds"]
    assert "yarl" in started["payload"]["missing"]["beta"]


async def test_an_older_executor_is_not_given_what_it_cannot_read(launch: LaunchUnits, packages: Path) -> None:
    """A sandbox that outlived an upgrade of the unit takes no action of the new version, until it is restarted."""
    daemon = await launch()
    path = await created(daemon)
    await done(daemon, path, "turn")
    await daemon.kill()
    executor = packages / "beta" / "executor.py"
    executor.write_text(executor.read_text().replace("VERSION = 1", "VERSION = 2"))
    daemon = await launch(environment={"BETA_VERSIONS": "2"})
    ended = await done(daemon, path, "turn")
    assert (ended["outcome"], ended["effects"], ended["reason"]) == ("error", "none", "version_mismatch")
    assert "takes version 1, and this daemon sends version 2" in ended["message"]
    await daemon.post(f"{path}/restart")

    async def restarted() -> bool:
        return bool(await daemon.events(f"{path}/events", "kind=generation_ended"))

    await until(restarted)
    assert (await done(daemon, path, "turn"))["count"] == 1


async def test_secrets_by_rule_reach_the_executor_and_nothing_else(launch: LaunchUnits) -> None:
    """What a unit's rule finds is in no file of the daemon: not in the action, nor the observation, nor the output."""
    daemon = await launch()
    path = await created(daemon)
    secret = "beta-key-1234567890"
    answer = await submitted(daemon, path, "turn", text=f"{secret[::-1]} {secret}")
    assert answer.json["action"]["payload"]["text"] == f"{secret[::-1]} <secret:beta.key>"
    # It was turned round, so that it was the real one that came to the executor.
    assert answer.json["observation"]["payload"]["said"] == f"{secret[::-1]} <secret:beta.key>"
    id = answer.json["action"]["id"]
    assert secret.encode() not in (await daemon.get(f"{path}/actions/{id}/output")).data
    await daemon.stop()
    for file in daemon.data.rglob("*"):
        # Spools hold clear text by design, and are guarded as secrets are.
        if file.is_file() and "spool" not in file.parts:
            assert secret.encode() not in file.read_bytes(), file
