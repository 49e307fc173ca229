"""What must hold after everything has settled; each check returns the promises that were broken."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from tests.crash.ledger import Ledger, Seen, decode_seen
from tests.crash.victims import processes_of
from tests.crash.wire import Api

__all__ = ["after_settling", "read_log", "verified"]

PAGE = 1000
RAN = {"ok", "failed"}
EFFECTS = {
    "ok": {"complete"},
    "failed": {"complete"},
    "timeout": {"possible"},
    "cancelled": {"none", "possible"},
    "rejected": {"none"},
    "error": {"none"},
    "oom_killed": {"possible"},
    "killed": {"possible"},
    "sandbox_lost": {"possible"},
    "unknown": {"possible"},
}
LINES = {"none": {0}, "possible": {0, 1}, "complete": {1}}
Log = dict[int, bytes]


async def read_log(api: Api) -> Log:
    """Read every event that the caller may see, page by page, as bytes by position."""
    log: Log = {}
    after = 0
    while True:
        answer = await api.call("GET", f"/v1/events?after={after}&limit={PAGE}")
        assert answer.status == 200, answer
        members = answer.members
        for raw in msgspec.json.decode(members["events"], type=list[msgspec.Raw]):
            log[decode_seen(raw).position] = bytes(raw)
        following = msgspec.json.decode(members["next"], type=int)
        at_end = msgspec.json.decode(members["at_end"], type=bool)
        assert following > after or at_end, answer
        after = following
        if at_end:
            return log


def after_settling(ledger: Ledger, log: Log) -> list[str]:
    """Compare the log with what clients were told and with what the counter files say."""
    events = [decode_seen(raw) for _, raw in sorted(log.items())]
    return [
        *_nothing_lost(ledger, log),
        *_dense(events),
        *_ended_once(ledger, events),
        *_honest(ledger),
        *_in_order(ledger, events),
        *_state_kept(ledger, events),
        *_dead(ledger),
    ]


def _nothing_lost(ledger: Ledger, log: Log) -> Iterator[str]:
    by_id = {decode_seen(raw).id: raw for raw in log.values()}
    for known in ledger.submissions.values():
        stored = by_id.get(known.id)
        if known.acked is not None and stored is None:
            yield f"acked event lost: {known.id} ({known.acked!r})"
        elif known.acked is not None and stored != known.acked:
            yield f"acked event changed: {known.acked!r} is now {stored!r}"
        elif known.refused is not None and stored is not None:
            yield f"refused with {known.refused}, and stored: {stored!r}"
    for position, raw in ledger.live.items():
        if log.get(position) != raw:
            yield f"followed event lost or changed: {raw!r} is now {log.get(position)!r}"
    for position in log.keys() - ledger.live.keys():
        yield f"gap in the followed stream: it never showed {log[position]!r}"


def _dense(events: list[Seen]) -> Iterator[str]:
    following: dict[str, int] = {}
    for place, event in enumerate(events, 1):
        # The harness runs as the daemon's own user, who sees every tenant's events.
        if event.position != place:
            yield f"gap in positions: {event.position} is the {place}. event"
            break
    for event in events:
        if event.sequence != following.get(event.session, 0):
            yield f"gap in {event.session}: {event.sequence} at position {event.position}"
        following[event.session] = event.sequence + 1


def _ended_once(ledger: Ledger, events: list[Seen]) -> Iterator[str]:
    ends: dict[str, int] = {}
    for event in events:
        if event.terminal:
            ends[event.cause or ""] = ends.get(event.cause or "", 0) + 1
    for event in events:
        if event.category == "action" and ends.pop(event.id, 0) != 1:
            known = ledger.submissions.get(event.id)
            shape = known.shape.name if known else "?"
            yield f"not exactly one terminal observation: {event.id} of {event.session}/{event.lane} ({shape})"
    for cause in ends:
        yield f"terminal observation of no action: {cause}"


def _honest(ledger: Ledger) -> Iterator[str]:
    for known in ledger.submissions.values():
        lines = ledger.lines(known.id)
        if lines > 1:
            yield f"run twice: {known.id} has {lines} lines ({known.shape.name}, {known.session}, {known.ended})"
        if known.ended is None:
            if lines:
                yield f"effect without an end: {known.id} ({known.refused})"
            continue
        outcome, effects = known.ended.payload["outcome"], known.ended.payload["effects"]
        if effects not in EFFECTS.get(outcome, set()):
            yield f"outcome {outcome} with effects {effects}: {known.id}"
        elif lines not in LINES[effects]:
            yield f"dishonest outcome: {outcome} ({effects}) with {lines} lines: {known.id} ({known.shape.name})"
        if lines != known.lines_when_ended:
            yield f"effect after the end: {known.id} had {known.lines_when_ended} lines at {outcome}, has {lines}"
        if outcome in RAN:
            yield from _whole(known.ended, known.shape.output, known.shape.digest)


def _whole(ended: Seen, output: bytes, digest: str) -> Iterator[str]:
    told = ended.payload
    if told.get("output_bytes", 0) != len(output) or told.get("output_digest") not in {None, digest}:
        yield f"output is not what was printed: {len(output)} bytes, {digest}; {str(told)[:500]}"
    elif not told.get("truncated", False) and told.get("output", "").encode() != output:
        yield f"output shown is not what was printed: {str(told)[:500]}"


def _in_order(ledger: Ledger, events: list[Seen]) -> Iterator[str]:
    newest: dict[tuple[str, str], int] = {}
    for event in events:
        known = ledger.submissions.get(event.id)
        if known is None or known.ended is None or known.ended.payload["outcome"] not in RAN:
            continue
        lane = (known.session, known.lane)
        if known.ended.position < newest.get(lane, 0):
            yield f"overtaken in its lane {lane}: {known.id}"
        newest[lane] = known.ended.position


def _state_kept(ledger: Ledger, events: list[Seen]) -> Iterator[str]:
    """Check that what was accepted before its generation was lost did not run in the next, unless it was asked to."""
    losses: dict[str, list[int]] = {}
    for event in events:
        if event.kind == "generation_ended":
            losses.setdefault(event.session, []).append(event.position)
    accepted = {event.id: event.position for event in events if event.category == "action"}
    for known in ledger.submissions.values():
        if known.on_state_loss == "run" or known.ended is None or known.ended.payload["outcome"] not in RAN:
            continue
        generation = ledger.generations.get(known.ended.payload["generation"])
        # What is not there any more counts as lost, not as this.
        if known.id not in accepted or generation is None:
            continue
        if any(accepted[known.id] < lost < generation.position for lost in losses.get(known.session, ())):
            yield f"ran in a fresh generation: {known.id} of {known.session}/{known.lane} ({known.shape.name})"


def _dead(ledger: Ledger) -> Iterator[str]:
    for pid, what in processes_of(ledger.ended_generations).items():
        yield f"process {pid} of an ended generation lives: {what}"


def verified(data: Path) -> list[str]:
    """Verify the log of a stopped daemon: with the product's own command, and positions by plain SQL."""
    command = [str(Path(sys.executable).with_name("chronicled")), "audit", "verify", "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    said = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    found = [] if done.returncode == 0 else [f"audit verify: {done.returncode} {said}"]
    with sqlite3.connect(f"file:{data / 'log.sqlite'}?mode=ro", uri=True) as database:
        low, high, count = database.execute("SELECT min(position), max(position), count(*) FROM event").fetchone()
    database.close()
    if (low, high) != (1, count):
        found.append(f"gap in positions: {low} to {high}, but {count} events")
    return found
