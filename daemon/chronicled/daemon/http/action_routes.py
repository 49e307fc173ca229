"""Actions: submit, show, cancel, type to, interrupt."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web

from chronicled.daemon.action_request import ActionRequest
from chronicled.daemon.http.bodies import (
    ActionBody,
    ActionRecorded,
    ActionsEnded,
    ActionsRecorded,
    ActionView,
    CancelBody,
    InputBody,
    InterruptBody,
    RequestRecorded,
)
from chronicled.daemon.http.bodies import (
    ActionEnded as ActionEndedView,
)
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import (
    KEY_PATTERN,
    AcceptVersion,
    VersionHeaders,
    idempotency_key,
    submitter,
    versions,
    wait_seconds,
)
from chronicled.daemon.http.route import Answer, Handler, Route
from chronicled.daemon.metrics import outcome_of
from chronicled.daemon.submission import Submission
from chronicled.daemon.waits import Waits
from chronicled.events.envelope import ACTION, Event
from chronicled.events.errors import (
    ActionEnded,
    ActionNotFound,
    ActionNotRunning,
    BlobNotFound,
    IdReused,
    InvalidName,
    InvalidPayload,
    InvalidRequest,
    SequenceMismatch,
    SessionClosed,
    SessionNewer,
    SessionNotFound,
    StorageFull,
    UnknownKind,
    VersionUnavailable,
)
from chronicled.events.kinds.lifecycle import CancelRequested, InputSent, InterruptRequested
from chronicled.events.presentation import Presentation
from chronicled.events.store import Append, Appended, EventStore
from chronicled.events.versions import CURRENT, Versions
from chronicled.storage.projections import Projections

__all__ = ["ActionRoutes"]

JSON = "application/json"


class SubmitHeaders(msgspec.Struct, frozen=True):
    """Headers of a submission."""

    idempotency_key: Annotated[str, msgspec.Meta(pattern=KEY_PATTERN)] | None = None
    """Makes a retry safe: the same key gives the same action."""
    prefer: str | None = None
    """`wait=SECONDS`: answer when the action has ended, or after so long. Other preferences are left alone."""
    accept_version: AcceptVersion | None = None


class ActionRoutes:
    """The routes of actions.

    Args:
        submission: Appends what is asked for.
        store: Answers for actions that have ended.
        projections: Tells what is open, and in which order.
        waits: Tells of ends as they come.
        presentation: Shows events in the versions that the caller understands.
        wait_seconds_max: Longest wait.
        actions_max: Most actions in one request.
    """

    def __init__(
        self,
        submission: Submission,
        store: EventStore,
        projections: Projections,
        waits: Waits,
        presentation: Presentation,
        wait_seconds_max: float,
        actions_max: int,
    ) -> None:
        self._submission = submission
        self._store = store
        self._projections = projections
        self._waits = waits
        self._presentation = presentation
        self._wait_seconds_max = wait_seconds_max
        self._actions_max = actions_max
        self._bodies: msgspec.json.Decoder[ActionBody | list[ActionBody]]
        self._bodies = msgspec.json.Decoder(ActionBody | list[ActionBody])
        self._cancel_body = msgspec.json.Decoder(CancelBody)
        self._input_body = msgspec.json.Decoder(InputBody)
        self._interrupt_body = msgspec.json.Decoder(InterruptBody)

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        action = "/v1/sessions/{session}/actions/{id}"
        absent = (SessionNotFound, ActionNotFound, InvalidName, VersionUnavailable)
        return (
            Route(
                method="POST",
                path="/v1/sessions/{session}/actions",
                name="submit_actions",
                summary="Submit one action, or several side by side",
                handler=self.submit,
                headers=SubmitHeaders,
                body=ActionBody | list[ActionBody],
                answers={
                    202: Answer("In the log; not waited for to its end.", {JSON: (ActionRecorded, ActionsRecorded)}),
                    200: Answer("In the log, and ended.", {JSON: (ActionEndedView, ActionsEnded)}),
                },
                problems=(
                    *(SessionNotFound, BlobNotFound, InvalidName, SessionClosed, UnknownKind, InvalidPayload),
                    *(SessionNewer, IdReused, SequenceMismatch, StorageFull, VersionUnavailable),
                ),
                writes=True,
            ),
            Route(
                method="GET",
                path=action,
                name="show_action",
                summary="Show an action, its status and its end",
                handler=self.show,
                headers=VersionHeaders,
                answers={200: Answer("The action.", {JSON: (ActionView,)})},
                problems=absent,
            ),
            self._request_route("cancel", "Cancel an action", self.cancel, CancelBody),
            self._request_route("input", "Type to a running action", self.input, InputBody),
            self._request_route("interrupt", "Send a signal to a running action", self.interrupt, InterruptBody),
        )

    def _request_route(
        self,
        word: str,
        summary: str,
        handler: Handler,
        body: type[msgspec.Struct],
    ) -> Route:
        return Route(
            method="POST",
            path="/v1/sessions/{session}/actions/{id}/" + word,
            name=f"{word}_action",
            summary=summary,
            handler=handler,
            headers=VersionHeaders,
            body=body,
            body_required=word == "input",
            answers={202: Answer("The request is in the log.", {JSON: (RequestRecorded,)})},
            problems=(
                *(SessionNotFound, ActionNotFound, InvalidName, ActionEnded, ActionNotRunning, StorageFull),
                VersionUnavailable,
            ),
            writes=True,
        )

    async def submit(self, call: Call) -> web.Response:
        """Submit actions, and wait for their ends if that is preferred."""
        body = await call.body(self._bodies)
        single = isinstance(body, ActionBody)
        bodies = [body] if isinstance(body, ActionBody) else body
        if len(bodies) > self._actions_max:
            raise InvalidRequest(f"A request takes at most {self._actions_max} actions.", actions_max=self._actions_max)
        requests = [
            ActionRequest(
                kind=each.kind,
                payload=bytes(each.payload),
                lane=each.lane,
                id=each.id,
                expected_sequence=each.expected_sequence,
            )
            for each in bodies
        ]
        seconds = wait_seconds(call, self._wait_seconds_max)
        shown = self.versions(call)
        append = await self._submission.prepare(submitter(call), call.path["session"], requests, idempotency_key(call))
        return await self.answer(append, requests, seconds, single=single, shown=shown)

    def versions(self, call: Call) -> Versions:
        """Return the versions to answer in, checked before anything is done that could not be told of then."""
        shown = versions(call)
        self._presentation.check(shown, self._store.head)
        return shown

    def shown(self, event: Event, versions: Versions) -> Event:
        """Return an event of what was just done, as its caller understands it."""
        return self._presentation.show(event, versions, refuses=False)

    async def answer(
        self,
        append: Append,
        requests: Sequence[ActionRequest],
        seconds: float | None,
        *,
        single: bool,
        shown: Versions = CURRENT,
    ) -> web.Response:
        """Make the append and answer with it, or wait for the actions' ends for so long and answer with them."""
        await self.check_understood(append)
        if seconds is None:
            appended, found = await self._submission.append(append, requests), dict[str, Event]()
            if appended.repeated:
                found = await self._ends_of(appended.events)
        else:
            appended, found = await self._submit_and_wait(append, requests, seconds)
        actions = tuple(event for event in appended.events if event.category == ACTION)
        # What a policy rejects has ended with its own append.
        found |= {event.cause: event for event in appended.events if event.category != ACTION and event.cause}
        return self._ends(actions, found, single, shown)

    async def check_understood(self, append: Append) -> None:
        """Check that the session is one that this version may work in, or that nothing new is submitted.

        Raises:
            SessionNewer: it holds what only a newer version of the daemon understands, so no action of it would run.
        """
        first = append.drafts[0]
        fold = self._projections.find(first.tenant, first.session)
        if fold is None or fold.newer is None:
            return
        if any([await self._store.find(draft.tenant, draft.id) is None for draft in append.drafts]):
            raise SessionNewer(
                f"A newer version of the daemon wrote {fold.newer.kind} {fold.newer.version} at position "
                f"{fold.newer.position} of session {first.session!r}; until such a version runs again, nothing of the "
                "session is touched. Use another session."
            )

    async def _submit_and_wait(
        self, append: Append, requests: Sequence[ActionRequest], seconds: float
    ) -> tuple[Appended, dict[str, Event]]:
        tenant = append.drafts[0].tenant
        actions = [draft.id for draft in append.drafts if draft.category == ACTION]
        with self._waits.open(tenant, actions) as wait:
            appended = await self._submission.append(append, requests)
            for event in appended.events:
                if event.category == ACTION and not self._submission.runnable(event):
                    wait.drop(tenant, event.id)
            if appended.repeated:
                for end in (await self._ends_of(appended.events)).values():
                    wait.feed(end)
            await wait.ended(seconds)
            return appended, wait.found

    async def _ends_of(self, events: Sequence[Event]) -> dict[str, Event]:
        ends = {event.id: await self._store.terminal(event.tenant, event.id) for event in events}
        return {id: end for id, end in ends.items() if end is not None}

    def _ends(
        self, stored: tuple[Event, ...], ends: dict[str, Event], single: bool, versions: Versions
    ) -> web.Response:
        # What is done is told, whatever of it the caller's versions can say.
        show = self._presentation.show_all
        events = tuple(show(stored, versions, refuses=False))
        found = dict(zip(ends, show(list(ends.values()), versions, refuses=False), strict=True))
        # Only recorded ones have no end to tell: a request of nothing else is answered 202, at once.
        ended = bool(found) and all(event.id in found or not self._submission.runnable(event) for event in stored)
        if single:
            event = events[0]
            if ended:
                return json_response(ActionEndedView(action=event, observation=found[event.id]))
            return json_response(ActionRecorded(action=event), 202, {"Location": _location(event)})
        if ended:
            observations = tuple(found.get(event.id) for event in events)
            return json_response(ActionsEnded(actions=events, observations=observations))
        return json_response(ActionsRecorded(actions=events), 202)

    async def show(self, call: Call) -> web.Response:
        """Show an action."""
        stored, shown = await self._find(call), versions(call)
        action = self._presentation.show(stored, shown)
        fold = self._projections.find(action.tenant, action.session)
        opened = None if fold is None else fold.status(action.id)
        if opened is not None and fold is not None:
            awaits = fold.awaiting(action.id) is not None if opened == "running" else msgspec.UNSET
            return json_response(ActionView(action=action, status=opened, needs_input=awaits))
        observation = await self._store.terminal(action.tenant, action.id)
        if observation is None:
            status = "queued" if self._submission.runnable(stored) else "recorded"
            return json_response(ActionView(action=action, status=status))
        told = self._presentation.show(observation, shown)
        return json_response(ActionView(action=action, status=outcome_of(observation), observation=told))

    async def cancel(self, call: Call) -> web.Response:
        """Cancel an action."""
        body = await call.body(self._cancel_body) if call.request.body_exists else CancelBody()
        shown = self.versions(call)
        action = await self._find_runnable(call)
        fold = self._projections.find(action.tenant, action.session)
        head = fold.head(action.lane) if fold is not None else None
        appended = await self._submission.cancel(submitter(call), action, CancelRequested(reason=body.reason), head)
        request, *end = self._presentation.show_all(appended.events, shown, refuses=False)
        return json_response(RequestRecorded(event=request, observation=end[0] if end else msgspec.UNSET), 202)

    async def input(self, call: Call) -> web.Response:
        """Type to an action."""
        body = await call.body(self._input_body)
        if body.encoding == "base64":
            try:
                base64.b64decode(body.data, validate=True)
            except (binascii.Error, ValueError):
                raise InvalidRequest("data is not base64.", member="data") from None
        return await self._ask(call, "input_sent", InputSent(data=body.data, encoding=body.encoding))

    async def interrupt(self, call: Call) -> web.Response:
        """Send a signal to an action."""
        body = await call.body(self._interrupt_body) if call.request.body_exists else InterruptBody()
        return await self._ask(call, "interrupt_requested", InterruptRequested(signal=body.signal))

    async def _ask(self, call: Call, kind: str, payload: msgspec.Struct) -> web.Response:
        shown = self.versions(call)
        action = await self._find_runnable(call)
        if self._status(action) == "queued":
            raise ActionNotRunning("The action waits behind another one of its lane.")
        appended = await self._submission.ask(submitter(call), action, kind, payload)
        asked = self.shown(appended.events[0], shown)
        return json_response(RequestRecorded(event=asked), 202)

    async def _find(self, call: Call) -> Event:
        return await self._submission.action(call.caller.tenant, call.path["session"], call.path["id"])

    async def _find_runnable(self, call: Call) -> Event:
        action = await self._find(call)
        if not self._submission.runnable(action):
            raise ActionNotRunning(f"A {action.kind} is only recorded; it never runs.")
        return action

    def _status(self, action: Event) -> str | None:
        fold = self._projections.find(action.tenant, action.session)
        return None if fold is None else fold.status(action.id)


def _location(event: Event) -> str:
    return f"/v1/sessions/{event.session}/actions/{event.id}"
