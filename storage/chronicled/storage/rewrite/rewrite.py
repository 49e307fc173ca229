"""The whole of a rewrite: checks, copy, comparison, and the new directory's name as the very last step."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec

from chronicled.events import faultpoint
from chronicled.events.clock import Clock, SystemClock, format_time
from chronicled.events.codec import Codec, encode_json
from chronicled.events.envelope import LIFECYCLE
from chronicled.events.errors import LogCorrupt, Refused
from chronicled.events.ids import IdSource, SystemIds, SystemRandomness, id_bytes
from chronicled.events.kinds.lifecycle import FormerLog, LogRewritten
from chronicled.migrations.vocabulary import Vocabulary
from chronicled.storage.connection import failure, open_reader
from chronicled.storage.lock import LOCK_NAME, DirectoryLock
from chronicled.storage.rewrite.comparison import compare
from chronicled.storage.rewrite.conversion import Conversion, Converted
from chronicled.storage.rewrite.files import carry_blobs, carry_files, remove_building, sync_tree
from chronicled.storage.rewrite.rest import check_at_rest
from chronicled.storage.rewrite.source import Row, Source
from chronicled.storage.rewrite.target import Target
from chronicled.storage.schema import Progress, check_schema
from chronicled.storage.sqlite import LOG_NAME, REWRITING_NAME, REWRITING_SUFFIX
from chronicled.storage.verification import Report, verify_file

__all__ = ["RewriteReport", "rewrite"]

PART: Final = f"{LOG_NAME}.part"
SYSTEM: Final = ("_system", "daemon")
OWN_EVENTS: Final = 1
TELL_EVENTS: Final = 4096


class RewriteReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a rewrite did."""

    events_before: int
    events: int
    """In the new log: those before, `log_rewritten`, and what some of them were split into."""
    events_changed: int
    """Whose stored bytes are others now."""
    incarnation: str
    root_before: str
    root: str
    verified: bool
    """Whether the former log verified."""
    blobs_missing: tuple[str, ...]
    """Digests that events name, and whose bytes were missing or damaged before."""


def rewrite(
    old: Path,
    new: Path,
    words: Vocabulary,
    carried: Sequence[str] = (),
    *,
    accept_damage: bool = False,
    clock: Clock | None = None,
    ids: IdSource | None = None,
    progress: Progress | None = None,
) -> RewriteReport:
    """Copy the log in the directory `old` into the new directory `new`, every payload in its current version.

    Kept: ids, causes, times, tenants, sessions, lanes, sources, actors, digests of requests, blobs, what was erased.
    New: positions, fences, leaves, and the incarnation, so that cursors of the former log are refused. The first event,
    `log_rewritten`, holds the former log's end. Nothing in `old` is changed. Blocks; memory does not grow with the log.

    Until all is written, verified, compared event by event and synced, `new` does not exist: it is made beside its
    place under a name that ends in `.rewriting`, and what a crash leaves there is thrown away by the next call.

    Args:
        old: A data directory; no daemon may run there.
        new: Must be missing or empty.
        words: What is current.
        carried: Files and folders of `old` that go over beside log and blobs.
        accept_damage: Go on although the former log does not verify; the first event says so. What is made anew
            (leaves, sequences, the tree) is right then; an order of times that is wrong would stay, and is refused.
        clock: Time of the rewrite.
        ids: Names the incarnation and the first event.
        progress: Told how it goes.

    Raises:
        DataDirectoryBusy: a daemon runs in `old`, or another rewrite to `new`.
        Refused: the log is not at rest, or `new` is in use, or what stands in its way is not ours to remove.
        LogCorrupt: the former log does not verify; or what was written does not, and then nothing is left of it.
        SchemaTooNew: a newer version wrote the log.
        StorageFull, StoreFailed, OSError: it could not be read or written.
    """
    tell: Progress = progress or _silent
    old, new = old.resolve(), new.resolve()
    if not (old / LOG_NAME).is_file():
        raise Refused(f"There is no log in {old}.")
    if new.is_relative_to(old) or old.is_relative_to(new):
        raise Refused(f"{new} and {old} must lie beside each other.")
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise Refused(f"{new} is there already, and not empty: name another one.")
    with ExitStack() as stack:
        stack.enter_context(DirectoryLock(old))
        building, lock = _begin(new)
        stack.enter_context(lock)
        job = _Job(old, building, words, tell, clock or SystemClock(), ids or SystemIds())
        try:
            report = job.run(carried, accept_damage=accept_damage)
        except BaseException as error:
            shutil.rmtree(building, ignore_errors=True)
            if isinstance(error, sqlite3.IntegrityError):
                raise LogCorrupt(f"The new log contradicts itself, and was thrown away: {error}.") from None
            if isinstance(error, sqlite3.Error):
                raise failure(error) from None
            raise
        faultpoint.reached("check_to_name")
        os.rename(building, new)
        _sync(new.parent)
        faultpoint.reached("named")
        (new / REWRITING_NAME).unlink()
    return report


