"""What the client promises of single requests: nothing is done twice, and errors are the daemon's own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.unit.client.server import Reply, ScriptedServer, answer, event, hang_up, message, problem, raw

from chronicled.client import Outcome, connect
from chronicled.client.address import Address, default_socket
from chronicled.client.transport import problem_error
from chronicled.daemon.locations import runtime_directory
from chronicled.events.errors import (
    ActionEnded,
    ActionNotRunning,
    ChronicledError,
    InvalidRequest,
    NotReachable,
    SequenceMismatch,
    SessionExists,
    SessionNotFound,
    Unavailable,
    errors_by_code,
)

ACTION = event(7, kind="run", payload={"command": "true"})
END = event(9, kind="run", category="observation", cause=ACTION["id"], payload={"outcome": "ok", "exit_code": 0})
SESSION = {"session": "s"}


def server(tmp_path: Path, *script: Reply) -> ScriptedServer:
    """Return a server with this script."""
    return ScriptedServer(tmp_path / "sock", *script)


async def test_a_submit_whose_answer_is_lost_is_sent_again_as_the_same_action(tmp_path: Path) -> None:
    """Every try carries the same id and the same bytes, so that the daemon can tell it is one action."""
    lost = raw(202, b'{"act', length=500)
    async with (
        server(tmp_path, answer(201, SESSION), hang_up, lost, answer(202, {"action": ACTION})).serving() as told,
        connect(str(told.socket)) as client,
    ):
        session = await client.session("s")
        submitted = await session.submit("run", {"command": "true"})
    assert submitted.position == 7
    tries = told.received[1:]
    assert len(tries) == 3
    assert len({request.body for request in tries}) == 1
    assert tries[0].json["id"]


async def test_two_submits_are_two_actions(tmp_path: Path) -> None:
    """The same payload submitted twice on purpose has two ids."""
    async with (
        server(tmp_path, answer(201, SESSION), answer(202, {"action": ACTION})).serving() as told,
        connect(str(told.socket)) as client,
    ):
        session = await client.session("s")
        for _ in range(2):
            await session.submit("run", {"command": "true"})
    assert told.received[1].json["id"] != told.received[2].json["id"]


async def test_a_session_is_created_once_however_often_it_is_asked_for(tmp_path: Path) -> None:
    """A repeated creation carries the same Idempotency-Key."""
    async with (
        server(tmp_path, hang_up, answer(201, {"session": "made"})).serving() as told,
        connect(str(told.socket)) as client,
    ):
        assert (await client.create_session()).name == "made"
    assert len({request.headers["idempotency-key"] for request in told.received}) == 1


async def test_a_session_that_exists_is_taken_or_told(tmp_path: Path) -> None:
    """`session` takes it, `create_session` does not, and `create=False` wants it to exist."""
    async with server(tmp_path, problem(409, "session-exists")).serving() as told, connect(str(told.socket)) as client:
        assert (await client.session("s")).name == "s"
        with pytest.raises(SessionExists):
            await client.create_session("s")
        told.script = [problem(404, "session-not-found")]
        with pytest.raises(SessionNotFound):
            await client.session("s", create=False)


@pytest.mark.parametrize("verb", ["input", "interrupt"])
async def test_what_has_no_id_is_never_sent_twice(tmp_path: Path, verb: str) -> None:
    """Typing and signals are not repeated when the answer is lost; the caller is told that it is not known."""
    async with server(tmp_path, answer(201, SESSION), hang_up).serving() as told, connect(str(told.socket)) as client:
        session = await client.session("s")
        with pytest.raises(NotReachable):
            await (session.input(ACTION["id"], "y\n") if verb == "input" else session.interrupt(ACTION["id"]))
    assert len(told.received) == 2


async def test_a_cancel_that_meets_its_own_success_is_one(tmp_path: Path) -> None:
    """`ActionEnded` after a lost answer is what was asked for; at the first try it is told."""
    async with (
        server(tmp_path, answer(201, SESSION), hang_up, problem(409, "action-ended")).serving() as told,
        connect(str(told.socket)) as client,
    ):
        session = await client.session("s")
        await session.cancel(ACTION["id"])
        with pytest.raises(ActionEnded):
            await session.cancel(ACTION["id"])


async def test_a_run_waits_on_through_answers_without_an_end(tmp_path: Path) -> None:
    """When the daemon answers before the end, the end is found in the session's events."""
    other = message(8, kind="run", category="observation", cause="other")
    feed = b": heartbeat\n\n" + other + message(9, **{name: END[name] for name in END if name != "position"})
    script = [
        answer(201, SESSION),
        answer(202, {"action": ACTION}),
        answer(200, {"action": ACTION, "status": "running"}),
        raw(200, feed, content_type="text/event-stream"),
    ]
    async with server(tmp_path, *script).serving() as told, connect(str(told.socket)) as client:
        ran = await (await client.session("s")).run("true")
    assert (ran.outcome, ran.exit_code, ran.ok) == (Outcome.OK, 0, True)
    assert "after=7" in told.received[3].target


