"""The client of one daemon."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypedDict, Unpack
from urllib.parse import quote

import msgspec

from chronicled.client.address import Address
from chronicled.client.images import ImageClient
from chronicled.client.session import Session, events
from chronicled.client.transport import Transport
from chronicled.events.envelope import Event
from chronicled.events.errors import ChronicledError, InvalidRequest, NotFound, SessionExists
from chronicled.events.ids import SystemIds, check_name
from chronicled.events.sandbox import SandboxRequest
from chronicled.events.versions import CURRENT, Versions

__all__ = ["Client", "SessionSettings", "connect"]


class SessionSettings(TypedDict, total=False):
    """What a session is made with. What is left out, or None, is the daemon's to choose."""

    runtime: str | None
    """Provider of its sandbox."""
    image: str | None
    """Image of its sandbox, where the runtime has images."""
    labels: Mapping[str, str] | None
    """What the caller wants to find it by."""
    environment: Mapping[str, str] | None
    """Variables of every command in it."""
    life_seconds: float | None
    """When it closes by itself."""
    idle_seconds: float | None
    """It closes by itself when nothing was asked of it for so long, and nothing runs."""
    sandbox: Mapping[str, Any] | SandboxRequest | None
    """What its sandboxes should be given, as `SandboxRequest` has it."""
    secrets: Mapping[str, str] | None
    """Values by name that are kept out of everything that is stored and shown; commands have them in variables of these
    names."""


class Client:
    """Talks to one daemon; made by `connect`. Its methods may be used by many tasks at once."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ids = SystemIds()

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return str(self._transport.address)

    @property
    def images(self) -> ImageClient:
        """The images of its engine."""
        return ImageClient(self._transport, self._ids)

    async def session(
        self, name: str | None = None, *, create: bool = True, **wanted: Unpack[SessionSettings]
    ) -> Session:
        """Return the session of that name, created if there is none; without a name, a new one.

        Args:
            name: Its name; None has the daemon make one.
            create: False takes only a session that exists.
            wanted: What it is made with, see `SessionSettings`. A session that exists gets the secrets too.

        Raises:
            SessionNotFound: there is none, and `create` is False.
            SessionExists: there is one, with another runtime, image or sandbox than asked for.
            InvalidName, InvalidRequest, SecretRefused: what it should be made with is not valid.
            TypeError: there is no such setting.
        """
        if not create:
            if name is None:
                raise InvalidRequest("A session that must exist is found by its name: give one.")
            session = Session(self._transport, check_name(name, "session name"), self._ids)
            await session.show()
            return session
        try:
            return await self.create_session(name, **wanted)
        except SessionExists:
            assert name is not None, "a name that the daemon makes is new"
            session = Session(self._transport, name, self._ids)
            same = {"runtime": wanted.get("runtime"), "image": wanted.get("image")}
            await _check_same(session, same, _given(wanted.get("sandbox")))
            if secrets := wanted.get("secrets"):
                await session.set_environment(secrets=secrets)
            return session

    async def create_session(self, name: str | None = None, **wanted: Unpack[SessionSettings]) -> Session:
        """Create a session, once, however often it had to be asked for; see `session`.

        Raises:
            SessionExists: there is one of that name already.
            InvalidName, InvalidRequest, SecretRefused: what it should be made with is not valid.
            TypeError: there is no such setting.
        """
        if unknown := wanted.keys() - SessionSettings.__annotations__.keys():
            raise TypeError(f"a session has no setting {sorted(unknown)[0]!r}")
        if name is not None:
            check_name(name, "session name")
        body: dict[str, Any] = {setting: value for setting, value in wanted.items() if value is not None}
        for setting in ("labels", "environment", "secrets"):
            if setting in body:
                body[setting] = dict(body[setting])
        body |= {"session": name} if name is not None else {}
        body["sandbox"] = _given(wanted.get("sandbox"))
        body = {setting: value for setting, value in body.items() if value not in (None, {})}
        # The key makes a retry after a lost answer the same creation.
        headers = {"Idempotency-Key": self._ids.new()}
        answer = await self._transport.request("POST", "/v1/sessions", body, headers=headers)
        return Session(self._transport, msgspec.json.decode(answer)["session"], self._ids)

    async def sessions(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the daemon tells of each session, in the order of their creation."""
        after = 0
        while True:
            page = msgspec.json.decode(
                await self._transport.request("GET", "/v1/sessions", query={"after": str(after), "limit": "500"})
            )
            for shown in page["sessions"]:
                yield shown
            if page["at_end"]:
                return
            after = page["next"]

    def events(
        self, after: int | str = 0, *, follow: bool = True, kinds: Sequence[str] = ()
    ) -> AsyncGenerator[Event, None]:
        """Yield the events of all sessions that the caller may see; see `Session.events`."""
        return events(self._transport, "/v1/events", after, follow, kinds)

    async def cursor(self, name: str) -> str:
        """Return the cursor that was saved under the name, `0` where there is none: for `events(after=...)`.

        Raises:
            InvalidName: the name has another form.
        """
        try:
            answer = await self._transport.request("GET", f"/v1/cursors/{quote(name, safe='')}")
        except NotFound:
            return "0"
        return str(msgspec.json.decode(answer)["cursor"])

    async def save_cursor(self, name: str, cursor: int | str) -> None:
        """Have the daemon remember, durably, that everything up to the cursor was taken.

        Args:
            name: Of the consumer, as session names are.
            cursor: Position of the last event that was taken, or `POSITION@INCARNATION`.

        Raises:
            InvalidName: the name has another form.
            InvalidCursor: the log has not been there.
            CursorGone: it is of another incarnation of the log.
            Refused: there are 1000 names already.
        """
        await self._transport.request("PUT", f"/v1/cursors/{quote(name, safe='')}", {"cursor": str(cursor)})

    async def cursors(self) -> list[dict[str, Any]]:
        """Return what the daemon tells of each cursor that was saved, by name: position, time, how far it is behind."""
        cursors: list[dict[str, Any]] = msgspec.json.decode(await self._transport.request("GET", "/v1/cursors"))[
            "cursors"
        ]
        return cursors

    async def delete_cursor(self, name: str) -> None:
        """Forget the cursor of that name.

        Raises:
            NotFound: there is none.
        """
        await self._transport.request("DELETE", f"/v1/cursors/{quote(name, safe='')}")

    async def ready(self, seconds: float = 0.0) -> bool:
        """Tell whether the daemon is ready, asking for at most so many seconds until it is.

        False while it starts, drains, or is not there.
        """
        try:
            await self.until_ready(seconds)
        except ChronicledError:
            return False
        return True

    async def until_ready(self, seconds: float = 0.0) -> None:
        """Return once the daemon is ready.

        Raises:
            NotReachable: nobody answers within so many seconds.
            Unavailable: it still starts, drains, or its disk is full after so many seconds; says which.
        """
        await self._transport.request("GET", "/readyz", retry_seconds=seconds)


