"""Conversations of OpenHands V0 in a folder, made for a test, and what an import of them left in the log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from chronicled.events.codec import Codec
from chronicled.events.envelope import Event
from chronicled.events.kinds.lifecycle import EventsImported
from chronicled.events.store import EventStore, Filter
from chronicled.migrations.vocabulary import vocabulary
from chronicled.storage.imports.chunk import Entry
from chronicled.storage.imports.destination import Destination
from chronicled.storage.imports.discovery import discover, session_name
from chronicled.storage.imports.importer import Importer, ImportOptions, Outcome
from chronicled.storage.imports.ledger import read_index
from chronicled.storage.imports.times import utc_reader

WORDS = vocabulary()
CODEC = Codec(WORDS.registry, WORDS.chain)


def run(number: int, command: str = "true") -> dict[str, Any]:
    """Return a command."""
    time = f"2025-01-02T03:04:{number % 60:02}.{number:06}"
    return {"id": number, "timestamp": time, "source": "agent", "action": "run", "args": {"command": command}}


def ran(number: int, output: str = "done", cause: int | None = None) -> dict[str, Any]:
    """Return what a command printed."""
    return {
        "id": number,
        "timestamp": f"2025-01-02T03:04:{number % 60:02}.{number:06}",
        "source": "agent",
        "cause": number - 1 if cause is None else cause,
        "observation": "run",
        "content": output,
        "extras": {"command": "true", "metadata": {"exit_code": 0}},
    }


def pairs(count: int) -> list[dict[str, Any]]:
    """Return so many events: commands, each with what it printed."""
    return [run(n, f"echo {n}") if n % 2 == 0 else ran(n, f"output {n}") for n in range(count)]


def write_files(folder: Path, events: Iterable[dict[str, Any]]) -> Path:
    """Write one file an event; return the conversation's folder."""
    (folder / "events").mkdir(parents=True, exist_ok=True)
    for event in events:
        (folder / "events" / f"{event['id']}.json").write_text(json.dumps(event))
    return folder


def write_page(folder: Path, start: int, end: int, events: list[dict[str, Any]]) -> Path:
    """Write one page; return the conversation's folder."""
    (folder / "event_cache").mkdir(parents=True, exist_ok=True)
    (folder / "event_cache" / f"{start}-{end}.json").write_text(json.dumps(events))
    return folder


async def bring(
    to: Destination, path: Path, session: str | None = None, report: list[Entry] | None = None, **options: Any
) -> list[Outcome]:
    """Import what is at the path."""
    chosen = ImportOptions(**options)

    def note(session: str, entry: Entry) -> None:
        if report is not None:
            report.append(entry)

    importer = Importer(to.store, to.blobs, CODEC, utc_reader(chosen.timezone), note)
    format, sources = discover(path)
    return [
        await importer.run(source, format.conversion(), session or session_name(source.name), chosen)
        for source in sources
    ]


async def events_of(store: EventStore, session: str) -> list[Event]:
    """Return every event of the session."""
    found: list[Event] = []
    after, at_end = 0, False
    while not at_end:
        page = await store.read(after, 1000, Filter("default", session))
        found += page.events
        after, at_end = page.next, page.at_end
    return found


async def made(store: EventStore, session: str) -> list[Event]:
    """Return the session's events that were made of records."""
    return [event for event in await events_of(store, session) if event.category != "lifecycle"]


def payload(event: Event) -> dict[str, Any]:
    """Return the payload as plain values."""
    value: dict[str, Any] = msgspec.json.decode(event.payload)
    return value


async def originals(to: Destination, session: str) -> list[tuple[Entry, bytes]]:
    """Return what the log keeps of each record: its entry, and the bytes that stood in the source."""
    found: list[tuple[Entry, bytes]] = []
    for event in await events_of(to.store, session):
        chunk = CODEC.decode(event)
        if isinstance(chunk, EventsImported):
            for entry in (await read_index(to.blobs, chunk)).entries:
                parts = [part async for part in to.blobs.read(chunk.blob, entry.offset, entry.size)]
                if entry.key:
                    found.append((entry, b"".join(parts)))
    return found