async def test_what_is_only_recorded_has_no_end_to_wait_for(tmp_path: Path) -> None:
    """Waiting for a message's end is told to be in vain, at once."""
    view = {"action": event(3), "status": "recorded"}
    async with (
        server(tmp_path, answer(201, SESSION), answer(200, view)).serving() as told,
        connect(str(told.socket)) as client,
    ):
        session = await client.session("s")
        with pytest.raises(ActionNotRunning, match="only recorded"):
            await session.wait(event(3)["id"])


async def test_an_outcome_of_the_future_counts_as_unknown(tmp_path: Path) -> None:
    """A client treats an outcome that it does not know as `unknown`, its effects as possible."""
    end = {**END, "payload": {"outcome": "teleported", "effects": "quantum"}}
    ended = answer(200, {"action": ACTION, "observation": end})
    async with (
        server(tmp_path, answer(201, SESSION), ended).serving() as told,
        connect(str(told.socket)) as client,
    ):
        ran = await (await client.session("s")).run("true")
    assert (ran.outcome, ran.effects, ran.ok) == (Outcome.UNKNOWN, "possible", False)


@pytest.mark.parametrize("code", sorted(errors_by_code()))
def test_each_problem_code_is_one_error_class(code: str) -> None:
    """The client raises the very class that the daemon raised, with its detail and its machine-readable members."""
    error = problem_error(
        400, b'{"code": "%s", "detail": "why", "status": 400, "bytes_max": 5, "nested": [1]}' % code.encode()
    )
    assert type(error) is errors_by_code()[code]
    assert (error.detail, error.extra) == ("why", {"bytes_max": 5})


@pytest.mark.parametrize(
    ("status", "body", "wanted"),
    [
        (503, b"<html>busy</html>", Unavailable),
        (502, b"", Unavailable),
        (418, b'{"code": "teapot", "detail": "short"}', InvalidRequest),
        (500, b"\xff\xfe", ChronicledError),
        (400, b"[1]", InvalidRequest),
    ],
)
def test_an_answer_that_is_no_problem_of_ours_is_told_by_its_status(status: int, body: bytes, wanted: type) -> None:
    """A proxy's page or a newer daemon's code still becomes an error of the right family."""
    assert type(problem_error(status, body)) is wanted


async def test_a_refusal_is_raised_and_a_busy_daemon_asked_again(tmp_path: Path) -> None:
    """A problem that a retry cannot help is raised at once; a retryable one is tried again within the budget."""
    async with (
        server(tmp_path, answer(201, SESSION), problem(412, "sequence-mismatch")).serving() as told,
        connect(str(told.socket)) as client,
    ):
        session = await client.session("s")
        with pytest.raises(SequenceMismatch):
            await session.submit("run", {"command": "true"}, expected_sequence=3)
        assert len(told.received) == 2
        told.script = [problem(503, "overloaded"), problem(507, "storage-full"), answer(202, {"action": ACTION})]
        await session.submit("run", {"command": "true"})
        assert len(told.received) == 5


async def test_an_absent_daemon_is_told_within_the_budget(tmp_path: Path) -> None:
    """With no retries it is told at once, with some within their time; the sentence says what to do."""
    begin = time.monotonic()
    async with connect(str(tmp_path / "none"), retry_seconds=0) as client:
        assert not await client.ready()
        with pytest.raises(NotReachable, match="chronicled serve"):
            await client.session("s")
    # At once: not after the half minute that is tried by default. A busy machine may stand still for some seconds.
    assert time.monotonic() - begin < 20
    async with connect(str(tmp_path / "none"), retry_seconds=0.3) as client:
        with pytest.raises(NotReachable):
            await client.session("s")
    assert 0.3 <= time.monotonic() - begin < 20


