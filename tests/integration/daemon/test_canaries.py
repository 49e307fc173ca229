"""Canaries: twenty values in every shape through every path of a real daemon; none may show anywhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import random
import string
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.engine.fixture import DEBIAN
from tests.integration.daemon.process import DaemonProcess, files_below, until
from tests.unit.events.secret_shapes import shapes

SHAPES = (
    *("raw", "json", "json_unicode", "json_points", "percent", "percent_lower", "form", "hex", "hex_upper"),
    *("shell_quoted", "backslashed", "base64_0", "base64_1", "base64_2", "base64_url_0", "base64_bare_1"),
    *("base64_wrapped_0", "base64_wrapped_2"),
)
CONTAINER = {"runtime": "docker", "image": DEBIAN}
REDACTED = ("-m", "chronicled.daemon")
UNREDACTED = (
    "-c",
    "import sys\n"
    "from chronicled.events.secret_redaction import SecretRedaction\n"
    "SecretRedaction.matcher = lambda self, tenant, session: None\n"
    "SecretRedaction.everywhere = lambda self, text: text\n"
    "from chronicled.daemon.__main__ import main\n"
    "sys.exit(main(sys.argv[1:]))",
)
OUTSIDE = {"spool", "sandboxes", "carriers"}
"""Parts of the data directory that hold clear text by their purpose, belong to the sandbox, or are our own code."""


def _values() -> dict[str, str]:
    rng = random.Random(20)
    signs = string.ascii_letters + string.digits + "!@#$%^&*()_+-=[]{}|;:,.<>?/"
    values = ["".join(rng.choice(signs) for _ in range(rng.randrange(12, 60))) for _ in range(14)]
    values += [
        "ghp_" + "".join(rng.choice(string.ascii_letters) for _ in range(36)),
        "postgres://user:p%40ss'w\"ord@db:5432/x?y=1&z=2",
        "pässwörd mit Ümläuten 4711",
        "line one of it 83f\nline two of it 94g\nline three 05h",
        "日本語の秘密の鍵です-abc123XYZ",
        'back\\slash and "quotes" and $dollar `tick`',
    ]
    return {f"S{number}": value for number, value in enumerate(values)}


VALUES = _values()
CANARIES = {(name, shape): shapes(value)[shape] for name, value in VALUES.items() for shape in SHAPES}


PIECEMEAL = "S14"
"""A value that lies across every place where something is cut: not even its ends may show."""
PIECES = (VALUES[PIECEMEAL][:12].encode(), VALUES[PIECEMEAL][-12:].encode())


class Harvest:
    """Everything that the daemon has said, to be searched."""

    def __init__(self, daemon: DaemonProcess, place: dict[str, str]) -> None:
        self.daemon = daemon
        self.place = place
        self.said: list[tuple[str, bytes]] = []
        self.uploads: list[str] = []
        """What became of uploads that hold canaries."""

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Send a request and keep the answer."""
        options: dict[str, Any] = {"headers": headers} if body is None else {"json": body, "headers": headers}
        answer = await self.daemon.call(method, path, **options)
        self.said.append((f"{method} {path[:60]}", answer.data))
        return answer

    async def run(self, command: str, **payload: Any) -> Any:
        """Run a command and return its observation."""
        return await self.act("run", {"command": command, **payload})

    async def act(self, kind: str, payload: dict[str, Any]) -> Any:
        """Run an action to its end."""
        answer = await self.call("POST", f"{S}/actions", {"kind": kind, "payload": payload}, Prefer="wait=30")
        assert answer.status == 200, answer
        return answer.json["observation"]["payload"]

    def hits(self) -> list[str]:
        """Return where which canaries stand: in the answers as they came and as JSON reads them, and in the files."""
        haystacks = list(self.said)
        for where, data in self.said:
            with contextlib.suppress(ValueError):
                haystacks.append((where, "\n".join(_strings(json.loads(data))).encode()))
        haystacks += [(path.name, data) for path, data in files_below(self.daemon.data, OUTSIDE)]
        haystacks.append(("log", self.daemon.log.read_bytes()))
        sought = {**CANARIES, **{(PIECEMEAL, f"piece {place}"): piece for place, piece in enumerate(PIECES)}}
        return [
            f"{name} {shape} in {where}"
            for (name, shape), canary in sought.items()
            for where, data in haystacks
            if canary in data
        ]


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner: list[Any] = []
    if isinstance(value, dict):
        inner = [*value.keys(), *value.values()]  # pyright: ignore[reportUnknownArgumentType]  JSON
    elif isinstance(value, list):
        inner = [*value]  # pyright: ignore[reportUnknownArgumentType]  JSON
    return [text for each in inner for text in _strings(each)]


