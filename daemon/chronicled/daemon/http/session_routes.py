"""Sessions: create, list, show, close."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web

from chronicled.daemon.http.bodies import RequestRecorded, RestartBody, SessionBody, SessionPage, SessionView
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import KEY_PATTERN, idempotency_key, submitter
from chronicled.daemon.http.problem import reworded
from chronicled.daemon.http.route import Answer, Handler, Route
from chronicled.daemon.http.secret_routes import secrets_of, without
from chronicled.daemon.secret_changes import Secret
from chronicled.daemon.submission import Submission
from chronicled.events.codec import Codec
from chronicled.events.envelope import ACTION
from chronicled.events.errors import (
    ChronicledError,
    IdReused,
    InvalidName,
    InvalidRequest,
    SandboxRefused,
    SecretRefused,
    SecretsUnavailable,
    SessionClosed,
    SessionExists,
    SessionNotFound,
    StorageFull,
)
from chronicled.events.ids import check_name
from chronicled.events.kinds.lifecycle import (
    GenerationStarted,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    SessionCreated,
    SessionKeptAlive,
)
from chronicled.events.limits import PAGE_EVENTS_DEFAULT, PAGE_EVENTS_MAX
from chronicled.runtimes.runtime import Runtime
from chronicled.storage.projections import Projections, SessionSummary

__all__ = ["SessionRoutes", "session_view"]

CONTAINERS = "docker"
LOCATION = "Where the session is."


class SessionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page of sessions."""

    after: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] = 0
    """Position of the last session's creation that was seen."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_EVENTS_MAX)] = PAGE_EVENTS_DEFAULT


class KeyHeaders(msgspec.Struct, frozen=True):
    """Header of a request that can be retried safely."""

    idempotency_key: Annotated[str, msgspec.Meta(pattern=KEY_PATTERN)] | None = None


class SessionRoutes:
    """The routes of sessions.

    Args:
        submission: Appends what is asked for.
        projections: What the log says of sessions.
        runtimes: Runtimes by name.
        runtime_default: Runtime of a session that names none.
        codec: Reads what sandboxes have said of themselves.
    """

    def __init__(
        self,
        submission: Submission,
        projections: Projections,
        runtimes: Mapping[str, Runtime],
        runtime_default: str,
        codec: Codec,
    ) -> None:
        self._codec = codec
        self._submission = submission
        self._projections = projections
        self._runtimes = runtimes
        self._runtime_default = runtime_default
        self._body: msgspec.json.Decoder[SessionBody] = msgspec.json.Decoder(SessionBody)
        self._restart_body: msgspec.json.Decoder[RestartBody] = msgspec.json.Decoder(RestartBody)

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        shown = {"application/json": (SessionView,)}
        return (
            Route(
                method="POST",
                path="/v1/sessions",
                name="create_session",
                summary="Create a session",
                handler=self.create,
                body=SessionBody,
                body_required=False,
                headers=KeyHeaders,
                answers={
                    201: Answer("The session was created.", shown, {"Location": LOCATION}),
                    200: Answer("The same request created it before.", shown, {"Location": LOCATION}),
                },
                problems=(
                    SessionExists,
                    IdReused,
                    InvalidName,
                    SandboxRefused,
                    StorageFull,
                    SecretRefused,
                    SecretsUnavailable,
                ),
                writes=True,
            ),
            Route(
                method="GET",
                path="/v1/sessions",
                name="list_sessions",
                summary="List sessions in the order of their creation",
                handler=self.list,
                query=SessionQuery,
                answers={200: Answer("A page of sessions.", {"application/json": (SessionPage,)})},
            ),
            Route(
                method="GET",
                path="/v1/sessions/{session}",
                name="show_session",
                summary="Show a session",
                handler=self.show,
                answers={200: Answer("The session.", shown)},
                problems=(SessionNotFound, InvalidName),
            ),
            Route(
                method="DELETE",
                path="/v1/sessions/{session}",
                name="close_session",
                summary="Close a session; closing it again changes nothing",
                handler=self.close,
                answers={200: Answer("The session is closed.", shown)},
                problems=(SessionNotFound, InvalidName, StorageFull),
                writes=True,
            ),
            self._asking("pause", "Stop the session's sandbox where it is, once no action is open", self.pause),
            self._asking("resume", "Let a paused sandbox go on; a new action does it too", self.resume),
            self._asking(
                "restart",
                "End the session's sandbox; the next action meets a new one",
                self.restart,
                RestartBody,
            ),
            self._asking("keep-alive", "Begin the session's idle deadline anew", self.keep_alive),
        )

    @staticmethod
    def _asking(word: str, summary: str, handler: Handler, body: type[msgspec.Struct] | None = None) -> Route:
        return Route(
            method="POST",
            path=f"/v1/sessions/{{session}}/{word}",
            name=f"{word.replace('-', '_')}_session",
            summary=summary,
            handler=handler,
            body=body,
            body_required=False,
            answers={202: Answer("The request is in the log.", {"application/json": (RequestRecorded,)})},
            problems=(SessionNotFound, SessionClosed, InvalidName, SandboxRefused, StorageFull),
            writes=True,
        )

    async def create(self, call: Call) -> web.Response:
        """Create a session."""
        body = await call.body(self._body) if call.request.body_exists else SessionBody()
        secrets = secrets_of(body.secrets)
        try:
            return await self._create(call, body, secrets)
        except ChronicledError as error:
            # There is no session yet whose secrets they are, and they are secret all the same.
            reworded(error, partial(without, secrets))
            raise

    async def _create(self, call: Call, body: SessionBody, secrets: Sequence[Secret]) -> web.Response:
        runtime = body.runtime or self._runtime_default
        if body.runtime is None and body.image is not None and CONTAINERS in self._runtimes:
            runtime = CONTAINERS  # only there an image means something
        if runtime not in self._runtimes:
            known = ", ".join(sorted(self._runtimes))
            raise InvalidRequest(f"There is no runtime {runtime[:100]!r} here; there is {known}.", member="runtime")
        if reasons := self._runtimes[runtime].refuses(body.sandbox, body.image):
            # Now, and not at the first action: nobody should find out later that a limit was dropped.
            raise SandboxRefused(f"The runtime {runtime} cannot give what is asked: {'; '.join(reasons)}.")
        if twice := sorted(body.environment.keys() & {secret.variable for secret in secrets}):
            raise InvalidRequest(f"The variable {twice[0]} is both plain and a secret.", member="secrets")
        payload = SessionCreated(
            runtime=runtime,
            image=body.image,
            labels=body.labels,
            environment=body.environment,
            isolated=self._runtimes[runtime].isolated,
            life_seconds=body.life_seconds,
            idle_seconds=body.idle_seconds,
            sandbox=body.sandbox,
        )
        key = idempotency_key(call)
        try:
            appended = await self._submission.create_session(submitter(call), body.session, payload, key, secrets)
        except IdReused:
            raise IdReused("The Idempotency-Key was used for another session.") from None
        event = appended.events[0]
        return json_response(
            await self._view(call.caller.tenant, event.session),
            200 if appended.repeated else 201,
            {"Location": f"/v1/sessions/{event.session}"},
        )

    async def list(self, call: Call) -> web.Response:
        """List sessions."""
        query = call.query(SessionQuery)
        found, at_end = await self._projections.page(call.caller.tenant, query.after, query.limit)
        views = [session_view(summary) for summary in found]
        after = views[-1].position if views else query.after
        return json_response(SessionPage(sessions=views, next=after, at_end=at_end))

    async def show(self, call: Call) -> web.Response:
        """Show a session."""
        name = check_name(call.path["session"], "session name")
        view = await self._view(call.caller.tenant, name)
        return json_response(self._with_abilities(view))

    def _with_abilities(self, view: SessionView) -> SessionView:
        """Return the view with what the session's present sandbox can execute, as its server has said."""
        fold = self._projections.find(view.tenant, view.session)
        started = None if fold is None or fold.generation is None else self._codec.decode(fold.generation)
        if not isinstance(started, GenerationStarted):
            return view
        registry = self._codec.registry
        kinds = {kind: spec.version for kind in started.kinds if (spec := registry.find_current(ACTION, kind))}
        return msgspec.structs.replace(
            view, kinds=kinds | started.versions, units=started.units, missing=started.missing
        )

    async def close(self, call: Call) -> web.Response:
        """Close a session."""
        name = call.path["session"]
        if (await self._view(call.caller.tenant, check_name(name, "session name"))).status == "open":
            await self._submission.close_session(submitter(call), name)
        return json_response(await self._view(call.caller.tenant, name))

    async def pause(self, call: Call) -> web.Response:
        """Ask for a pause."""
        view = await self._open(call)
        runtime = self._runtimes.get(view.runtime)
        if runtime is None or not runtime.pauses:
            raise SandboxRefused(f"Sandboxes of the runtime {view.runtime} cannot be paused.")
        return await self._ask(call, "pause_requested", PauseRequested())

    async def resume(self, call: Call) -> web.Response:
        """Ask for the end of a pause."""
        await self._open(call)
        return await self._ask(call, "resume_requested", ResumeRequested())

    async def restart(self, call: Call) -> web.Response:
        """Ask for another generation."""
        body = await call.body(self._restart_body) if call.request.body_exists else RestartBody()
        await self._open(call)
        return await self._ask(call, "restart_requested", RestartRequested(reason=body.reason))

    async def keep_alive(self, call: Call) -> web.Response:
        """Give a sign of life."""
        await self._open(call)
        return await self._ask(call, "session_kept_alive", SessionKeptAlive())

    async def _ask(self, call: Call, kind: str, payload: msgspec.Struct) -> web.Response:
        appended = await self._submission.ask_session(submitter(call), call.path["session"], kind, payload)
        return json_response(RequestRecorded(event=appended.events[0]), 202)

    async def _open(self, call: Call) -> SessionView:
        name = check_name(call.path["session"], "session name")
        view = await self._view(call.caller.tenant, name)
        if view.status != "open":
            raise SessionClosed(f"Session {name!r} is closed.")
        return view

    async def _view(self, tenant: str, session: str) -> SessionView:
        summary = await self._projections.session(tenant, session)
        if summary is None:
            raise SessionNotFound(f"There is no session {session!r}.")
        return session_view(summary)


def session_view(summary: SessionSummary) -> SessionView:
    """Return the session as the API shows it."""
    return SessionView(
        session=summary.session,
        tenant=summary.tenant,
        status="closed" if summary.closed else "open",
        runtime=summary.runtime,
        image=summary.image,
        labels=summary.labels,
        isolated=summary.isolated,
        created=summary.created_time,
        position=summary.created,
        open_actions=summary.open_actions,
        sandbox_state=summary.sandbox_state,
        active=summary.active_time,
    )
