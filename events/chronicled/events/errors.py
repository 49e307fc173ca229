"""The error tree of the whole project.

Every error that crosses a boundary of ours (API, client, command line, worker protocol) is one of these, and carries
what the boundary needs: a stable `code`, an HTTP `status`, whether a retry can help, and a sentence on what to do.

    ChronicledError
    ├── InvalidRequest          400  the request itself is wrong; sending it again will not help
    │   ├── InvalidName         400
    │   ├── InvalidCursor       400
    │   ├── InvalidPayload      400
    │   ├── UnknownKind         400
    │   ├── SecretRefused       400
    │   ├── SandboxRefused      422  valid, but not what the runtime can give
    │   ├── PayloadTooLarge     413
    │   ├── MethodNotAllowed    405
    │   ├── RequestTimeout      408
    │   ├── UnsupportedMedia    415
    │   └── RangeNotSatisfiable 416
    ├── Unauthenticated         401  nobody knows who the caller is
    ├── Refused                 403  the caller may not do this
    ├── NotFound                404  also everything that belongs to somebody else
    │   ├── SessionNotFound     404
    │   ├── ActionNotFound      404
    │   ├── SecretNotFound      404
    │   ├── BlobNotFound        404
    │   └── PathNotFound        404  nothing has that name in the sandbox
    ├── Conflict                409  the log has moved on
    │   ├── SessionExists       409
    │   ├── SessionClosed       409
    │   ├── ActionEnded         409
    │   ├── ActionNotRunning    409
    │   ├── TransferFailed      409  the action of an upload or download did not end well
    │   ├── StaleFence          409
    │   ├── SequenceMismatch    412
    │   └── IdReused            422
    ├── CursorGone              410  a cursor of another incarnation of the log
    ├── Overloaded              503  a bounded queue is full; retry later
    ├── StorageFull             507  the disk is full; nothing was written
    ├── Unavailable             503  the component is starting, draining or closed
    │   ├── SecretsUnavailable  503
    │   └── StoreClosed         503
    ├── StoreFailed             500  a write or sync failed; the process must stop (fail-stop)
    ├── NotReachable            503  no daemon answers (raised by the client)
    ├── LogCorrupt              500  stored bytes do not verify
    ├── DataDirectoryBusy            a second daemon on the same data
    ├── SchemaTooNew                 the database was written by a newer version
    ├── ConfigurationError           a setting is unknown or wrong
    ├── ProtocolError                the peer broke a wire protocol of ours
    │   └── ProtocolMismatch         no common protocol version
    └── SandboxError                 a runtime could not do what it was asked
        ├── SandboxStartFailed
        │   └── ImageError           the image could not be had; its detail says what to do
        │       ├── ImageNotFound      404  neither here nor in its registry
        │       ├── ImageUnauthorized  403  the registry wants other credentials
        │       ├── ImageUnreachable   503  the registry, or the engine, does not answer
        │       ├── ImageUnfit         422  made for another machine, or not what its digest says
        │       └── ImageBuildFailed   422  a step of the build failed
        └── SandboxUnreachable       not reachable; says nothing about being dead
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ActionEnded",
    "ActionNotFound",
    "ActionNotRunning",
    "BlobNotFound",
    "ChronicledError",
    "ConfigurationError",
    "Conflict",
    "CursorGone",
    "DataDirectoryBusy",
    "IdReused",
    "ImageBuildFailed",
    "ImageError",
    "ImageNotFound",
    "ImageUnauthorized",
    "ImageUnfit",
    "ImageUnreachable",
    "InvalidCursor",
    "InvalidName",
    "InvalidPayload",
    "InvalidRequest",
    "LogCorrupt",
    "MethodNotAllowed",
    "NotFound",
    "NotReachable",
    "Overloaded",
    "PathNotFound",
    "PayloadTooLarge",
    "ProtocolError",
    "ProtocolMismatch",
    "RangeNotSatisfiable",
    "Refused",
    "RequestTimeout",
    "SandboxError",
    "SandboxRefused",
    "SandboxStartFailed",
    "SandboxUnreachable",
    "SchemaTooNew",
    "SecretNotFound",
    "SecretRefused",
    "SecretsUnavailable",
    "SequenceMismatch",
    "SessionClosed",
    "SessionExists",
    "SessionNotFound",
    "StaleFence",
    "StorageFull",
    "StoreClosed",
    "StoreFailed",
    "TransferFailed",
    "Unauthenticated",
    "Unavailable",
    "UnknownKind",
    "UnsupportedMedia",
    "errors_by_code",
]


class ChronicledError(Exception):
    """Root of every error of ours; catch it to catch all of them.

    Args:
        detail: What happened and what to do about it, one sentence, without secrets.
        extra: Machine-readable members that the problem document carries beside the standard ones.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something failed inside chronicled"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str = "", **extra: str | int | bool | None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.extra = extra


