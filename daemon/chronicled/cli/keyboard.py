"""The keyboard of `chronicled run`: say when the command waits for somebody to type, and type what comes on stdin."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Final

from chronicled.cli import printing
from chronicled.client import Session
from chronicled.events.envelope import Event
from chronicled.events.errors import ActionEnded, ActionNotRunning, ChronicledError

__all__ = ["forward", "hint"]

READ_BYTES: Final = 16 << 10
WAIT_SECONDS: Final = 0.1
END_OF_INPUT: Final = b"\x04"


async def hint(session: Session, action: Event, how: str) -> None:
    """Say on stderr, where that is a terminal, each time that the command waits for input. Ends when cancelled."""
    if not sys.stderr.isatty():
        return
    waits = False
    with contextlib.suppress(ChronicledError):
        async with contextlib.aclosing(session.events(after=action.position, kinds=["progress"])) as events:
            async for event in events:
                if event.cause == action.id:
                    before, waits = waits, event.fields().get("needs_input") is True
                    if waits and not before:
                        printing.note(f"chronicled: it waits for input; {how}")


async def forward(session: Session, action: str) -> None:
    """Type what comes on standard input to the action, then the end of input, until either ends.

    It is typed at a terminal in line mode, so a line has at most 4095 bytes.
    """
    ends_line = True
    try:
        while data := await _read():
            await _type(session, action, data)
            ends_line = data.endswith(b"\n")
        await _type(session, action, END_OF_INPUT if ends_line else END_OF_INPUT * 2)
    except ActionEnded:
        pass
    except (ChronicledError, OSError) as error:
        printing.error(f"What was typed did not get through: {error}.")


async def _type(session: Session, action: str, data: bytes) -> None:
    while True:
        try:
            await session.input(action, data)
        except ActionNotRunning:
            await asyncio.sleep(WAIT_SECONDS)
        else:
            return


async def _read() -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(0, ready.set)
    except PermissionError:
        # A regular file is always readable, and no event loop waits for it.
        return os.read(0, READ_BYTES)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(0)
    return os.read(0, READ_BYTES)
