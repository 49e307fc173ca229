"""Secrets of a real daemon: given to shells, found nowhere, gone with their session, and missed loudly."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess, files_below, until

VALUE = "hT7%kq2/Zp+9wLm4"
OTHER = "mN3$vb8-Xc+1rJd6"


async def _create(daemon: DaemonProcess, **more: Any) -> str:
    answer = await daemon.post("/v1/sessions", {"session": "s", "secrets": {"TOKEN": VALUE}, **more})
    assert answer.status == 201, answer
    return "/v1/sessions/s"


async def _run(daemon: DaemonProcess, session: str, command: str, **payload: Any) -> Any:
    body = {"kind": "run", "payload": {"command": command, **payload}}
    answer = await daemon.post(f"{session}/actions", body, headers={"Prefer": "wait=20"})
    assert answer.status == 200, answer
    return answer.json["observation"]["payload"]


async def _events(daemon: DaemonProcess, session: str) -> list[Any]:
    return list((await daemon.get(f"{session}/events?limit=1000")).json["events"])


def _stored(daemon: DaemonProcess, value: str) -> list[str]:
    """Return the files of the data directory in which the value stands, but for the spool."""
    return [str(path) for path, data in files_below(daemon.data, {"spool"}) if value.encode() in data]


async def test_a_shell_has_the_secret_and_nobody_sees_it(daemon: DaemonProcess) -> None:
    """A command gets the value as a variable; its output, the log and every file show the name."""
    session = await _create(daemon)
    ended = await _run(daemon, session, 'echo "it is $TOKEN"; printf %s "$TOKEN" | wc -c; echo -n "$TOKEN" | base64')
    assert ended["output"].splitlines()[:2] == ["it is <secret:TOKEN>", str(len(VALUE))]
    assert ended["output"].splitlines()[2].startswith("<secret:TOKEN>")
    kinds = [(event["kind"], event["payload"]) for event in await _events(daemon, session)]
    assert kinds[1] == ("secret_registered", {"name": "TOKEN", "variable": "TOKEN"})
    assert _stored(daemon, VALUE) == []


async def test_what_runs_is_the_real_command(daemon: DaemonProcess) -> None:
    """A command that holds a value runs as it was sent, while the log shows the name; so do large ones and input."""
    session = await _create(daemon)
    ended = await _run(daemon, session, f"printf %s '{VALUE}' | tr 'hT7' 'xyz'")
    assert ended["output"] == VALUE.translate(str.maketrans("hT7", "xyz"))
    filler = "# " + "x" * 200_000
    ended = await _run(daemon, session, f"{filler}\nprintf %s '{VALUE}' | rev")
    assert ended["output"] == VALUE[::-1]
    commands = [
        event["payload"]["command"] for event in await _events(daemon, session) if event["category"] == "action"
    ]
    assert commands[0] == "printf %s '<secret:TOKEN>' | tr 'hT7' 'xyz'"
    assert _stored(daemon, VALUE) == []


async def test_what_is_typed_is_the_real_thing(daemon: DaemonProcess) -> None:
    """Input that holds a value arrives as it was typed, in its order among other input."""
    session = await _create(daemon)
    body = {"kind": "run", "payload": {"command": "read a; read b; read c; echo $a; echo $b | rev; echo $c"}}
    action = (await daemon.post(f"{session}/actions", body)).json["action"]["id"]
    for line in ("one", VALUE, "three"):
        assert (await daemon.post(f"{session}/actions/{action}/input", {"data": f"{line}\n"})).status == 202

    async def over() -> bool:
        return bool((await daemon.get(f"{session}/actions/{action}")).json["status"] == "ok")

    await until(over)
    shown = (await daemon.get(f"{session}/actions/{action}")).json["observation"]["payload"]["output"]
    assert shown.split() == ["one", VALUE[::-1], "three"]
    assert _stored(daemon, VALUE) == []


async def test_a_literal_placeholder_stays_what_it_is(daemon: DaemonProcess) -> None:
    """Who writes a placeholder gets a placeholder: it is never turned into the value."""
    session = await _create(daemon)
    assert (await _run(daemon, session, "printf '%s' '<secret:TOKEN>' | wc -c"))["output"].strip() == "14"


async def test_the_original_outlives_a_kill(launch: Launch) -> None:
    """An action that was acknowledged before a kill -9 runs after it as it was sent, though the log has names alone."""
    daemon = await launch(name="d")
    session = await _create(daemon)
    await _run(daemon, session, "true")
    # The lane is busy, so that the next action waits while the daemon is killed.
    await daemon.post(f"{session}/actions", {"kind": "run", "payload": {"command": "sleep 2"}})
    id = str(uuid.uuid4())
    body = {"kind": "run", "id": id, "payload": {"command": f"printf %s '{VALUE}' | rev"}}
    assert (await daemon.post(f"{session}/actions", body)).status == 202
    await daemon.kill()
    await daemon.start()

    async def over() -> bool:
        return bool((await daemon.get(f"{session}/actions/{id}")).json["status"] == "ok")

    await until(over)
    shown = (await daemon.get(f"{session}/actions/{id}")).json
    assert shown["observation"]["payload"]["output"] == VALUE[::-1]
    assert shown["action"]["payload"]["command"] == "printf %s '<secret:TOKEN>' | rev"
    assert (await _run(daemon, session, "echo $TOKEN"))["output"] == "<secret:TOKEN>\n"
    assert _stored(daemon, VALUE) == []


async def test_variables_change_while_the_sandbox_runs(daemon: DaemonProcess) -> None:
    """What is set, plain or secret, is there for the next command of a running shell; what is taken away is not."""
    session = await _create(daemon, environment={"PLAIN": "1"})
    await _run(daemon, session, "x=5")
    body = {"variables": {"PLAIN": "2", "URL": f"https://me:{OTHER}@host/"}, "secrets": {"LATER": OTHER}}
    assert (await daemon.call("PUT", f"{session}/environment", json=body)).status == 200
    ended = await _run(daemon, session, "echo $x $PLAIN $URL $LATER; printf %s $LATER | rev")
    assert ended["output"] == f"5 2 https://me:<secret:LATER>@host/ <secret:LATER>\n{OTHER[::-1]}"
    assert (await daemon.call("PUT", f"{session}/secrets/TOKEN", json={"value": "aNew/Value+4711x"})).status == 200
    assert (await _run(daemon, session, f"echo {VALUE} $TOKEN; printf %s $TOKEN | rev"))["output"] == (
        "<secret:TOKEN> <secret:TOKEN>\n" + "aNew/Value+4711x"[::-1]
    )
    assert (await daemon.call("DELETE", f"{session}/secrets/LATER")).json == {"name": "LATER", "variables": []}
    assert (await _run(daemon, session, f"echo ${{LATER-none}} '{OTHER}'"))["output"] == "none <secret:LATER>\n"
    listed = (await daemon.get(f"{session}/secrets")).json
    assert listed == {"secrets": [{"name": "LATER", "variables": []}, {"name": "TOKEN", "variables": ["TOKEN"]}]}
    changed = [event["payload"] for event in await _events(daemon, session) if event["kind"] == "environment_changed"]
    assert changed[0]["variables"] == {"PLAIN": "2", "URL": "https://me:<secret:LATER>@host/"}
    assert changed[0]["secrets"] == {"LATER": "LATER"}
    assert _stored(daemon, VALUE) + _stored(daemon, OTHER) == []


async def test_variables_hold_in_the_next_sandbox(launch: Launch) -> None:
    """What was set while a sandbox ran is there in the one that follows it, also after a restart of the daemon."""
    daemon = await launch(name="d")
    session = await _create(daemon)
    await daemon.call("PUT", f"{session}/environment", json={"variables": {"PLAIN": "2"}, "secrets": {"LATER": OTHER}})
    await daemon.stop()
    await daemon.start()
    assert (await _run(daemon, session, "echo $PLAIN; printf %s $LATER | rev"))["output"] == "2\n" + OTHER[::-1]


async def test_secrets_end_with_their_session(daemon: DaemonProcess) -> None:
    """Once a closed session has nothing left to publish, its sealed values are removed, and the log says so."""
    session = await _create(daemon)
    await _run(daemon, session, "true")
    folder = daemon.data / "secrets" / "default" / "s"
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(folder / "record").st_mode) == 0o600
    assert VALUE.encode() not in (folder / "record").read_bytes()
    await daemon.call("DELETE", session)

    async def destroyed() -> bool:
        return bool((await _events(daemon, session))[-1]["kind"] == "secrets_destroyed")

    await until(destroyed)

    async def removed() -> bool:
        return not folder.exists()

    await until(removed)
    refused = await daemon.post(f"{session}/actions", {"kind": "run", "payload": {"command": f"# {VALUE * 9000}"}})
    assert refused.status == 409
    assert VALUE not in refused.data.decode()
    assert _stored(daemon, VALUE) == []


async def test_originals_go_with_their_actions(daemon: DaemonProcess) -> None:
    """What was kept of a redacted command is removed when it has ended, and of a refused one at once."""
    session = await _create(daemon)
    folder = daemon.data / "secrets" / "default" / "s"
    await _run(daemon, session, f"echo {VALUE}")

    async def alone() -> bool:
        return [path.name for path in folder.iterdir()] == ["record"]

    await until(alone)
    body = {"kind": "run", "payload": {"command": f"echo {VALUE}"}, "expected_sequence": 99}
    assert (await daemon.post(f"{session}/actions", body)).status == 412
    assert await alone()


async def _break_key(data: Path) -> None:
    (data / "secrets.key").write_bytes(os.urandom(32))


async def _lose_record(data: Path) -> None:
    (data / "secrets" / "default" / "s" / "record").unlink()
    (data / "secrets" / "default" / "s").rmdir()


async def _spoil_record(data: Path) -> None:
    path = data / "secrets" / "default" / "s" / "record"
    sealed = bytearray(path.read_bytes())
    sealed[-1] ^= 1
    path.write_bytes(sealed)


@pytest.mark.parametrize("harm", [_break_key, _lose_record, _spoil_record])
async def test_a_session_without_its_secrets_publishes_nothing(launch: Launch, harm: Any) -> None:
    """When the sealed values are lost or cannot be opened, nothing of their session is published; others go on."""
    daemon = await launch(name="d")
    session = await _create(daemon)
    await daemon.post("/v1/sessions", {"session": "other"})
    # It prints after the daemon is gone, so that there is something to publish.
    go = daemon.directory / "go"
    command = f"echo $TOKEN; while [ ! -e {go} ]; do sleep 0.05; done; for i in 2 3 4 5 6 7 8; do echo $TOKEN; done"
    action = (await daemon.post(f"{session}/actions", {"kind": "run", "payload": {"command": command}})).json["action"]

    async def begun() -> bool:
        return bool((await daemon.get(f"{session}/actions/{action['id']}/output?follow=false")).data)

    await until(begun)
    await daemon.kill()
    go.touch()
    kept = daemon.directory / "kept"
    shutil.copytree(daemon.data / "secrets", kept / "secrets")
    shutil.copy(daemon.data / "secrets.key", kept)
    await harm(daemon.data)
    await daemon.start()
    count = len(await _events(daemon, session))
    refused = await daemon.post(f"{session}/actions", {"kind": "run", "payload": {"command": "true"}})
    assert (refused.status, refused.json["code"]) == (503, "secrets-unavailable")
    assert (await _run(daemon, "/v1/sessions/other", "echo fine"))["output"] == "fine\n"
    await asyncio.sleep(3)
    assert len(await _events(daemon, session)) == count
    assert (await daemon.get(f"{session}/actions/{action['id']}")).json["status"] == "running"
    assert _stored(daemon, VALUE) == []
    assert "secrets unavailable" in daemon.log_text()
    # With the values back, it goes on where it was.
    await daemon.stop()
    shutil.copytree(kept, daemon.data, dirs_exist_ok=True)
    await daemon.start()

    async def over() -> bool:
        return bool((await daemon.get(f"{session}/actions/{action['id']}")).json["status"] == "ok")

    await until(over)
    ended = (await daemon.get(f"{session}/actions/{action['id']}")).json["observation"]["payload"]
    assert ended["output"] == "<secret:TOKEN>\n" * 8
    assert _stored(daemon, VALUE) == []


async def test_values_that_cannot_be_kept_secret_are_refused(daemon: DaemonProcess) -> None:
    """A value that cannot be told from other text is refused with its name and reason, and no session is made."""
    answer = await daemon.post("/v1/sessions", {"session": "s", "secrets": {"PIN": "4711"}})
    assert (answer.status, answer.json["code"]) == (400, "secret-refused")
    assert "PIN" in answer.json["detail"]
    assert "4711" not in answer.json["detail"]
    assert (await daemon.get("/v1/sessions/s")).status == 404
    assert not (daemon.data / "secrets" / "default" / "s").exists()


async def test_a_creation_can_be_repeated(daemon: DaemonProcess) -> None:
    """The same creation under the same key gives the same session; with another value it is another request."""
    body = {"session": "s", "secrets": [{"name": "TOKEN", "value": VALUE, "variable": None}]}
    headers = {"Idempotency-Key": "k"}
    assert (await daemon.post("/v1/sessions", body, headers=headers)).status == 201
    assert (await daemon.post("/v1/sessions", body, headers=headers)).status == 200
    body["secrets"] = [{"name": "TOKEN", "value": OTHER, "variable": None}]
    assert (await daemon.post("/v1/sessions", body, headers=headers)).status == 422
    assert (await daemon.post("/v1/sessions", {"session": "s", "secrets": {"X": OTHER}})).status == 409
    ended = await _run(daemon, "/v1/sessions/s", f"echo {VALUE} '{OTHER}' ${{TOKEN-none}}")
    assert ended["output"] == f"<secret:TOKEN> {OTHER} none\n"


async def test_no_name_is_made_of_a_secret(daemon: DaemonProcess) -> None:
    """Sessions and lanes, whose names stand outside of payloads, cannot be named after a secret."""
    name = "kT9xvQ2LxL7.mZ4w"
    assert (await daemon.post("/v1/sessions", {"session": name, "secrets": {"A": name}})).status == 400
    assert (await daemon.post("/v1/sessions", {"session": "s", "secrets": {"A": name}})).status == 201
    body = {"kind": "run", "payload": {"command": "true"}, "lane": name}
    answer = await daemon.post("/v1/sessions/s/actions", body)
    assert answer.status == 400
    assert name not in answer.data.decode()


async def _dies(daemon: DaemonProcess, point: str, method: str, path: str, body: Any = None) -> None:
    """Have the daemon kill itself at the fault point that the request reaches, then start it again."""
    daemon.environment = {"CHRONICLED_FAULT_POINT": f"{point}:1"}
    await daemon.stop()
    await daemon.start()
    with contextlib.suppress(aiohttp.ClientError):
        await daemon.call(method, path, json=body)
    await daemon.wait()
    daemon.environment = {}
    await daemon.start()


async def test_a_creation_that_died_leaves_nothing(launch: Launch) -> None:
    """Killed between sealing and the log, a creation never happened: nothing is kept, and it can be asked for again."""
    daemon = await launch(name="d")
    body = {"session": "s", "secrets": {"TOKEN": VALUE}}
    await _dies(daemon, "secrets_to_append", "POST", "/v1/sessions", body)
    assert (await daemon.get("/v1/sessions/s")).status == 404

    async def removed() -> bool:
        return not (daemon.data / "secrets" / "default" / "s").exists()

    await until(removed)
    session = await _create(daemon)
    assert (await _run(daemon, session, "echo $TOKEN"))["output"] == "<secret:TOKEN>\n"


async def test_a_registration_that_died_is_repeated(launch: Launch) -> None:
    """Killed between sealing and the log, a registration redacts more than was told, never less; a repeat tells it."""
    daemon = await launch(name="d")
    session = await _create(daemon)
    await _dies(daemon, "secrets_to_append", "PUT", f"{session}/secrets/LATER", {"value": OTHER})
    assert (await _run(daemon, session, f"echo '{OTHER}'"))["output"] == "<secret:LATER>\n"
    assert (await daemon.call("PUT", f"{session}/secrets/LATER", json={"value": OTHER})).status == 200
    named = [
        event["payload"]["name"] for event in await _events(daemon, session) if event["kind"] == "secret_registered"
    ]
    assert named == ["TOKEN", "LATER"]


async def test_an_action_that_died_before_the_log_was_never_there(launch: Launch) -> None:
    """Killed between sealing its original and the log, an action never happened, and can be submitted again."""
    daemon = await launch(name="d")
    session = await _create(daemon)
    command = f"printf %s '{VALUE}' | rev"
    body = {"kind": "run", "payload": {"command": command}}
    await _dies(daemon, "original_to_append", "POST", f"{session}/actions", body)
    assert [path.name for path in (daemon.data / "secrets" / "default" / "s").iterdir()] == ["record"]
    assert (await _run(daemon, session, command))["output"] == VALUE[::-1]
    assert [event["category"] for event in await _events(daemon, session)].count("action") == 1


async def test_destruction_that_died_is_finished(launch: Launch) -> None:
    """Killed between the event and the removal, the next start removes what is left."""
    daemon = await launch(name="d")
    session = await _create(daemon)
    await _dies(daemon, "append_to_destroy", "DELETE", session)

    async def removed() -> bool:
        return not (daemon.data / "secrets" / "default" / "s").exists()

    await until(removed)
    kinds = [event["kind"] for event in await _events(daemon, session)]
    assert kinds.count("secrets_destroyed") == 1
