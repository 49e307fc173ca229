from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import Answer, DaemonProcess, until

ACTIONS = "/v1/sessions/s/actions"
WAIT = {"Prefer": "wait=20"}
ID = "0192f3c4-0000-7000-8000-000000000001"
END_SECONDS_MAX = 20.0


def run(command: str, **more: Any) -> dict[str, Any]:
    """Return a `run` action."""
    return {"kind": "run", "payload": {"command": command}, **more}


async def until_status(daemon: DaemonProcess, id: str, *wanted: str) -> Answer:
    """Return the action once its status is one of those wanted."""

    async def reached() -> bool:
        return (await daemon.get(f"{ACTIONS}/{id}")).json["status"] in wanted

    await until(reached)
    return await daemon.get(f"{ACTIONS}/{id}")


async def until_output(daemon: DaemonProcess, id: str, wanted: bytes) -> None:
    """Return once the open action has printed what is wanted."""
    async with daemon.client.get(f"{ACTIONS}/{id}/output") as response, asyncio.timeout(END_SECONDS_MAX):
        await response.content.readuntil(wanted)


async def test_a_command_runs_and_its_end_is_waited_for(daemon: DaemonProcess, session: str) -> None:
    """`Prefer: wait` answers 200 with the action and its terminal observation; the status is its outcome."""
    answer = await daemon.post(ACTIONS, run("echo hello; (exit 3)"), headers=WAIT)
    assert answer.status == 200
    action, observation = answer.json["action"], answer.json["observation"]
    assert action["category"] == "action"
    assert action["source"] == "client"
    assert action["actor"].startswith("uid:")
    assert observation["cause"] == action["id"]
    assert observation["payload"]["outcome"] == "failed"
    assert observation["payload"]["exit_code"] == 3
    assert observation["payload"]["output"] == "hello\n"
    shown = await daemon.get(f"{ACTIONS}/{action['id']}")
    assert shown.json == {"action": action, "status": "failed", "observation": observation}


async def test_submission_without_wait_is_202_with_a_location(daemon: DaemonProcess, session: str) -> None:
    """The answer leaves once the action is durable; where it is can be asked."""
    answer = await daemon.post(ACTIONS, run("true"))
    assert answer.status == 202
    assert answer.json.keys() == {"action"}
    location = answer.headers["Location"]
    assert location == f"{ACTIONS}/{answer.json['action']['id']}"
    assert (await until_status(daemon, answer.json["action"]["id"], "ok")).status == 200


async def test_a_wait_ends_at_its_limit(daemon: DaemonProcess, session: str) -> None:
    """A wait that is too short answers 202, and the action goes on."""
    go = daemon.directory / "go"
    command = run(f"while [ ! -e {go} ]; do sleep 0.05; done")
    answer = await daemon.post(ACTIONS, command, headers={"Prefer": "respond-async, wait=1"})
    assert answer.status == 202
    go.touch()
    await until_status(daemon, answer.json["action"]["id"], "ok")


async def test_what_is_only_recorded_is_never_waited_for(daemon: DaemonProcess, session: str) -> None:
    """A thought is 202 at once, its status `recorded`; it cannot be cancelled or typed to."""
    answer = await daemon.post(ACTIONS, {"kind": "think", "payload": {"thought": "x"}}, headers=WAIT)
    assert answer.status == 202
    id = answer.json["action"]["id"]
    assert (await daemon.get(f"{ACTIONS}/{id}")).json["status"] == "recorded"
    for word, body in (("cancel", {}), ("interrupt", {}), ("input", {"data": "x"})):
        refused = await daemon.post(f"{ACTIONS}/{id}/{word}", body)
        assert (refused.status, refused.json["code"]) == (409, "action-not-running")
    assert (await daemon.get(f"{ACTIONS}/{id}/output")).data == b""


async def test_a_list_is_one_commit_in_order(daemon: DaemonProcess, session: str) -> None:
    """Actions of one request stand side by side in the log and run in their order; all ends come together."""
    bodies = [run("echo a"), {"kind": "think", "payload": {"thought": "x"}}, run("echo b")]
    answer = await daemon.post(ACTIONS, bodies, headers=WAIT)
    assert answer.status == 200
    positions = [each["position"] for each in answer.json["actions"]]
    assert positions == list(range(positions[0], positions[0] + 3))
    one, none, two = answer.json["observations"]
    assert none is None
    assert [one["payload"]["output"], two["payload"]["output"]] == ["a\n", "b\n"]
    assert one["position"] < two["position"]


