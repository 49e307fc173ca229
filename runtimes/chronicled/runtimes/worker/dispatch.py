"""Sending: actions, and what is asked of them, each noted in the dispatch journal first."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from chronicled.events import faultpoint
from chronicled.events.clock import parse_time
from chronicled.events.codec import Opaque, attachment_of, encode_json
from chronicled.events.envelope import ACTION, Event
from chronicled.events.errors import BlobNotFound, SecretsUnavailable, StorageFull, StoreFailed
from chronicled.events.kinds.lifecycle import InputSent, InterruptRequested
from chronicled.events.kinds.observations import Progress
from chronicled.events.outcome import Outcome
from chronicled.events.parts import blobs_of, join
from chronicled.runtimes.action_server.frames import Cancel, Dispatch, Input, Interrupt, Result, Resume, Status
from chronicled.runtimes.output.pump import Pump
from chronicled.runtimes.runtime import MemoryMark
from chronicled.runtimes.worker.contents import Contents
from chronicled.runtimes.worker.flight import Flight, Stop
from chronicled.runtimes.worker.generation import Generation
from chronicled.runtimes.worker.handshake import choose_transfer
from chronicled.runtimes.worker.observation import prints
from chronicled.runtimes.worker.reconcile import Journaled, Server, judge
from chronicled.runtimes.worker.refusal import never_ran
from chronicled.runtimes.worker.spool import spooled_results

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Dispatcher"]

PLACEHOLDER: Final = b"<secret:"
"""With it an event's payload may be a redacted one, of which the original is kept apart."""

_log = structlog.get_logger("chronicled.worker")


