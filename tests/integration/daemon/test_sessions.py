from __future__ import annotations

from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess


async def test_session_is_created_shown_and_listed(daemon: DaemonProcess) -> None:
    """What a creation answers is what show and list answer too."""
    created = await daemon.post("/v1/sessions", {"session": "a.b-c_1", "labels": {"team": "x"}})
    assert created.status == 201
    assert created.headers["Location"] == "/v1/sessions/a.b-c_1"
    assert created.json["session"] == "a.b-c_1"
    assert created.json["labels"] == {"team": "x"}
    assert created.json["status"] == "open"
    assert created.json["isolated"] is False
    shown = await daemon.get("/v1/sessions/a.b-c_1")
    assert (shown.status, shown.json["session"]) == (200, "a.b-c_1")
    listed = await daemon.get("/v1/sessions")
    assert [each["session"] for each in listed.json["sessions"]] == ["a.b-c_1"]
    assert listed.json["at_end"] is True


async def test_session_without_a_name_gets_one(daemon: DaemonProcess) -> None:
    """A creation with an empty body, or none at all, makes a session of a fresh name."""
    one = await daemon.call("POST", "/v1/sessions")
    two = await daemon.post("/v1/sessions", {})
    assert one.status == two.status == 201
    assert one.json["session"] != two.json["session"]


async def test_session_name_is_taken_once(daemon: DaemonProcess) -> None:
    """A second creation of a name is a 409, also after the session was closed; nothing is written."""
    assert (await daemon.post("/v1/sessions", {"session": "a"})).status == 201
    before = await daemon.written()
    again = await daemon.post("/v1/sessions", {"session": "a"})
    assert (again.status, again.json["code"]) == (409, "session-exists")
    assert await daemon.written() == before


async def test_creation_is_retried_safely_under_a_key(daemon: DaemonProcess) -> None:
    """The same key gives the same session, generated name included; another request under it is a 422."""
    headers = {"Idempotency-Key": "k1"}
    one = await daemon.post("/v1/sessions", {}, headers=headers)
    two = await daemon.post("/v1/sessions", {}, headers=headers)
    assert (one.status, two.status) == (201, 200)
    assert one.json["session"] == two.json["session"]
    other = await daemon.post("/v1/sessions", {"labels": {"a": "b"}}, headers=headers)
    assert (other.status, other.json["code"]) == (422, "id-reused")


async def test_close_is_idempotent_and_final(daemon: DaemonProcess, session: str) -> None:
    """Closing twice appends one event; a closed session takes no action and cannot be made again."""
    assert (await daemon.call("DELETE", session)).json["status"] == "closed"
    assert (await daemon.call("DELETE", session)).json["status"] == "closed"
    kinds = [event["kind"] for event in await daemon.events(session + "/events")]
    assert kinds.count("session_closed") == 1
    refused = await daemon.post(session + "/actions", {"kind": "think", "payload": {"thought": "x"}})
    assert (refused.status, refused.json["code"]) == (409, "session-closed")
    assert (await daemon.post("/v1/sessions", {"session": "s"})).status == 409


async def test_session_list_is_paged(daemon: DaemonProcess) -> None:
    """Pages of the list join without gap or repeat, each of at most `limit`."""
    for index in range(7):
        await daemon.post("/v1/sessions", {"session": f"s{index}"})
    names: list[str] = []
    after = 0
    for _ in range(4):
        page = (await daemon.get(f"/v1/sessions?limit=2&after={after}")).json
        names += [each["session"] for each in page["sessions"]]
        after = page["next"]
        if page["at_end"]:
            break
    assert names == [f"s{index}" for index in range(7)]


async def test_sessions_outlive_the_daemon(launch: Launch) -> None:
    """After an orderly end and a new start the list is the same."""
    daemon = await launch(name="one")
    for name in "abc":
        await daemon.post("/v1/sessions", {"session": name})
    await daemon.call("DELETE", "/v1/sessions/b")
    before = (await daemon.get("/v1/sessions")).json["sessions"]
    assert await daemon.stop() == 0
    await daemon.start()
    assert (await daemon.get("/v1/sessions")).json["sessions"] == before


async def test_an_unknown_runtime_is_refused(daemon: DaemonProcess) -> None:
    """A runtime that the daemon does not have is a 400 that names those that it has."""
    answer = await daemon.post("/v1/sessions", {"runtime": "moon"})
    assert answer.status == 400
    assert "process" in answer.json["detail"]


async def test_a_missing_session_is_404_everywhere(daemon: DaemonProcess) -> None:
    """Every route of a session that does not exist answers 404, whatever else is in the path."""
    id = "00000000-0000-7000-8000-000000000000"
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", f"/actions/{id}"),
        ("GET", f"/actions/{id}/output"),
        ("POST", f"/actions/{id}/cancel"),
        ("POST", f"/actions/{id}/interrupt"),
        ("GET", "/blobs/" + "0" * 64),
    ):
        answer = await daemon.call(method, f"/v1/sessions/none{path}")
        assert (answer.status, answer.json["code"]) == (404, "session-not-found"), (method, path)
    answer = await daemon.post("/v1/sessions/none/actions", {"kind": "think", "payload": {"thought": "x"}})
    assert (answer.status, answer.json["code"]) == (404, "session-not-found")


async def test_an_environment_is_one_that_commands_can_have(daemon: DaemonProcess) -> None:
    """A variable that no process can be given is refused when it is named, not when a sandbox is to start."""
    for environment in ({"A": "x\0y"}, {"A=B": "x"}, {"": "x"}):
        answer = await daemon.post("/v1/sessions", {"session": "odd", "environment": environment})
        assert answer.status == 400, answer
        assert "$.environment" in answer.json["detail"]
    assert (await daemon.get("/v1/sessions/odd")).status == 404
