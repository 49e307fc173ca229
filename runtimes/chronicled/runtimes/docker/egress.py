"""The proxies of a worker's sandboxes: one each, for as long as the sandbox may live."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.docker.egress_denials import Report
from chronicled.runtimes.docker.egress_dial import Resolve, system_resolve
from chronicled.runtimes.docker.egress_proxy import EgressProxy
from chronicled.runtimes.docker.egress_rules import Rules
from chronicled.runtimes.docker.network_settings import AllowSettings

__all__ = ["Egress", "open_egress"]

_log = structlog.get_logger("chronicled.egress")


@asynccontextmanager
async def open_egress(resolve: Resolve | None = None) -> AsyncGenerator[Egress, None]:
    """Give a place for proxies; all of them end with it, and the sandboxes reach nothing until a worker is back."""
    try:
        async with anyio.create_task_group() as tasks:
            yield Egress(tasks, resolve or system_resolve())
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # Proxies never raise here, so this is the one error of the block's own.
        raise group.exceptions[0] from None


class Egress:
    """Proxies by sandbox. Made by `open_egress`."""

    def __init__(self, tasks: TaskGroup, resolve: Resolve) -> None:
        self._tasks = tasks
        self._resolve = resolve
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._gone: dict[str, anyio.Event] = {}

    @property
    def sandboxes(self) -> frozenset[str]:
        """Those that have a proxy."""
        return frozenset(self._scopes)

    async def open(
        self, sandbox: str, directory: str, policy: str, settings: AllowSettings, rules: Rules, report: Report
    ) -> None:
        """Listen in the sandbox's directory; on return its connections are served. Idempotent.

        Raises:
            SandboxStartFailed: the socket cannot be made.
        """
        if sandbox in self._scopes:
            return
        proxy = EgressProxy(policy, settings, rules, sandbox, report, self._resolve)
        try:
            await self._tasks.start(self._serve, sandbox, directory, proxy)
        except OSError as error:
            raise SandboxStartFailed(f"network: the proxy cannot listen: {error.strerror or error}.") from None

    async def close(self, sandbox: str) -> None:
        """End the sandbox's proxy, and every connection over it. Idempotent."""
        scope, gone = self._scopes.get(sandbox), self._gone.get(sandbox)
        if scope is not None and gone is not None:
            scope.cancel()
            await gone.wait()

    async def _serve(self, sandbox: str, directory: str, proxy: EgressProxy, *, task_status: TaskStatus[None]) -> None:
        listening = False
        scope = self._scopes[sandbox] = anyio.CancelScope()
        gone = self._gone[sandbox] = anyio.Event()
        try:
            with scope:
                async with proxy.listen(directory):
                    listening = True
                    task_status.started()
                    await anyio.sleep_forever()
        except Exception:
            if not listening:
                raise
            # One sandbox without a network, and not all of them.
            _log.exception("proxy_failed", sandbox=sandbox)
        finally:
            del self._scopes[sandbox], self._gone[sandbox]
            gone.set()
