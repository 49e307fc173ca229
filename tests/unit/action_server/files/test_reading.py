"""Reading: ranges of lines and bytes, charsets told and named, and whatever else may stand where a file should be."""

from __future__ import annotations

import base64
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.action_server.files.charset import Charset
from chronicled.runtimes.action_server.files.lines import find_lines
from chronicled.runtimes.action_server.files.reading import READ_BYTES_MAX


async def read(directory: Path, data: bytes, **payload: Any) -> dict[str, Any]:
    """Write a file, read it, and return what the observation tells."""
    (directory / "file").write_bytes(data)
    ended = await Actor(directory).act("read", path="file", **payload)
    assert ended.outcome is Outcome.OK, ended
    return ended.fields


@pytest.mark.parametrize(
    ("data", "content", "charset", "offset"),
    [
        (b"plain\n", "plain\n", "utf-8", 0),
        ("ünï\n".encode(), "ünï\n", "utf-8", 0),
        (b"\xef\xbb\xbfmarked", "marked", "utf-8-sig", 3),
        ("ünï\n".encode("utf-16"), "ünï\n", "utf-16-le", 2),
        (b"\xfe\xff" + "ünï\n".encode("utf-16-be"), "ünï\n", "utf-16-be", 2),
        ("a\U0001f600b\n".encode("utf-32"), "a\U0001f600b\n", "utf-32-le", 4),
        ("süß\n".encode("latin-1"), "süß\n", "latin-1", 0),
        (b"", "", "utf-8", 0),
    ],
)
async def test_a_charset_is_told(tmp_path: Path, data: bytes, content: str, charset: str, offset: int) -> None:
    """Byte order marks, UTF-8 and the fallback: the observation says which it was and where the content begins."""
    fields = await read(tmp_path, data)
    assert (fields["content"], fields["charset"], fields["byte_offset"]) == (content, charset, offset)
    assert (fields["encoding"], fields["file_bytes"], fields["truncated"]) == ("utf-8", len(data), False)
    assert fields["line_count"] == len(content.splitlines())


@pytest.mark.parametrize(
    "data", [b"\0", b"\x7fELF\x01\xff", "x".encode("utf-16-le") * 9, b"\xff\xfe\x00", b"caf\xe9\x01"]
)
async def test_what_is_no_text_is_base64(tmp_path: Path, data: bytes) -> None:
    """Bytes that no charset explains come as they are; nothing is lost and nothing is guessed."""
    fields = await read(tmp_path, data)
    assert (fields["encoding"], fields["charset"], fields["line_count"]) == ("base64", None, None)
    assert base64.b64decode(fields["content"]) == data


async def test_a_named_charset_is_used_or_refused(tmp_path: Path) -> None:
    """A named charset decodes, also without a mark; bytes that are not of it fail by place; a wrong name never runs."""
    fields = await read(tmp_path, "ünï\nx\n".encode("utf-16-le"), charset="UTF-16", line_first=2)
    assert (fields["content"], fields["charset"], fields["byte_offset"]) == ("x\n", "utf-16-le", 8)
    assert (await read(tmp_path, "日本\n二\n".encode("shift_jis"), charset="shift_jis", line_last=1))[
        "content"
    ] == "日本\n"
    assert (await read(tmp_path, "ab%cd".encode("cp037"), charset="cp037"))["content"] == "ab%cd"
    (tmp_path / "file").write_bytes(b"ok\n\xff\n")
    ended = await Actor(tmp_path).act("read", path="file", charset="utf-8")
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "not_decodable")
    assert "byte 3 " in (ended.message or "")
    for name in ("none", "rot13", "base64", "idna", "unicode_escape", "zip", "a\0b"):
        ended = await Actor(tmp_path).act("read", path="file", charset=name)
        assert (ended.outcome, ended.effects, ended.reason) == (Outcome.ERROR, Effects.NONE, "bad_arguments"), name


async def test_a_range_of_bytes_is_exact(tmp_path: Path) -> None:
    """Bytes from an offset come as base64, or as text where a charset is named, with what an edge cuts marked."""
    data = bytes(range(256)) * 20
    fields = await read(tmp_path, data, byte_offset=100, byte_count=1000)
    assert (base64.b64decode(fields["content"]), fields["byte_offset"]) == (data[100:1100], 100)
    assert base64.b64decode((await read(tmp_path, data, byte_offset=5000))["content"]) == data[5000:]
    assert (await read(tmp_path, data, byte_offset=9999))["content"] == ""
    fields = await read(tmp_path, "aüb".encode(), byte_offset=0, byte_count=2, charset="utf-8")
    assert (fields["content"], fields["charset"]) == ("a\ufffd", "utf-8")
    fields = await read(tmp_path, bytes(READ_BYTES_MAX + 1), byte_offset=0)
    assert (len(base64.b64decode(fields["content"])), fields["truncated"]) == (READ_BYTES_MAX, True)


