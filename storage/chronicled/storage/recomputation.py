"""Recompute everything that the log claims about itself, and say where it first does not hold.

Checked for each position: it is there; its leaf follows from header, salt and payload; its sequence and its previous
leaf follow from its session's events; the running columns follow; times do not fall. Checked for the whole: the tree's
root at each checkpoint, at most one terminal observation an action, no id twice. What is missing behind the last
checkpoint can only be seen by comparing with a root kept elsewhere (`head` and `root` here).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from chronicled.events.envelope import CATEGORIES
from chronicled.storage.leaf import header, leaf_hash, pack_texts, payload_digest
from chronicled.storage.record import Label, SessionState, StoredEvent
from chronicled.storage.tree import Frontier

__all__ = ["Checkpoint", "Finding", "Report", "SessionName", "Verification"]

FINDINGS_MAX: Final = 20
"""Findings after which a verification ends: one is enough to know, twenty to see a pattern."""


class Finding(NamedTuple):
    """Something that does not hold, and the first position that it concerns."""

    position: int
    text: str

    def __str__(self) -> str:
        return f"position {self.position}: {self.text}"


class Report(msgspec.Struct, frozen=True):
    """What a verification found."""

    events: int
    """How many were checked."""
    root: str
    """The tree's root over them, hex; tells nothing when there are problems."""
    problems: tuple[str, ...]
    """What is wrong, the first bad position first, at most 20; empty when the log verifies."""
    first_bad_position: int | None


class Checkpoint(NamedTuple):
    """A kept state of the tree."""

    size: int
    frontier: bytes
    root: bytes


class SessionName(NamedTuple):
    """What a session's number stands for."""

    number: int
    tenant_number: int
    tenant: str
    session: str


class Verification:
    """Takes the rows in position order, then `finish`; what is wrong gathers in `findings`.

    Memory: one small record per session; nothing per event.

    Args:
        sessions: What each session's number stands for.
        labels: What each label's number stands for.
        checkpoints: The kept states of the tree, in order of size.
    """

    def __init__(
        self,
        sessions: Callable[[int], SessionName | None],
        labels: Callable[[int], Label | None],
        checkpoints: Iterable[Checkpoint],
    ) -> None:
        self.findings: list[Finding] = []
        self.frontier = Frontier()
        self._sessions = sessions
        self._labels = labels
        self._checkpoints = iter(checkpoints)
        self._checkpoint = next(self._checkpoints, None)
        self._sound = 0
        """Size of the tree at the last checkpoint that held."""
        self._next = 1
        self._time = 0
        self._states: dict[int, tuple[SessionState, SessionName]] = {}

    @property
    def next(self) -> int:
        """The position that comes next."""
        return self._next

    @property
    def exhausted(self) -> bool:
        """Whether there are findings enough."""
        return len(self.findings) >= FINDINGS_MAX

    def take(self, row: StoredEvent, erased_digest: bytes | None) -> None:
        """Check the next row."""
        if row.position > self._next:
            self._find(self._next, "missing")
        elif row.position < self._next:
            self._find(row.position, "before the start of the log")
        self._next = row.position + 1
        try:
            self._check(row, erased_digest)
        except (struct.error, TypeError, ValueError, OverflowError, AttributeError) as error:
            self._find(row.position, f"a column does not hold what it should: {error}")
        self._fold(row)

    def finish(self, head: int | None = None, root: bytes | None = None) -> Report:
        """Check what only the end can show; return everything.

        Args:
            head: How many events there must be, where that is known from elsewhere.
            root: The tree's root at `head`, where known.
        """
        size = self._next - 1
        if self._checkpoint is not None:
            self._find(self._next, f"missing: the tree had {self._checkpoint.size} leaves at a checkpoint")
        elif head is not None and size < head:
            self._find(self._next, f"missing: the log had {head} events")
        elif root is not None and size == head and not self.findings and self.frontier.root() != root:
            self._find(self._sound + 1, f"the tree's root over {size} leaves is not the one expected")
        return self.report()

    def report(self) -> Report:
        """Return what was found so far."""
        findings = sorted(self.findings)[:FINDINGS_MAX]
        problems = tuple(str(finding) for finding in findings)
        first = findings[0].position if findings else None
        return Report(self.frontier.size, self.frontier.root().hex(), problems, first)

    def _find(self, position: int, text: str) -> None:
        if not self.exhausted:
            self.findings.append(Finding(position, text))

    def _check(self, row: StoredEvent, erased_digest: bytes | None) -> None:
        position = row.position
        known = self._states.get(row.session)
        if known is None:
            name = self._sessions(row.session)
            if name is None:
                return self._find(position, f"session number {row.session} has no name")
            known = self._states[row.session] = (SessionState(row.session, name.tenant_number), name)
        state, name = known
        if row.tenant != name.tenant_number:
            self._find(position, "the tenant is not that of the session")
        if row.sequence != state.sequence + 1:
            self._find(position, f"sequence {row.sequence} does not follow {state.sequence}")
        if row.time < self._time:
            self._find(position, "the time is earlier than that of the event before")
        self._time = row.time
        label = self._labels(row.label)
        if label is None:
            return self._find(position, f"label number {row.label} has no fields")
        if self._leaf(row, label, erased_digest, state, name) != row.leaf:
            self._find(position, "the leaf does not follow from header and payload")
        state = replace(state, sequence=row.sequence - 1)
        state = state.after(position, label.category, label.kind, label.source, row.leaf)
        self._states[row.session] = (state, name)
        if (row.client_sequence, row.fence, row.closed) != (state.client_sequence, state.fence, int(state.closed)):
            self._find(position, "the running columns do not follow from the session's events")
        if row.terminal and row.cause is None:
            self._find(position, "a terminal observation names no action")
        return None

    def _leaf(
        self, row: StoredEvent, label: Label, erased_digest: bytes | None, state: SessionState, name: SessionName
    ) -> bytes | None:
        if row.payload is None:
            digest = erased_digest
        else:
            digest = payload_digest(row.salt or b"", row.payload) if erased_digest is None else None
        if digest is None or not 1 <= label.category <= len(CATEGORIES) or row.terminal not in {0, 1}:
            return None
        if len(row.id) != 16 or len(row.cause or bytes(16)) != 16 or len(row.request or bytes(32)) != 32:
            return None
        texts = pack_texts(name.tenant, name.session, label.kind, label.lane, label.source, label.actor)
        head = header(
            row.position,
            row.sequence,
            row.time,
            label.version,
            label.category,
            bool(row.terminal),
            row.id,
            row.cause,
            row.request,
            row.traceparent,
            state.leaf,
            texts,
        )
        return leaf_hash(head, digest)

    def _fold(self, row: StoredEvent) -> None:
        if self._next - 1 != self.frontier.size + 1:  # a gap was found: what comes after it folds into no known tree
            self._checkpoint = None
            return
        self.frontier.append(row.leaf)
        while self._checkpoint is not None and self._checkpoint.size <= self.frontier.size:
            kept, self._checkpoint = self._checkpoint, next(self._checkpoints, None)
            if kept.size != self.frontier.size or kept.root != self.frontier.root():
                # Somewhere since the last sound checkpoint, unless a finding says where.
                position = kept.size if self.findings else self._sound + 1
                self._find(position, f"the tree's root does not match its checkpoint at position {kept.size}")
            elif kept.frontier != self.frontier.dump():
                self._find(kept.size, "the tree's checkpoint is damaged")
            else:
                self._sound = kept.size
