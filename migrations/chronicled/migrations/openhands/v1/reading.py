"""One event of OpenHands V1 while it is read: what it is called, what was taken from it, what found no place.

A record is an object whose `kind` names a class of the agent SDK; tools bring classes of their own, inside `action` and
`observation`. There is no version: what releases changed is told by the shape.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from chronicled.events.limits import OUTPUT_INLINE_BYTES_MAX, PART_HEAD_BYTES_MAX

__all__ = ["Reading", "Unreadable", "empty", "items", "kind_of", "mapping", "text"]

AROUND: Final = frozenset({"id", "timestamp", "source", "kind", "parent_id"})
"""Fields of every event."""
TOLD_BY: Final = (
    ("MessageEvent", frozenset({"llm_message"})),
    ("ActionEvent", frozenset({"tool_call", "tool_call_id"})),
    ("ObservationEvent", frozenset({"observation", "action_id"})),
    ("UserRejectObservation", frozenset({"rejection_reason", "action_id"})),
    ("AgentErrorEvent", frozenset({"error", "tool_call_id"})),
    ("SystemPromptEvent", frozenset({"system_prompt"})),
    ("Condensation", frozenset({"forgotten_event_ids"})),
    ("ConversationErrorEvent", frozenset({"code", "detail"})),
    ("ConversationStateUpdateEvent", frozenset({"key", "value"})),
)
"""By which fields an event is known that has no `kind`, or one of a name that nobody knows."""
DATA_URL_CHARACTERS_MAX: Final = 8 << 10
"""Longest data URL that stays in an event."""


class Unreadable(Exception):
    """A record that no event of ours can be made of; says why."""


class Reading:
    """One event, its own fields never changed."""

    __slots__ = ("attached", "key", "kind", "lost", "releases", "steps", "value")

    def __init__(self, key: str, kind: str, value: Mapping[str, Any]) -> None:
        self.key = key
        self.kind = kind
        self.value = value
        self.steps: list[str] = []
        self.releases: list[str] = []
        self.lost: list[str] = []
        self.attached: dict[str, bytes] = {}

    @property
    def shape(self) -> str:
        """From which shape it was read, e.g. `ActionEvent TerminalAction, before 1.5.0`."""
        inner = self.value.get("action" if "action" in self.value else "observation")
        tool = f" {mapping(inner).get('kind')}" if isinstance(inner, dict) and mapping(inner).get("kind") else ""
        era = f", before {min(self.releases, key=_order)}" if self.releases else ""
        return f"event {self.kind[:64]}{tool[:64]}{era}"

    @property
    def id(self) -> str:
        """Its id in the source; what other events name."""
        found = self.value.get("id")
        return found if isinstance(found, str) and found else self.key

    @property
    def actor(self) -> str:
        """Who did it."""
        source = self.value.get("source")
        if isinstance(source, str) and source in {"agent", "user", "environment", "hook"}:
            return f"openhands:{source}"
        if source is not None:
            self.lost.append("source")
        return "openhands"

    def step(self, release: str, name: str) -> None:
        """Note that a step was taken since the record was written before a release."""
        note = f"{release} {name}"
        if note not in self.steps:
            self.steps.append(note)
            self.releases.append(release)

    def lose_rest(self, taken: Collection[str], value: Mapping[str, Any] | None = None, path: str = "") -> None:
        """Note every field that is not among those that were taken, unless it says nothing."""
        fields = self.value if value is None else value
        around = AROUND if value is None else frozenset({"kind"})
        self.lost.extend(
            f"{path}{name}"
            for name, item in fields.items()
            if name not in taken and name not in around and not empty(item)
        )

    def texts(self, value: Any, path: str) -> tuple[str, list[str]]:
        """Return the text of a message's or an observation's content, and the URLs of its images."""
        if isinstance(value, str):
            self.step("1.0.0", "content is a list of texts and images")
            return value, []
        said: list[str] = []
        images: list[str] = []
        for number, item in enumerate(items(value)):
            part = mapping(item)
            if isinstance(part.get("text"), str):
                said.append(part["text"])
            elif isinstance(part.get("image_urls"), list):
                images += [self._image(url) for url in part["image_urls"] if isinstance(url, str)]
            else:
                self.lost.append(f"{path}.{number}")
        return "\n".join(said), images

    def _image(self, url: str) -> str:
        if not url.startswith("data:") or len(url) <= DATA_URL_CHARACTERS_MAX:
            return url
        return f"blob:{self.image(url)}"

    def image(self, value: Any) -> str | None:
        """Attach an image that stands as a data URL or base64, and return its digest; None where there is none."""
        if not isinstance(value, str) or not value:
            return None
        header, comma, body = value.partition(",") if value.startswith("data:") else ("", "", value)
        data = value.encode()
        if not comma or header.endswith(";base64"):
            try:
                data = base64.b64decode(body, validate=True)
            except (binascii.Error, ValueError):
                self.steps.append("an image is no base64, and kept as text")
        return self._attach(data)

    def output(self, content: str, *, cut: bool) -> dict[str, Any]:
        """Return the fields of an observation that say what was printed; what is long becomes a blob."""
        data = content.encode()
        fields: dict[str, Any] = {"output": content, "output_bytes": len(data), "truncated": cut}
        if len(data) > OUTPUT_INLINE_BYTES_MAX:
            half = PART_HEAD_BYTES_MAX
            head, tail = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
            left = len(data) - len(head.encode()) - len(tail.encode())
            fields["output"] = f"{head}\n[{left} bytes more]\n{tail}"
            fields |= {"output_digest": self._attach(data), "output_blob": True, "truncated": True}
        return fields

    def _attach(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.attached[digest] = data
        return digest


def kind_of(value: Mapping[str, Any], known: Collection[str]) -> tuple[str, bool]:
    """Return what the event is, and whether only its fields tell.

    Raises:
        Unreadable: neither its kind nor its fields are known.
    """
    kind = value.get("kind")
    if isinstance(kind, str) and kind in known:
        return kind, False
    for name, fields in TOLD_BY:
        if fields <= value.keys():
            return name, True
    if isinstance(kind, str):
        raise Unreadable(f"there is no event {kind[:64]!r}")
    raise Unreadable("no kind, and fields of no event that is known")


def mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]  # whatever JSON has


def empty(value: Any) -> bool:
    """Tell whether a field says nothing that its absence would not say."""
    return value is None or value is False or value == "" or value == [] or value == {}


def text(value: Any) -> str:
    """Return what ought to be text as text.

    Raises:
        Unreadable: it is nothing that can be read as text.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    raise Unreadable(f"text was expected, not {type(value).__name__}")


def _order(release: str) -> tuple[list[int], bool, int]:
    """Return what releases are sorted by; `1.0.0a5` comes before `1.0.0`."""
    numbers, alpha, number = release.partition("a")
    return [int(part) for part in numbers.split(".")], not alpha, int(number or 0)
