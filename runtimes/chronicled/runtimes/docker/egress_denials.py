"""Denials: counted as they come, told now and then, so that no sandbox can flood its session's stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal

import anyio
import structlog

from chronicled.events.errors import ChronicledError
from chronicled.events.kinds.lifecycle import NetworkDenied

__all__ = ["Denials", "Reason", "Report"]

Reason = Literal[
    "not_allowed",
    "private_address",
    "unresolved",
    "sni_mismatch",
    "bad_request",
    "connections_max",
    "bytes_max",
]
Report = Callable[[NetworkDenied], Awaitable[None]]
"""Puts one denial into the session's stream; it need not be quick."""

FIRST_SECONDS: Final = 0.5
"""How long after the first denial it is told, with those that came meanwhile."""
PAUSE_SECONDS: Final = 5.0
PAUSE_SECONDS_MAX: Final = 120.0
CALM_SECONDS: Final = 300.0
"""After so long without any the pauses begin short again."""
TOLD_MAX: Final = 16
"""Hosts told one by one each time; the others are summed up."""
KEYS_MAX: Final = 512
CLOSE_SECONDS: Final = 2.0
HOST_CHARACTERS_MAX: Final = 253

_log = structlog.get_logger("chronicled.egress")
_Key = tuple[str, int, str]


class Denials:
    """What one sandbox was denied since it was last told.

    Args:
        policy: Name of the network policy.
        report: Takes the sums.
    """

    def __init__(self, policy: str, report: Report) -> None:
        self._policy = policy
        self._report = report
        self._counts: dict[_Key, int] = {}
        self._came = anyio.Event()

    def note(self, host: str, port: int, reason: Reason) -> None:
        """Count one."""
        shown = "".join(each if each.isprintable() else "\ufffd" for each in host[:HOST_CHARACTERS_MAX])
        key = (shown, port, reason)
        if key not in self._counts and len(self._counts) >= KEYS_MAX:
            key = ("*", 0, reason)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._came.set()

    async def run(self) -> None:
        """Tell them until cancelled; what is left then is told at once.

        With few denials each is told within half a second; with many the pauses grow to two minutes.
        """
        pause = PAUSE_SECONDS
        try:
            while True:
                with anyio.move_on_after(CALM_SECONDS) as calm:
                    await self._came.wait()
                if calm.cancelled_caught:
                    pause = PAUSE_SECONDS
                    await self._came.wait()
                await anyio.sleep(FIRST_SECONDS)
                await self._tell()
                await anyio.sleep(pause)
                pause = min(2 * pause, PAUSE_SECONDS_MAX)
        finally:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_SECONDS):
                await self._tell()

    async def _tell(self) -> None:
        counts, self._counts, self._came = self._counts, {}, anyio.Event()
        often = sorted(counts.items(), key=lambda item: (item[0][0] == "*", -item[1]))
        sums: dict[_Key, int] = {}
        for index, (key, count) in enumerate(often):
            told = key if index < TOLD_MAX else ("*", 0, key[2])
            sums[told] = sums.get(told, 0) + count
        for (host, port, reason), count in sums.items():
            denied = NetworkDenied(policy=self._policy, host=host, port=port, reason=reason, count=count)
            try:
                await self._report(denied)
            except ChronicledError as error:
                _log.warning("denial_untold", host=host, port=port, reason=reason, count=count, detail=error.detail)
