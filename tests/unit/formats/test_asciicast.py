"""Casts keep to the format of asciinema, show what was printed when it was printed, and break no character."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.formats.logs import Chapter, exported

from chronicled.events.errors import InvalidRequest
from chronicled.events.kinds.actions import Edit, Message, Run, RunIpython
from chronicled.events.kinds.lifecycle import InputSent
from chronicled.events.kinds.observations import EditObservation, RunIpythonObservation, RunObservation
from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.formats.asciicast import asciicast
from chronicled.migrations.formats.frames import carriage

CODES = {2: "oimr", 3: "oimrx"}


def check(text: bytes, version: int) -> list[list[Any]]:
    """Assert what the format says of a cast; return its frames, each with the time since the start."""
    lines = [json.loads(line) for line in filter(None, text.split(b"\n"))]
    header, frames = lines[0], lines[1:]
    assert header["version"] == version
    size = (header["term"]["cols"], header["term"]["rows"]) if version == 3 else (header["width"], header["height"])
    assert all(type(each) is int and each > 0 for each in size)
    assert type(header["timestamp"]) is int
    assert isinstance(header.get("title", ""), str)
    now = 0.0
    found: list[list[Any]] = []
    for frame in frames:
        time, code, data = frame
        assert isinstance(time, int | float)
        assert not isinstance(time, bool)
        assert code in CODES[version]
        assert isinstance(data, str)
        assert time >= (0 if version == 3 else now), "time does not fall"
        now = now + time if version == 3 else time
        found.append([now, code, data])
    return found


def ok(**fields: Any) -> RunObservation:
    """Return the end of a command that went well."""
    defaults: dict[str, Any] = {"outcome": Outcome.OK, "effects": Effects.COMPLETE, "exit_code": 0}
    defaults["duration_seconds"] = 0.5
    return RunObservation(**{**defaults, **fields})


def output_of(frames: list[list[Any]]) -> str:
    """Return all that a cast shows."""
    return "".join(data for _, code, data in frames if code == "o")


@pytest.mark.parametrize("version", [2, 3])
async def test_output_comes_at_its_times(tmp_path: Path, version: int) -> None:
    """Each piece of an output has the time that the index gives it, in both versions, and the prompt stands before."""
    chapter = Chapter()
    run = chapter.action("run", Run(command="count"))
    chapter.end("run", run, ok(output="one\ntwo\nthree\n", output_index=[(0, 10), (4, 210), (8, 410)]))
    await chapter.write(tmp_path)
    text, tally = exported(tmp_path, asciicast(version))
    frames = check(text, version)
    shown = [(round(time, 3), data) for time, code, data in frames if code == "o"][1:]
    assert shown == [(0.01, "one\r\n"), (0.21, "two\r\n"), (0.41, "three\r\n")]
    assert frames[0][1:] == ["m", "count"]
    assert "$ " in frames[1][2]
    assert tally.left_out == {"session_created": 1}


async def test_binary_wide_and_escaped_output_in_a_blob(tmp_path: Path) -> None:
    """Bytes that are no text, wide characters and escape codes pass; none is cut in two by a time or a chunk."""
    printed = ("é漢字😀\x1b[31mred\x1b[0m\x07\r\n" * 40_000).encode() + b"\xff\xfe\x00end"
    chapter = Chapter()
    run = chapter.action("run", Run(command="cat file"))
    digest = chapter.blob(printed)
    index = [(offset, offset // 1000) for offset in range(0, len(printed), 9973)]
    more = {"output_blob": True, "output_digest": digest, "output_index": index, "truncated": True, "output": "head"}
    chapter.end("run", run, ok(**more, output_bytes=len(printed), duration_seconds=5.0), blobs=(digest,))
    await chapter.write(tmp_path)
    text, _ = exported(tmp_path, asciicast(3))
    frames = check(text, 3)
    assert printed.decode(errors="replace") in output_of(frames)
    assert max(len(line) for line in text.split(b"\n")) < 150_000


async def test_a_blob_that_is_gone_shows_the_excerpt(tmp_path: Path) -> None:
    """What stands in the observation is shown, and the miss is counted."""
    chapter = Chapter()
    run = chapter.action("run", Run(command="x"))
    chapter.end("run", run, ok(output="excerpt\n", output_blob=True, output_digest="ab" * 32, truncated=True))
    await chapter.write(tmp_path)
    text, tally = exported(tmp_path, asciicast(2))
    assert "excerpt" in output_of(check(text, 2))
    assert tally.missing_blobs == 1


async def test_lanes_are_side_by_side_or_one_by_one(tmp_path: Path) -> None:
    """All lanes are merged by time, each change marked; one lane alone has only its own."""
    chapter = Chapter()
    first = chapter.action("run", Run(command="left"), lane="left")
    second = chapter.action("run", Run(command="right"), lane="right")
    chapter.end("run", second, ok(output="R\n", output_index=[(0, 0)]), lane="right")
    chapter.end("run", first, ok(output="L\n", output_index=[(0, 0)], duration_seconds=3.0), lane="left")
    await chapter.write(tmp_path)
    frames = check(exported(tmp_path, asciicast(3))[0], 3)
    marks = [data for _, code, data in frames if code == "m" and data.startswith("lane ")]
    assert marks == ["lane left", "lane right"]
    alone = output_of(check(exported(tmp_path, asciicast(3, lane="right"))[0], 3))
    assert "R\r\n" in alone
    with pytest.raises(InvalidRequest, match="it has left, main, right"):
        exported(tmp_path, asciicast(3, lane="none"))
    assert "L\r\n" not in alone


async def test_what_has_not_ended_is_said_not_to_have(tmp_path: Path) -> None:
    """A running action shows its prompt and a marker; what waits behind it shows a marker; both are counted."""
    chapter = Chapter()
    chapter.action("run", Run(command="sleep 100"))
    chapter.action("run", Run(command="echo later"))
    await chapter.write(tmp_path)
    text, tally = exported(tmp_path, asciicast(3))
    frames = check(text, 3)
    assert tally.running == 2
    assert [data for _, code, data in frames if code == "m" and "not ended" in data] == [
        "run: sleep 100 [not ended when this was exported]",
        "run: echo later [not ended when this was exported]",
    ]
    assert "echo later" not in output_of(frames)


async def test_failures_messages_inputs_and_cells(tmp_path: Path) -> None:
    """A failure is told behind its output, a message is a marker, what was typed is input, a cell shows its result."""
    chapter = Chapter()
    chapter.action("message", Message(content="please\nrun it", role="user"))
    run = chapter.action("run", Run(command="read x\n\x1b[2Jfalse"))
    chapter.add("lifecycle", "input_sent", InputSent(data="yes\n"), cause=run, source="client")
    chapter.end("run", run, ok(outcome=Outcome.FAILED, exit_code=1, output="no newline"))
    queued = chapter.action("run", Run(command="never"))
    refused = RunObservation(outcome=Outcome.REJECTED, effects=Effects.NONE, reason="state_lost")
    chapter.end("run", queued, refused)
    cell = chapter.action("run_ipython", RunIpython(code="1+1"))
    chapter.end("run_ipython", cell, RunIpythonObservation(outcome=Outcome.OK, effects=Effects.COMPLETE, result="2"))
    edit = chapter.action("edit", Edit(path="a.txt", command="view"))
    chapter.end("edit", edit, EditObservation(outcome=Outcome.OK, effects=Effects.COMPLETE, path="a.txt"))
    await chapter.write(tmp_path)
    frames = check(exported(tmp_path, asciicast(2))[0], 2)
    shown = output_of(frames)
    assert "no newline\x1b[0m\r\n\x1b[2m[failed, exit code 1]" in shown
    assert "\x1b[2J" not in shown, "a command's own escape codes are shown, not obeyed"
    assert "never" not in shown
    assert "2\x1b[0m\r\n" in shown
    marks = [data for _, code, data in frames if code == "m"]
    assert marks == [
        "message: user: please run it",
        "read x \ufffd[2Jfalse",
        "run: never [rejected]",
        "1+1",
        "edit: a.txt",
    ]
    assert [data for _, code, data in frames if code == "i"] == ["yes\n"]


async def test_a_session_without_anything_is_a_header(tmp_path: Path) -> None:
    """A cast of nothing is a cast."""
    await Chapter().write(tmp_path)
    assert check(exported(tmp_path, asciicast(3, idle_seconds=2.5))[0], 3) == []


@given(st.text(alphabet="ab\r\n", max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_line_ends_do_not_depend_on_the_cuts(text: str, cuts: list[int]) -> None:
    """Wherever an output is cut into pieces, each bare LF gets one CR, and a CR LF stays one."""
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    shown, last = "", "\n"
    for begin, end in pairwise(edges):
        if begin < end:
            shown += carriage(text[begin:end], last)
            last = text[end - 1]
    assert shown == text.replace("\r\n", "\n").replace("\n", "\r\n")
