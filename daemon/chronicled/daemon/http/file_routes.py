"""Files and trees of a sandbox, as streams: each is an action like any other, `upload` or `download`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from chronicled.daemon.action_request import ActionRequest
from chronicled.daemon.http.action_routes import ActionRoutes
from chronicled.daemon.http.blob_routes import BlobRoutes
from chronicled.daemon.http.bodies import ActionEnded, ActionRecorded, Name
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import KEY_PATTERN, AcceptVersion, idempotency_key, submitter, wait_seconds
from chronicled.daemon.http.route import Answer, Route
from chronicled.daemon.submission import Submission
from chronicled.daemon.waits import Waits
from chronicled.events.blobs import BlobRef, BlobStore
from chronicled.events.codec import Codec, Opaque, encode_json
from chronicled.events.envelope import Event
from chronicled.events.errors import (
    BlobNotFound,
    IdReused,
    InvalidName,
    InvalidPayload,
    Overloaded,
    PathNotFound,
    RangeNotSatisfiable,
    RequestTimeout,
    SessionClosed,
    SessionNewer,
    SessionNotFound,
    StorageFull,
    TransferFailed,
    VersionUnavailable,
)
from chronicled.events.ids import check_name
from chronicled.events.kinds.files import Download, DownloadObservation, Permissions, Upload
from chronicled.events.kinds.runnable import Path
from chronicled.events.outcome import Outcome
from chronicled.events.redaction import StreamRedactor
from chronicled.events.store import Append, EventStore

__all__ = ["FileRoutes"]

JSON: Final = "application/json"
TAR: Final = "application/x-tar"
BYTES: Final = "application/octet-stream"
ACTION_HEADER: Final = "X-Action-Id"
RANGE: Final = r"^bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$"


class UploadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the bytes go."""

    path: Path
    """The file, or the folder below which a tree goes; relative to where the lane is."""
    lane: Name = "main"
    mode: Permissions | None = None
    """Permission bits of a file, e.g. `0644`; those of a tree are in its archive."""


class DownloadQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be brought."""

    path: Path
    form: Literal["tree", "file"] = "tree"
    """`tree` brings an archive, `file` the bytes of one regular file."""
    lane: Name = "main"


class TransferHeaders(msgspec.Struct, frozen=True):
    """Headers of a transfer."""

    idempotency_key: Annotated[str, msgspec.Meta(pattern=KEY_PATTERN)] | None = None
    """Makes a retry safe: the same key, with the same bytes, gives the same action."""
    prefer: str | None = None
    """`wait=SECONDS`: how long to wait for the action's end. Other preferences are left alone."""
    accept_version: AcceptVersion | None = None


class DownloadHeaders(TransferHeaders, frozen=True):
    """Headers of a download."""

    range: Annotated[str, msgspec.Meta(pattern=RANGE)] | None = None
    """One range of bytes, of the same archive only under the same key; other forms count as not sent."""