async def test_a_retry_is_the_same_action(daemon: DaemonProcess, session: str) -> None:
    """The same id (or key) and request is the earlier action: 202 while it is open, 200 with its end afterwards.

    Who prefers to wait has that at once, too.
    """
    retries: list[dict[str, Any]]
    retries = [{"json": run("echo x", id=ID)}, {"json": run("echo x"), "headers": {"Idempotency-Key": "k"}}]
    for options in retries:
        first = await daemon.call("POST", ACTIONS, **options)
        again = await daemon.call("POST", ACTIONS, **options)
        assert first.status == 202
        assert again.json["action"] == first.json["action"]
        await until_status(daemon, first.json["action"]["id"], "ok")
        ended = await daemon.call("POST", ACTIONS, **options)
        assert ended.status == 200
        assert ended.json["action"] == first.json["action"]
        assert ended.json["observation"]["payload"]["output"] == "x\n"
        options["headers"] = options.get("headers", {}) | WAIT
        waited = await daemon.call("POST", ACTIONS, **options)
        assert (waited.status, waited.json) == (200, ended.json)
    kinds = [event["category"] for event in await daemon.events(session + "/events", "kind=run")]
    assert sorted(kinds) == ["action", "action", "observation", "observation"]


async def test_another_request_under_an_id_is_422(daemon: DaemonProcess, session: str) -> None:
    """An id or key that stood for another request is refused, whatever differs."""
    await daemon.post("/v1/sessions", {"session": "t"})
    assert (await daemon.post(ACTIONS, run("true", id=ID))).status == 202
    assert (await daemon.post(ACTIONS, run("true"), headers={"Idempotency-Key": "k"})).status == 202
    before = await daemon.written()
    for path, body in (
        (ACTIONS, run("false", id=ID)),
        (ACTIONS, run("true", id=ID, lane="other")),
        (ACTIONS, run("true", id=ID, expected_sequence=0)),
        ("/v1/sessions/t/actions", run("true", id=ID)),
        (ACTIONS, {"kind": "think", "payload": {"thought": "x"}, "id": ID}),
    ):
        refused = await daemon.post(path, body)
        assert (refused.status, refused.json["code"]) == (422, "id-reused"), body
    refused = await daemon.post(ACTIONS, run("false"), headers={"Idempotency-Key": "k"})
    assert (refused.status, refused.json["code"]) == (422, "id-reused")
    assert await daemon.written() == before


async def test_fifty_concurrent_retries_make_one_action(daemon: DaemonProcess, session: str) -> None:
    """Whatever races under one key, one action is in the log, it runs once, and everybody gets it."""
    command = run("echo x >> counter; cat counter")
    headers = {"Idempotency-Key": "same", **WAIT}
    answers = await asyncio.gather(*(daemon.post(ACTIONS, command, headers=headers) for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["action"]["id"] for answer in answers}) == 1
    assert {answer.json["observation"]["payload"]["output"] for answer in answers} == {"x\n"}


async def test_expected_sequence_guards_against_other_writers(daemon: DaemonProcess, session: str) -> None:
    """The last client-submitted sequence is demanded, -1 for none; observations never make it fail."""

    def think(expected: int) -> dict[str, Any]:
        return {"kind": "think", "payload": {"thought": "x"}, "expected_sequence": expected}

    created = (await daemon.events(session + "/events", "kind=session_created"))[0]
    last = created["sequence"] if (await daemon.post(ACTIONS, think(-1))).status == 412 else -1
    if last != -1:
        assert (await daemon.post(ACTIONS, think(last))).status == 202
    ran = await daemon.post(ACTIONS, run("true"), headers=WAIT)
    sequence = ran.json["action"]["sequence"]
    assert (await daemon.post(ACTIONS, think(sequence))).status == 202
    before = await daemon.written()
    stale = await daemon.post(ACTIONS, think(sequence))
    assert (stale.status, stale.json["code"]) == (412, "sequence-mismatch")
    assert await daemon.written() == before


