"""Reading a generation's result spool: what its action server wrote before it died, or before it was heard."""

from __future__ import annotations

import os

from chronicled.runtimes.action_server.frames import Result
from chronicled.runtimes.action_server.spool import read_results

__all__ = ["spooled_results"]

RESULTS_MAX = 100_000


def spooled_results(path: str) -> dict[str, Result]:
    """Return the results in the spool by action id; the first of an action counts. Empty when there is no spool.

    Blocks: for a spool that may be large, call it in a thread.
    """
    found: dict[str, Result] = {}
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return found
    try:
        for result in read_results(descriptor):
            found.setdefault(result.action, result)
            if len(found) >= RESULTS_MAX:
                break
    finally:
        os.close(descriptor)
    return found