async def test_a_connection_that_is_lost_is_not_called_a_daemon_that_is_absent(tmp_path: Path) -> None:
    """What broke off was there: the error says that, and does not ask whether anybody serves."""
    for cut in (hang_up, raw(201, b'{"ses', length=500)):
        async with server(tmp_path, cut).serving() as told, connect(str(told.socket), retry_seconds=0) as client:
            with pytest.raises(NotReachable, match=r"was lost \(") as raised:
                await client.session("s")
            assert "ContentLength" not in raised.value.detail


async def test_why_a_daemon_is_not_ready_is_told(tmp_path: Path) -> None:
    """One that answers but cannot take work is not one that is not there."""
    async with (
        server(tmp_path, problem(503, "unavailable")).serving() as told,
        connect(str(told.socket), retry_seconds=0) as client,
    ):
        with pytest.raises(Unavailable):
            await client.until_ready()


async def test_what_cannot_be_sent_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    """A deadline that JSON has no number for, and a text without UTF-8 form, do not become something else."""
    async with server(tmp_path, answer(201, SESSION)).serving() as told, connect(str(told.socket)) as client:
        session = await client.session("s")
        for seconds in (float("nan"), float("inf")):
            with pytest.raises(InvalidRequest, match="seconds"):
                await session.run("true", timeout_seconds=seconds)
        with pytest.raises(InvalidRequest, match="UTF-8"):
            await session.run("\ud800")
        with pytest.raises(InvalidRequest, match="name"):
            await client.session(create=False)
        assert len(told.received) == 1


async def test_a_large_body_is_sent_without_a_warning(tmp_path: Path) -> None:
    """Warnings are errors here: megabytes go out like anything else, each time it is tried."""
    content = "x" * (2 << 20)
    async with (
        server(tmp_path, answer(201, SESSION), hang_up, answer(202, {"action": ACTION})).serving() as told,
        connect(str(told.socket)) as client,
    ):
        await (await client.session("s")).submit("write", {"path": "x", "content": content})
    assert [request.json["payload"]["content"] == content for request in told.received[1:]] == [True, True]


async def test_a_closed_client_says_so(tmp_path: Path) -> None:
    """What is asked after the block's end is a mistake of the program's, told in our words."""
    async with server(tmp_path).serving() as told:
        async with connect(str(told.socket)) as client:
            pass
        with pytest.raises(RuntimeError, match="This client is closed"):
            await client.ready()


async def test_a_socket_with_a_long_path_is_reached(tmp_path: Path) -> None:
    """The kernel takes 107 bytes of a socket's path; the client does not mind."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    (directory / "sock").symlink_to(tmp_path / "sock")
    async with server(tmp_path, answer(200, {"status": "ok"})).serving(), connect(str(directory / "sock")) as client:
        assert await client.ready()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/x.sock", Address("http://chronicled", "/run/x.sock")),
        ("unix:/run/x.sock", Address("http://chronicled", "/run/x.sock")),
        ("unix:///run/x.sock", Address("http://chronicled", "/run/x.sock")),
        ("http://127.0.0.1:80/", Address("http://127.0.0.1:80")),
    ],
)
def test_an_address_is_a_path_or_a_url(text: str, address: Address) -> None:
    """Both forms are read, others refused."""
    assert Address.parse(text, {}) == address
    with pytest.raises(InvalidRequest):
        Address.parse("ftp://x", {})


@pytest.mark.parametrize(
    "environment",
    [{}, {"XDG_RUNTIME_DIR": "/run/user/7"}, {"XDG_RUNTIME_DIR": "relative"}, {"RUNTIME_DIRECTORY": "/run/c:/run/d"}],
)
def test_client_and_daemon_agree_on_the_default_socket(environment: dict[str, str]) -> None:
    """Both follow the same rule, each in its own part."""
    assert default_socket(environment) == f"{runtime_directory(environment)}/chronicled.sock"
    assert Address.parse(None, {**environment, "CHRONICLED_SOCKET": "/x"}).socket == "/x"
