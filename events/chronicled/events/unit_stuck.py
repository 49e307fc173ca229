"""What is raised inside a third party's code that does not end by itself."""

from __future__ import annotations

__all__ = ["UnitStuck"]


class UnitStuck(SystemExit):
    """A step, a rule or a policy of a unit held everything up, and was ended from outside.

    It is no ordinary error, so that a unit's own `except Exception` does not swallow it; whoever calls units expects
    exits of them. Whoever catches it does not call the same again: it would hold everything up again.
    """