class Dispatcher:
    """Sends the actions of one session to its generation, and finds again those that were sent before a crash."""

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._context = session.context
        self._joined: dict[str, Any] = {}
        """Payloads whose large parts were read from their blobs, by action; kept until the action has ended."""
        self._reading: set[str] = set()
        self.contents = Contents(session)
        self._content_follows: set[str] = set()
        """Actions that were taken up before their content was here again."""

    def has_parts(self, event: Event) -> bool:
        """Tell whether all that goes with the action is here; if not, it is read, and then its lane advances."""
        if not self._has_content(event):
            return False
        if event.id in self._joined:
            return True
        payload = self._context.codec.decode(event)
        if not blobs_of(payload) and PLACEHOLDER not in bytes(event.payload):
            return True
        if event.id not in self._reading:
            self._reading.add(event.id)
            self._session.spawn(partial(self._read_parts, event, payload))
        return False

    def _has_content(self, event: Event) -> bool:
        spec = self._context.codec.registry.find_current(ACTION, event.kind, event.version)
        if spec is None or spec.attachment is None:
            return True
        attached = self._context.codec.decode(event)
        return isinstance(attached, Opaque) or self.contents.has(event, *attachment_of(spec, attached))

    async def _read_parts(self, event: Event, payload: Any) -> None:
        log, key = self._context.log, self._session.key
        try:
            whole = await self._original(event)
            if whole is None:
                parts = {name: await log.read_blob(key, digest) for name, digest in blobs_of(payload).items()}
                whole = join(payload, parts) if parts else payload
        except (BlobNotFound, SecretsUnavailable) as error:
            if self._session.never_sent(event.id):
                message = f"A part of it is lost, so it cannot run. {error.detail}"
                self._session.end_unsent([(event, never_ran(Outcome.ERROR, "blob_lost", message))])
            return
        finally:
            self._reading.discard(event.id)
        if self._session.fold.find(event.id) is not None:
            self._joined[event.id] = whole
            self._session.advance(event.lane)

    async def _original(self, event: Event) -> Any:
        """Return the payload as the client sent it, None where the log has it so: what runs is the real thing."""
        data = await self._context.log.original(self._session.key, event)
        if data is None:
            return None
        payload = self._context.codec.decode(msgspec.structs.replace(event, payload=msgspec.Raw(data)))
        if isinstance(payload, Opaque):
            raise SecretsUnavailable("What was redacted of it cannot be read by this version.")
        return payload

    def forget(self, action: str) -> None:
        """Let go of what was read for an action, which has ended."""
        self._joined.pop(action, None)
        self._content_follows.discard(action)
        self.contents.forget(action)

    def send(self, generation: Generation, event: Event) -> None:
        """Send the action, for the first time or again under the same id.

        Raises:
            StorageFull: no room for journal or spool; nothing was sent.
            StoreFailed: journal or spool failed otherwise.
        """
        faultpoint.reached("ack_to_dispatch")
        payload = self._joined.get(event.id) or self._context.codec.decode(event)
        assert not isinstance(payload, Opaque), "an action that cannot be read is refused before it is sent"
        spool = self._open_spool(generation, event)
        try:
            self._context.journal.note_dispatch(generation.id, event.id, self._session.publisher.fence)
            faultpoint.reached("journal_to_send")
            mark = None if generation.sandbox is None else generation.sandbox.memory_mark()
            flight = self._session.flights.get(event.id) or self._flight(generation, event, mark)
            generation.send(self._frame(event, payload), spool, self.contents.descriptor(event.id))
        finally:
            os.close(spool)
        self._arm_command_deadline(flight, payload)
        self.pass_on(flight)

    def _frame(self, event: Event, payload: Any) -> Dispatch:
        spec = self._context.codec.registry.find_current(ACTION, event.kind, event.version)
        assert spec is not None, "an action that is not known is not open"
        # The server knows the current version only: an older payload goes out as the codec has migrated it.
        stored = (spec.kind, spec.version) == (event.kind, event.version) and event.id not in self._joined
        data = bytes(event.payload) if stored else encode_json(payload)
        settings = self._context.settings
        content = self.contents.descriptor(event.id)
        return Dispatch(
            action=event.id,
            fence=self._session.publisher.fence,
            lane=event.lane,
            position=event.position,
            kind=spec.kind,
            version=spec.version,
            payload=data,
            timeout_seconds=getattr(payload, "timeout_seconds", None) or settings.command_seconds,
            quiet_seconds=getattr(payload, "quiet_seconds", None),
            output_bytes_max=self._output_bytes_max(event),
            content_bytes=None if content is None else os.fstat(content).st_size,
        )

    def _output_bytes_max(self, event: Event) -> int:
        settings = self._context.settings
        return settings.output_bytes_max if self._is_printed(event) else settings.download_bytes_max

    def _is_printed(self, event: Event) -> bool:
        return prints(self._context.codec.registry.terminal_of(event.kind, event.version))

    def _open_spool(self, generation: Generation, event: Event) -> int:
        path = self._context.directories.action_spool(generation.id, event.id)
        try:
            # Never truncated: when the action is sent again it may have printed already.
            return self._context.disk.open(path, os.O_WRONLY | os.O_CREAT)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}:
                raise StorageFull(f"The output spool cannot be opened: {error.strerror}.") from error
            raise StoreFailed(f"The output spool cannot be opened: {error}.") from error

    def _flight(self, generation: Generation, event: Event, mark: MemoryMark | None) -> Flight:
        context, session, printed = self._context, self._session, self._is_printed(event)
        live = context.board.begin((session.key.tenant, session.key.session, event.id))
        pump = Pump(
            context.directories.action_spool(generation.id, event.id),
            live,
            context.directories.output_file(generation.id, event.id),
            # What is no text but bytes keeps its length, so that what they say of their own places stays true.
            context.codec.rules.stream(
                event.kind,
                context.redaction.stream(session.key.tenant, session.key.session, keep_length=not printed),
                keep_length=not printed,
            ),
            self._output_bytes_max(event),
            context.clock,
            context.threads,
            partial(session.publisher.progress, event) if printed else _nothing_to_show,
        )
        flight = session.flights[event.id] = Flight(event, pump, mark)
        return flight

    def _arm_command_deadline(self, flight: Flight, payload: Any) -> None:
        settings = self._context.settings
        seconds = getattr(payload, "timeout_seconds", None) or settings.command_seconds
        if seconds:
            self._arm(flight, seconds + settings.grace_seconds, "command")

    def _arm(self, flight: Flight, seconds: float, stop: Stop) -> None:
        # The backstop: the action server keeps these deadlines itself, unless it does not answer.
        flight.timers.append(self._session.later(seconds, partial(self._overdue, flight, stop)))

    def _overdue(self, flight: Flight, stop: Stop) -> None:
        if not flight.ending and flight.event.id in self._session.flights:
            flight.stop = flight.stop or stop
            self._session.life.put_down(f"{stop}_unanswered")

    def reattach(self, generation: Generation, event: Event) -> Flight:
        """Take up an action that a worker before this one has sent."""
        journal = self._context.journal
        if not journal.dispatched(generation.id, event.id):
            journal.note_dispatch(generation.id, event.id, self._session.publisher.fence)
        # It did not begin before it was in the log; what the kernel had counted by then nobody remembers.
        mark = MemoryMark(parse_time(event.time) * 1000)
        flight = self._session.flights.get(event.id) or self._flight(generation, event, mark)
        self._resume(generation, event)
        payload = self._context.codec.decode(event)
        if not isinstance(payload, Opaque):
            # When it began is not known here; the server's own deadline is exact, this one only stands behind it.
            self._arm_command_deadline(flight, payload)
        return flight

    def _resume(self, generation: Generation, event: Event) -> None:
        if generation.link is None:
            return
        # With descriptors the server has kept those of its actions.
        inband = generation.hello is not None and choose_transfer(generation.hello) == "inband"
        follows = inband and not self._has_content(event)
        if follows:
            self._content_follows.add(event.id)
        spool = self._open_spool(generation, event)
        try:
            resume = Resume(action=event.id, offset=0, content_follows=follows)
            generation.send(resume, spool, self.contents.descriptor(event.id))
        finally:
            os.close(spool)

    def may_have_sent(self, generation: Generation, event: Event) -> bool:
        """Tell whether a result of the action can be true: one that was never sent has none."""
        journal = self._context.journal
        if journal.vouches(generation.id):
            return journal.dispatched(generation.id, event.id)
        return self._session.fold.head(event.lane) is event

    def reconcile(self, generation: Generation, status: Status) -> None:
        """Judge every open action by what the live server says (table in `reconcile`), and act on it.

        Raises:
            StorageFull, StoreFailed: the journal cannot be written.
        """
        session, journal = self._session, self._context.journal
        running, done = frozenset(status.running), frozenset(status.done)
        vouched = journal.vouches(generation.id)
        opened = session.fold.open_actions()
        spooled: dict[str, Result] = {}
        # Blocks for a while where the spool is large, so only for what may have ended unheard.
        if any(
            event.id not in running and (not vouched or journal.dispatched(generation.id, event.id)) for event in opened
        ):
            spooled = spooled_results(self._context.directories.results(generation.id))
        for event in opened:
            flight = session.flights.get(event.id)
            if flight is not None and flight.ending:
                continue
            server: Server = "running" if event.id in running else "done" if event.id in done else "absent"
            noted: Journaled = "unsent" if vouched else "untrusted"
            if journal.dispatched(generation.id, event.id):
                noted = "sent"
            head = session.fold.head(event.lane) is event
            verdict = judge("alive", server, event.id in spooled, noted, head)
            if verdict == "reattach":
                flight = self.reattach(generation, event)
                flight.pump.notice(self._output_bytes_max(event))
                session.start_pump(flight)
            elif verdict == "collect":
                result = spooled.get(event.id)
                flight = self.reattach(generation, event)
                if result is not None:
                    session.on_frame(generation, result)
            elif verdict == "resend" and self.has_parts(event):
                # Else it goes out as any head of a lane does, once its parts are here.
                self.send(generation, event)
        journal.vouch(generation.id, session.publisher.fence)
        session.life.undecided = False

    def pass_on(self, flight: Flight) -> None:
        """Send what was asked of a flying action and was not sent yet: a cancel again over each link, others once."""
        generation, session = self._session.generation, self._session
        if generation is None or not generation.ready or flight.ending:
            return
        action = flight.event.id
        if action in self._content_follows and self.contents.descriptor(action) is not None:
            self._content_follows.discard(action)
            self._resume(generation, flight.event)
        closed = session.fold.closed is not None
        if (closed or session.fold.cancel_requested(action)) and not flight.cancelled:
            flight.cancelled = True
            generation.send(Cancel(action=action))
            self._arm(flight, self._context.settings.grace_seconds, "cancel")
        for event in session.fold.requests(action):
            if event.kind != "cancel_requested" and event.id not in flight.sent:
                if PLACEHOLDER in bytes(event.payload) and event.id not in self._joined:
                    self._fetch_request(flight, event)
                    return  # those behind it wait: what is typed comes in order
                flight.sent.add(event.id)
                if event.kind == "input_sent":
                    flight.pump.note_input()
                self._pass_once(generation, action, event)

    def _fetch_request(self, flight: Flight, event: Event) -> None:
        if event.id in self._reading:
            return
        self._reading.add(event.id)

        async def fetch() -> None:
            try:
                self._joined[event.id] = await self._original(event) or self._context.codec.decode(event)
            except SecretsUnavailable as error:
                _log.warning("request_lost", session=self._session.key.session, detail=error.detail)
                flight.sent.add(event.id)
            finally:
                self._reading.discard(event.id)
            self.pass_on(flight)

        self._session.spawn(fetch)

    def _pass_once(self, generation: Generation, action: str, event: Event) -> None:
        journal = self._context.journal
        if journal.requested(generation.id, event.id):
            return
        frame = self._request_frame(action, event)
        if frame is not None:
            journal.note_request(generation.id, event.id, self._session.publisher.fence)
            generation.send(frame)

    def _request_frame(self, action: str, event: Event) -> Input | Interrupt | None:
        payload = self._joined.pop(event.id, None) or self._context.codec.decode(event)
        if isinstance(payload, InterruptRequested):
            return Interrupt(action=action, signal=signal.Signals[payload.signal].value)
        if isinstance(payload, InputSent):
            try:
                text = payload.data
                data = text.encode() if payload.encoding == "utf-8" else base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError, UnicodeEncodeError):
                return None
            return Input(action=action, data=data)
        return None


async def _nothing_to_show(_progress: Progress) -> None:
    """Show nothing of bytes that are not for people."""
