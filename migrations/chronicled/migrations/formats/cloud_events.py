"""CloudEvents 1.0 in JSON: one a line, or as a batch.

Context attributes: `id` the event's id, `source` log and session, `type` `chronicled.CATEGORY.KIND`, `subject` the
action that it belongs to, `time`, `dataschema` kind and version. Extensions: `sequence` (the documented extension: as
text it orders the session's events), `position`, `category`, `lane`, `actor`, `submitter`, `cause`, `leaf`,
`traceparent`; `opaque` (why the data cannot be read here), `erased`, `redacted`; of imported events `origin` and
`originaltime`. `data` is the stored payload (`data_base64` where that is no JSON); blobs stay references.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from chronicled.events.codec import Opaque
from chronicled.migrations.formats.chronicle import Chronicle, Item, Tally

__all__ = ["cloud_event", "write_batch", "write_lines"]

FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_encode = msgspec.json.Encoder().encode


def cloud_event(chronicle: Chronicle, item: Item) -> dict[str, Any]:
    """Return the event as a CloudEvent in the JSON format's structured mode."""
    event = item.event
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"urn:chronicled:{chronicle.incarnation}:{event.tenant}:{event.session}",
        "type": f"chronicled.{event.category}.{event.kind}",
        "subject": event.cause or event.id,
        "time": event.time,
        "datacontenttype": "application/json",
        "dataschema": f"urn:chronicled:schema:{event.category}:{event.kind}:{event.version}",
        "sequence": f"{event.sequence:020d}",
        "position": str(event.position),
        "category": event.category,
        "lane": event.lane,
        "actor": event.actor,
        "submitter": event.source,
        "leaf": event.leaf,
    }
    if event.cause is not None:
        found["cause"] = event.cause
    if item.origin is not None:
        found |= {
            name: _allowed(text)
            for name, text in (("origin", item.origin.key), ("originaltime", item.origin.time))
            if text
        }
    if event.traceparent is not None:
        found["traceparent"] = event.traceparent
    if item.erased:
        found["erased"] = True
    elif isinstance(item.payload, Opaque):
        found["opaque"] = _allowed(item.payload.reason)
    if item.redacted:
        found["redacted"] = True
    if not item.is_json:
        text = base64.b64encode(event.payload).decode()
        return found | {"datacontenttype": "application/octet-stream", "data_base64": text}
    return found | {"data": event.payload}


def _allowed(text: str) -> str:
    """Return the text without what an attribute may not hold: controls, and code points that are no characters."""
    return FORBIDDEN.sub("\ufffd", text)


def write_lines(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield one CloudEvent a line."""
    for item in chronicle.items():
        tally.take(item)
        tally.written += 1
        yield _encode(cloud_event(chronicle, item)) + b"\n"


def write_batch(chronicle: Chronicle, tally: Tally) -> Iterator[bytes]:
    """Yield one `application/cloudevents-batch+json` document."""
    yield b"["
    for item in chronicle.items():
        tally.take(item)
        yield (b"\n" if tally.written == 0 else b",\n") + _encode(cloud_event(chronicle, item))
        tally.written += 1
    yield b"\n]\n"
