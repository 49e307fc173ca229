"""The built-in kinds, all of them."""

from __future__ import annotations

from typing import Final

from chronicled.events.kind import KindSpec
from chronicled.events.kinds.actions import ACTIONS
from chronicled.events.kinds.files import FILE_ACTIONS, FILE_OBSERVATIONS
from chronicled.events.kinds.lifecycle import LIFECYCLE_KINDS
from chronicled.events.kinds.observations import OBSERVATIONS

__all__ = ["BUILTIN"]

BUILTIN: Final[tuple[KindSpec, ...]] = (
    *ACTIONS,
    *FILE_ACTIONS,
    *OBSERVATIONS,
    *FILE_OBSERVATIONS,
    *LIFECYCLE_KINDS,
)