S = "/v1/sessions/s"
ALL = b"\n".join(CANARIES.values()) + b"\n"


async def _drive(harvest: Harvest) -> None:
    """Send every canary through every path."""
    labels = {"label": VALUES["S0"], VALUES["S1"]: "key"}
    environment = {"URL": f"https://x:{VALUES['S2']}@h/", "ENCODED": base64.b64encode(VALUES["S3"].encode()).decode()}
    body = {"session": "s", "secrets": VALUES, "labels": labels, "environment": environment, **harvest.place}
    key = {"Idempotency-Key": "create"}
    assert (await harvest.call("POST", "/v1/sessions", body, **key)).status == 201
    assert (await harvest.call("POST", "/v1/sessions", body, **key)).status == 200
    text = ALL.decode()
    # Content of files: written, read back, edited, named; and the errors about them.
    await harvest.act("write", {"path": "canaries", "content": text})
    await harvest.act("write", {"path": "encoded", "content": base64.b64encode(ALL).decode(), "encoding": "base64"})
    await harvest.act("read", {"path": "canaries"})
    await harvest.act("edit", {"path": "new", "command": "create", "file_text": text})
    await harvest.act("edit", {"path": "new", "command": "str_replace", "old_str": VALUES["S4"], "new_str": "x"})
    await harvest.act("edit", {"path": "new", "command": "view"})
    await harvest.act("read", {"path": f"not-there-{quote(VALUES['S5'], safe='')}"})
    await harvest.act("write", {"path": f"dir/{VALUES['S14']}", "content": "1"})
    # Commands and what they print: inline, as a blob, bit by bit, beside the command, in the background.
    await harvest.run("cat canaries")
    await harvest.run(f"cat <<'END'\n{text}\nEND\nls dir; cd dir; mkdir {VALUES['S14']}x; cd {VALUES['S14']}x; pwd")
    await harvest.run("cd; for i in $(seq 40); do cat ~/canaries; done; env", environment={"MORE": VALUES["S6"]})
    await harvest.run("env; set")
    await harvest.run("nonsense-" + VALUES["S14"])
    await _print_behind(harvest)
    await _follow(harvest)
    await _move_files(harvest)
    await _cross_edges(harvest)
    # What was asked while it ran, what was refused, and what is asked again.
    await harvest.call(
        "PUT", f"{S}/environment", {"variables": {"LATE": VALUES["S7"]}, "secrets": {"S8": VALUES["S8"]}}
    )
    await harvest.call("PUT", f"{S}/secrets/S9", {"value": VALUES["S9"]})
    await harvest.call("GET", f"{S}/secrets")
    action = {"kind": "run", "payload": {"command": f"echo '{VALUES['S14']}'"}}
    for _ in range(2):
        await harvest.call("POST", f"{S}/actions", action, **{"Idempotency-Key": "again", "Prefer": "wait=20"})
    await harvest.call("POST", f"{S}/actions", {"kind": "message", "payload": {"content": text}})
    await harvest.call("POST", f"{S}/actions", {"kind": "run", "payload": {"command": 1, VALUES["S10"]: text}})
    await harvest.call(
        "POST", f"{S}/actions", {"kind": "run", "payload": {"command": "x", "on_state_loss": VALUES["S11"]}}
    )
    await harvest.call("POST", f"{S}/actions", {"kind": VALUES["S14"], "payload": {}})
    tool = {"name": "t", "arguments": {VALUES["S12"]: [VALUES["S13"], {"deep": text}]}}
    await harvest.call("POST", f"{S}/actions", {"kind": "call_tool_mcp", "payload": tool}, Prefer="wait=20")
    await _read_all(harvest)


