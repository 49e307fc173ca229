"""What an action does, told from the log."""

from __future__ import annotations

from typing import Final

import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import ACTION, Event
from chronicled.events.errors import ActionNotFound
from chronicled.events.store import EventStore
from chronicled.storage.projections.projections import Projections

__all__ = ["ActionStatus", "action_status"]

RECORDED: Final = "recorded"
QUEUED: Final = "queued"


class ActionStatus(msgspec.Struct, frozen=True):
    """An action, what it does, and how it ended if it has."""

    action: Event
    status: str
    """`recorded` for what never runs, `queued`, `running` (the head of its lane), or the outcome."""
    observation: Event | None = None


class _Outcome(msgspec.Struct, frozen=True):
    outcome: str = "unknown"


_outcome = msgspec.json.Decoder(_Outcome)


async def action_status(
    store: EventStore, projections: Projections, codec: Codec, tenant: str, session: str, id: str
) -> ActionStatus:
    """Return the status of the session's action of that id.

    Raises:
        ActionNotFound: the session has none.
    """
    action = await store.find(tenant, id)
    if action is None or action.session != session or action.category != ACTION:
        raise ActionNotFound(f"Session {session!r} has no action {id[:64]!r}.")
    fold = projections.find(tenant, session)
    open_status = None if fold is None else fold.status(id)
    if open_status is not None:
        return ActionStatus(action, open_status)
    # It is not open (any more), so its end, if it has one, is in the log by now.
    observation = await store.terminal(tenant, id)
    if observation is not None:
        return ActionStatus(action, _outcome_of(observation), observation)
    spec = codec.registry.find_current(ACTION, action.kind, action.version)
    return ActionStatus(action, QUEUED if spec is not None and spec.runnable else RECORDED)


def _outcome_of(observation: Event) -> str:
    try:
        return _outcome.decode(observation.payload).outcome
    except (ValueError, RecursionError):
        return "unknown"
