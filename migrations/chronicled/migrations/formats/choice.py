"""Which formats and variants there are, and what writes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from chronicled.events.errors import InvalidRequest

if TYPE_CHECKING:
    from chronicled.migrations.formats.chronicle import Writer

__all__ = ["FORMATS", "MEDIA", "writer_of"]

FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "jsonl": ("events", "with-blobs"),
    "cloudevents": ("lines", "batch"),
    "atif": ("trajectory",),
    "openhands": ("trajectory",),
    "asciicast": ("v3", "v2"),
}
"""The variants of each format; the first is the default."""
MEDIA: Final[Mapping[tuple[str, str], str]] = {
    ("jsonl", "events"): "application/x-ndjson",
    ("jsonl", "with-blobs"): "application/x-ndjson",
    ("cloudevents", "lines"): "application/x-ndjson",
    ("cloudevents", "batch"): "application/cloudevents-batch+json",
    ("atif", "trajectory"): "application/json",
    ("openhands", "trajectory"): "application/json",
    ("asciicast", "v3"): "application/x-asciicast",
    ("asciicast", "v2"): "application/x-asciicast",
}
"""What each is called on the wire."""


def writer_of(
    format: str, variant: str | None = None, *, lane: str | None = None, idle_seconds: float | None = None
) -> tuple[Writer, str]:
    """Return what writes the format, and its media type.

    Raises:
        InvalidRequest: there is no such format or variant, or an option is for another one.
    """
    # Only what is asked for is imported: together they take a fifth of a second.
    if format not in FORMATS:
        raise InvalidRequest(f"There is no format {format[:64]!r}; there is {', '.join(FORMATS)}.", parameter="format")
    variant = variant or FORMATS[format][0]
    if variant not in FORMATS[format]:
        known = ", ".join(FORMATS[format])
        raise InvalidRequest(f"{format} has no variant {variant[:64]!r}; it has {known}.", parameter="variant")
    if format == "asciicast":
        from chronicled.migrations.formats.asciicast import asciicast

        return asciicast(int(variant[1:]), lane=lane, idle_seconds=idle_seconds), MEDIA[format, variant]
    for name, value in (("lane", lane), ("idle limit", idle_seconds)):
        if value is not None:
            raise InvalidRequest(
                f"A {name} is for asciicast; {format} always has the whole session.", parameter=name.replace(" ", "_")
            )
    return _writer(format, variant), MEDIA[format, variant]


def _writer(format: str, variant: str) -> Writer:
    from chronicled.migrations.formats import atif, cloud_events, json_lines, openhands_v0

    writers: dict[tuple[str, str], Writer] = {
        ("atif", "trajectory"): atif.write,
        ("openhands", "trajectory"): openhands_v0.write,
        ("jsonl", "events"): json_lines.write,
        ("jsonl", "with-blobs"): json_lines.write_with_blobs,
        ("cloudevents", "lines"): cloud_events.write_lines,
        ("cloudevents", "batch"): cloud_events.write_batch,
    }
    return writers[format, variant]
