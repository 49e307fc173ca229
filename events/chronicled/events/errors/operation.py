"""What daemon, log and wire fail with."""

from __future__ import annotations

from chronicled.events.errors.root import ChronicledError

__all__ = [
    "ConfigurationError",
    "CursorGone",
    "DataDirectoryBusy",
    "ImportRefused",
    "LogCorrupt",
    "NotReachable",
    "Overloaded",
    "ProtocolError",
    "ProtocolMismatch",
    "SchemaTooNew",
    "SecretsUnavailable",
    "SourceChanged",
    "StorageFull",
    "StoreClosed",
    "StoreFailed",
    "Unavailable",
    "UnitBroken",
]


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


class UnitBroken(ChronicledError):
    """Raised when a third party's unit is not right, or cannot be found or imported; nothing of it is loaded."""

    code = "unit-broken"
    title = "A unit is not right"


class ProtocolError(ChronicledError):
    """Raised when a peer breaks a wire protocol; the connection is closed."""

    code = "protocol-error"
    title = "The peer broke the protocol"


class ProtocolMismatch(ProtocolError):
    """Raised when two peers have no protocol version in common."""

    code = "protocol-mismatch"
    title = "No common protocol version"


class ImportRefused(ChronicledError):
    """Raised when a source cannot be read, or the session of its name is something else; nothing is written."""

    code = "import-refused"
    title = "This cannot be imported"


class SourceChanged(ImportRefused):
    """Raised when a source is not what was imported of it any more; names the first record. Nothing is written."""

    code = "source-changed"
    title = "The source has changed since it was imported"
