"""The client: what backend services import. `async with connect() as client: ...`."""

from __future__ import annotations

from chronicled.client.client import Client, SessionSettings, connect
from chronicled.client.ending import Ending
from chronicled.client.session import ActionStatus, Session
from chronicled.events.envelope import Event
from chronicled.events.outcome import Effects, Outcome
from chronicled.events.versions import STORED

__all__ = [
    "STORED",
    "ActionStatus",
    "Client",
    "Effects",
    "Ending",
    "Event",
    "Outcome",
    "Session",
    "SessionSettings",
    "connect",
]
