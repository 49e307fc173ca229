"""Headers and parameters that several routes read, each in one place."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from chronicled.daemon.http.call import Call
from chronicled.daemon.submission import Submitter
from chronicled.events.errors import InvalidRequest
from chronicled.events.versions import CURRENT, VERSIONS_PATTERN, Versions

__all__ = [
    "KEY_PATTERN",
    "AcceptVersion",
    "CursorText",
    "VersionHeaders",
    "idempotency_key",
    "submitter",
    "traceparent",
    "versions",
    "wait_seconds",
]

AcceptVersion = Annotated[
    str,
    msgspec.Meta(
        pattern=VERSIONS_PATTERN,
        description="The newest version of each kind that the caller knows (`run=1, read=2`; other kinds come in their "
        "current versions), or `stored`: everything as it stands in the log.",
    ),
]

# Described here and checked by `Cursor`, whose error has a code of its own.
CursorText = Annotated[
    str, msgspec.Meta(extra_json_schema={"pattern": r"^(0|[1-9][0-9]{0,17})(@[A-Za-z0-9-]{1,64})?$"})
]


class VersionHeaders(msgspec.Struct, frozen=True):
    """Headers of what answers with events."""

    accept_version: AcceptVersion | None = None


KEY_PATTERN: Final = r"^[!-~]{1,255}$"
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
WAIT: Final = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?", re.IGNORECASE)
KEY: Final = re.compile(KEY_PATTERN)


def traceparent(call: Call) -> str | None:
    """Return the W3C trace context; what does not fit counts as not sent, as the recommendation says."""
    value = call.request.headers.get("traceparent")
    return value if value is not None and TRACEPARENT.fullmatch(value) and not value.startswith("ff") else None


def submitter(call: Call) -> Submitter:
    """Return on whose behalf the call appends."""
    return Submitter(call.caller.tenant, call.caller.actor, traceparent(call))


def idempotency_key(call: Call) -> str | None:
    """Return the `Idempotency-Key`, as it was sent.

    Raises:
        InvalidRequest: it is not 1 to 255 visible ASCII characters.
    """
    value = call.header("Idempotency-Key")
    if value is not None and KEY.fullmatch(value) is None:
        raise InvalidRequest("Idempotency-Key is 1 to 255 visible ASCII characters.", header="Idempotency-Key")
    return value


def versions(call: Call) -> Versions:
    """Return which versions of payloads the caller understands (`Accept-Version`).

    Raises:
        InvalidRequest: it is neither `stored` nor a list of kinds and versions.
    """
    value = call.header("Accept-Version")
    return CURRENT if value is None else Versions.parse(value)


def wait_seconds(call: Call, seconds_max: float) -> float | None:
    """Return how long the caller wants to wait (`Prefer: wait=SECONDS`), cut to the limit; None for not at all.

    Other preferences are left alone, as RFC 7240 asks.

    Raises:
        InvalidRequest: `wait` has no whole number of seconds.
    """
    value = call.header("Prefer")
    if value is None:
        return None
    for preference in value.split(","):
        name = preference.split(";")[0].strip()
        if name.split("=")[0].strip().lower() == "wait":
            match = WAIT.fullmatch(name)
            if match is None:
                raise InvalidRequest(f"Prefer: wait takes whole seconds, not {name[:50]!r}.", header="Prefer")
            return min(float(match[1]), seconds_max)
    return None