class InvalidRequest(ChronicledError):
    """Raised when a request is malformed; sending it again unchanged will fail again."""

    code = "invalid-request"
    title = "The request is not valid"
    status = 400


class InvalidName(InvalidRequest):
    """Raised when a session, tenant, lane or kind name does not match the allowed pattern."""

    code = "invalid-name"
    title = "The name is not allowed"


class InvalidCursor(InvalidRequest):
    """Raised when a cursor is neither `POSITION` nor `POSITION@INCARNATION`, or lies beyond the log's head."""

    code = "invalid-cursor"
    title = "The cursor is not valid"


class InvalidPayload(InvalidRequest):
    """Raised when a payload does not fit the schema of its kind."""

    code = "invalid-payload"
    title = "The payload does not fit its kind"


class SecretRefused(InvalidRequest):
    """Raised when a value cannot be kept as a secret: it could not be told from other text. Nothing was kept."""

    code = "secret-refused"
    title = "The value cannot be a secret"


class SandboxRefused(InvalidRequest):
    """Raised when a session asks for what its runtime cannot give, or may not; `detail` has each with its name."""

    code = "sandbox-refused"
    title = "The runtime cannot give what is asked"
    status = 422


class UnknownKind(InvalidRequest):
    """Raised when nobody has registered the kind."""

    code = "unknown-kind"
    title = "The kind is not known here"


class PayloadTooLarge(InvalidRequest):
    """Raised when a payload or body is over its size limit; nothing was written."""

    code = "payload-too-large"
    title = "The payload is too large"
    status = 413


class MethodNotAllowed(InvalidRequest):
    """Raised when the path exists and does not take the method; `Allow` says which it takes."""

    code = "method-not-allowed"
    title = "The path does not take this method"
    status = 405


class RequestTimeout(InvalidRequest):
    """Raised when a request's body did not arrive in time; nothing was written."""

    code = "request-timeout"
    title = "The request did not arrive in time"
    status = 408
    retryable = True


class UnsupportedMedia(InvalidRequest):
    """Raised when a body is of another media type or content coding than the API reads."""

    code = "unsupported-media-type"
    title = "The body is of a type that the API does not read"
    status = 415


class RangeNotSatisfiable(InvalidRequest):
    """Raised when a range begins beyond the end of what it asks for."""

    code = "range-not-satisfiable"
    title = "The range lies beyond the end"
    status = 416


class Unauthenticated(ChronicledError):
    """Raised when a request says not, or not truly, who sends it."""

    code = "unauthenticated"
    title = "The caller is not known"
    status = 401


class Refused(ChronicledError):
    """Raised when the caller is known but may not do this."""

    code = "refused"
    title = "Not allowed"
    status = 403


class NotFound(ChronicledError):
    """Raised for what does not exist, and equally for what belongs to another tenant."""

    code = "not-found"
    title = "There is no such thing"
    status = 404


class SessionNotFound(NotFound):
    """Raised when the tenant has no session of that name."""

    code = "session-not-found"
    title = "There is no such session"


class ActionNotFound(NotFound):
    """Raised when the session has no action of that id."""

    code = "action-not-found"
    title = "There is no such action"


class SecretNotFound(NotFound):
    """Raised when the session has no secret, or no variable, of that name."""

    code = "secret-not-found"
    title = "There is no such secret"


class BlobNotFound(NotFound):
    """Raised when the session refers to no blob of that digest."""

    code = "blob-not-found"
    title = "There is no such blob"


class PathNotFound(NotFound):
    """Raised when nothing has that path in the sandbox."""

    code = "path-not-found"
    title = "Nothing has that path in the sandbox"


class Conflict(ChronicledError):
    """Raised when the log has moved on since the caller looked."""

    code = "conflict"
    title = "The state has changed"
    status = 409


class SessionExists(Conflict):
    """Raised when a session of that name was created before, by another request."""

    code = "session-exists"
    title = "A session of that name exists"


class SessionClosed(Conflict):
    """Raised when an action is submitted to a closed session."""

    code = "session-closed"
    title = "The session is closed"


class ActionEnded(Conflict):
    """Raised when an action that already has its terminal observation is to be changed."""

    code = "action-ended"
    title = "The action has ended"


class ActionNotRunning(Conflict):
    """Raised when input or an interrupt is sent to an action that does not run at the moment."""

    code = "action-not-running"
    title = "The action is not running"


class TransferFailed(Conflict):
    """Raised when the action that was to bring files did not end well; it is named, and its observation says why."""

    code = "transfer-failed"
    title = "The files could not be brought"


class StaleFence(Conflict):
    """Raised when a worker publishes under a claim that a later claim has replaced."""

    code = "stale-fence"
    title = "Another worker has claimed the session"


class SequenceMismatch(Conflict):
    """Raised when `expected_sequence` is not the session's last client-submitted sequence."""

    code = "sequence-mismatch"
    title = "The session has moved on"
    status = 412


