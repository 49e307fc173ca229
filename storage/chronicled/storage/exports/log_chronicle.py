"""A session of a log file as a `Chronicle`: read by a connection of its own, in pages, up to the head at its opening.

Positions do not change and nothing is appended before the head, so what is read is one consistent whole.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from chronicled.events.codec import Codec, UpcasterChain
from chronicled.events.envelope import Event
from chronicled.events.errors import BlobNotFound, InvalidCursor, InvalidRequest, LogCorrupt, SessionNotFound
from chronicled.events.ids import id_bytes, normal_id
from chronicled.events.registry import Registry
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.events.worker_log import SessionKey
from chronicled.migrations.formats.chronicle import Item, Origin
from chronicled.storage.blobs import CHUNK_BYTES, is_digest
from chronicled.storage.connection import open_reader
from chronicled.storage.event_row import EVENT_COLUMNS, LABEL_COLUMN, PAYLOAD_COLUMN, ReadLabel, event_of, label_of
from chronicled.storage.exports.origins import Origins, read_piece
from chronicled.storage.exports.secrets import session_redaction
from chronicled.storage.leaf import NO_DIGEST, payload_digest
from chronicled.storage.schema import schema_status
from chronicled.storage.sqlite import LOG_NAME
from chronicled.storage.sqlite_reader import SESSION_NUMBER

__all__ = ["LogChronicle"]

PAGE_ROWS: Final = 256
PAGE_BYTES_MAX: Final = 4 << 20
LABELS_MAX: Final = 4096
MORE_COLUMNS: Final = "event.terminal, event.request, event.salt, event.erased_digest"
MORE: Final = PAYLOAD_COLUMN + 1
SECRET_EVENTS: Final = (
    "SELECT kind FROM event JOIN label ON label.number = event.label WHERE session = ? AND kind IN"
    " ('secret_registered', 'secrets_destroyed') ORDER BY sequence DESC LIMIT 1"
)
NAMING: Final = (
    "SELECT label.kind FROM blob_reference JOIN event ON event.position = blob_reference.position"
    " JOIN label ON label.number = event.label"
    " WHERE blob_reference.session = ? AND blob_reference.digest = ? AND blob_reference.position <= ?"
)
BLOBS: Final = "blobs"
IMPORT: Final = "import"
"""What submitted the events of an import."""
BLOBS_PAGE: Final = 1000
LANES: Final = (
    "SELECT DISTINCT label.lane FROM label WHERE number IN (SELECT DISTINCT label FROM event WHERE session = ?"
    " AND position <= ?) ORDER BY 1"
)


class _Created(msgspec.Struct):
    secrets: list[str] = []


class LogChronicle:
    """A `Chronicle` over the log's file; a context manager. Blocks: for a process or a thread of its own.

    Reads in short transactions, so that a daemon beside it goes on writing and checkpointing; changes nothing.

    Args:
        data: The data directory.
        tenant: The session's tenant.
        session: Its name.
        registry: The kinds that can be read.
        upcasters: How old versions become current ones.
        after: Position behind which to begin.
        rules: What units have replaced in payloads and outputs of their kinds.

    Raises:
        InvalidRequest: the directory has no log.
        SessionNotFound: the log has no such session.
        SecretsUnavailable: its secrets cannot be read, so nothing of it is shown.
        InvalidCursor: `after` lies beyond the head.
        LogCorrupt: the file cannot be read.
        SchemaTooNew: a newer version wrote it.
    """

    def __init__(
        self,
        data: Path,
        tenant: str,
        session: str,
        registry: Registry,
        upcasters: UpcasterChain,
        after: int = 0,
        rules: RuleRedaction | None = None,
    ) -> None:
        path = data / LOG_NAME
        if not path.exists():
            raise InvalidRequest(f"There is no log at {path}; name the daemon's data directory with --data.")
        schema_status(path)
        self.tenant = tenant
        self.session = session
        self.after = after
        self._blobs = data / BLOBS
        self._labels: dict[int, ReadLabel] = {}
        with _reading():
            self._connection = open_reader(path)
        try:
            with _reading():
                self._open()
                expected = self._has_secrets()
            # After the head was taken: what was registered before it is known now.
            redaction = session_redaction(data, SessionKey(tenant, session), expected=expected)
            redaction.active(tenant, session)
            with _reading():
                self._origins = Origins(self._connection, self._number, str(self._blobs))
        except BaseException:
            self._connection.close()
            raise
        self._codec = Codec(registry, upcasters, redaction)
        self._rules = rules or RuleRedaction()

    def _open(self) -> None:
        one = self._one
        self.incarnation: str = one("SELECT name FROM incarnation ORDER BY number DESC LIMIT 1")[0]
        self.head: int = one("SELECT coalesce(max(position), 0) FROM event")[0]
        found = one(SESSION_NUMBER, self.tenant, self.session)
        if found is None:
            raise SessionNotFound(f"The log has no session {self.session!r} of tenant {self.tenant!r}.")
        if self.after > self.head:
            raise InvalidCursor(f"The log ends at position {self.head}; {self.after} lies beyond.")
        self._number: int = found[0]
        first = one("SELECT sequence, leaf FROM event WHERE session = ? AND sequence = ?", self._number, self._first())
        self._begin = 0 if first is None else first[0] + 1
        self.previous: str = (NO_DIGEST if first is None else first[1]).hex()

    def _has_secrets(self) -> bool:
        """Tell whether the log says that the session keeps something secret, and not that it is destroyed."""
        newest = self._one(SECRET_EVENTS, self._number)
        if newest is not None:
            return bool(newest[0] == "secret_registered")
        created = self._one("SELECT payload FROM event WHERE session = ? AND sequence = 0", self._number)
        try:
            return bool(created[0] and msgspec.json.decode(created[0], type=_Created).secrets)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False

    def _first(self) -> int:
        """Return the sequence of the session's last event up to `after`, -1 when there is none."""
        (newest,) = self._one("SELECT max(sequence) FROM event WHERE session = ?", self._number)
        low, high = -1, newest
        while low < high:
            middle = (low + high + 1) // 2
            (position,) = self._one(
                "SELECT position FROM event WHERE session = ? AND sequence = ?", self._number, middle
            )
            low, high = (middle, high) if position <= self.after else (low, middle - 1)
        return low

    def _one(self, sql: str, *values: Any) -> Any:
        return self._connection.execute(sql, values).fetchone()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    # -- Chronicle -------------------------------------------------------------------------------------------------

    def items(self, lane: str | None = None) -> Iterator[Item]:
        """Yield the events behind `after`, up to `head`."""
        sequence = self._begin
        test = "" if lane is None else " AND label IN (SELECT number FROM label WHERE lane = ?)"
        sql = (
            f"SELECT {EVENT_COLUMNS}, {MORE_COLUMNS} FROM event WHERE session = ? AND sequence >= ? AND position <= ?"
            f"{test} ORDER BY sequence LIMIT {PAGE_ROWS}"
        )
        while True:
            page: list[tuple[Any, ...]] = []
            size = 0
            with _reading():
                cursor = self._connection.execute(
                    sql, (self._number, sequence, self.head, *(() if lane is None else (lane,)))
                )
                for row in cursor:
                    page.append(row)
                    size += len(row[PAYLOAD_COLUMN] or b"")
                    if size >= PAGE_BYTES_MAX:
                        break
                cursor.close()
            if not page:
                return
            for row in page:
                yield self._item(row)
            sequence = page[-1][2] + 1

    def lanes(self) -> tuple[str, ...]:
        """Return the lanes that the session's events name."""
        with _reading():
            return tuple(lane for (lane,) in self._connection.execute(LANES, (self._number, self.head)))

    def find(self, id: str) -> Item | None:
        """Return the session's event of that id."""
        return self._found("event.id = ?", id_bytes(normal_id(id)))

    def ending(self, action: str) -> Item | None:
        """Return the terminal observation of that action."""
        return self._found("event.cause = ? AND event.terminal = 1", id_bytes(normal_id(action)))

    def _found(self, where: str, value: bytes) -> Item | None:
        sql = (
            f"SELECT {EVENT_COLUMNS}, {MORE_COLUMNS} FROM event WHERE {where} AND event.position <= ? AND event.session"
            " = ? AND event.tenant = (SELECT number FROM tenant WHERE name = ?)"
        )
        with _reading():
            row = self._one(sql, value, self.head, self._number, self.tenant)
        return None if row is None else self._item(row)

    def blobs(self) -> Iterator[tuple[int, str]]:
        """Yield each blob that the session's events name for the first time, in their order."""
        sql = (
            "SELECT position, digest FROM blob_reference WHERE session = ? AND (position, digest) > (?, ?)"
            f" AND position <= ? ORDER BY position, digest LIMIT {BLOBS_PAGE}"
        )
        last: tuple[int, bytes] = (self.after, b"\xff" * 33)
        while True:
            with _reading():
                rows = self._connection.execute(sql, (self._number, *last, self.head)).fetchall()
            if not rows:
                return
            yield from ((position, digest.hex()) for position, digest in rows)
            last = rows[-1]

    def blob(self, digest: str) -> Iterator[bytes]:
        """Yield the bytes of a blob that the session names."""
        kind = self._names(digest) if is_digest(digest) else None
        if kind is None:
            raise BlobNotFound(f"No event of session {self.session!r} names a blob {digest[:80]!r}.")
        redactor = self._rules.stream(kind, self._codec.redaction.stream(self.tenant, self.session))
        try:
            descriptor = os.open(os.path.join(self._blobs, digest[:2], digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobNotFound(f"There is no blob {digest}.") from None
        with os.fdopen(descriptor, "rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                if shown := redactor.feed(chunk):
                    yield shown
            if shown := redactor.finish():
                yield shown

    def original(self, origin: Origin) -> bytes | None:
        """Return the original bytes of the record that an event was made of."""
        try:
            data = read_piece(str(self._blobs), origin.blob, origin.offset, origin.size)
        except OSError:
            return None
        return self._redacted(data, "")

    def _names(self, digest: str) -> str | None:
        """Return the kind of the first event that names the blob, None where none does."""
        with _reading():
            found = self._one(NAMING, self._number, bytes.fromhex(digest), self.head)
        return None if found is None else str(found[0])

    def _redacted(self, data: bytes, kind: str) -> bytes:
        redaction = self._codec.redaction
        try:
            return self._rules.payload(kind, redaction.payload(self.tenant, self.session, data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # No JSON: an event that nobody can read is shown as it is stored.
            return redaction.fragment(self.tenant, self.session, data, head=False, tail=False)

    # -- rows ------------------------------------------------------------------------------------------------------

    def _item(self, row: tuple[Any, ...]) -> Item:
        label = self._label(row[LABEL_COLUMN])
        terminal, request, salt, erased = row[MORE:]
        stored: bytes | None = row[PAYLOAD_COLUMN]
        digest: str | None = None
        redacted = False
        columns = row[:MORE]
        if stored is None:
            digest = None if erased is None else erased.hex()
        else:
            shown = self._redacted(stored, label[0])
            redacted = shown != stored
            if redacted:
                # The salt stays here: with it, what was replaced could be guessed at.
                digest = payload_digest(salt or b"", stored).hex()
                columns = (*row[:PAYLOAD_COLUMN], shown)
        event = event_of(columns, label, self.tenant, self.session)
        return Item(
            event,
            self._codec.decode(event),
            bool(terminal),
            None if request is None else request.hex(),
            None if digest is not None or salt is None else salt.hex(),
            digest,
            redacted,
            stored is None,
            self._origin(event),
        )

    def _origin(self, event: Event) -> Origin | None:
        if event.source != IMPORT or self._origins.format is None:
            return None
        with _reading():
            return self._origins.find(event.sequence, event.id)

    def _label(self, number: int) -> ReadLabel:
        label = self._labels.get(number)
        if label is None:
            if len(self._labels) >= LABELS_MAX:
                self._labels.clear()
            with _reading():
                label = self._labels[number] = label_of(self._connection, number)
        return label


@contextmanager
def _reading() -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LogCorrupt(f"The log's database cannot be read: {error}.") from None
