"""A source without certain values: what another system had let through is replaced before anything is made of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from chronicled.events.secret_redaction import SecretRedaction
from chronicled.storage.imports.source import MISSING, Record, Source

__all__ = ["RedactedSource"]

HERE = ("import", "import")
"""Under what the values are registered; no session's."""


class RedactedSource:
    """A `Source` in whose records each value stands as `<secret:NAME>`, in whatever form it is recognised.

    The records are the changed ones for all that follows: events, kept bytes, and what a later import is compared with.
    So the same values have to be given whenever it is imported again.

    Args:
        inner: The source as it is.
        values: By name; each has passed `check_value`.
    """

    def __init__(self, inner: Source, values: Mapping[str, str]) -> None:
        self._inner = inner
        self._redaction = SecretRedaction()
        self._redaction.register(*HERE, {name: [value] for name, value in values.items()})
        self.name = self._redaction.text(*HERE, inner.name)
        self.place = self._redaction.text(*HERE, inner.place)
        self.labels = {name: self._redaction.text(*HERE, text) for name, text in inner.labels.items()}
        self.redacted = 0
        """Records in which something was replaced, of those that were read so far."""

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from number `start` on.

        Raises:
            ImportRefused: the source cannot be read at all.
        """
        for record in self._inner.records(start):
            data = self._without(record.data)
            key, place = self._redaction.text(*HERE, record.key), self._redaction.text(*HERE, record.place)
            if data == record.data and (key, place) == (record.key, record.place):
                yield record
                continue
            self.redacted += 1
            yield Record(key, data, place, MISSING, record.problem)

    def _without(self, data: bytes) -> bytes:
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            # No JSON: whatever it is, its bytes are looked through as they stand, also at torn ends.
            return self._redaction.fragment(*HERE, data, head=True, tail=True)
        return self._redaction.payload(*HERE, data)
