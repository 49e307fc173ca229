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
    │   ├── VersionUnavailable  406
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
    │   ├── SessionNewer        409  only a newer version of the daemon understands what it holds
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
    ├── ImportRefused                a source cannot be imported
    │   └── SourceChanged            it is not any more what was imported
    ├── UnitBroken                   a third party's unit is not right
    ├── ProtocolError                the peer broke a wire protocol of ours
    │   └── ProtocolMismatch         no common protocol version
    └── SandboxError                 a runtime could not do what it was asked
        ├── SandboxStartFailed
        │   └── ImageError           the image could not be had; its detail says what to do
        │       ├── ImageNotFound      404  neither here nor in its registry
        │       ├── ImageNotAllowed    403  it may not be pulled from there
        │       ├── ImageUnauthorized  403  the registry wants other credentials
        │       ├── ImageUnreachable   503  the registry, or the engine, does not answer
        │       ├── ImageUnfit         422  made for another machine, or not what its digest says
        │       └── ImageBuildFailed   422  a step of the build failed
        └── SandboxUnreachable       not reachable; says nothing about being dead
"""

from __future__ import annotations

from chronicled.events.errors.conflicts import (
    ActionEnded,
    ActionNotRunning,
    Conflict,
    IdReused,
    SequenceMismatch,
    SessionClosed,
    SessionExists,
    SessionNewer,
    StaleFence,
    TransferFailed,
)
from chronicled.events.errors.operation import (
    ConfigurationError,
    CursorGone,
    DataDirectoryBusy,
    ImportRefused,
    LogCorrupt,
    NotReachable,
    Overloaded,
    ProtocolError,
    ProtocolMismatch,
    SchemaTooNew,
    SecretsUnavailable,
    SourceChanged,
    StorageFull,
    StoreClosed,
    StoreFailed,
    Unavailable,
    UnitBroken,
)
from chronicled.events.errors.requests import (
    ActionNotFound,
    BlobNotFound,
    InvalidCursor,
    InvalidName,
    InvalidPayload,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PathNotFound,
    PayloadTooLarge,
    RangeNotSatisfiable,
    Refused,
    RequestTimeout,
    SandboxRefused,
    SecretNotFound,
    SecretRefused,
    SessionNotFound,
    Unauthenticated,
    UnknownKind,
    UnsupportedMedia,
    VersionUnavailable,
)
from chronicled.events.errors.root import (
    ChronicledError,
    errors_by_code,
)
from chronicled.events.errors.sandboxes import (
    ImageBuildFailed,
    ImageError,
    ImageNotAllowed,
    ImageNotFound,
    ImageUnauthorized,
    ImageUnfit,
    ImageUnreachable,
    SandboxError,
    SandboxStartFailed,
    SandboxUnreachable,
)

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
    "ImageNotAllowed",
    "ImageNotFound",
    "ImageUnauthorized",
    "ImageUnfit",
    "ImageUnreachable",
    "ImportRefused",
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
    "SessionNewer",
    "SessionNotFound",
    "SourceChanged",
    "StaleFence",
    "StorageFull",
    "StoreClosed",
    "StoreFailed",
    "TransferFailed",
    "Unauthenticated",
    "Unavailable",
    "UnitBroken",
    "UnknownKind",
    "UnsupportedMedia",
    "VersionUnavailable",
    "errors_by_code",
]