@asynccontextmanager
async def connect(
    address: str | None = None,
    *,
    token: str | None = None,
    retry_seconds: float = 30.0,
    answer_seconds: float = 30.0,
    versions: Mapping[str, int] | Versions = CURRENT,
) -> AsyncGenerator[Client, None]:
    """Give a client of the daemon at `address`; the first request makes the connection.

    Args:
        address: A Unix socket's path, `unix:PATH` or `http://HOST:PORT`; None is `CHRONICLED_SOCKET`, else the socket
            of a daemon that was started without flags.
        token: Bearer token, for TCP.
        retry_seconds: How long a lost connection is tried again before `NotReachable` is raised; 0 does not retry.
        answer_seconds: Longest wait for an answer, beside what a request itself asks to wait.
        versions: The newest version of each kind that the caller knows, e.g. `{"run": 1}`: newer ones come as that
            one has them, `VersionUnavailable` where there is no way. Other kinds come in their current versions.
            `STORED` (of `chronicled.client`) has everything come as it stands in the log.

    Raises:
        InvalidRequest: the address, or what `versions` says, has no form that is known.
    """
    transport = Transport(Address.parse(address), token, retry_seconds, answer_seconds, Versions.of(versions))
    try:
        yield Client(transport)
    finally:
        await transport.aclose()


async def _check_same(session: Session, asked: Mapping[str, Any], sandbox: Mapping[str, Any] | None) -> None:
    """Raise where a session that exists is another than is asked for: nobody should run in what he did not name."""
    wanted = {name: value for name, value in asked.items() if value is not None}
    if sandbox:
        whole = msgspec.to_builtins(msgspec.convert(sandbox, SandboxRequest))
        wanted |= {name: whole[name] for name in sandbox}
    if not wanted:
        return
    async with aclosing(session.events(follow=False, kinds=["session_created"])) as events:
        created = (await anext(events)).fields()
    has = created["sandbox"] | created
    for name, value in wanted.items():
        if has.get(name) != value:
            is_now = "none" if has.get(name) is None else has[name]
            raise SessionExists(f"There is a session {session.name!r} already; its {name} is {is_now}, not {value}.")


def _given(sandbox: Mapping[str, Any] | SandboxRequest | None) -> dict[str, Any] | None:
    wanted = msgspec.to_builtins(sandbox) if isinstance(sandbox, SandboxRequest) else dict(sandbox or {})
    return {name: value for name, value in wanted.items() if value is not None} or None
