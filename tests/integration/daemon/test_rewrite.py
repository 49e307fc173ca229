"""A log that was written anew serves on: same sessions, ids, secrets and blobs; other positions, other cursors."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess, until

from chronicled.events.codec import canonical_request, encode_json
from chronicled.events.kinds import former
from chronicled.events.store import Append
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.testing_drafts import DraftMaker

BIN = Path(sys.executable).parent / "chronicled"
VALUE = "hT7%kq2/Zp+9wLm4"
SECONDS_MAX = 60


def chronicled(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [BIN, *arguments], capture_output=True, text=True, timeout=SECONDS_MAX, stdin=subprocess.DEVNULL, check=False
    )


async def run(daemon: DaemonProcess, session: str, command: str, id: str) -> Any:
    """Run a command under an id and return the whole answer."""
    body = {"kind": "run", "payload": {"command": command}, "id": id}
    answer = await daemon.post(f"{session}/actions", body, headers={"Prefer": "wait=20"})
    assert answer.status == 200, answer
    return answer.json


async def come_to_rest(daemon: DaemonProcess, session: str) -> None:
    """End the session's sandbox, and wait until nothing of it is left."""
    assert (await daemon.post(f"{session}/restart")).status in {200, 202}

    async def ended() -> bool:
        return bool((await daemon.get(session)).json["sandbox_state"] == "none")

    await until(ended)


def told(event: dict[str, Any]) -> dict[str, Any]:
    """Return what of an event a rewrite keeps, whatever version its payload has."""
    return {name: value for name, value in event.items() if name not in {"position", "leaf", "version", "payload"}}


async def test_a_daemon_goes_on_with_the_new_log(launch: Launch, tmp_path: Path) -> None:
    """Events, idempotency, blobs and secrets are there under the new positions; old cursors are refused by name."""
    old = await launch(name="old")
    session, ids = "/v1/sessions/s", [str(uuid.uuid4()) for _ in range(3)]
    assert (await old.post("/v1/sessions", {"session": "s", "secrets": {"TOKEN": VALUE}})).status == 201
    first = await run(old, session, 'echo "it is $TOKEN"', ids[0])
    await run(old, session, "seq 60000", ids[1])
    output = (await old.get(f"{session}/actions/{ids[1]}/output")).data
    page = (await old.get("/v1/events?limit=2")).json
    cursor = f"{page['next']}@{page['incarnation']}"
    busy = chronicled("migrate", "rewrite", old.data, tmp_path / "new" / "data")
    assert (busy.returncode, "Another daemon" in busy.stderr) == (4, True)
    await old.stop()
    refused = chronicled("migrate", "rewrite", old.data, tmp_path / "new" / "data")
    assert (refused.returncode, "session 's': has a sandbox" in refused.stderr) == (4, True), refused.stderr
    await old.start()
    await come_to_rest(old, session)
    before = await old.events(f"{session}/events")
    await old.stop()

    done = chronicled("migrate", "rewrite", old.data, tmp_path / "new" / "data", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    verified = chronicled("audit", "verify", "--json", "--data", tmp_path / "new" / "data")
    assert (verified.returncode, json.loads(verified.stdout)["problems"]) == (0, [])
    new = await launch(name="new")

    head = (await new.get("/v1/events?limit=1")).json["events"][0]
    assert (head["position"], head["kind"], head["session"]) == (1, "log_rewritten", "daemon")
    verified_before = json.loads(chronicled("audit", "verify", "--json", "--data", old.data).stdout)
    assert head["payload"]["former"] | {"leaf": ""} == {
        "incarnation": page["incarnation"],
        "size": verified_before["events"],
        "root": verified_before["root"],
        "leaf": "",
        "verified": True,
        "problem": None,
    }
    after = await new.events(f"{session}/events")
    assert [told(event) for event in after[: len(before)]] == [told(event) for event in before]
    assert [event["position"] for event in before] != [event["position"] for event in after[: len(before)]]
    gone = await new.get(f"/v1/events?after={cursor}")
    assert (gone.status, gone.json["code"]) == (410, "cursor-gone"), gone
    assert (await new.get("/v1/events?limit=1")).json["incarnation"] == report["incarnation"]

    again = await run(new, session, 'echo "it is $TOKEN"', ids[0])
    assert told(again["observation"]) == told(first["observation"])
    assert (await new.get(f"{session}/actions/{ids[1]}/output")).data == output
    more = await run(new, session, 'echo "still $TOKEN"; pwd', ids[2])
    assert more["observation"]["payload"]["output"].startswith("still <secret:TOKEN>\n")
    other = {"kind": "run", "payload": {"command": "false"}, "id": ids[0]}
    assert (await new.post(f"{session}/actions", other)).status == 422


async def test_a_retry_of_what_was_accepted_in_a_former_version_finds_its_answer(
    launch: Launch, tmp_path: Path
) -> None:
    """The digest of such a request is over the former payload, though the new log has the event in today's version."""
    data, key, id = tmp_path / "old" / "data", b"k" * 32, str(uuid.uuid4())
    data.mkdir(parents=True, mode=0o700)
    identity = {"instance": str(uuid.uuid4()), "request_key": base64.b64encode(key).decode()}
    (data / "instance.json").write_text(json.dumps(identity))
    (data / "instance.json").chmod(0o600)
    payload = former.Run(command="true")
    request = canonical_request(key, "s", "run", 1, payload, "main", None)
    maker = DraftMaker()
    action = replace(maker.action("s"), id=id, payload=encode_json(payload), request=request)
    async with await SqliteStore.open(data / LOG_NAME) as store:
        await store.append(maker.create("s"))
        await store.append(Append((action, maker.terminal("s", id))))
    done = chronicled("migrate", "rewrite", data, tmp_path / "new" / "data", "--json")
    assert (done.returncode, json.loads(done.stdout)["events_changed"]) == (0, 2), done.stderr
    new = await launch(name="new")
    again = await new.post("/v1/sessions/s/actions", {"kind": "run", "payload": {"command": "true"}, "id": id})
    assert (again.status, again.json["action"]["id"], again.json["action"]["version"]) == (200, id, 2), again
    other = await new.post("/v1/sessions/s/actions", {"kind": "run", "payload": {"command": "false"}, "id": id})
    assert other.status == 422


async def test_what_is_open_keeps_a_log_where_it_is(launch: Launch, tmp_path: Path) -> None:
    """A log with an action that has not ended is refused, also after a crash; a start of the daemon lets it end."""
    old = await launch(name="old")
    assert (await old.post("/v1/sessions", {"session": "s"})).status == 201
    id = str(uuid.uuid4())
    go = tmp_path / "go"
    body = {"kind": "run", "payload": {"command": f"while [ ! -e {go} ]; do sleep 0.05; done; echo over"}, "id": id}
    assert (await old.post("/v1/sessions/s/actions", body)).status == 202
    await old.kill()
    target = tmp_path / "new" / "data"
    refused = chronicled("migrate", "rewrite", old.data, target)
    assert (refused.returncode, f"action {id} is open" in refused.stderr) == (4, True), refused.stderr
    assert not target.exists()
    await old.start()
    go.touch()

    async def ended() -> bool:
        return bool((await old.get(f"/v1/sessions/s/actions/{id}")).json["status"] == "ok")

    await until(ended)
    await come_to_rest(old, "/v1/sessions/s")
    await old.stop()
    assert chronicled("migrate", "rewrite", old.data, target).returncode == 0
    new = await launch(name="new")
    assert (await new.get(f"/v1/sessions/s/actions/{id}")).json["status"] == "ok"
