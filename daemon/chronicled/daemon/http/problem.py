"""Problem documents (RFC 9457): the only form that an error takes on its way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from chronicled.events.codec import encode_json
from chronicled.events.errors import (
    ChronicledError,
    MethodNotAllowed,
    Overloaded,
    RangeNotSatisfiable,
    Unauthenticated,
    Unavailable,
)

__all__ = ["MEDIA_TYPE", "TYPE_PREFIX", "document", "response", "reworded"]

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:chronicled:problem:"
RETRY_AFTER_SECONDS: Final = "1"


def reworded(error: ChronicledError, redact: Callable[[str], str]) -> None:
    """Take secrets out of what the error says: it may quote what the caller sent, and goes into logs on either side."""
    error.detail = redact(error.detail)
    for name, value in error.extra.items():
        if isinstance(value, str):
            error.extra[name] = redact(value)


def document(error: ChronicledError, request_id: str) -> dict[str, Any]:
    """Return the members of the problem document; the error's `extra` never hides a standard one."""
    return {
        **{name: value for name, value in error.extra.items() if value is not None},
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "instance": f"urn:chronicled:request:{request_id}",
        "code": error.code,
        "retryable": error.retryable,
    }


def response(error: ChronicledError, request_id: str) -> web.Response:
    """Return the whole answer for `error`, with the headers that its status asks for."""
    # A message may quote what the caller sent, lone surrogates included; they must not break the answer.
    members = document(error, request_id)
    members["detail"] = error.detail.encode("utf-8", "replace").decode()
    answer = web.Response(status=error.status, body=encode_json(members), content_type=MEDIA_TYPE)
    if isinstance(error, Overloaded | Unavailable):
        answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    elif isinstance(error, MethodNotAllowed):
        answer.headers["Allow"] = str(error.extra.get("allow", ""))
    elif isinstance(error, RangeNotSatisfiable):
        answer.headers["Content-Range"] = f"bytes */{error.extra.get('size', '*')}"
    elif isinstance(error, Unauthenticated):
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