async def test_a_queued_action_is_cancelled_at_once(daemon: DaemonProcess, session: str) -> None:
    """Behind another action of its lane an action ends with the cancel itself, `none` of its effects possible."""
    head = (await daemon.post(ACTIONS, run("echo up; sleep 30"))).json["action"]["id"]
    queued = (await daemon.post(ACTIONS, run("echo never"))).json["action"]["id"]
    assert (await daemon.get(f"{ACTIONS}/{queued}")).json["status"] == "queued"
    answer = await daemon.post(f"{ACTIONS}/{queued}/cancel", {"reason": "changed my mind"})
    assert answer.status == 202
    payload = answer.json["observation"]["payload"]
    assert (payload["outcome"], payload["effects"]) == ("cancelled", "none")
    assert answer.json["observation"]["position"] == answer.json["event"]["position"] + 1
    assert (await daemon.get(f"{ACTIONS}/{queued}")).json["status"] == "cancelled"
    again = await daemon.post(f"{ACTIONS}/{queued}/cancel")
    assert (again.status, again.json["code"]) == (409, "action-ended")
    await until_output(daemon, head, b"up\n")
    assert (await daemon.post(f"{ACTIONS}/{head}/cancel")).status == 202
    ended = await until_status(daemon, head, "cancelled")
    assert ended.json["observation"]["payload"]["effects"] == "possible"


async def test_typing_and_interrupts_reach_the_running_action(daemon: DaemonProcess, session: str) -> None:
    """Input is read by the command, a signal ends it; one that waits in the queue takes neither."""
    id = (await daemon.post(ACTIONS, run("echo up; read line; echo got $line; sleep 30"))).json["action"]["id"]
    queued = (await daemon.post(ACTIONS, run("true"))).json["action"]["id"]
    for word, body in (("input", {"data": "x"}), ("interrupt", {})):
        refused = await daemon.post(f"{ACTIONS}/{queued}/{word}", body)
        assert (refused.status, refused.json["code"]) == (409, "action-not-running")
    await until_output(daemon, id, b"up\n")
    data = base64.b64encode(b"yes\n").decode()
    assert (await daemon.post(f"{ACTIONS}/{id}/input", {"data": data, "encoding": "base64"})).status == 202
    await until_output(daemon, id, b"got yes\n")
    assert (await daemon.post(f"{ACTIONS}/{id}/interrupt", {"signal": "SIGINT"})).status == 202
    ended = await until_status(daemon, id, "failed", "killed", "ok")
    assert "got yes" in ended.json["observation"]["payload"]["output"]
    late = await daemon.post(f"{ACTIONS}/{id}/input", {"data": "x"})
    assert (late.status, late.json["code"]) == (409, "action-ended")


@pytest.mark.parametrize(
    "body",
    [{}, {"data": ""}, {"data": 1}, {"data": "x", "encoding": "hex"}, {"data": "*", "encoding": "base64"}, {"x": 1}],
    ids=str,
)
async def test_wrong_input_is_refused(daemon: DaemonProcess, session: str, body: Any) -> None:
    """Input that cannot be typed is a 400, and nothing is written."""
    id = (await daemon.post(ACTIONS, run("sleep 5"))).json["action"]["id"]
    before = await daemon.written()
    assert (await daemon.post(f"{ACTIONS}/{id}/input", body)).status == 400
    assert (await daemon.post(f"{ACTIONS}/{id}/interrupt", {"signal": "SIGSTOP"})).status == 400
    assert await daemon.written() == before


async def test_waits_have_a_bound(launch: Launch) -> None:
    """Over the limit a waiting submission is refused whole, so that it can be retried."""
    daemon = await launch("limits.waits_max=2")
    await daemon.post("/v1/sessions", {"session": "s"})
    waiting = [asyncio.create_task(daemon.post(ACTIONS, run("sleep 60"), headers=WAIT)) for _ in range(2)]

    async def waits(count: int) -> bool:
        return await daemon.metric("waits") == count

    await until(lambda: waits(2))
    before = await daemon.written()
    refused = await daemon.post(ACTIONS, run("true"), headers=WAIT)
    assert (refused.status, refused.json["code"], refused.json["retryable"]) == (503, "overloaded", True)
    assert refused.headers["Retry-After"] == "1"
    assert await daemon.written() == before
    for task in waiting:
        task.cancel()
    await until(lambda: waits(0))


async def test_a_trace_context_is_kept(daemon: DaemonProcess, session: str) -> None:
    """A valid `traceparent` stands on the event; a broken one counts as not sent."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await daemon.post(ACTIONS, run("true"), headers={"traceparent": trace})
    assert answer.json["action"]["traceparent"] == trace
    answer = await daemon.post(ACTIONS, run("true"), headers={"traceparent": "00-rubbish"})
    assert "traceparent" not in answer.json["action"]
