"""Its kinds, in as many versions as the environment variable BETA_VERSIONS says."""

from __future__ import annotations

import os

from chronicled.events import TerminalPayload, action, observation
from chronicled.events.kinds.runnable import Runnable

VERSIONS = int(os.environ.get("BETA_VERSIONS", "1"))


class Do(Runnable, frozen=True, kw_only=True):
    """Do something; `what` says what."""

    what: str
    text: str = ""
    seconds: float = 0.0


class DoMore(Do, frozen=True, kw_only=True):
    """Version 2."""

    more: int = 0


class DoObservation(TerminalPayload, frozen=True, kw_only=True):
    """What was done."""

    said: str = ""
    count: int = 0


class Take(Runnable, frozen=True, kw_only=True):
    """Take a content: `content` names a blob of the session."""

    content: str


class TakeObservation(TerminalPayload, frozen=True, kw_only=True):
    """What came."""

    digest: str = ""


class Note(Do, frozen=True, kw_only=True):
    """Something that is only recorded."""


KINDS = (
    action("beta.do", Do, runnable=True),
    *((action("beta.do", DoMore, version=2, runnable=True),) if VERSIONS > 1 else ()),
    action("beta.note", Note),
    action("beta.take", Take, runnable=True, attachment="content"),
    observation("beta.take", TakeObservation, terminal=True),
    observation("beta.do", DoObservation, terminal=True),
)
