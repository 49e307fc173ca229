"""Named cursors: a consumer that keeps nothing itself says how far it is, and begins there the next time."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import CursorText
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.cursor import Cursor
from chronicled.events.errors import CursorGone, InvalidCursor, InvalidName, NotFound, Refused, StorageFull
from chronicled.events.ids import check_name
from chronicled.events.store import EventStore
from chronicled.storage.cursors import CursorStore, SavedCursor

__all__ = ["CursorRoutes"]


class CursorBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a consumer is."""

    cursor: Annotated[CursorText, msgspec.Meta(max_length=100)]
    """`POSITION` or `POSITION@INCARNATION`: everything up to there was taken."""


class CursorView(msgspec.Struct, frozen=True, kw_only=True):
    """A named cursor."""

    name: str
    cursor: str
    position: int
    time: str
    """When it was saved."""
    behind: int | None
    """How many positions the log has behind it; null when it is of another incarnation, so tells nothing any more."""


class CursorList(msgspec.Struct, frozen=True, kw_only=True):
    """The caller's named cursors, by name."""

    cursors: list[CursorView]


class CursorRoutes:
    """The routes of named cursors, which are the caller's tenant's.

    Args:
        store: The log.
        cursors: Remembers them.
    """

    def __init__(self, store: EventStore, cursors: CursorStore) -> None:
        self._store = store
        self._cursors = cursors
        self._body = msgspec.json.Decoder(CursorBody)

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        json = "application/json"
        path = "/v1/cursors/{cursor}"
        shown = {json: (CursorView,)}
        return (
            Route(
                method="GET",
                path="/v1/cursors",
                name="list_cursors",
                summary="List the named cursors",
                handler=self.list,
                answers={200: Answer("The cursors.", {json: (CursorList,)})},
            ),
            Route(
                method="GET",
                path=path,
                name="show_cursor",
                summary="Show a named cursor",
                handler=self.show,
                answers={200: Answer("The cursor.", shown)},
                problems=(NotFound, InvalidName),
            ),
            Route(
                method="PUT",
                path=path,
                name="save_cursor",
                summary="Remember under a name how far a consumer is",
                handler=self.save,
                body=CursorBody,
                answers={
                    200: Answer("It is remembered, durably, in place of the one before.", shown),
                    201: Answer("It is remembered, durably, under a new name.", shown),
                },
                problems=(InvalidName, InvalidCursor, CursorGone, Refused, StorageFull),
                writes=True,
            ),
            Route(
                method="DELETE",
                path=path,
                name="delete_cursor",
                summary="Forget a named cursor",
                handler=self.delete,
                answers={200: Answer("It was this one, and is forgotten.", shown)},
                problems=(NotFound, InvalidName),
                writes=True,
            ),
        )

    async def list(self, call: Call) -> web.Response:
        """List them."""
        saved = await self._cursors.all(call.caller.tenant)
        return json_response(CursorList(cursors=[self._view(each) for each in saved]))

    async def show(self, call: Call) -> web.Response:
        """Show one."""
        name = call.path["cursor"]
        return self._shown(await self._cursors.find(call.caller.tenant, name), name)

    async def save(self, call: Call) -> web.Response:
        """Save one."""
        body = await call.body(self._body)
        # First: of a name that there cannot be, no cursor is gone.
        name = check_name(call.path["cursor"], "cursor name")
        incarnation = self._store.incarnation
        position = Cursor.parse(body.cursor).resolve(incarnation, self._store.head)
        saved, new = await self._cursors.save(call.caller.tenant, name, position, incarnation)
        return json_response(self._view(saved), 201 if new else 200)

    async def delete(self, call: Call) -> web.Response:
        """Delete one."""
        name = call.path["cursor"]
        return self._shown(await self._cursors.delete(call.caller.tenant, name), name)

    def _shown(self, saved: SavedCursor | None, name: str) -> web.Response:
        if saved is None:
            raise NotFound(f"There is no cursor {name!r}.")
        return json_response(self._view(saved))

    def _view(self, saved: SavedCursor) -> CursorView:
        same = saved.incarnation == self._store.incarnation
        return CursorView(
            name=saved.name,
            cursor=str(saved.cursor),
            position=saved.position,
            time=saved.time,
            behind=self._store.head - saved.position if same else None,
        )
