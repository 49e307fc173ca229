"""What the fold of a session makes of events that only a newer version understands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.events.test_kinds import event

from chronicled.events import Append, Codec, Event, Payload, Registry, lifecycle, observation
from chronicled.events.envelope import Draft
from chronicled.events.kind import TerminalPayload
from chronicled.events.kinds import BUILTIN
from chronicled.events.lanes import SessionFold
from chronicled.events.registry import builtin_registry
from chronicled.events.worker_log import SessionKey
from chronicled.storage.memory import MemoryStore
from chronicled.storage.projections import open_projections

REGISTRY = builtin_registry()
KEY = SessionKey("default", "s")
ACTION = "01900000-0000-7000-8000-000000000002"


class Frozen(Payload, frozen=True, kw_only=True):
    """Something of tomorrow."""

    by: str = ""


TOMORROW = Registry(
    [*BUILTIN, lifecycle("session_frozen", Frozen), observation("execute", TerminalPayload, terminal=True)]
)


def fold_of(registry: Registry, *events: Event) -> SessionFold:
    """Return the fold of a session with a `run` that is open, and then of these events."""
    fold = SessionFold(KEY, registry)
    first = (
        event("session_created", b'{"runtime":"process"}', 1, "lifecycle"),
        msgspec.structs.replace(event("run"), id=ACTION),
    )
    for position, each in enumerate((*first, *events), 1):
        fold.apply(msgspec.structs.replace(each, position=position))
    return fold


def of(kind: str, version: int, category: Any = "lifecycle", cause: str | None = None) -> Event:
    """Make an event that is about the action, or not."""
    return msgspec.structs.replace(event(kind, b"{}", version, category), cause=cause)


@pytest.mark.parametrize(
    ("newer", "held"),
    [
        (of("session_frozen", 1), True),
        (of("session_closed", 99), True),
        (of("progress_of_tomorrow", 1, "observation", ACTION), True),
        (of("execute", 1, "observation", ACTION), True),
        (of("execute", 1, "observation", "01900000-0000-7000-8000-00000000000f"), False),
        (of("acme.noted", 1), False),
        (of("acme.asked", 1, "action"), False),
        (of("run", 99, "observation", ACTION), False),
        (of("run", 99, "action"), False),
        (of("network_denied", 1), False),
    ],
)
def test_only_what_may_decide_about_work_holds_a_session(newer: Event, held: bool) -> None:
    """Our own lifecycle kinds, and whatever may be an open action's end; what is known by its name is not in doubt."""
    fold = fold_of(REGISTRY, newer)
    assert (fold.newer is not None) is held


def test_a_version_that_understands_it_goes_on() -> None:
    """With the kinds of tomorrow nothing is held, and the action has ended."""
    events = (of("session_frozen", 1), of("execute", 1, "observation", ACTION))
    assert fold_of(REGISTRY, *events).find(ACTION) is not None
    fold = fold_of(TOMORROW, *events)
    assert fold.newer is None
    assert fold.find(ACTION) is None


async def test_projections_remember_it_until_somebody_understands(tmp_path: Path) -> None:
    """A restart of the same version still holds the session; one of tomorrow folds the log again."""
    path = tmp_path / "projections.sqlite"
    async with await MemoryStore.open() as store:
        created = Draft("default", "s", ACTION, "session_created", 1, "lifecycle", b'{"runtime":"process"}')
        await store.append(Append((created,), create=True))
        frozen = Draft("default", "s", ACTION[:-1] + "3", "session_frozen", 1, "lifecycle", b"{}")
        await store.append(Append((frozen,)))
        for registry, held in ((REGISTRY, True), (REGISTRY, True), (TOMORROW, False), (REGISTRY, True)):
            async with open_projections(path, store, Codec(registry), save_seconds=0.01) as projections:
                fold = projections.find("default", "s")
                assert fold is not None
                assert (fold.newer is not None) is held
