"""`chronicled submit`: submit any action."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec

from chronicled.cli import printing
from chronicled.cli.connection import add_connection, client_command
from chronicled.cli.exit_code import ACTION_FAILED, OK, TIMEOUT
from chronicled.client import Client, Outcome
from chronicled.events.errors import ActionNotRunning, InvalidRequest

__all__ = ["configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--session", required=True, metavar="NAME")
    parser.add_argument("--lane", default="main")
    parser.add_argument("--id", help="event id (UUID): submitting it again is the same action")
    parser.add_argument("--expected-sequence", type=int, metavar="N", help="refuse if the session has moved on")
    parser.add_argument("--wait", action="store_true", help="wait for the end; exit code 1 unless it is ok")
    add_connection(parser)
    parser.add_argument("kind", metavar="KIND")
    parser.add_argument("payload", metavar="JSON", help="the payload; `-` reads it from stdin")
    parser.set_defaults(execute=client_command(_submit, patient=True))


async def _submit(client: Client, options: argparse.Namespace) -> int:
    text = sys.stdin.read() if options.payload == "-" else options.payload
    try:
        payload: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The payload is not a JSON object: {error}.") from None
    session = await client.session(options.session, create=False)
    event = await session.submit(
        options.kind, payload, lane=options.lane, id=options.id, expected_sequence=options.expected_sequence
    )
    if not options.wait:
        if options.json:
            printing.json_line(event)
        else:
            printing.line(event.id)
        return OK
    try:
        ending = await session.wait(event.id)
    except ActionNotRunning:
        # It is only recorded, and that is done.
        printing.json_line(event) if options.json else printing.line(event.id)
        return OK
    if options.json:
        printing.json_line({"action": ending.action, "observation": ending.observation})
    else:
        printing.json_line(ending.payload)
    if ending.outcome is Outcome.TIMEOUT:
        return TIMEOUT
    return OK if ending.ok else ACTION_FAILED
