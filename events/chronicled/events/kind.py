"""What is known of one kind of event at one version of its payload."""

from __future__ import annotations

import msgspec

from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Category
from chronicled.events.outcome import Effects, Outcome

__all__ = ["KindSpec", "Payload", "TerminalPayload", "action", "lifecycle", "observation"]


class Payload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every payload. All fields are written out, defaults too: a later default changes no old event."""


class TerminalPayload(Payload, frozen=True, kw_only=True):
    """What every terminal observation says, whatever its kind; the kind's own fields have defaults.

    They have defaults since an action that never ran (`rejected`, `error`) has nothing to put there.
    """

    outcome: Outcome
    effects: Effects
    reason: str | None = None
    """Stable word for why, e.g. `state_lost`, `no_executor`, `queue_deadline`, `shell_exited`."""
    message: str | None = None
    """The same for a person: what happened and what to do about it."""
    deadline: str | None = None
    """Which deadline fired: `queue`, `start`, `command`, `quiet` or `life`."""
    duration_seconds: float | None = None
    """Monotonic time from start to end inside the sandbox; absent where it never ran."""
    generation: str | None = None
    """The generation that it ran in."""


class KindSpec(msgspec.Struct, frozen=True):
    """One kind at one version: the unit that a registry holds."""

    category: Category
    kind: str
    version: int
    payload: type[msgspec.Struct]
    runnable: bool = False
    """An action that goes to a sandbox."""
    terminal: bool = False
    """An observation that ends its action."""
    parts: tuple[str, ...] = ()
    """Fields whose text becomes a blob when the payload is large; the payload then has a field `blobs: Blobs = {}`. An
    upcaster that renames such a field renames it in `blobs` too."""
    attachment: str | None = None
    """Field of a runnable action that names a blob whose bytes the executor gets as a file beside the payload."""
    becomes: tuple[tuple[str, int], ...] = ()
    """Kind and version that payloads of this version go on as, where that is not the next version of the same kind: the
    kind was renamed, or its payloads have several shapes and these go different ways. An upcaster leads to each."""

    @property
    def key(self) -> tuple[Category, str, int]:
        """The registry's key."""
        return (self.category, self.kind, self.version)


def action(
    kind: str,
    payload: type[msgspec.Struct],
    *,
    version: int = 1,
    runnable: bool = False,
    parts: tuple[str, ...] = (),
    attachment: str | None = None,
    becomes: tuple[tuple[str, int], ...] = (),
) -> KindSpec:
    """Describe an action kind."""
    return KindSpec(
        ACTION, kind, version, payload, runnable=runnable, parts=parts, attachment=attachment, becomes=becomes
    )


def observation(
    kind: str,
    payload: type[msgspec.Struct],
    *,
    version: int = 1,
    terminal: bool = False,
    parts: tuple[str, ...] = (),
    becomes: tuple[tuple[str, int], ...] = (),
) -> KindSpec:
    """Describe an observation kind; a terminal one has the kind of its action."""
    return KindSpec(OBSERVATION, kind, version, payload, terminal=terminal, parts=parts, becomes=becomes)


def lifecycle(
    kind: str, payload: type[msgspec.Struct], *, version: int = 1, becomes: tuple[tuple[str, int], ...] = ()
) -> KindSpec:
    """Describe a lifecycle kind."""
    return KindSpec(LIFECYCLE, kind, version, payload, becomes=becomes)
