"""Results of an evaluation, of the resolver, or feedback: one instance on each line, and its history of events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events.codec import encode_json
from chronicled.migrations.openhands.instance import INSTANCE_KEY
from chronicled.storage.imports.json_array import Item
from chronicled.storage.imports.source import Record
from chronicled.storage.imports.trajectory import Keys, keyed, open_file

__all__ = ["LINE_BYTES_MAX", "OutputLine", "is_output", "output_lines"]

LINE_BYTES_MAX: Final = 256 << 20
"""Longest line that is read."""
HEAD_BYTES: Final = 1 << 20
HISTORIES: Final = ("history", "trajectory")
"""Where an instance has its events; the second one in collections of what people gave as feedback."""
TELLING: Final = (b'"history"', b'"trajectory"', b'"instance_id"')
LABELS: Final = ("instance_id", "issue_type", "base_commit")
LABEL_CHARACTERS_MAX: Final = 128


class _Issue(msgspec.Struct):
    owner: str
    repo: str
    number: int


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raws: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text: Final = msgspec.json.Decoder(str).decode
_issue: Final = msgspec.json.Decoder(_Issue).decode


class OutputLine:
    """A `Source`: the history of one instance; the first record is what stands beside it (results, settings, patch)."""

    def __init__(
        self, path: Path, offset: int, number: int, name: str, labels: dict[str, str], keys: Keys = keyed
    ) -> None:
        self.name = name
        self.place = f"{path}:{number + 1}"
        self.labels = labels
        self._path = path
        self._offset = offset
        self._keys = keys

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from number `start` on.

        Raises:
            ImportRefused: the file cannot be opened.
        """
        return islice(self._records(), start, None)

    def _records(self) -> Iterator[Record]:
        with open_file(self._path) as stream:
            stream.seek(self._offset)
            line = stream.readline(LINE_BYTES_MAX)
        place = self.place.rpartition("/")[2]
        members = _split(line)
        if members is None:
            yield Record(INSTANCE_KEY, line.rstrip(b"\r\n"), place, problem="the line is no JSON object: it is torn")
            return
        history = next((members.pop(name) for name in HISTORIES if name in members), None)
        yield Record(INSTANCE_KEY, encode_json(members), place)
        del line, members
        if history is not None:
            try:
                raws = _raws(history)
            except (msgspec.DecodeError, UnicodeDecodeError):
                if bytes(history).strip() != b"null":
                    yield Record("@history", bytes(history), place, problem="the history is no array")
                return
            yield from self._keys((Item(bytes(raw)) for raw in raws), place)


def is_output(path: Path) -> bool:
    """Tell whether a file's first line is that of an evaluation or of the resolver; one `.json` has no lines.

    Raises:
        ImportRefused: the file cannot be opened.
    """
    with open_file(path) as stream:
        head = stream.read(HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n\x00")
    line = head.split(b"\n", 1)[0]
    return path.suffix != ".json" and head[:1] == b"{" and any(name in line for name in TELLING)


def output_lines(path: Path, keys: Keys = keyed) -> Iterator[OutputLine]:
    """Yield an `OutputLine` for each line of the file; names are told apart where an instance comes twice.

    Raises:
        ImportRefused: the file cannot be opened.
    """
    names: dict[str, int] = {}
    with open_file(path) as stream:
        offset = number = 0
        while line := stream.readline(LINE_BYTES_MAX):
            if line.strip():
                members = _split(line) or {}
                name = _name(members) or f"{path.stem}-{number + 1}"
                names[name] = count = names.get(name, 0) + 1
                labels: dict[str, str] = {
                    label: text
                    for label in LABELS
                    if label in members and (text := _plain(members[label])) and len(text) <= LABEL_CHARACTERS_MAX
                }
                yield OutputLine(path, offset, number, name if count == 1 else f"{name}.{count}", labels, keys)
            offset += len(line)
            number += 1


def _split(line: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _members(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _name(members: dict[str, msgspec.Raw]) -> str:
    name = _plain(members["instance_id"]) if "instance_id" in members else ""
    if not name and "issue" in members:
        try:
            issue = _issue(members["issue"])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        name = f"{issue.owner}-{issue.repo}-{issue.number}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:100].strip(".")


def _plain(raw: msgspec.Raw) -> str:
    try:
        return _text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
