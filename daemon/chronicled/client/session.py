"""A session as a client sees it."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import anyio
import msgspec

from chronicled.client.ending import Ending
from chronicled.client.exports import SessionExport, open_export
from chronicled.client.feed import follow, read
from chronicled.client.file_transfers import FileTransfers
from chronicled.client.recorded import WAIT_SECONDS, Recorded, decode
from chronicled.client.secret_keeping import SecretKeeping
from chronicled.client.transport import LOST, Transport
from chronicled.events.cursor import Cursor
from chronicled.events.envelope import Event
from chronicled.events.errors import ActionEnded, ActionNotRunning, ChronicledError, InvalidRequest, RangeNotSatisfiable
from chronicled.events.ids import SystemIds
from chronicled.events.parts import BLOBS

__all__ = ["ActionStatus", "Session", "events"]

CLOSE_SECONDS_MAX: Final = 10.0
SIZE_HEADER: Final = "X-Output-Size"
"""The daemon sends it with the output of an action that has ended."""


class ActionStatus(msgspec.Struct, frozen=True):
    """An action, its status as folded from the log, and its end where it has one."""

    action: Event
    status: str
    needs_input: bool = False
    """While it runs: whether it waits for somebody to type (`Session.input`)."""
    observation: Event | None = None

    @property
    def ending(self) -> Ending | None:
        """The end, or None while there is none."""
        return None if self.observation is None else Ending.of(self.action, self.observation)


_status = msgspec.json.Decoder(ActionStatus)


class _Opened(msgspec.Struct):
    actions: list[ActionStatus]
    next: int
    at_end: bool


_opened = msgspec.json.Decoder(_Opened)


class _Recorded(msgspec.Struct):
    action: Event
    observation: Event | None = None


class _Asked(msgspec.Struct):
    event: Event


_asked = msgspec.json.Decoder(_Asked)
_recorded = msgspec.json.Decoder(_Recorded)


class Session(FileTransfers, SecretKeeping):
    """One agent's environment and its event stream.

    Every action that is submitted here carries an id of its own from the first attempt, so that a retry after a lost
    connection is the same action, never a second one.
    """

    def __init__(self, transport: Transport, name: str, ids: SystemIds) -> None:
        super().__init__(transport, f"/v1/sessions/{quote(name, safe='')}", ids)
        self.name = name

    async def pause(self) -> Event:
        """Have the sandbox stopped where it is, once no action of the session is open; the next action resumes it.

        Raises:
            InvalidRequest: its runtime cannot.
            SessionClosed: it is over.
        """
        return await self._ask("pause")

    async def resume(self) -> Event:
        """Have a paused sandbox go on."""
        return await self._ask("resume")

    async def restart(self, reason: str = "") -> Event:
        """Have the sandbox ended: what runs is lost, and the next action meets a new generation."""
        return await self._ask("restart", {"reason": reason})

    async def keep_alive(self) -> Event:
        """Begin the session's idle deadline anew."""
        return await self._ask("keep-alive")

    async def _ask(self, word: str, body: Mapping[str, Any] | None = None) -> Event:
        answer = await self._transport.request("POST", f"{self._path}/{word}", body)
        return _asked.decode(answer).event

    async def submit(
        self,
        kind: str,
        payload: Mapping[str, Any] | msgspec.Struct,
        *,
        lane: str = "main",
        id: str | None = None,
        expected_sequence: int | None = None,
    ) -> Event:
        """Submit an action and return it once it is durable; do not wait for its end.

        Raises:
            UnknownKind, InvalidPayload, PayloadTooLarge: it is not valid; nothing was written.
            SessionNotFound, SessionClosed, SequenceMismatch, IdReused: the log says no; nothing was written.
            StorageFull, NotReachable: not now.

        Cancellation: the action may or may not be in the log; submit it again under the same `id` to be sure.
        """
        answer = await self._submit(kind, payload, lane, id, expected_sequence, 0)
        return answer.action

    async def _submit(
        self,
        kind: str,
        payload: Mapping[str, Any] | msgspec.Struct,
        lane: str,
        id: str | None,
        expected_sequence: int | None,
        seconds: int,
    ) -> Recorded:
        body: dict[str, Any] = {"kind": kind, "payload": payload, "lane": lane, "id": id or self._ids.new()}
        if expected_sequence is not None:
            body["expected_sequence"] = expected_sequence
        headers = {"Prefer": f"wait={seconds}"} if seconds else None
        answer = await self._transport.request(
            "POST", f"{self._path}/actions", body, headers=headers, wait_seconds=seconds
        )
        return decode(answer)

    async def act(
        self,
        kind: str,
        payload: Mapping[str, Any] | msgspec.Struct,
        *,
        lane: str = "main",
        id: str | None = None,
    ) -> Ending:
        """Submit a runnable action and wait for its end, however long that takes and whatever restarts meanwhile.

        Raises:
            As `submit`; the way the action itself ended is in the returned value, never an error.
        """
        recorded = await self._submit(kind, payload, lane, id, None, WAIT_SECONDS)
        if recorded.observation is not None:
            return Ending.of(recorded.action, recorded.observation)
        return await self.wait(recorded.action.id)

    async def run(
        self,
        command: str | Sequence[str],
        *,
        timeout_seconds: float | None = None,
        lane: str = "main",
        id: str | None = None,
        **options: Any,
    ) -> Ending:
        """Run a command line in the lane's shell, or a program without any shell, and wait for its end.

        Args:
            command: What bash gets; a list is a program and its arguments, each as it is.
            timeout_seconds: Command deadline; None takes the daemon's default.
            lane: Which of the session's shells.
            id: The action's id (a UUID): to run it again under the same id is to get its end, and no second run.
            options: Further fields of the `run` payload, e.g. `environment`, `tty`.

        Raises:
            InvalidRequest: the deadline is no number of seconds: JSON has no infinity, and none is not meant.
            As `act` otherwise.
        """
        if timeout_seconds is not None and not math.isfinite(timeout_seconds):
            raise InvalidRequest(f"timeout_seconds is a number of seconds, not {timeout_seconds}.")
        what = {"command": command} if isinstance(command, str) else {"argv": list(command)}
        return await self.act("run", {**what, "timeout_seconds": timeout_seconds, **options}, lane=lane, id=id)

    async def open_actions(self) -> AsyncIterator[ActionStatus]:
        """Yield what runs in the session and what waits for its turn, in the log's order."""
        after, at_end = 0, False
        while not at_end:
            answer = await self._transport.request("GET", f"{self._path}/actions", query={"after": str(after)})
            page = _opened.decode(answer)
            for status in page.actions:
                yield status
            after, at_end = page.next, page.at_end

    async def status(self, action: str) -> ActionStatus:
        """Return the action's status.

        Raises:
            ActionNotFound: the session has no such action.
        """
        return _status.decode(await self._transport.request("GET", self._action(action)))

    async def wait(self, action: str) -> Ending:
        """Wait for the end of a runnable action; across restarts of the daemon.

        Raises:
            ActionNotFound: the session has no such action.
            ActionNotRunning: the action is only recorded, so that no end will come.
        """
        state = await self.status(action)
        if state.status == "recorded":
            raise ActionNotRunning(f"A {state.action.kind} is only recorded; there is no end to wait for.")
        if state.ending is not None:
            return state.ending
        # Everything behind the action itself: its end cannot have come before.
        async with aclosing(self.events(after=state.action.position, kinds=[state.action.kind])) as events:
            async for event in events:
                if event.cause == action and event.category == "observation":
                    return Ending.of(state.action, event)
        raise AssertionError("a feed that is followed has no end")

    async def cancel(self, action: str, reason: str = "") -> None:
        """Ask for the action's end; it ends `cancelled`, unless it ends by itself before.

        Raises:
            ActionEnded: it had ended.
        """
        lost = False

        def note_loss() -> None:
            nonlocal lost
            lost = True

        try:
            await self._transport.request(
                "POST", f"{self._action(action)}/cancel", {"reason": reason}, on_loss=note_loss
            )
        except ActionEnded:
            # Sent again after a lost answer, it meets its own success; the end is what was asked for.
            if not lost:
                raise

    async def interrupt(self, action: str, signal: str = "SIGINT") -> None:
        """Send a signal to the running action, as Ctrl-C does. Never sent twice by itself.

        Raises:
            ActionEnded, ActionNotRunning: it does not run.
        """
        await self._transport.request("POST", f"{self._action(action)}/interrupt", {"signal": signal}, repeatable=False)

    async def input(self, action: str, data: str | bytes) -> None:
        """Type something to the running action. Never typed twice by itself.

        Raises:
            ActionEnded, ActionNotRunning: it does not run.
            NotReachable: the connection was lost; whether it was typed, the session's events tell.
        """
        if isinstance(data, str):
            body = {"data": data, "encoding": "utf-8"}
        else:
            body = {"data": base64.b64encode(data).decode(), "encoding": "base64"}
        await self._transport.request("POST", f"{self._action(action)}/input", body, repeatable=False)

    async def output(self, action: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes that the action printed, from `offset`, following it live until its end.

        A lost connection is taken up again at the byte where it broke. Close it (`contextlib.aclosing`) when you leave
        it early.
        """
        pauses = self._transport.pauses()
        while True:
            try:
                async with self._transport.stream(
                    f"{self._action(action)}/output", {"offset": str(offset)}, {}
                ) as response:
                    whole = SIZE_HEADER in response.headers
                    async for chunk in response.content.iter_any():
                        pauses = self._transport.pauses()
                        offset += len(chunk)
                        yield chunk
                if whole:
                    return
                # A live answer ends with its action, but also when the daemon stops: one more read tells which.
                if (await self.status(action)).observation is not None:
                    continue
                lost: Exception = ConnectionError("the daemon ended the output")
            except RangeNotSatisfiable:
                return  # less was kept than had been seen live: there is no more
            except LOST as error:
                lost = error
            except ChronicledError as error:
                if not error.retryable:
                    raise
                lost = error
            if (pause := next(pauses, None)) is None:
                raise self._transport.unreachable(lost) from None
            await asyncio.sleep(pause)

    def events(
        self, after: int | str = 0, *, follow: bool = True, kinds: Sequence[str] = ()
    ) -> AsyncGenerator[Event, None]:
        """Yield the session's events behind the cursor `after`, each once, in order.

        With `follow` it goes on for ever and survives reconnects by itself; without, it ends at the log's end. Close it
        (`contextlib.aclosing`) when you leave it early.

        Raises:
            CursorGone: the cursor is of another incarnation of the log.
        """
        return events(self._transport, f"{self._path}/events", after, follow, kinds)

    def export(
        self,
        format: str,
        variant: str | None = None,
        *,
        after: int = 0,
        lane: str | None = None,
        idle_limit: float | None = None,
    ) -> AbstractAsyncContextManager[SessionExport]:
        """Take the session out in another system's format, as it stands at one position: `async with` it.

        Args:
            format: `jsonl`, `cloudevents`, `openhands`, `atif` or `asciicast`.
            variant: Which form of it; None takes the format's first.
            after: Only events behind this position.
            lane: asciicast: only this lane.
            idle_limit: asciicast: longest silence when played, in seconds.

        Raises, when it is entered:
            InvalidRequest: there is no such format or variant, or an option is for another one.
            Overloaded: the daemon makes as many exports as it may.
            SecretsUnavailable: the session's secrets cannot be read, so nothing of it is shown.
            NotReachable: no daemon answers.
        """
        given = {"format": format, "variant": variant, "after": after or None, "lane": lane, "idle_limit": idle_limit}
        query = {name: str(value) for name, value in given.items() if value is not None}
        return open_export(self._transport, f"{self._path}/export", query)

    async def payload(self, event: Event) -> dict[str, Any]:
        """Return the payload of an event of the session as plain JSON values, its large parts read from their blobs.

        Raises:
            BlobNotFound: a blob that it names is lost.
            InvalidRequest: nobody can read it; `event.opaque` says why.
        """
        if event.opaque is not None:
            raise InvalidRequest(f"The payload of event {event.id} cannot be read: {event.opaque}.")
        payload: dict[str, Any] = msgspec.json.decode(event.payload)
        named: Mapping[str, str] = payload.get(BLOBS, {})
        for field, digest in named.items():
            payload[field] = (await self.blob(digest)).decode()
        return payload | {BLOBS: {}} if named else payload

    async def blob(self, digest: str) -> bytes:
        """Return a blob that an event of the session names, whole.

        Raises:
            BlobNotFound: no event of the session names it.
        """
        async with aclosing(self.read_blob(digest)) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def read_blob(self, digest: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a blob from `offset` on, piece by piece; a lost connection is taken up where it broke.

        Raises:
            BlobNotFound: no event of the session names it.
        """
        pauses = self._transport.pauses()
        while True:
            try:
                async with self._transport.stream(
                    f"{self._path}/blobs/{quote(digest, safe='')}", {}, {"Range": f"bytes={offset}-"} if offset else {}
                ) as response:
                    async for chunk in response.content.iter_any():
                        pauses = self._transport.pauses()
                        offset += len(chunk)
                        yield chunk
                return
            except RangeNotSatisfiable:
                return  # the connection broke behind the last byte
            except LOST as error:
                lost: Exception = error
            except ChronicledError as error:
                if not error.retryable:
                    raise
                lost = error
            if (pause := next(pauses, None)) is None:
                raise self._transport.unreachable(lost) from None
            await asyncio.sleep(pause)

    async def show(self) -> dict[str, Any]:
        """Return what the daemon tells of the session."""
        shown: dict[str, Any] = msgspec.json.decode(await self._transport.request("GET", self._path))
        return shown

    async def close(self) -> None:
        """Close the session: queued actions end `rejected`, the sandbox goes, the record stays. Idempotent."""
        await self._transport.request("DELETE", self._path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session, in at most ten seconds, also when the block is cancelled."""
        with anyio.move_on_after(CLOSE_SECONDS_MAX, shield=True):
            await self.close()

    def _action(self, id: str) -> str:
        return f"{self._path}/actions/{quote(id, safe='')}"


def events(
    transport: Transport, path: str, after: int | str, follows: bool, kinds: Sequence[str]
) -> AsyncGenerator[Event, None]:
    """Yield the events of a feed; see `Session.events`."""
    return (follow if follows else read)(transport, path, Cursor.parse(str(after)), kinds)
