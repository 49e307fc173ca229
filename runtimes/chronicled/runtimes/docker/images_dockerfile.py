"""What a Dockerfile has the engine itself bring: the engine fetches that, whatever network the steps have.

It is read as the engine's classic builder reads it. What cannot be told for sure, such as a flag in quotes, is refused:
what is let through here is what the engine will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from chronicled.events.errors import ImageBuildFailed

__all__ = ["Brought", "read_dockerfile", "read_triggers"]

SCRATCH: Final = "scratch"
_UNTOLD: Final = "'"
"""Value of an argument that cannot be told: no name of an image may hold it."""
_VARIABLE: Final = re.compile(
    r"\$(?:(?P<plain>[A-Za-z_][A-Za-z0-9_]*)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<how>[-+])(?P<other>[^${}]*))?\})"
)
_MARKS: Final = re.compile(r"[\"'\\`]")
_PLAIN: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(?:\"([^\"'\\`$\s]*)\"|'([^\"'\\`$\s]*)'|([^\"'\\`\s]*)))?")
_ADDRESSES: Final = ("http://", "https://")


class Brought(msgspec.Struct, frozen=True):
    """What the engine would bring."""

    images: tuple[str, ...] = ()
    """Names of images as they stand there, variables filled in; no stage of the Dockerfile's own."""
    fetched: tuple[str, ...] = ()
    """Sources of `ADD` that are, or may be, addresses."""


class _Line(msgspec.Struct, frozen=True):
    word: str
    flags: tuple[str, ...]
    rest: str


class _Reading:
    """One pass over the instructions."""

    def __init__(self, arguments: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._known: dict[str, str] = {}
        self._stages: set[str] = set()
        self._begun = False
        self.images: dict[str, None] = {}
        self.fetched: dict[str, None] = {}

    def take(self, line: _Line) -> None:
        if line.word == "FROM":
            self._begun = True
            self._begin_stage(line.rest.split())
        elif line.word == "ARG" and not self._begun:
            self._declare(line.rest)
        elif line.word in {"COPY", "ADD"}:
            for source in _copied_from(line):
                if source.lower() not in self._stages and not source.isdecimal():
                    self.images[source] = None
            if line.word == "ADD":
                self.fetched.update((source, None) for source in _sources(line.rest) if _may_be_address(source))

    def _begin_stage(self, words: Sequence[str]) -> None:
        name = _filled(words[0], self._known) if words else ""
        if name and name != SCRATCH and name.lower() not in self._stages:
            self.images[name] = None
        if len(words) == 3 and words[1].upper() == "AS":
            self._stages.add(words[2].lower())

    def _declare(self, rest: str) -> None:
        words = rest.split()
        matches = [_PLAIN.fullmatch(word) for word in words]
        for word, match in zip(words, matches, strict=True):
            name, equals, _ = word.partition("=")
            if name in self._arguments:
                self._known[name] = self._arguments[name]
            elif None in matches or match is None:
                self._known[name] = _UNTOLD
            elif equals:
                self._known[name] = _filled(match[2] or match[3] or match[4] or "", self._known)


def read_dockerfile(text: str, arguments: Mapping[str, str]) -> Brought:
    """Return what the Dockerfile brings, when it is built with the arguments.

    Raises:
        ImageBuildFailed: it cannot be told; says where.
    """
    # Where it depends on the engine's version what goes on in the next line, both readings count.
    ends = [r"\\"]
    if re.search(r"`[ \t\r]*$", text, re.MULTILINE):
        ends.append("`")
    if re.search(r"\\\\[ \t\r]*$", text, re.MULTILINE):
        ends.append(r"(?<!\\)\\")
    readings = [_Reading(arguments) for _ in ends]
    for end, reading in zip(ends, readings, strict=True):
        for line in _instructions(text, re.compile(rf"{end}[ \t]*$")):
            reading.take(_parsed(line))
    return _joined(readings)


def read_triggers(triggers: Sequence[str]) -> Brought:
    """Return what the instructions bring that an image has left (`ONBUILD`) for whoever begins from it.

    Raises:
        ImageBuildFailed: it cannot be told; says where.
    """
    reading = _Reading({})
    for trigger in triggers:
        reading.take(_parsed(trigger))
    return _joined([reading])


def _joined(readings: Sequence[_Reading]) -> Brought:
    images = dict.fromkeys(name for reading in readings for name in reading.images)
    fetched = dict.fromkeys(source for reading in readings for source in reading.fetched)
    return Brought(tuple(images), tuple(fetched))


def _instructions(text: str, goes_on: re.Pattern[str]) -> Iterator[str]:
    """Yield instructions, each with the lines in which it goes on."""
    parts: list[str] = []
    for line in text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"):
        plain = line.lstrip()
        if plain.startswith("#") or not plain:
            # Left out, also in the midst of an instruction.
            continue
        cut = goes_on.sub("", line)
        parts.append(cut)
        if cut == line:
            yield "".join(parts)
            parts = []
    if parts:
        yield "".join(parts)


def _parsed(text: str) -> _Line:
    word, rest = _split(text)
    while word.upper() == "ONBUILD":
        # It is done in another build, which may be somebody else's: it is judged now.
        word, rest = _split(rest)
    flags: list[str] = []
    while rest.startswith("--"):
        flag, rest = _split(rest)
        if _MARKS.search(flag):
            raise ImageBuildFailed(f"The Dockerfile's flag {flag[:100]} has quotes or escapes: write it plainly.")
        flags.append(flag)
    return _Line(word.upper(), tuple(flags), rest)


def _split(text: str) -> tuple[str, str]:
    first, *others = text.split(None, 1) or [""]
    return first, others[0].strip() if others else ""


def _filled(text: str, known: Mapping[str, str]) -> str:
    """Return a name with the arguments from before the first FROM filled in."""

    def value(match: re.Match[str]) -> str:
        found = known.get(match["plain"] or match["name"], "")
        if match["how"] == "-":
            return found or match["other"]
        return (match["other"] if found else "") if match["how"] == "+" else found

    filled = _VARIABLE.sub(value, text)
    if "$" in filled or _MARKS.search(filled):
        raise ImageBuildFailed(
            f"{text[:200]}: what this stands for cannot be told. Name the image plainly, or by an ARG before the first "
            "FROM."
        )
    return filled


def _copied_from(line: _Line) -> Iterator[str]:
    for flag in line.flags:
        name, _, value = flag.partition("=")
        if name == "--from":
            if "$" in value:
                raise ImageBuildFailed(f"{flag[:200]}: what this stands for cannot be told. Name the stage or image.")
            yield value


def _sources(rest: str) -> Sequence[str]:
    words: Sequence[str] = rest.split()
    if rest.startswith("["):
        try:
            words = msgspec.json.decode(rest, type=list[str])
        except (msgspec.DecodeError, RecursionError):
            # The engine takes it as words then, unless it takes for a list what is none here.
            if "//" in rest or "\\u" in rest:
                raise ImageBuildFailed(f"ADD {rest[:200]}: what this stands for cannot be told.") from None
    return words[:-1]


def _may_be_address(source: str) -> bool:
    literal, variable, _ = _MARKS.sub("", source).partition("$")
    # Behind a variable anything may stand, unless what comes before it rules that out.
    return literal.startswith(_ADDRESSES) or bool(variable and any(url.startswith(literal) for url in _ADDRESSES))