class FileRoutes:
    """The routes of files.

    Args:
        submission: Appends the actions.
        store: Tells what has ended.
        codec: Reads observations, and takes secrets out of what is uploaded.
        blobs: Where uploaded bytes go.
        actions: Answers for submitted actions.
        served: Serves what was downloaded.
        waits: Tells of ends as they come.
        upload_bytes_max: Largest body.
        uploads_max: Most bodies that arrive at one time.
        upload_seconds_max: Longest time for a body to arrive.
        wait_seconds_max: Longest wait.
    """

    def __init__(
        self,
        submission: Submission,
        store: EventStore,
        codec: Codec,
        blobs: BlobStore,
        actions: ActionRoutes,
        served: BlobRoutes,
        waits: Waits,
        *,
        upload_bytes_max: int,
        uploads_max: int,
        upload_seconds_max: float,
        wait_seconds_max: float,
    ) -> None:
        self._submission = submission
        self._store = store
        self._codec = codec
        self._blobs = blobs
        self._actions = actions
        self._served = served
        self._waits = waits
        self._upload_bytes_max = upload_bytes_max
        self._uploads_max = uploads_max
        self._upload_seconds_max = upload_seconds_max
        self._wait_seconds_max = wait_seconds_max
        self._uploads = 0

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        path = "/v1/sessions/{session}/files"
        common = (
            *(SessionNotFound, InvalidName, SessionClosed, SessionNewer, InvalidPayload, IdReused, StorageFull),
            VersionUnavailable,
        )
        headers = {"ETag": "The digest.", "Accept-Ranges": "`bytes`.", ACTION_HEADER: "The download's action."}
        recorded = Answer("In the log; not ended yet.", {JSON: (ActionRecorded,)})
        return (
            Route(
                method="PUT",
                path=path,
                name="upload_files",
                summary="Put a file, or the tree of a tar archive, into the sandbox",
                handler=self.upload,
                query=UploadQuery,
                headers=TransferHeaders,
                media=(TAR, BYTES),
                body_required=False,
                answers={202: recorded, 200: Answer("Ended; the observation says how.", {JSON: (ActionEnded,)})},
                problems=(*common, TransferFailed),
                writes=True,
            ),
            Route(
                method="GET",
                path=path,
                name="download_files",
                summary="Bring a file, or a tree as a tar archive, out of the sandbox",
                handler=self.download,
                query=DownloadQuery,
                headers=DownloadHeaders,
                answers={
                    200: Answer("All of it.", {TAR: (), BYTES: ()}, headers),
                    206: Answer(
                        "The range.", {TAR: (), BYTES: ()}, {**headers, "Content-Range": "Which bytes of all."}
                    ),
                    202: recorded,
                },
                problems=(*common, PathNotFound, TransferFailed, BlobNotFound, RangeNotSatisfiable),
                writes=True,
            ),
        )

    async def upload(self, call: Call) -> web.Response:
        """Receive the body, then submit the action; the body alone has no effect."""
        query = call.query(UploadQuery)
        session = await self._known_session(call)
        key, seconds = idempotency_key(call), wait_seconds(call, self._wait_seconds_max)
        shown = self._actions.versions(call)
        media = (call.header("Content-Type") or "").partition(";")[0].strip().lower()
        if self._uploads >= self._uploads_max:
            raise Overloaded(f"{self._uploads_max} uploads arrive already; retry in a moment.")
        self._uploads += 1
        try:
            async with asyncio.timeout(self._upload_seconds_max):
                blob = await self._receive(call, session)
        except TimeoutError:
            seconds = int(self._upload_seconds_max)
            raise RequestTimeout(f"The body did not arrive within {seconds} s.", seconds_max=seconds) from None
        finally:
            self._uploads -= 1
        payload = Upload(
            path=query.path,
            form="tree" if media == TAR else "file",
            content=blob.digest,
            content_bytes=blob.size,
            mode=query.mode,
        )
        append, request = await self._prepare(call, session, "upload", payload, query.lane, key, (blob.digest,))
        return await self._actions.answer(append, [request], seconds, single=True, shown=shown)

    async def _receive(self, call: Call, session: str) -> BlobRef:
        chunks = call.chunks(self._upload_bytes_max)
        if not self._codec.redaction.active(call.caller.tenant, session):
            async with aclosing(chunks):
                return await self._blobs.receive(chunks, self._upload_bytes_max)
        # Masked, it would reach the sandbox as something else than was sent; as it is, it must not be stored.
        sent = hashlib.sha256()
        redactor = self._codec.redaction.stream(call.caller.tenant, session, keep_length=True)
        async with aclosing(_redacted(chunks, redactor, sent.update)) as masked:
            blob = await self._blobs.receive(masked, self._upload_bytes_max)
        if blob.digest != sent.hexdigest():
            raise TransferFailed(
                "The body holds a value that is a secret of the session, and what is uploaded is kept. Nothing was "
                "done: leave it out, and have commands read it from the secret's variable."
            )
        return blob

    async def download(self, call: Call) -> web.StreamResponse:
        """Submit the action, wait for its end, and serve what it brought."""
        query = call.query(DownloadQuery)
        session = check_name(call.path["session"], "session name")
        key, seconds = idempotency_key(call), wait_seconds(call, self._wait_seconds_max)
        shown = self._actions.versions(call)
        payload = Download(path=query.path, form=query.form)
        append, request = await self._prepare(call, session, "download", payload, query.lane, key)
        action, end = await self._ended(append, request, self._wait_seconds_max if seconds is None else seconds)
        if end is None:
            location = {"Location": f"/v1/sessions/{session}/actions/{action.id}"}
            return json_response(ActionRecorded(action=self._actions.shown(action, shown)), 202, location)
        return await self._serve(call, action, end)

    async def _prepare(
        self,
        call: Call,
        session: str,
        kind: str,
        payload: Upload | Download,
        lane: str,
        key: str | None,
        received: tuple[str, ...] = (),
    ) -> tuple[Append, ActionRequest]:
        request = ActionRequest(kind=kind, payload=encode_json(payload), lane=lane)
        return await self._submission.prepare(submitter(call), session, [request], key, received), request

    async def _known_session(self, call: Call) -> str:
        # Before the body is received: what belongs to no session could never be named.
        session = check_name(call.path["session"], "session name")
        if await self._store.last(call.caller.tenant, session) is None:
            raise SessionNotFound(f"There is no session {session!r}.")
        return session

    async def _ended(self, append: Append, request: ActionRequest, seconds: float) -> tuple[Event, Event | None]:
        draft = append.drafts[0]
        await self._actions.check_understood(append)
        with self._waits.open(draft.tenant, [draft.id]) as wait:
            appended = await self._submission.append(append, [request])
            action = appended.events[0]
            if appended.repeated and (end := await self._store.terminal(action.tenant, action.id)) is not None:
                wait.feed(end)
            await wait.ended(seconds)
            return action, wait.found.get(action.id)

    async def _serve(self, call: Call, action: Event, end: Event) -> web.StreamResponse:
        told = self._codec.decode(end)
        if isinstance(told, Opaque) or not isinstance(told, DownloadObservation):
            raise TransferFailed("What the download led to cannot be read here.", action=action.id)
        if told.outcome != Outcome.OK:
            kind = PathNotFound if told.reason == "not_found" else TransferFailed
            detail = told.message or f"The download ended {told.outcome}."
            raise kind(detail, action=action.id, outcome=str(told.outcome), reason=told.reason)
        media = TAR if told.form == "tree" else BYTES
        if told.output_digest is None or not told.output_blob:
            return web.Response(body=b"", headers={"Content-Type": media, ACTION_HEADER: action.id})
        return await self._served.serve(call, told.output_digest, media, {ACTION_HEADER: action.id})


async def _redacted(
    chunks: AsyncGenerator[bytes], redactor: StreamRedactor, note: Callable[[bytes], None]
) -> AsyncGenerator[bytes]:
    """Yield the body with secrets replaced, byte for byte, and tell what really came."""
    async with aclosing(chunks):
        async for chunk in chunks:
            note(chunk)
            if data := redactor.feed(chunk):
                yield data
    if data := redactor.finish():
        yield data
