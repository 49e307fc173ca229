"""What `read` does: a file, a range of its lines or of its bytes, as text or as base64."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any, Final

from chronicled.events.kinds.actions import Read
from chronicled.runtimes.action_server.files.charset import Charset, detect, marked, named
from chronicled.runtimes.action_server.files.failure import FileFailure
from chronicled.runtimes.action_server.files.lines import find_lines
from chronicled.runtimes.action_server.files.regular import chunks, open_regular
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["READ_BYTES_MAX", "read"]

READ_BYTES_MAX: Final = 1 << 20
"""Most that a read returns; `truncated` says that there was more. As base64 it still fits into a frame."""
_HEAD_BYTES: Final = 4


def read(arguments: Read, work: Work) -> dict[str, Any]:
    """Return the observation's fields.

    Raises:
        FileFailure, OSError: it cannot be read, or its bytes are not of the charset that was named.
        BadArguments: there is no such charset.
    """
    path = work.resolve(arguments.path)
    head = b""
    if arguments.charset is not None:
        named(arguments.charset, head)  # a wrong name is told before anything is opened
    descriptor, status = open_regular(path)
    try:
        head = os.pread(descriptor, _HEAD_BYTES, 0)
        charset = marked(head) if arguments.charset is None else named(arguments.charset, head)
        if arguments.byte_offset is not None or arguments.byte_count is not None:
            fields = _bytes(descriptor, arguments, charset if arguments.charset is not None else None)
        else:
            fields = _text(work.until_stopped(chunks(descriptor)), arguments, charset)
    finally:
        os.close(descriptor)
    return {"path": path, "file_bytes": status.st_size} | fields


def _bytes(descriptor: int, arguments: Read, charset: Charset | None) -> dict[str, Any]:
    offset = arguments.byte_offset or 0
    count = READ_BYTES_MAX + 1 if arguments.byte_count is None else arguments.byte_count
    data = b"".join(chunks(descriptor, offset, min(count, READ_BYTES_MAX + 1)))
    truncated = len(data) > READ_BYTES_MAX
    data = data[:READ_BYTES_MAX]
    fields: dict[str, Any] = {"byte_offset": offset, "truncated": truncated}
    if charset is None:
        return fields | _binary(data)
    # A character that an edge of the range cuts shows as U+FFFD.
    text = data.decode(charset.codec, errors="replace")
    shown = _fitting(text)
    return fields | {
        "content": shown,
        "encoding": "utf-8",
        "charset": charset.name,
        "truncated": truncated or len(shown) < len(text),
    }


def _text(pieces: Iterator[bytes], arguments: Read, charset: Charset | None) -> dict[str, Any]:
    first, last = arguments.line_first or 1, arguments.line_last
    ranged = arguments.line_first is not None or last is not None
    if ranged:
        found = find_lines(pieces, charset or _NARROW, first, last, READ_BYTES_MAX)
        data, offset, count, cut = found
    else:
        data, offset = _first_bytes(pieces), 0
        cut = len(data) > READ_BYTES_MAX
        data, count = data[:READ_BYTES_MAX], None
    fields: dict[str, Any] = {"byte_offset": offset, "truncated": cut}
    if charset is None:
        charset = detect(data, whole=not cut)
        if charset is None:
            return fields | _binary(data)
    if charset.mark and offset == 0:
        data, fields["byte_offset"] = data[len(charset.mark) :], len(charset.mark)
    try:
        text = charset.decode(data, whole=not cut)
    except UnicodeDecodeError as problem:
        if arguments.charset is None:
            return {"byte_offset": offset, "truncated": cut} | _binary(charset.mark * (offset == 0) + data)
        where = fields["byte_offset"] + problem.start
        raise FileFailure(
            "not_decodable", f"byte {where} of the file is not {charset.name}: {problem.reason}"
        ) from None
    shown = _fitting(text)
    if not ranged and not cut:
        count = text.count("\n") + (text != "" and not text.endswith("\n"))
    fields |= {"content": shown, "encoding": "utf-8", "charset": charset.name, "line_count": count}
    return fields | {"truncated": cut or len(shown) < len(text)}


_NARROW: Final = Charset("", "latin-1")
"""How lines are found before the charset is told: UTF-8 and the fallback have the same newline."""


def _first_bytes(pieces: Iterator[bytes]) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece[: READ_BYTES_MAX + 1 - len(data)]
        if len(data) > READ_BYTES_MAX:
            break
    return bytes(data)


def _binary(data: bytes) -> dict[str, Any]:
    return {"content": base64.b64encode(data).decode(), "encoding": "base64", "charset": None, "line_count": None}


def _fitting(text: str) -> str:
    """Return as much of the text as fits when it is UTF-8: its characters may be larger than they are in the file."""
    if len(text) * 4 <= READ_BYTES_MAX:
        return text
    data = text.encode(errors="replace")
    return text if len(data) <= READ_BYTES_MAX else data[:READ_BYTES_MAX].decode(errors="ignore")
