"""A small log to project: every kind of event that a projection looks at, in orders that a daemon could write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Category, Draft, Event
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.actions import Message, Run
from chronicled.events.kinds.lifecycle import (
    CancelRequested,
    GenerationEnded,
    GenerationStarted,
    InputSent,
    LaneRestarted,
    SandboxRemoved,
    SandboxRequested,
    SessionClaimed,
    SessionClosed,
    SessionCreated,
)
from chronicled.events.kinds.observations import RunObservation
from chronicled.events.lanes import SessionFold
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.registry import builtin_registry
from chronicled.events.store import Append, EventStore
from chronicled.events.worker_log import SessionKey

CODEC = Codec(builtin_registry())
IDS = SystemIds()


class Writer:
    """Appends to a store what the daemon and its worker would."""

    def __init__(self, store: EventStore, session: str = "s", tenant: str = "default") -> None:
        self.store = store
        self.key = SessionKey(tenant, session)

    def draft(
        self,
        category: Category,
        kind: str,
        payload: msgspec.Struct,
        *,
        lane: str = "main",
        cause: str | None = None,
        source: str = "daemon",
    ) -> Draft:
        """Return a draft for the session."""
        return CODEC.draft(
            category,
            kind,
            payload,
            tenant=self.key.tenant,
            session=self.key.session,
            id=IDS.new(),
            lane=lane,
            cause=cause,
            source=source,
        )

    async def append(self, *drafts: Draft, create: bool = False) -> tuple[Event, ...]:
        """Append the drafts in one commit."""
        return (await self.store.append(Append(drafts, create=create))).events

    async def lifecycle(self, kind: str, payload: msgspec.Struct, **more: Any) -> Event:
        """Append a lifecycle event."""
        create = kind == "session_created"
        return (await self.append(self.draft(LIFECYCLE, kind, payload, **more), create=create))[0]

    async def create(self, **fields: Any) -> Event:
        """Create the session."""
        return await self.lifecycle("session_created", SessionCreated(runtime="process", **fields))

    async def close(self) -> Event:
        """Close the session."""
        return await self.lifecycle("session_closed", SessionClosed())

    async def run(self, command: str = "true", lane: str = "main") -> Event:
        """Submit a command."""
        return (await self.append(self.draft(ACTION, "run", Run(command=command), lane=lane, source="client")))[0]

    async def message(self) -> Event:
        """Submit what is only recorded."""
        return (await self.append(self.draft(ACTION, "message", Message(content="hello"), source="client")))[0]

    async def end(self, action: Event, outcome: Outcome = Outcome.OK) -> Event:
        """End a command."""
        payload = RunObservation(outcome=outcome, effects=Effects.COMPLETE, exit_code=0)
        return (await self.append(self.draft(OBSERVATION, "run", payload, lane=action.lane, cause=action.id)))[0]

    async def cancel(self, action: Event) -> Event:
        """Ask for a command's end."""
        return await self.lifecycle("cancel_requested", CancelRequested(), cause=action.id, lane=action.lane)

    async def type(self, action: Event) -> Event:
        """Type to a command."""
        return await self.lifecycle("input_sent", InputSent(data="y\n"), cause=action.id, lane=action.lane)

    async def claim(self) -> Event:
        """Claim the session."""
        return await self.lifecycle("session_claimed", SessionClaimed(worker="w", boot_id="b"))

    async def sandbox(self, name: str) -> Event:
        """Ask for a sandbox."""
        return await self.lifecycle("sandbox_requested", SandboxRequested(sandbox=name, runtime="process"))

    async def removed(self, name: str) -> Event:
        """Remove a sandbox."""
        return await self.lifecycle("sandbox_removed", SandboxRemoved(sandbox=name, reason="closed"))

    async def started(self, sandbox: str, generation: str) -> Event:
        """Start a generation."""
        payload = GenerationStarted(
            sandbox=sandbox,
            generation=generation,
            runtime="process",
            boot_id="b",
            handle={"pid": 1},
            kinds=["run"],
            start_seconds=0.1,
        )
        return await self.lifecycle("generation_started", payload)

    async def ended(self, sandbox: str, generation: str) -> Event:
        """End a generation."""
        payload = GenerationEnded(sandbox=sandbox, generation=generation, reason="killed")
        return await self.lifecycle("generation_ended", payload)

    async def restarted(self, lane: str) -> Event:
        """Restart a lane's shell."""
        return await self.lifecycle("lane_restarted", LaneRestarted(generation="g", reason="shell_exited"), lane=lane)


async def everything(store: EventStore) -> list[Event]:
    """Return the whole log."""
    events: list[Event] = []
    while not (page := await store.read(len(events), 1000)).at_end or not events:
        events += page.events
    return events + [event for event in page.events if event.position > len(events)]


def facts(fold: SessionFold) -> dict[str, Any]:
    """Return all that can be told from a fold, for comparison."""
    return {
        "claim": fold.claim(1) if fold.created else None,
        "closed": fold.closed,
        "fence": fold.fence,
        "statuses": [(action.id, fold.status(action.id), fold.state_lost(action)) for action in fold],
        "heads": sorted(head.id for head in fold.heads()),
        "cancels": [fold.cancel_requested(action.id) for action in fold],
    }


def fresh_folds(events: Iterable[Event]) -> dict[SessionKey, SessionFold]:
    """Fold a whole log from its start."""
    folds: dict[SessionKey, SessionFold] = {}
    for event in events:
        if event.tenant.startswith("_"):
            continue
        key = SessionKey(event.tenant, event.session)
        folds.setdefault(key, SessionFold(key, CODEC.registry)).apply(event)
    return folds


def is_over(fold: SessionFold) -> bool:
    """Tell whether nothing is left to do in the session."""
    return fold.closed is not None and fold.sandbox is None and fold.generation is None and not len(fold)