async def test_text_that_grows_is_cut_to_what_fits(tmp_path: Path) -> None:
    """Text whose UTF-8 is larger than its bytes is cut at a character, and says so: it must fit in a frame."""
    fields = await read(tmp_path, "ü".encode("latin-1") * READ_BYTES_MAX)
    assert (len(fields["content"].encode()), fields["truncated"], fields["charset"]) == (
        READ_BYTES_MAX,
        True,
        "latin-1",
    )


async def test_a_line_without_an_end_and_a_line_far_out(tmp_path: Path) -> None:
    """A line of many megabytes is cut, and one far behind it is found, in little time and memory."""
    (tmp_path / "file").write_bytes(b"x" * (64 << 20) + b"\nlast\n")
    fields = (await Actor(tmp_path).act("read", path="file", line_first=1, line_last=1)).fields
    assert (len(fields["content"]), fields["truncated"], fields["line_count"]) == (READ_BYTES_MAX, True, 2)
    fields = (await Actor(tmp_path).act("read", path="file", line_first=2)).fields
    assert (fields["content"], fields["byte_offset"], fields["truncated"]) == ("last\n", (64 << 20) + 1, False)


async def test_what_is_no_regular_file_never_blocks(tmp_path: Path) -> None:
    """Pipes, sockets, devices and folders are refused at once, through links too; endless system files are cut."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    begun = time.monotonic()
    for path, reason in (
        ("pipe", "not_regular"),
        ("link", "not_regular"),
        ("socket", "not_regular"),
        ("/dev/zero", "not_regular"),
        ("/dev/tty", "not_regular"),
        (".", "is_a_directory"),
        ("none", "not_found"),
        ("pipe/x", "not_a_directory"),
    ):
        ended = await Actor(tmp_path).act("read", path=path)
        assert (ended.outcome, ended.reason, ended.effects) == (Outcome.FAILED, reason, Effects.COMPLETE), path
    server.close()
    assert (await Actor(tmp_path).act("read", path="/proc/self/status")).fields["content"].startswith("Name:")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert (await Actor(tmp_path).act("read", path="loop")).reason == "link_loop"
    # What waits for a pipe's other end, or reads a device to its end, does so for ever.
    assert time.monotonic() - begun < 30.0


def lines_of(text: str) -> list[str]:
    """Return the lines, each with its end, as the executor counts them."""
    parts = [line + "\n" for line in text.split("\n")]
    parts[-1] = parts[-1].removesuffix("\n")
    return parts if parts[-1] else parts[:-1]


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(st.sampled_from("ab\nü\u0a0a\u0d0a\U0001f600"), max_size=60),
    first=st.integers(1, 12),
    count=st.one_of(st.none(), st.integers(0, 12)),
    size=st.integers(1, 9),
    charset=st.sampled_from(
        [
            Charset("utf-8", "utf-8"),
            Charset("utf-16-le", "utf-16-le", b"", b"\n\0", 2),
            Charset("utf-16-be", "utf-16-be", b"", b"\0\n", 2),
            Charset("utf-32-le", "utf-32-le", b"", b"\n\0\0\0", 4),
        ]
    ),
)
def test_any_range_of_lines_is_found(text: str, first: int, count: int | None, size: int, charset: Charset) -> None:
    """In pieces of any size and in wide charsets, the range is that of the text split at its newlines."""
    data = text.encode(charset.codec)
    step = size * charset.width
    pieces = (data[start : start + step] for start in range(0, len(data), step))
    last = None if count is None else first + count - 1
    lines = lines_of(text)
    found = find_lines(pieces, charset, first, last if last is None or last >= 1 else None, 1 << 20)
    wanted = lines[first - 1 : last if last is None or last >= 1 else None]
    assert found.data.decode(charset.codec) == "".join(wanted)
    assert (found.line_count, found.cut) == (len(lines), False)
    if wanted:
        assert found.offset == len("".join(lines[: first - 1]).encode(charset.codec))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80), limit=st.integers(1, 30), first=st.integers(1, 5))
def test_no_more_is_kept_than_the_limit(data: bytes, limit: int, first: int) -> None:
    """A range over the limit is cut there and says so; one within it is whole."""
    lines = data.split(b"\n")
    wanted = b"\n".join(lines[first - 1 :])
    pieces = (data[start : start + 7] for start in range(0, len(data), 7))
    found = find_lines(pieces, Charset("", "latin-1"), first, None, limit)
    assert (found.data, found.cut) == (wanted[:limit], len(wanted) > limit)
