"""What an observation shows as text, whole: for formats that have one text where our kinds have fields of their own."""

from __future__ import annotations

import shlex
from typing import Any, Final

import msgspec

from chronicled.events.codec import Opaque
from chronicled.events.kinds.actions import Run
from chronicled.events.kinds.files import GitObservation, ListFilesObservation
from chronicled.events.kinds.observations import OutputFields, RunIpythonObservation
from chronicled.events.parts import blobs_of
from chronicled.migrations.formats.pieces import BlobText

__all__ = ["Text", "command_of", "part_of", "text_of"]

Text = str | BlobText

_TEXTS: Final = ("output", "content", "result", "message", "detail")


def text_of(payload: Any) -> Text:
    """Return the text of a payload: of an output or a part that is a blob, the blob."""
    if isinstance(payload, Opaque):
        return payload.payload.decode(errors="replace")
    if isinstance(payload, RunIpythonObservation) and payload.result and not payload.output:
        return part_of(payload, "result")
    if isinstance(payload, ListFilesObservation):
        return "\n".join(entry.name for entry in payload.entries)
    if isinstance(payload, GitObservation) and not payload.content:
        return msgspec.json.encode(payload.changes).decode()
    # A download's bytes are no text to be shown: it has no `output`.
    if isinstance(payload, OutputFields) and payload.output_blob and payload.output_digest is not None:
        return BlobText(payload.output_digest, payload.output)
    for name in _TEXTS:
        if isinstance(getattr(payload, name, None), str) and getattr(payload, name):
            return part_of(payload, name)
    return ""


def part_of(payload: Any, name: str) -> Text:
    """Return a text field of a payload, as the blob that holds it where it is one."""
    text: str = getattr(payload, name) or ""
    digest = blobs_of(payload).get(name)
    return text if digest is None else BlobText(digest, text)


def command_of(payload: Run) -> Text:
    """Return the command line of a `run`."""
    return shlex.join(payload.argv) if payload.argv is not None else part_of(payload, "command")
