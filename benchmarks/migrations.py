"""What migration on read costs: old versions beside the newest, and what a log with nothing old pays for it.

Bars: a payload that is five versions old is read in at most twice the time of one of the newest version, whether its
steps are said as data or as plain functions, and reading current events costs nothing more for it: at most 5 % beside a
codec, and pages, that know no migrations. Functions that cannot be followed by their text are told, and have no bar.

    python -m benchmarks.migrations [ROUNDS]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import Draft, Event
from chronicled.events.kind import Payload, action
from chronicled.events.presentation import Presentation
from chronicled.events.registry import Registry
from chronicled.events.store import Append
from chronicled.migrations.chain import Chain, Upcaster, unchanged
from chronicled.migrations.fields import Fields
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.log_file import LogFile, open_log_file
from chronicled.storage.sqlite import LOG_NAME, SqliteStore

__all__ = ["main"]

VERSIONS: Final = 6
UPCAST_BAR: Final = 2.0
CURRENT_BAR: Final = 1.05
EVENTS: Final = 500
REPEATS: Final = 20


class First(Payload, frozen=True, kw_only=True):
    """What the kind began with."""

    cmd: str
    timeout_ms: int
    tags: list[str] = []  # noqa: RUF012 - msgspec copies it
    output: str = ""
    code: int = 0
    state: str = "done"


class Newest(Payload, frozen=True, kw_only=True):
    """What five changes made of it: two renamed fields, another unit, a new field with a value of its own, a flag."""

    command: str
    timeout_seconds: float
    tags: list[str] = []  # noqa: RUF012 - msgspec copies it
    output: str = ""
    exit_code: int = 0
    ok: bool = True
    origin: str = "here"
    environment: dict[str, str] = {}  # noqa: RUF012 - as above


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def _is_done(state: str) -> bool:
    return state == "done"


STEPS: Final = (
    Fields(renamed={"cmd": "command"}),
    Fields(renamed={"timeout_ms": "timeout_seconds"}, changed={"timeout_ms": _seconds}),
    Fields(added={"origin": "before"}),
    Fields(renamed={"code": "exit_code"}),
    Fields(renamed={"state": "ok"}, changed={"state": _is_done}),
)


class Between(Payload, frozen=True, kw_only=True):
    """Stands for the versions in between: they are not decoded on the way."""


def _second(payload: dict[str, Any]) -> dict[str, Any]:
    payload["command"] = payload.pop("cmd")
    return payload


def _third(payload: dict[str, Any]) -> dict[str, Any]:
    payload["timeout_seconds"] = payload.pop("timeout_ms") / 1000
    return payload


def _fourth(payload: dict[str, Any]) -> dict[str, Any]:
    payload["origin"] = "before"
    return payload


def _fifth(payload: dict[str, Any]) -> dict[str, Any]:
    payload["exit_code"] = payload.pop("code")
    return payload


def _sixth(payload: dict[str, Any]) -> dict[str, Any]:
    payload["ok"] = payload.pop("state") == "done"
    return payload


def _branching(payload: dict[str, Any]) -> dict[str, Any]:
    if payload.get("code"):
        payload["exit_code"] = payload.pop("code")
        return payload
    payload["exit_code"] = payload.pop("code", 0)
    return payload


def _looping(payload: dict[str, Any]) -> dict[str, Any]:
    for old, new in (("code", "exit_code"),):
        payload[new] = payload.pop(old)
    return payload


FUNCTIONS: Final = (_second, _third, _fourth, _fifth, _sixth)
BRANCHING: Final = (_second, _third, _fourth, _branching, _sixth)
LOOPING: Final = (_second, _third, _fourth, _looping, _sixth)


def _codec(steps: Sequence[Callable[[dict[str, Any]], dict[str, Any]]]) -> Codec:
    """Return a codec whose kind `bench.note` was changed by those steps."""
    payloads = (First if steps[0] is not unchanged else Newest, *[Between] * (len(steps) - 1), Newest)
    registry = Registry(action("bench.note", payload, version=n) for n, payload in enumerate(payloads, 1))
    chain = Chain(Upcaster("action", "bench.note", n, step) for n, step in enumerate(steps, 1))
    chain.check(registry)
    return Codec(registry, chain)


def _event(kind: str, version: int, payload: bytes, position: int) -> Event:
    return Event(
        position, "default", "bench", position - 1, "01900000-0000-7000-8000-000000000001", kind, version, "action",
        "main", "client", "uid:1000", "2026-01-01T00:00:00.000000Z", msgspec.Raw(payload), "ab" * 32,
    )  # fmt: skip


def _side_by_side(rounds: int, *jobs: Callable[[], object]) -> list[list[float]]:
    """Return nanoseconds an event for each job, in turns; the least of them is the least disturbed."""
    found: list[list[float]] = [[] for _ in jobs]
    for _ in range(rounds):
        for job, times in zip(jobs, found, strict=True):
            begin = time.perf_counter_ns()
            for _ in range(REPEATS):
                job()
            times.append((time.perf_counter_ns() - begin) / REPEATS / EVENTS)
    return found


def _all(codec: Codec, events: Sequence[Event]) -> Callable[[], object]:
    decode = codec.decode
    return lambda: [decode(event) for event in events]


def upcasting(rounds: int) -> float:
    """Print what five versions cost, and return the worse ratio of steps said as data and of plain functions."""
    output = "\n".join(f"line {number} of what the command printed, some of it" for number in range(4))
    old = First(cmd="make -j2 test", timeout_ms=120_000, tags=["build", "slow"], output=output, code=2, state="failed")
    new = Newest(
        command="make -j2 test",
        timeout_seconds=120.0,
        tags=["build", "slow"],
        output=output,
        exit_code=2,
        ok=False,
        origin="before",
    )
    migrated, straight = _codec(STEPS), _codec([unchanged] * 5)
    plain, branching, looping = _codec(FUNCTIONS), _codec(BRANCHING), _codec(LOOPING)
    olds = [_event("bench.note", 1, msgspec.json.encode(old), n) for n in range(1, EVENTS + 1)]
    news = [_event("bench.note", VERSIONS, msgspec.json.encode(new), n) for n in range(1, EVENTS + 1)]
    same = [_event("bench.note", 1, msgspec.json.encode(new), n) for n in range(1, EVENTS + 1)]
    assert all(codec.decode(olds[0]) == new for codec in (migrated, plain, branching, looping))
    assert straight.decode(same[0]) == new
    jobs = [_all(migrated, news), _all(straight, same)]
    jobs += [_all(codec, olds) for codec in (migrated, plain, branching, looping)]
    newest, nothing, steps, functions, branches, loops = (min(each) for each in _side_by_side(rounds, *jobs))
    print(f"newest version          {newest:8.0f} ns an event")
    print(f"5 versions old          {steps:8.0f} ns   {steps / newest:.2f}x of the newest (bar {UPCAST_BAR}x)")
    print(f"5 old, by functions     {functions:8.0f} ns   {functions / newest:.2f}x (bar {UPCAST_BAR}x)")
    print(f"5 old, one branches     {branches:8.0f} ns   {branches / newest:.2f}x")
    print(f"5 old, one loops        {loops:8.0f} ns   {loops / newest:.2f}x (called: bounded by the map in between)")
    print(f"5 old, new fields only  {nothing:8.0f} ns   {nothing / newest:.2f}x")
    return max(steps, functions) / newest


def current(rounds: int) -> float:
    """Print what reading a log of current events pays for migrations, and return the worse ratio."""
    registry, chain = vocabulary()
    with_chain, without = Codec(registry, chain), Codec(registry)
    payload = b'{"command":"make -j2 test","environment":{},"tty":false,"quiet_seconds":null}'
    version = registry.current("action", "run").version
    events = [_event("run", version, payload, n) for n in range(1, EVENTS + 1)]
    bare, chained = (min(each) for each in _side_by_side(rounds, _all(without, events), _all(with_chain, events)))
    print(f"current, no upcasters   {bare:8.0f} ns an event decoded")
    print(f"current, with them      {chained:8.0f} ns   {chained / bare:.2f}x (bar {CURRENT_BAR}x)")
    presentation, encode = Presentation(with_chain), msgspec.json.encode
    with tempfile.TemporaryDirectory() as directory, _log(Path(directory), version, payload) as log:

        def page(look: Callable[[Sequence[Event]], object]) -> object:
            (found,) = [page.events for page in log.pages()]
            look(found)
            return encode(found)

        looks = (partial(page, len), partial(page, presentation.are_current), partial(page, presentation.show_all))
        plain, labels, shown = (min(each) for each in _side_by_side(rounds, *looks))
    print(f"read from disk as JSON  {plain:8.0f} ns an event")
    print(f"looked over for old     {labels:8.0f} ns   {labels / plain:.2f}x (bar {CURRENT_BAR}x)")
    print(f"and for broken bytes    {shown:8.0f} ns   {shown / plain:.2f}x (so that one event breaks no answer)")
    return max(chained / bare, labels / plain)


@contextmanager
def _log(directory: Path, version: int, payload: bytes) -> Generator[LogFile]:
    """Give a log of that many current events."""

    async def write() -> None:
        async with await SqliteStore.open(directory / LOG_NAME) as store:
            id = "01900000-0000-7000-8000-{:012d}".format
            begin = Draft("default", "s", id(0), "session_created", 2, "lifecycle", b'{"runtime":"process"}')
            await store.append(Append((begin,), create=True))
            drafts = [Draft("default", "s", id(n), "run", version, "action", payload) for n in range(1, EVENTS)]
            await store.append(Append(tuple(drafts)))

    asyncio.run(write())
    with open_log_file(directory / LOG_NAME) as log:
        yield log


def main() -> int:
    """Print the figures; return 1 when a bar is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    print("migrations on read")
    return int(upcasting(rounds) > UPCAST_BAR) | int(current(rounds) > CURRENT_BAR)


if __name__ == "__main__":
    sys.exit(main())