def _begin(new: Path) -> tuple[Path, DirectoryLock]:
    """Make the directory beside the new one's place, empty but for its mark."""
    building = new.with_name(new.name + REWRITING_SUFFIX)
    building.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = DirectoryLock(building)
    try:
        names = {each.name for each in building.iterdir()} - {LOCK_NAME}
        if names and REWRITING_NAME not in names:
            raise Refused(f"{building} stands in the way, and was not left by a rewrite: move it.")
        # The mark goes last and comes first: without it nothing here would be taken for ours.
        remove_building(building, (LOCK_NAME, REWRITING_NAME))
        (building / REWRITING_NAME).write_text("{}")
    except BaseException:
        lock.release()
        raise
    return building, lock


class _Job:
    def __init__(
        self, old: Path, building: Path, words: Vocabulary, tell: Progress, clock: Clock, ids: IdSource
    ) -> None:
        self._old = old
        self._building = building
        self._registry = words.registry
        self._codec = Codec(words.registry, words.chain)
        self._conversion = Conversion(self._codec, words.chain)
        self._tell = tell
        self._clock = clock
        self._ids = ids
        self._changed = 0

    def run(self, carried: Sequence[str], *, accept_damage: bool) -> RewriteReport:
        path, part = self._old / LOG_NAME, self._building / PART
        check_schema(path)
        with closing(open_reader(path)) as connection:
            check_at_rest(connection, self._registry)
            former = verify_file(path, self._progress("verifying the former log"))
            if former.problems and not accept_damage:
                raise LogCorrupt(
                    f"The log in {self._old} does not verify: {former.problems[0]}. `chronicled audit verify` tells "
                    "more; --accept-damage copies it all the same, and the new log's first event says so."
                )
            bad = carry_blobs(
                connection, self._old / "blobs", self._building / "blobs", self._progress("bringing over blobs")
            )
            carry_files(self._old, self._building, carried)
            incarnation = self._copy(Source(connection), part, former)
            faultpoint.reached("copy_to_check")
            report = self._check(connection, part)
        for suffix in ("-wal", "-shm"):  # of those who read it just now; it is whole without
            part.with_name(part.name + suffix).unlink(missing_ok=True)
        os.replace(part, self._building / LOG_NAME)
        self._tell("syncing", 0, 0)
        sync_tree(self._building)
        return RewriteReport(
            events_before=former.events,
            events=report.events,
            events_changed=self._changed,
            incarnation=incarnation,
            root_before=former.root,
            root=report.root,
            verified=not former.problems,
            blobs_missing=tuple(bad),
        )

    def _copy(self, source: Source, part: Path, former: Report) -> str:
        now, incarnation, head = self._clock.now_us(), self._ids.new(), source.head
        target = Target(part, source, SystemRandomness())
        try:
            target.begin(incarnation, now)
            first = self._first(source, former, incarnation, now)
            # Times never fall along a log, so it has the time of what it stands before; when it was is in its payload.
            time = now if source.first_time is None else source.first_time
            row = Row(0, 0, 0, first.id, 0, None, 0, time, None, None, SystemRandomness().bytes(16), None, None)
            target.first(*SYSTEM, row, first)
            for row in source.rows():
                events = self._conversion.converted(row.id, source.label(row.label), row.payload)
                if len(events) > 1 or events[0].payload is not row.payload:
                    self._changed += 1
                target.add(row, events)
                if row.position % TELL_EVENTS == 0:
                    self._tell("copying events", row.position, head)
            target.refer()
            target.finish()
        finally:
            target.close()
        return incarnation

    def _first(self, source: Source, former: Report, incarnation: str, now: int) -> Converted:
        (name,) = source.connection.execute("SELECT name FROM incarnation ORDER BY number DESC LIMIT 1").fetchone()
        leaf = source.connection.execute("SELECT leaf FROM event ORDER BY position DESC LIMIT 1").fetchone()
        payload = LogRewritten(
            version=version("chronicled"),
            rewritten=format_time(now),
            incarnation=incarnation,
            former=FormerLog(
                incarnation=name,
                size=source.head,
                root=former.root,
                leaf="" if leaf is None else bytes(leaf[0]).hex(),
                verified=not former.problems,
                problem=former.problems[0] if former.problems else None,
            ),
        )
        spec = self._registry.current(LIFECYCLE, "log_rewritten")
        return Converted(id_bytes(self._ids.new()), LIFECYCLE, spec.kind, spec.version, encode_json(payload))

    def _check(self, former: sqlite3.Connection, part: Path) -> Report:
        report = verify_file(part, self._progress("verifying the new log"))
        (size,) = former.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
        with closing(open_reader(part)) as connection:
            problems = [
                *report.problems,
                *compare(
                    former,
                    connection,
                    OWN_EVENTS,
                    self._conversion,
                    lambda done: self._tell("comparing each event", done, size),
                ),
            ]
        if problems:
            raise LogCorrupt(f"The new log is not right, and was thrown away: {'; '.join(problems[:5])}.")
        return report

    def _progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell(what, done, total)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _silent(_what: str, _done: int, _total: int) -> None:
    pass
