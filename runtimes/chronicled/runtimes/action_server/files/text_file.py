"""A file as text that can be changed and written back with every other byte as it was."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from chronicled.runtimes.action_server.files.charset import Charset, detect, marked
from chronicled.runtimes.action_server.files.failure import FileFailure
from chronicled.runtimes.action_server.files.regular import chunks, open_regular

__all__ = ["EDIT_BYTES_MAX", "TextFile", "load", "same_file"]

EDIT_BYTES_MAX: Final = 10 << 20
"""A larger file is not edited; `run` has the tools for it."""


class TextFile(NamedTuple):
    """What a file held when it was read."""

    text: str
    """Without the byte order mark; line endings as they are."""
    charset: Charset
    status: os.stat_result

    def encode(self, text: str) -> bytes:
        """Return the whole file's bytes for another text.

        Raises:
            FileFailure: the file's charset has no such character.
        """
        try:
            return self.charset.mark + self.charset.encode(text)
        except UnicodeEncodeError as problem:
            character = text[problem.start]
            raise FileFailure(
                "not_encodable", f"the file is {self.charset.name}, which has no character {character!a}"
            ) from None

    def fitted(self, text: str) -> str:
        r"""Return a text with the file's line endings: where all of them are CR LF, each bare LF becomes one too."""
        crlf = self.text.count("\r\n")
        if not crlf or crlf != self.text.count("\n") or "\r\n" in text:
            return text
        return text.replace("\n", "\r\n")


def load(path: str) -> TextFile:
    """Read a file as text.

    Raises:
        FileFailure: it is no regular file, no text, or too large to be edited.
        OSError: it cannot be read.
    """
    descriptor, status = open_regular(path)
    try:
        data = b"".join(chunks(descriptor, 0, EDIT_BYTES_MAX + 1))
    finally:
        os.close(descriptor)
    if len(data) > EDIT_BYTES_MAX:
        raise FileFailure("too_large", f"{path} has more than {EDIT_BYTES_MAX} bytes, too many to be edited")
    charset = marked(data) or detect(data, whole=True)
    if charset is None:
        raise FileFailure("binary", f"{path} is not text")
    try:
        return TextFile(charset.decode(data[len(charset.mark) :], whole=True), charset, status)
    except UnicodeDecodeError as problem:
        at = problem.start + len(charset.mark)
        raise FileFailure("not_decodable", f"{path} begins as {charset.name}, but its byte {at} is not") from None


def same_file(path: str, status: os.stat_result) -> bool:
    """Tell whether the file is still as it was when that status was taken."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return False
    return _key(now) == _key(status)


def _key(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
