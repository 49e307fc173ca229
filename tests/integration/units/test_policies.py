"""Policies in a real daemon: asked once for each action, and a no where they fail."""

from __future__ import annotations

import uuid
from pathlib import Path

from tests.integration.units.asking import created, done, submitted
from tests.integration.units.conftest import LaunchUnits


async def test_a_rejected_action_is_recorded_with_its_end_and_never_runs(launch: LaunchUnits) -> None:
    """Action and terminal `rejected`, reason `policy`, stand side by side in the log; the executor has not seen it."""
    daemon = await launch()
    path = await created(daemon)
    answer = await submitted(daemon, path, "forbidden")
    assert answer.status == 200, answer
    action, observation = answer.json["action"], answer.json["observation"]
    assert observation["position"] == action["position"] + 1
    assert observation["cause"] == action["id"]
    payload = observation["payload"]
    assert (payload["outcome"], payload["effects"], payload["reason"]) == ("rejected", "none", "policy")
    assert payload["message"].startswith("Not in process for uid:")
    assert payload["message"].endswith("(beta.forbidden)")
    assert (await done(daemon, path, "turn"))["count"] == 1


async def test_a_rejection_is_answered_without_a_wait_too(launch: LaunchUnits) -> None:
    """Whoever does not wait is told at once, in a list as well: one is rejected, the other runs."""
    daemon = await launch()
    path = await created(daemon)
    bodies = [{"kind": "beta.do", "payload": {"what": what}} for what in ("forbidden", "turn")]
    single = await daemon.post(f"{path}/actions", bodies[0])
    assert (single.status, single.json["observation"]["payload"]["reason"]) == (200, "policy")
    both = await daemon.post(f"{path}/actions", bodies, headers={"Prefer": "wait=20"})
    assert [each["payload"]["outcome"] for each in both.json["observations"]] == ["rejected", "ok"]
    assert len(both.json["actions"]) == 2


async def test_a_retry_gets_the_answer_that_there_was(launch: LaunchUnits, packages: Path) -> None:
    """The same id again is not judged again: neither what was rejected nor what was accepted, whatever holds now."""
    daemon = await launch()
    path = await created(daemon)
    rejected, accepted = str(uuid.uuid4()), str(uuid.uuid4())
    first = await submitted(daemon, path, "forbidden", id=rejected)
    second = await submitted(daemon, path, "turn", id=accepted)
    again = await submitted(daemon, path, "forbidden", id=rejected)
    assert again.json["observation"] == first.json["observation"]
    await daemon.stop()
    guard = packages / "beta" / "guard.py"
    guard.write_text(guard.read_text().replace('case "forbidden"', 'case "turn"'))
    daemon = await launch()
    assert (await submitted(daemon, path, "turn", id=accepted)).json == second.json
    assert (await submitted(daemon, path, "forbidden", id=rejected)).json == first.json
    # Negative control: under a fresh id the new rule holds.
    assert (await done(daemon, path, "turn"))["outcome"] == "rejected"
    other = await submitted(daemon, path, "turn", id=rejected)
    assert (other.status, other.json["code"]) == (422, "id-reused")


async def test_a_policy_that_fails_says_no(launch: LaunchUnits) -> None:
    """An exception, a wrong answer, no answer in time: rejected, named, and nobody waits longer than the deadline."""
    daemon = await launch("units.policy_seconds=0.3")
    path = await created(daemon)
    for what, words in (("fail", "raised RuntimeError"), ("answer", "no Decision"), ("hang", "within 0.3 s")):
        ended = await done(daemon, path, what)
        assert (ended["outcome"], ended["reason"]) == ("rejected", "policy"), what
        assert words in ended["message"]
        assert ended["message"].endswith("(beta.policy_failed)")
    assert "policy_failed" in daemon.log_text()
    assert (await done(daemon, path, "turn"))["outcome"] == "ok"


async def test_a_policy_that_blocks_holds_up_nobody_else(launch: LaunchUnits) -> None:
    """A plain function runs in a thread; where it hangs, its action is rejected in time."""
    daemon = await launch("units.policy_seconds=2", load="beta.unit:THREADED")
    path = await created(daemon)
    assert (await done(daemon, path, "forbidden"))["outcome"] == "rejected"
    assert "within 2 s" in (await done(daemon, path, "hang"))["message"]
    assert (await done(daemon, path, "turn"))["outcome"] == "ok"


async def test_a_policy_sees_what_the_log_will_show(launch: LaunchUnits, tmp_path: Path) -> None:
    """No secret of the session, nor what a unit's rule replaces, is shown to a policy."""
    seen = tmp_path / "seen"
    daemon = await launch(environment={"BETA_SEEN": str(seen)})
    path = await created(daemon, secrets={"TOKEN": "s3cr3t-value-of-the-session"})
    ended = await done(daemon, path, "turn", text="s3cr3t-value-of-the-session beta-key-42")
    assert ended["outcome"] == "ok"
    assert b"<secret:TOKEN> <secret:beta.key>" in seen.read_bytes()
    assert b"s3cr3t" not in seen.read_bytes()