async def _move_files(harvest: Harvest) -> None:
    """Move trees and files in and out, look at them, and run programs without a shell and with a terminal."""
    made = 'cd; mkdir tree && cp canaries tree/ && touch "tree/$S14" && cp canaries "tree/t-$S14"'
    assert (await harvest.run(made))["outcome"] == "ok"
    assert (await harvest.act("list", {"path": "tree", "depth": 2}))["outcome"] == "ok"
    for query, status in (("path=tree", 200), ("path=tree/canaries&form=file", 200), (f"path=no-{VALUES['S14']}", 404)):
        assert (await harvest.call("GET", f"{S}/files?{query}")).status == status
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo(f"{VALUES['S14']}/x")
        entry.size = len(ALL)
        tar.addfile(entry, io.BytesIO(ALL))
    for body, media in ((ALL, "application/octet-stream"), (archive.getvalue(), "application/x-tar")):
        refused = await harvest.daemon.call(
            "PUT", f"{S}/files?path=up-{VALUES['S14']}", data=body, headers={"Content-Type": media, "Prefer": "wait=20"}
        )
        harvest.said.append(("PUT files", refused.data))
        harvest.uploads.append(refused.json.get("code", "taken"))
    commit = 'cd tree; git init -q .; git add -A; git -c user.name=x -c user.email=x@x commit -qm "$S14"; cd ..'
    assert (await harvest.run(f'{commit}; cat canaries >> tree/canaries; mv "tree/t-$S14" "tree/u-$S14"'))[
        "outcome"
    ] == "ok"
    for command in ("status", "changes", "diff"):
        assert (await harvest.act("git", {"command": command, "path": "tree"}))["outcome"] == "ok"
    assert (await harvest.act("run", {"argv": ["cat", "canaries"]}))["outcome"] == "ok"
    assert (await harvest.act("run", {"argv": ["printf", "%s-%s", VALUES["S15"], VALUES["S18"]]}))["outcome"] == "ok"
    await harvest.act("run", {"argv": [f"no-such-{VALUES['S14']}"]})
    assert (await harvest.run("stty cols 10000; cat ~/canaries; pwd", tty=True))["outcome"] == "ok"
    assert (await harvest.run("cat ~/canaries; sleep 30", timeout_seconds=1))["outcome"] == "timeout"
    assert (await harvest.run('read -p "password $S14 " x', tty=True, timeout_seconds=3))["outcome"] == "timeout"


async def _cross_edges(harvest: Harvest) -> None:
    """Put values across the places where long texts are cut."""
    value = VALUES[PIECEMEAL]
    for offset in range(0, 60, 7):
        filled = f"{'x' * (4096 - offset)}{value}" + f"{'y' * 4000}{value}" * 20
        await harvest.act("write", {"path": "edges", "content": filled})
    assert (await harvest.act("read", {"path": "edges"}))["outcome"] == "ok"
    assert (await harvest.run("cat edges; cat edges >&2"))["outcome"] == "ok"
    long = "z" * 2020 + value + "z" * 1000
    await harvest.run(f"cd {long}")
    await harvest.act("run", {"argv": [long]})
    await harvest.act("read", {"path": long})
    await harvest.call("POST", f"{S}/actions", {"kind": "run", "payload": {"command": "true"}, "lane": VALUES["S14"]})
    # What is refused says why, and quotes what it was given.
    for name, body in (("bad", {"value": VALUES["S0"], VALUES["S1"]: 1}), ("x", {"value": [VALUES["S2"]]})):
        await harvest.call("PUT", f"{S}/secrets/{name}", body)
    await harvest.call("PUT", f"{S}/environment", {"variables": {f"A {VALUES['S14']}": "x"}})
    await harvest.call("PUT", f"{S}/environment", {"variables": {"A": VALUES["S3"]}, "secrets": {"B": 1}})
    for changed in ({"secrets": {"A B": VALUES["S4"]}}, {"runtime": VALUES["S14"], "secrets": {"A": VALUES["S14"]}}):
        await harvest.call("POST", "/v1/sessions", {"session": "other", **changed})


