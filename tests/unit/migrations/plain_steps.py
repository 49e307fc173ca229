"""Functions as people write them for steps: those that are followed by their text, and those that are called."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from chronicled.events import Payload
from chronicled.migrations.fields import Fields

__all__ = ["CALLED", "FOLLOWED", "New", "Old"]

WORDS = {"a": "alpha", "b": "beta"}
LIMIT = 10


class Old(Payload, frozen=True, kw_only=True):
    """What all of them begin with."""

    name: str
    number: int = 1
    share: float = 0.5
    flag: bool = False
    tags: list[str] = []  # noqa: RUF012 - msgspec copies it
    inner: dict[str, int] = {}  # noqa: RUF012 - as above
    note: str | None = None


class New(Payload, frozen=True, kw_only=True):
    """Where all of them end: with more or less of it."""

    name: str = "nobody"
    number: int = 2
    share: float = 0.25
    flag: bool = True
    tags: list[str] = []  # noqa: RUF012 - as above
    inner: dict[int, int] = {}  # noqa: RUF012 - as above
    note: str | None = None
    title: str = ""
    extra: dict[str, str] = {}  # noqa: RUF012 - as above


def moved(payload: dict[str, Any]) -> dict[str, Any]:
    payload["title"] = payload.pop("name")
    return payload


def changed(payload: dict[str, Any]) -> dict[str, Any]:
    payload["share"] = payload["number"] / 4
    payload["number"] += 1
    payload["title"] = f"{payload['name']!r:>10}\n{payload.pop('name')}"
    return payload


def removed(payload: dict[str, Any]) -> dict[str, Any]:
    payload.pop("note", None)
    payload.pop("not there", None)
    del payload["inner"]
    return payload


def named(payload: dict[str, Any]) -> dict[str, Any]:
    count: int = len(payload["tags"])
    words = payload.pop("tags")
    payload["number"] = min(count, LIMIT)
    count = 2 * count
    payload["title"] = " ".join(sorted(words))[:count]
    payload["tags"] = [WORDS.get(word, word) for word in words if word != payload["name"]]
    return payload


def branched(payload: dict[str, Any]) -> dict[str, Any]:
    title = "none"
    if payload["number"] > LIMIT:
        title = payload["name"]
        payload["share"] = math.sqrt(payload["number"])
    elif payload["flag"]:
        payload["share"] = float(payload["number"])
    payload["title"] = title
    return payload


def early(payload: dict[str, Any]) -> dict[str, Any]:
    if payload.get("note") is None:
        payload["note"] = payload["name"]
        return payload
    payload["name"] = payload["note"]
    payload["note"] = None if payload["flag"] else payload["name"]
    return payload


def displayed(payload: dict[str, Any]) -> dict[str, Any]:
    return {"title": payload["name"], **payload, "name": payload["note"] or "?", "extra": {"from": payload["name"]}}


def renewed(payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": payload["name"], "number": payload["number"], "tags": [payload["name"]]}


def shared(payload: dict[str, Any]) -> dict[str, Any]:
    payload["tags"] += ["more"]
    payload["inner"] = {number: len(word) for number, word in enumerate(payload["tags"])}
    payload["title"] = payload["tags"].pop()
    return payload


def appended(payload: dict[str, Any]) -> dict[str, Any]:
    payload["title"] = payload["name"]
    payload["title"] += "!"
    return payload


def noted(payload: dict[str, Any]) -> dict[str, Any]:
    del payload["note"]
    payload["note"] = payload["name"]
    return payload


def doubled(payload: dict[str, Any]) -> dict[str, Any]:
    payload["title"] = payload["name"]
    if "title" in payload:
        payload["note"] = payload["title"]
    else:
        payload["note"] = payload["nothing"]
    return payload


def failing(payload: dict[str, Any]) -> dict[str, Any]:
    payload["share"] = 1 / (payload["number"] - 3)
    payload["flag"] = payload["name"] < payload["share"] if payload["number"] == 5 else True
    return payload


def wrong(payload: dict[str, Any]) -> dict[str, Any]:
    payload["number"] = payload["name"] if payload["flag"] else 7
    return payload


FOLLOWED: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
    moved, changed, removed, named, branched, early, displayed, renewed, shared, appended, noted, doubled, failing,
    wrong,
    Fields(added={"title": "x"}, changed={"number": abs}, removed=("inner",), renamed={"note": "name", "name": "note"}),
)  # fmt: skip


def looping(payload: dict[str, Any]) -> dict[str, Any]:
    for name in ("note", "inner"):
        payload.pop(name, None)
    return payload


def handing(payload: dict[str, Any]) -> dict[str, Any]:
    return looping(payload)


def sometimes(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["flag"]:
        payload["title"] = "set"
    return payload


def choosing(payload: dict[str, Any]) -> dict[str, Any]:
    payload["title"] = payload.pop("note") if payload["flag"] else payload.pop("name")
    payload["title"] = str(payload["title"])
    return payload


def updating(payload: dict[str, Any]) -> dict[str, Any]:
    payload.update(title="x", number=len(payload))
    return payload


def shadowing(payload: dict[str, Any]) -> dict[str, Any]:
    word = payload["name"]
    payload["tags"] = [word for word in payload["tags"] if word] + [word]
    return payload


def framed(payload: dict[str, Any]) -> dict[str, Any]:
    word = payload["name"]
    payload["title"] = str(sorted(locals())) + word
    return payload


def rebound(payload: dict[str, Any]) -> dict[str, Any]:
    payload = dict(payload, title="x")
    payload["number"] = 1
    return payload


def unset(payload: dict[str, Any]) -> dict[str, Any]:
    if payload["flag"]:
        WORDS = 3  # noqa: N806 - there is a global of that name
    payload["number"] = WORDS  # pyright: ignore[reportPossiblyUnboundVariable]  # that is what is looked at
    return payload


def unknown(payload: dict[str, Any]) -> dict[str, Any]:
    payload["never"] = payload["number"]
    return payload


def absent(payload: dict[str, Any]) -> dict[str, Any]:
    payload["title"] = payload["nothing"]
    return payload


def guarded(payload: dict[str, Any]) -> dict[str, Any]:
    try:
        payload["number"] = int(payload["name"])
    except ValueError:
        payload["number"] = 0
    return payload


def _closed(word: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def closed(payload: dict[str, Any]) -> dict[str, Any]:
        payload["title"] = word
        return payload

    return closed


def with_more(payload: dict[str, Any], title: str = "default") -> dict[str, Any]:
    payload["title"] = title
    return payload


PARTLY: Callable[[dict[str, Any]], dict[str, Any]] = functools.partial(with_more, title="partly")
DISPLAY: Callable[[dict[str, Any]], dict[str, Any]] = lambda payload: {**payload, "title": "x"}  # noqa: E731 - it has to be one

CALLED: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (
    looping, handing, sometimes, choosing, updating, shadowing, framed, rebound, unset, unknown, absent, guarded,
    _closed("word"), PARTLY, with_more, DISPLAY,
)  # fmt: skip
