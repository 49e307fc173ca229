"""Projections: what the log adds up to, in a file of their own that can be deleted at any time."""

from __future__ import annotations

from chronicled.storage.projections.projection import Projection
from chronicled.storage.projections.projections import Projections, open_projections
from chronicled.storage.projections.status import ActionStatus, action_status
from chronicled.storage.projections.summary import SandboxState, SessionSummary

__all__ = [
    "ActionStatus",
    "Projection",
    "Projections",
    "SandboxState",
    "SessionSummary",
    "action_status",
    "open_projections",
]
