"""The environment of a session's shells: what it was created with, and what was set since; some of it secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronicled.runtimes.action_server.frames import Environment
from chronicled.runtimes.worker.generation import Generation

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["CHANGING", "SessionEnvironment"]

CHANGING: Final = frozenset({"secret_registered", "environment_changed"})
"""Lifecycle kinds after which the environment is another one."""


class SessionEnvironment:
    """Knows the variables of one session, values of secrets too, and tells them to its generation.

    What is submitted after a change was acknowledged runs with it: nothing is sent while a change is being looked up.
    """

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._changes: dict[str, str | None] = {}
        self._given: dict[str, str] | None = None
        """What the present generation has; None where a worker before this one started it."""
        self._pending = 1

    def __repr__(self) -> str:
        return "<SessionEnvironment>"

    @property
    def settled(self) -> bool:
        """Whether it is known; until then nothing may be sent."""
        return not self._pending

    @property
    def variables(self) -> dict[str, str]:
        """All of them, for a sandbox that is started now."""
        created = self._session.created
        merged: dict[str, str | None] = {**({} if created is None else created.environment), **self._changes}
        return {name: value for name, value in merged.items() if value is not None}

    async def load(self) -> None:
        """Learn what holds as the session is taken up.

        Raises:
            SecretsUnavailable: the session's secrets cannot be read: nothing of it may run or be published.
        """
        await self._look_up()
        self._pending -= 1

    async def _look_up(self) -> None:
        self._changes = (await self._session.context.log.resolve_secrets(self._session.key)).variables

    def change(self) -> None:
        """Learn that it has changed: look it up, tell the generation, go on."""
        self._pending += 1
        self._session.spawn(self._follow)

    async def _follow(self) -> None:
        await self._look_up()
        self._pending -= 1
        if self._session.generation is not None:
            self.tell(self._session.generation)
        self._session.advance_all()

    def note_given(self, variables: dict[str, str]) -> None:
        """Learn what a sandbox was started with."""
        self._given = variables

    def tell(self, generation: Generation, *, anew: bool = False) -> None:
        """Send what the generation does not have; `anew` where it is not known what came through."""
        now = self.variables
        if self._given is None or anew:
            wanted = dict(self._changes)
        else:
            wanted = {name: value for name, value in now.items() if self._given.get(name) != value}
            wanted |= dict.fromkeys(name for name in self._given if name not in now)
        if wanted and generation.link is not None:
            generation.send(Environment(variables=wanted))
            self._given = now
