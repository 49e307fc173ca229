"""Code of a unit that never ends is ended, named, and not called again: the daemon goes on."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import pytest
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.units.asking import created, submitted
from tests.integration.units.conftest import LaunchUnits

SETTINGS = ("units.stuck_seconds=1.0",)
ENDLESS = "a" * 60
HIDDEN = "<secret:beta.endless>"
CALLS = "calls"


async def spun(launch: LaunchUnits, *hows: str) -> tuple[DaemonProcess, str]:
    """Return a daemon whose log has events of version 1 of those sorts, which is read as version 2 now."""
    daemon = await launch(load="beta.stuck:FORMER")
    path = await created(daemon)
    for how in hows:
        answer = await daemon.post(f"{path}/actions", {"kind": "beta.spin", "payload": {"how": how}})
        assert answer.status == 202, answer
    await daemon.stop()
    calls = {"BETA_CALLS": str(daemon.directory / CALLS)}
    return await launch(*SETTINGS, load="beta.stuck:UNIT", environment=calls), path


def called(daemon: DaemonProcess) -> list[str]:
    """Return which of the unit's functions were called, in order."""
    return (daemon.directory / CALLS).read_text().split()


async def told(daemon: DaemonProcess, *words: str) -> bool:
    """Tell whether the daemon's log has the words."""
    return all(word in daemon.log_text() for word in words)


@pytest.mark.parametrize("how", ["loops", "sleeps", "swallows"])
async def test_a_step_that_never_ends_costs_one_wait_and_an_opaque_event(launch: LaunchUnits, how: str) -> None:
    """It is ended where it stands, whether it computes, blocks or swallows errors; later reads do not call it again."""
    daemon, path = await spun(launch, how, how)
    first = await daemon.get(f"{path}/events?kind=beta.spin")
    assert [event["opaque"] != "" for event in first.json["events"]] == [True, True]
    assert [event["payload"] for event in first.json["events"]] == [{"how": how}] * 2
    assert called(daemon) == ["step"]
    assert "did not end" in (await daemon.get(f"{path}/events?kind=beta.spin")).json["events"][0]["opaque"]
    assert called(daemon) == ["step"]
    await until(lambda: told(daemon, '"unit_stuck"', '"unit_ended"', "stuck.py"))
    assert (await daemon.post(f"{path}/actions", {"kind": "run", "payload": {"command": "true"}})).status == 202


async def test_a_step_that_cannot_be_ended_ends_the_daemon_with_its_name(launch: LaunchUnits) -> None:
    """What swallows every exception is beyond help: exit code 70, and the last line names unit, function and file."""
    daemon, path = await spun(launch, "stays")
    with pytest.raises(aiohttp.ClientError):
        await daemon.get(f"{path}/events?kind=beta.spin")
    assert await daemon.wait() == 70
    assert "the unit 'beta' does not end: _stay" in daemon.log_text()


async def test_a_way_back_that_never_ends_is_refused(launch: LaunchUnits) -> None:
    """The version is not available, the event is read as it is today, and nothing waits a second time."""
    daemon, path = await spun(launch, "back")
    # What stands in version 1 is shown as it stands.
    assert (await daemon.get(f"{path}/events?kind=beta.spin", headers={"Accept-Version": "beta.spin=1"})).status == 200
    answer = await daemon.post(f"{path}/actions", {"kind": "beta.spin", "payload": {"how": "back"}})
    assert answer.status == 202, answer
    for _ in range(2):
        refused = await daemon.get(f"{path}/events?kind=beta.spin", headers={"Accept-Version": "beta.spin=1"})
        assert (refused.status, refused.json["code"]) == (406, "version-unavailable"), refused
        assert called(daemon).count("back") == 1
    assert (await daemon.get(f"{path}/events?kind=beta.spin")).json["events"][1]["version"] == 2


async def test_a_policy_that_never_ends_rejects(launch: LaunchUnits) -> None:
    """An `async` policy that awaits nothing is ended, and not asked again: what nobody judges is rejected."""
    daemon = await launch(*SETTINGS, load="beta.stuck:UNIT")
    path = await created(daemon)
    for command, words in (("judge me for ever", "held up the daemon"), ("true", "not asked again")):
        answer = await daemon.post(
            f"{path}/actions", {"kind": "run", "payload": {"command": command}}, headers={"Prefer": "wait=20"}
        )
        payload = answer.json["observation"]["payload"]
        assert (payload["outcome"], payload["reason"]) == ("rejected", "policy")
        assert words in payload["message"]
        assert "beta.policy_failed" in payload["message"]


async def test_a_rule_that_never_ends_lets_nothing_through(launch: LaunchUnits) -> None:
    """A pattern that backtracks without end is ended as it matches, and counts as one that finds everything thereafter.

    What runs goes on, and ends, with its texts hidden; what cannot be said without them is refused.
    """
    daemon = await launch(*SETTINGS, load="beta.stuck:UNIT")
    path = await created(daemon)
    first = await submitted(daemon, path, "repeat", text="aa")
    assert first.json["action"]["payload"]["what"] == "repeat"
    observation = first.json["observation"]["payload"]
    assert (observation["outcome"], observation["said"]) == ("ok", HIDDEN)
    await until(lambda: told(daemon, '"unit_ended"', "beta.endless"))
    assert (await submitted(daemon, path, "repeat", text="aa")).status == 400
    marked = await daemon.post(f"{path}/actions", {"kind": "beta.mark", "payload": {"how": "well"}})
    assert marked.json["action"]["payload"] == {"how": HIDDEN}
    assert ENDLESS not in (await daemon.get(f"{path}/events")).data.decode()
    body = {"kind": "run", "payload": {"command": "echo aaa"}}
    other = await daemon.post(f"{path}/actions", body, headers={"Prefer": "wait=20"})
    assert other.json["observation"]["payload"]["output"] == "aaa\n"


async def test_a_rule_that_never_ends_in_a_thread_ends_the_daemon(launch: LaunchUnits) -> None:
    """A thread that matches lets no other run: the process ends by itself, and tells which module it was in."""
    daemon = await launch(*SETTINGS, load="beta.stuck:UNIT")
    path = await created(daemon)
    # What is long is searched in a thread.
    body = {"kind": "beta.do", "payload": {"what": "repeat", "text": "b" * 10_000 + ENDLESS}}
    with pytest.raises(aiohttp.ClientError):
        await daemon.post(f"{path}/actions", body)
    assert await daemon.wait() == -signal.SIGPROF
    assert "rule_redaction.py" in daemon.log_text()


async def test_a_daemon_that_was_stopped_is_not_taken_for_one_that_hangs(launch: LaunchUnits) -> None:
    """Negative control: SIGSTOP for longer than the limit ends nothing when it goes on."""
    daemon, path = await spun(launch, "well")
    os.kill(daemon.pid, signal.SIGSTOP)
    await asyncio.sleep(3.0)  # that is what is looked at
    os.kill(daemon.pid, signal.SIGCONT)
    assert (await daemon.get(f"{path}/events?kind=beta.spin")).json["events"][0]["payload"] == {"how": "well"}
    assert "unit_stuck" not in daemon.log_text()
