"""JSON Lines can be verified by whoever has nothing but the file: leaves, order, blobs."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.unit.formats.logs import Chapter, exported

from chronicled.events.kinds.actions import Message, Run
from chronicled.events.kinds.observations import RunObservation
from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.formats import json_lines

CATEGORIES = {"action": 1, "observation": 2, "lifecycle": 3}


def verify(text: str) -> int:
    """Verify an export with nothing of ours, from the layout that the leaf's module describes; return its events."""
    previous = b""
    count = 0
    blobs: dict[str, Any] = {}
    for line in filter(None, text.split("\n")):
        found = json.loads(line)
        if found["type"] == "begin":
            previous = bytes.fromhex(found["previous"])
        elif found["type"] == "blob":
            digest = blobs.setdefault(found["blob"], hashlib.sha256())
            digest.update(base64.b64decode(found.get("data", "")))
            assert not found.get("last") or digest.hexdigest() == found["blob"], "a blob is not what it is called"
        elif found["type"] == "event":
            count += 1
            leaf = leaf_of(line, found, previous)
            assert leaf.hex() == found["event"]["leaf"], f"position {found['event']['position']} does not verify"
            previous = leaf
        else:
            assert found["leaf"] == previous.hex()
            assert found["events"] == count
    return count


def leaf_of(line: str, found: dict[str, Any], previous: bytes) -> bytes:
    """Return the leaf that follows from a line and the one before."""
    event = found["event"]
    if "salt" in found:
        # The stored bytes stand in the line as they are.
        begin = line.index('"payload":') + len('"payload":')
        end = line.rindex(',"leaf":"')
        payload = hashlib.sha256(bytes.fromhex(found["salt"]) + line[begin:end].encode()).digest()
    else:
        payload = bytes.fromhex(found["payload_digest"])
    cause, request, trace = event.get("cause"), found.get("request"), event.get("traceparent")
    flags = (cause is not None) | found["terminal"] << 1 | (request is not None) << 2 | (trace is not None) << 3
    seconds, micros = event["time"][:19], int(event["time"][20:26])
    fixed = struct.pack(
        ">BQQQIBB16s16s32s32s",
        1,
        event["position"],
        event["sequence"],
        since_1970(seconds) * 1_000_000 + micros,
        event["version"],
        CATEGORIES[event["category"]],
        flags,
        bytes.fromhex(event["id"].replace("-", "")),
        bytes.fromhex(cause.replace("-", "")) if cause else bytes(16),
        bytes.fromhex(request) if request else bytes(32),
        previous,
    )
    names = [event[name] for name in ("tenant", "session", "kind", "lane", "source", "actor")]
    texts = b"".join(struct.pack(">H", len(name.encode())) + name.encode() for name in (*names, trace or ""))
    return hashlib.sha256(b"\x00" + fixed + texts + payload).digest()


def since_1970(text: str) -> int:
    """Return the seconds of an RFC 3339 time without its fraction."""
    import calendar
    import time

    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Write a session with an output in a blob."""
    chapter = Chapter()
    run = chapter.action("run", Run(command="seq 1 100000"), lane="other", request=bytes(range(32)))
    output = b"\xff\xfe" + b"x" * 500_000
    digest = chapter.blob(output)
    ended = RunObservation(
        outcome=Outcome.OK,
        effects=Effects.COMPLETE,
        exit_code=0,
        output="head",
        output_bytes=len(output),
        output_digest=digest,
        output_blob=True,
        truncated=True,
    )
    chapter.end("run", run, ended, lane="other", blobs=(digest,))
    chapter.action(
        "message", Message(content="ünïcode \u2028 \U0001f600"), traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    )
    chapter.raw("observation", "acme.unknown", 3, b'{"any":[1,2]}')
    await chapter.write(tmp_path)
    return tmp_path


def test_every_leaf_follows_from_its_line(data: Path) -> None:
    """A stranger recomputes each leaf from the file alone, events that nobody understands included."""
    text, tally = exported(data, json_lines.write)
    assert verify(text.decode()) == tally.events == tally.written == 5
    assert tally.opaque == 1


def test_an_export_from_the_middle_verifies_too(data: Path) -> None:
    """The first line names the leaf before, so that a part of a session can be checked, and parts can be joined."""
    text, tally = exported(data, json_lines.write, after=3)
    assert verify(text.decode()) == tally.events == 2


def test_blobs_come_along_and_are_what_they_are_called(data: Path) -> None:
    """With blobs, an output of any bytes stands before the event that names it, in lines of bounded size."""
    text, _ = exported(data, json_lines.write_with_blobs)
    assert verify(text.decode()) == 5
    kinds = [json.loads(line)["type"] for line in filter(None, text.decode().split("\n"))]
    assert kinds.index("blob") == 3
    assert max(map(len, text.splitlines())) < 300_000


@pytest.mark.parametrize(
    "change", [("seq 1 100000", "seq 1 100001"), ('"sequence":2', '"sequence":3'), ("client", "nobody")]
)
def test_a_changed_byte_is_seen(data: Path, change: tuple[str, str]) -> None:
    """Negative control: a payload, a place or a source that was changed in the file does not verify."""
    text = exported(data, json_lines.write)[0].decode()
    assert change[0] in text
    with pytest.raises(AssertionError, match="does not verify"):
        verify(text.replace(change[0], change[1], 1))


def test_a_blob_that_is_gone_is_said_to_be(data: Path) -> None:
    """A missing blob is a line of its own and counted; the events are all there."""
    (path,) = (each for each in (data / "blobs").rglob("*") if each.is_file() and len(each.name) == 64)
    path.unlink()
    text, tally = exported(data, json_lines.write_with_blobs)
    assert tally.missing_blobs == 1
    assert '"missing":true' in text.decode()
    assert tally.events == 5
