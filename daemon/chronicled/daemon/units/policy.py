"""Policies in the daemon: every action is shown to all of them before it is accepted. What fails, says no."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import anyio
import msgspec
import structlog
from anyio import CapacityLimiter, to_thread

from chronicled.events.policy import Decision, Policy, PolicyRequest
from chronicled.events.unit_stuck import UnitStuck

__all__ = ["OwnedPolicy", "Policies", "PolicyRefusal"]

THREADS_MAX: Final = 8
"""Threads for policies that are not `async`. One that hangs holds its thread; when none is left, all are rejected."""
MESSAGE_CHARACTERS: Final = 1000
RULE_CHARACTERS: Final = 128

log: Any = structlog.get_logger("chronicled")


class OwnedPolicy(NamedTuple):
    """A unit's policy."""

    owner: str
    policy: Policy


class PolicyRefusal(NamedTuple):
    """Why an action is rejected."""

    rule: str
    """Id of the rule; begins with the unit's name."""
    message: str


class Policies:
    """All policies of the loaded units, asked one after another: the first that says no is heard.

    Args:
        policies: In the order in which the units are loaded.
        seconds: How long each may take for an action.
    """

    def __init__(self, policies: Sequence[OwnedPolicy], seconds: float) -> None:
        self._policies = tuple(policies)
        self._seconds = seconds
        self._limiter = CapacityLimiter(THREADS_MAX)
        self._stuck: set[str] = set()

    def __len__(self) -> int:
        return len(self._policies)

    async def judge(self, request: PolicyRequest) -> PolicyRefusal | None:
        """Return why the action is rejected; None if nobody has anything against it.

        A policy that raises, does not answer in time, or answers something else, has said no: its rule is then
        `OWNER.policy_failed`. Cancellation: safe; what runs in a thread goes on there, unheard.
        """
        for each in self._policies:
            refusal = await self._ask(each, request)
            if refusal is not None:
                return refusal
        return None

    async def _ask(self, owned: OwnedPolicy, request: PolicyRequest) -> PolicyRefusal | None:
        if owned.owner in self._stuck:
            return self._failed(owned, request, "held up the daemon, and is not asked again until the next start")
        decision: object = None
        scope = anyio.move_on_after(self._seconds)
        try:
            with scope:
                decision = await self._call(owned.policy, request)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return self._failed(owned, request, "was cancelled from within")
        except UnitStuck:
            self._stuck.add(owned.owner)
            return self._failed(owned, request, "held up the daemon")
        except (Exception, SystemExit) as error:
            # Not what it says: that may hold what it was shown.
            return self._failed(owned, request, f"raised {type(error).__name__}")
        if scope.cancelled_caught:
            return self._failed(owned, request, f"did not answer within {self._seconds:g} s")
        if not isinstance(decision, Decision):
            return self._failed(owned, request, f"returned {type(decision).__name__}, and no Decision")
        if decision.allowed is True:
            return None
        try:
            decision = msgspec.convert(msgspec.to_builtins(decision), Decision)
        except (ValueError, TypeError) as error:
            return self._failed(owned, request, f"returned a Decision that is none: {type(error).__name__}")
        rule = decision.rule or f"{owned.owner}.policy"
        if not rule.startswith(f"{owned.owner}."):
            rule = f"{owned.owner}.{rule}"
        message = decision.message or f"The policy of {owned.owner} does not allow it."
        return PolicyRefusal(_storable(rule, RULE_CHARACTERS), _storable(message, MESSAGE_CHARACTERS))

    async def _call(self, policy: Policy, request: PolicyRequest) -> object:
        function = cast("Callable[[PolicyRequest], Any]", policy)
        if inspect.iscoroutinefunction(policy):
            return await function(request)
        answer: Any = await to_thread.run_sync(function, request, abandon_on_cancel=True, limiter=self._limiter)
        return await answer if inspect.isawaitable(answer) else answer

    def _failed(self, owned: OwnedPolicy, request: PolicyRequest, words: str) -> PolicyRefusal:
        log.error("policy_failed", unit=owned.owner, kind=request.kind, session=request.session, detail=words)
        return PolicyRefusal(
            f"{owned.owner}.policy_failed",
            f"The policy of {owned.owner} {words}, and what it cannot judge is rejected.",
        )


def _is_cancelled() -> bool:
    """Tell whether somebody wants the end of this task, and it is not the policy that has ended itself."""
    task = asyncio.current_task()
    return (task is not None and task.cancelling() > 0) or anyio.current_effective_deadline() == -math.inf


def _storable(text: str, characters: int) -> str:
    """Return the text as it can stand in an event: what is no Unicode shows as `?`."""
    return text[:characters].encode("utf-8", "replace").decode()
