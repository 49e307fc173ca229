"""Events: the log in pages, or followed as server-sent events; one session's, or all that the caller may see."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web

from chronicled.daemon.http.bodies import EventPage, Name
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.follow import Follower
from chronicled.daemon.http.parameters import AcceptVersion, CursorText, versions
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import Category
from chronicled.events.errors import (
    CursorGone,
    InvalidCursor,
    InvalidName,
    InvalidRequest,
    SessionNotFound,
    VersionUnavailable,
)
from chronicled.events.ids import check_name
from chronicled.events.limits import PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX
from chronicled.events.presentation import Presentation
from chronicled.events.store import EventStore, Filter
from chronicled.events.versions import Versions
from chronicled.storage.cursors import CursorStore

__all__ = ["EventRoutes"]

EMPTY_READS_MAX: Final = 16

KindName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=128)]


class EventQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events."""

    after: CursorText = "0"
    """Cursor, exclusive: `POSITION` or `POSITION@INCARNATION`."""
    cursor: Name | None = None
    """Begin behind the named cursor, at the start where nothing was saved under the name yet; instead of `after`."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_EVENTS_MAX)] = PAGE_EVENTS_DEFAULT
    """Most events of a page; a page of large events may hold fewer. A stream has no end."""
    kind: tuple[KindName, ...] = ()
    """Under a kind's name of today, or a former one, come its events under every name that it ever had."""
    category: tuple[Category, ...] = ()
    source: tuple[Annotated[str, msgspec.Meta(pattern="^(client|worker|daemon)$")], ...] = ()


class EventHeaders(msgspec.Struct, frozen=True):
    """Headers of a read."""

    last_event_id: CursorText | None = None
    """Cursor of a stream that is taken up again; it wins over `after` and `cursor`."""
    accept_version: AcceptVersion | None = None


class EventRoutes:
    """The routes of events.

    Args:
        store: The log.
        follower: Follows it as server-sent events.
        presentation: Shows events in the versions that a reader understands.
        cursors: Remembers how far consumers are.
    """

    def __init__(self, store: EventStore, follower: Follower, presentation: Presentation, cursors: CursorStore) -> None:
        self._cursors = cursors
        self._store = store
        self._presentation = presentation
        self._follower = follower

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        answers = {
            200: Answer(
                "A page of events; with `Accept: text/event-stream` a stream that goes on for ever.",
                {"application/json": (EventPage,), "text/event-stream": ()},
                {"Link": "The next page (`rel=next`)."},
            )
        }
        return (
            Route(
                method="GET",
                path="/v1/sessions/{session}/events",
                name="read_session_events",
                summary="Read or follow a session's events",
                handler=self.read_session,
                query=EventQuery,
                headers=EventHeaders,
                answers=answers,
                problems=(SessionNotFound, InvalidName, InvalidCursor, CursorGone, VersionUnavailable),
            ),
            Route(
                method="GET",
                path="/v1/events",
                name="read_events",
                summary="Read or follow the events of all sessions that the caller may see",
                handler=self.read_all,
                query=EventQuery,
                headers=EventHeaders,
                answers=answers,
                problems=(InvalidName, InvalidCursor, CursorGone, VersionUnavailable),
            ),
        )

    async def read_session(self, call: Call) -> web.StreamResponse:
        """Read or follow one session."""
        session = check_name(call.path["session"], "session name")
        if await self._store.last(call.caller.tenant, session) is None:
            raise SessionNotFound(f"There is no session {session!r}.")
        return await self._read(call, call.caller.tenant, session)

    async def read_all(self, call: Call) -> web.StreamResponse:
        """Read or follow all sessions; an operator also sees what the daemon says of itself."""
        return await self._read(call, None if call.caller.operator else call.caller.tenant, None)

    async def _read(self, call: Call, tenant: str | None, session: str | None) -> web.StreamResponse:
        query, shown = call.query(EventQuery), versions(call)
        after, kinds = await self._after(call, query), frozenset(query.kind)
        where = Filter(
            tenant=tenant,
            session=session,
            kinds=self._presentation.codec.registry.spellings(kinds),
            categories=frozenset(query.category),
            sources=frozenset(query.source),
        )
        if "text/event-stream" in call.request.headers.get("Accept", ""):
            return await self._follower.follow(call, after, where, shown, kinds)
        return await self._page(call, after, query.limit, where, shown, kinds)

    async def _after(self, call: Call, query: EventQuery) -> int:
        cursor = Cursor.parse(query.after)
        if query.cursor is not None:
            if cursor.position:
                raise InvalidRequest("A read begins at `after` or at `cursor`, not at both.", parameter="cursor")
            saved = await self._cursors.find(call.caller.tenant, query.cursor)
            cursor = cursor if saved is None else saved.cursor
        text = call.header("Last-Event-ID")
        return (cursor if text is None else Cursor.parse(text)).resolve(self._store.incarnation, self._store.head)

    async def _page(
        self, call: Call, after: int, limit: int, where: Filter, versions: Versions, kinds: frozenset[str]
    ) -> web.Response:
        # The store cuts a page by bytes and by what it looks at; one that found nothing yet looks on for a while.
        page = await self._store.read(after, limit, where)
        for _ in range(EMPTY_READS_MAX):
            if page.events or page.at_end:
                break
            page = await self._store.read(page.next, limit, where)
        events = tuple(self._presentation.show_all(page.events, versions, kinds))
        incarnation = self._store.incarnation
        path = call.request.raw_path.partition("?")[0]
        return json_response(
            EventPage(events=events, next=page.next, at_end=page.at_end, incarnation=incarnation),
            headers={"Link": f'<{path}?after={page.next}@{incarnation}&limit={limit}>; rel="next"'},
        )
