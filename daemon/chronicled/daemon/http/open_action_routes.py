"""What is open in a session: what runs, and what waits for its turn."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web

from chronicled.daemon.http.bodies import ActionPage, ActionView
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import VersionHeaders, versions
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.errors import InvalidName, SessionNotFound, VersionUnavailable
from chronicled.events.ids import check_name
from chronicled.events.limits import PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX
from chronicled.events.presentation import Presentation
from chronicled.storage.projections import Projections

__all__ = ["OpenActionRoutes"]

PAGE_BYTES: Final = 1 << 20
"""A page ends with the action that makes its payloads this long."""


class OpenActionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of open actions."""

    after: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    """Position of the last action that was seen."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_EVENTS_MAX)] = PAGE_EVENTS_DEFAULT


class OpenActionRoutes:
    """The route of open actions.

    Args:
        projections: Tells what is open.
        presentation: Shows actions in the versions that the caller understands.
    """

    def __init__(self, projections: Projections, presentation: Presentation) -> None:
        self._projections = projections
        self._presentation = presentation

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        return (
            Route(
                method="GET",
                path="/v1/sessions/{session}/actions",
                name="list_open_actions",
                summary="List what runs in a session, and what waits for its turn",
                handler=self.list,
                query=OpenActionQuery,
                headers=VersionHeaders,
                answers={200: Answer("A page of open actions.", {"application/json": (ActionPage,)})},
                problems=(SessionNotFound, InvalidName, VersionUnavailable),
            ),
        )

    async def list(self, call: Call) -> web.Response:
        """List open actions in the order of the log."""
        session = check_name(call.path["session"], "session name")
        query, shown = call.query(OpenActionQuery), versions(call)
        if await self._projections.session(call.caller.tenant, session) is None:
            raise SessionNotFound(f"There is no session {session!r}.")
        fold = self._projections.find(call.caller.tenant, session)
        views: list[ActionView] = []
        size, after, at_end = 0, query.after, True
        for action in [] if fold is None else fold.open_actions():
            if action.position <= query.after:
                continue
            if len(views) == query.limit or size >= PAGE_BYTES:
                at_end = False
                break
            status = "queued" if fold is None else fold.status(action.id) or "queued"
            awaits = fold is not None and fold.awaiting(action.id) is not None
            needs_input = awaits if status == "running" else msgspec.UNSET
            told = self._presentation.show(action, shown)
            views.append(ActionView(action=told, status=status, needs_input=needs_input))
            size, after = size + len(bytes(action.payload)), action.position
        return json_response(ActionPage(actions=tuple(views), next=after, at_end=at_end))