class IdReused(Conflict):
    """Raised when an event id (or idempotency key) comes back with another request."""

    code = "id-reused"
    title = "The id was used for another request"
    status = 422


class CursorGone(ChronicledError):
    """Raised when a cursor names another incarnation of the log; start again from position 0."""

    code = "cursor-gone"
    title = "The cursor belongs to another incarnation of the log"
    status = 410


class Overloaded(ChronicledError):
    """Raised when a bounded queue is full; nothing was written."""

    code = "overloaded"
    title = "Too much work is waiting"
    status = 503
    retryable = True


class StorageFull(ChronicledError):
    """Raised when the disk has no room; nothing was written, and it recovers by itself once there is room."""

    code = "storage-full"
    title = "The disk is full"
    status = 507
    retryable = True


class Unavailable(ChronicledError):
    """Raised while a component starts, drains or is closed."""

    code = "unavailable"
    title = "Not available at the moment"
    status = 503
    retryable = True


class StoreClosed(Unavailable):
    """Raised when the store has been closed; nothing was written."""

    code = "store-closed"
    title = "The log is closed"


class SecretsUnavailable(Unavailable):
    """Raised when a session's secrets cannot be read: until they can, nothing of it is published."""

    code = "secrets-unavailable"
    title = "The session's secrets cannot be read"


class StoreFailed(ChronicledError):
    """Raised when a write or sync failed: whether it reached the disk is unknown, so the process must stop."""

    code = "store-failed"
    title = "The log could not be written"


class NotReachable(ChronicledError):
    """Raised by the client when no daemon answers, or the connection stays lost."""

    code = "not-reachable"
    title = "The daemon is not reachable"
    status = 503


class LogCorrupt(ChronicledError):
    """Raised when stored bytes do not verify; names the first bad position."""

    code = "log-corrupt"
    title = "The log does not verify"


class DataDirectoryBusy(ChronicledError):
    """Raised when another daemon holds the data directory."""

    code = "data-directory-busy"
    title = "Another daemon uses this data directory"


class SchemaTooNew(ChronicledError):
    """Raised when the database has a schema step that this version does not know."""

    code = "schema-too-new"
    title = "The database was written by a newer version"


class ConfigurationError(ChronicledError):
    """Raised when a setting is unknown or has a wrong value."""

    code = "configuration"
    title = "The configuration is not valid"
    status = 400


class ProtocolError(ChronicledError):
    """Raised when a peer breaks a wire protocol; the connection is closed."""

    code = "protocol-error"
    title = "The peer broke the protocol"


class ProtocolMismatch(ProtocolError):
    """Raised when two peers have no protocol version in common."""

    code = "protocol-mismatch"
    title = "No common protocol version"


class SandboxError(ChronicledError):
    """Root of what a runtime can fail with."""

    code = "sandbox-error"
    title = "The sandbox failed"


class SandboxStartFailed(SandboxError):
    """Raised when a sandbox could not be created or its action server did not report in time."""

    code = "sandbox-start-failed"
    title = "The sandbox could not start"


class ImageError(SandboxStartFailed):
    """Root of what can keep an image from being had: a pull, a build or a look-up that failed."""

    code = "image-unavailable"
    title = "The image could not be had"


class ImageNotFound(ImageError):
    """Raised when the image is neither on the engine nor, where it may be pulled, in its registry."""

    code = "image-not-found"
    title = "There is no such image"
    status = 404


class ImageUnauthorized(ImageError):
    """Raised when the registry does not give the image to whom the configured credentials are."""

    code = "image-unauthorized"
    title = "The registry refuses the image"
    status = 403


class ImageUnreachable(ImageError):
    """Raised when the registry or the engine did not answer, or not in time; trying again may help."""

    code = "image-unreachable"
    title = "The registry does not answer"
    status = 503
    retryable = True


class ImageUnfit(ImageError):
    """Raised when an image is made for another architecture, or its bytes are not those that its digest says."""

    code = "image-unfit"
    title = "The image cannot be used here"
    status = 422


class ImageBuildFailed(ImageError):
    """Raised when a step of a build failed or went over one of its limits; the detail ends with what it printed."""

    code = "image-build-failed"
    title = "The image could not be built"
    status = 422


class SandboxUnreachable(SandboxError):
    """Raised when a sandbox does not answer; that is no proof of its death."""

    code = "sandbox-unreachable"
    title = "The sandbox does not answer"
    retryable = True


def errors_by_code() -> dict[str, type[ChronicledError]]:
    """Return every error class by its `code`, for a client that turns problem documents back into errors."""
    found: dict[str, type[ChronicledError]] = {}
    waiting: list[type[ChronicledError]] = [ChronicledError]
    while waiting:
        error = waiting.pop()
        found[error.code] = error
        waiting.extend(error.__subclasses__())
    return found
