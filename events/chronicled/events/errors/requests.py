"""What is wrong with a request, or with who makes it: sending it again will not help."""

from __future__ import annotations

from chronicled.events.errors.root import ChronicledError

__all__ = [
    "ActionNotFound",
    "BlobNotFound",
    "InvalidCursor",
    "InvalidName",
    "InvalidPayload",
    "InvalidRequest",
    "MethodNotAllowed",
    "NotFound",
    "PathNotFound",
    "PayloadTooLarge",
    "RangeNotSatisfiable",
    "Refused",
    "RequestTimeout",
    "SandboxRefused",
    "SecretNotFound",
    "SecretRefused",
    "SessionNotFound",
    "Unauthenticated",
    "UnknownKind",
    "UnsupportedMedia",
    "VersionUnavailable",
]


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


class VersionUnavailable(InvalidRequest):
    """Raised when an event cannot be shown in the version of its kind that its reader declares; names the event."""

    code = "version-unavailable"
    title = "The event cannot be shown in that version"
    status = 406


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