async def _print_behind(harvest: Harvest) -> None:
    """Have a job print while no command runs in its lane, more than is kept of it, and across each cut."""
    for offset in range(0, 60, 12):
        pad = f"head -c {4096 - offset} /dev/zero | tr '\\0' x"
        await harvest.run(
            f"(sleep 0.3; {pad}; echo -n $S14; {pad}; cat ~/canaries; {pad}; echo -n $S14; {pad}) & disown"
        )

        async def told(count: int = offset // 12 + 1) -> bool:
            events = (await harvest.daemon.get(f"{S}/events?kind=background_output&limit=1000")).json["events"]
            return len(events) >= count

        await until(told)


async def _follow(harvest: Harvest) -> None:
    """Follow a command's output live, type to it, cancel another."""
    command = 'head -c 5000 ~/canaries; sleep 1.2; while read -r line; do echo "$line"; [ $line = end ] && break; done'
    action = (await harvest.call("POST", f"{S}/actions", {"kind": "run", "payload": {"command": command}})).json[
        "action"
    ]
    for line in (*CANARIES.values(), b"end"):
        data = {"data": base64.b64encode(line + b"\n").decode(), "encoding": "base64"}
        assert (await harvest.call("POST", f"{S}/actions/{action['id']}/input", data)).status == 202
    await harvest.call("GET", f"{S}/actions/{action['id']}/output")
    slept = await harvest.call(
        "POST", f"{S}/actions", {"kind": "run", "payload": {"command": "cat ~/canaries; sleep 60"}}
    )
    id = slept.json["action"]["id"]
    await harvest.call("POST", f"{S}/actions/{id}/cancel", {"reason": ALL.decode()[:900]})

    async def over() -> bool:
        return bool((await harvest.daemon.get(f"{S}/actions/{id}")).json["status"] == "cancelled")

    await until(over)


async def _read_all(harvest: Harvest) -> None:
    """Read everything back, as pages, as a stream, and each blob and output."""
    events = (await harvest.call("GET", f"{S}/events?limit=1000")).json["events"]
    await harvest.call("GET", S)
    await harvest.call("GET", "/v1/sessions")
    for event in events:
        if event["category"] == "action":
            await harvest.call("GET", f"{S}/actions/{event['id']}")
            await harvest.call("GET", f"{S}/actions/{event['id']}/output")
        for digest in event["payload"].get("blobs", {}).values():
            await harvest.call("GET", f"{S}/blobs/{digest}")
    async with harvest.daemon.client.get(f"http://daemon{S}/events", headers={"Accept": "text/event-stream"}) as stream:
        said = b""
        async with asyncio.timeout(20):
            while b'"position":%d,' % events[-1]["position"] not in said:
                said += await stream.content.readany()
        harvest.said.append(("SSE", said))


@pytest.fixture
async def harvest(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Harvest]:
    """A daemon with every debug line on, redacting or not, and where its sessions run."""
    program, place = request.param
    if "image" in place:
        request.getfixturevalue("engine")
    daemon = DaemonProcess(tmp_path, "log.level=debug", program=program)
    try:
        await daemon.start()
        yield Harvest(daemon, place)
    finally:
        await daemon.aclose()


@pytest.mark.parametrize("harvest", [(REDACTED, {}), (REDACTED, CONTAINER)], ids=["process", "docker"], indirect=True)
async def test_no_canary_is_found(harvest: Harvest) -> None:
    """Twenty values in eighteen shapes through every path: 0 hits, also after a kill -9 and after the session's end."""
    await _drive(harvest)
    assert harvest.hits() == []
    assert harvest.uploads == ["transfer-failed"] * 2
    await harvest.daemon.kill()
    await harvest.daemon.start()
    await harvest.run("cat ~/canaries")
    await harvest.call("DELETE", S)
    await _read_all(harvest)
    await harvest.daemon.stop()
    assert harvest.hits() == []


@pytest.mark.parametrize("harvest", [(UNREDACTED, {})], ids=["process"], indirect=True)
async def test_without_redaction_every_canary_is_found(harvest: Harvest) -> None:
    """The negative control: the same drive without redaction finds every value in every shape, in every place."""
    await _drive(harvest)
    hits = harvest.hits()
    assert {hit.split(" in ")[0] for hit in hits} >= {f"{name} {shape}" for name, shape in CANARIES}
    places = {hit.split(" in ")[1] for hit in hits}
    assert any(place.startswith("log.sqlite") for place in places)
    assert {"SSE", f"GET {S}", f"GET {S}/events?limit=1000", f"POST {S}/actions"} <= places
