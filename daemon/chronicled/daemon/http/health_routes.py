"""Health, metrics, and the API's own description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from chronicled.daemon.http.bodies import Health
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.route import Answer, Route
from chronicled.daemon.metrics import MEDIA_TYPE, Metrics
from chronicled.events.errors import Unavailable

__all__ = ["HealthRoutes"]


class HealthRoutes:
    """The routes of health.

    Args:
        metrics: What has been counted.
        unready: Tells why the daemon is not ready; None when it is.
        document: Makes the OpenAPI document's bytes; called once, when somebody asks.
    """

    def __init__(self, metrics: Metrics, unready: Callable[[], str | None], document: Callable[[], bytes]) -> None:
        self._metrics = metrics
        self._unready = unready
        self._document = document
        self._encoded: bytes | None = None

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        healthy = {200: Answer("Yes.", {"application/json": (Health,)})}
        return (
            Route(
                method="GET",
                path="/livez",
                name="livez",
                summary="Whether the daemon lives",
                handler=self.livez,
                answers=healthy,
                open=True,
            ),
            Route(
                method="GET",
                path="/readyz",
                name="readyz",
                summary="Whether the daemon takes requests",
                handler=self.readyz,
                answers=healthy,
                problems=(Unavailable,),
                open=True,
            ),
            Route(
                method="GET",
                path="/metrics",
                name="metrics",
                summary="Counters in Prometheus' text form",
                handler=self.metrics,
                answers={200: Answer("The counters.", {"text/plain": ()})},
            ),
            Route(
                method="GET",
                path="/openapi.json",
                name="openapi",
                summary="This description",
                handler=self.openapi,
                answers={200: Answer("An OpenAPI 3.1 document.", {"application/json": (dict[str, Any],)})},
            ),
        )

    async def livez(self, call: Call) -> web.Response:
        """Say that the daemon lives."""
        return json_response(Health(status="ok"))

    async def readyz(self, call: Call) -> web.Response:
        """Say whether the daemon is ready."""
        reason = self._unready()
        if reason is not None:
            raise Unavailable(reason)
        return json_response(Health(status="ok"))

    async def metrics(self, call: Call) -> web.Response:
        """Give the counters."""
        return web.Response(body=self._metrics.exposition().encode(), headers={"Content-Type": MEDIA_TYPE})

    async def openapi(self, call: Call) -> web.Response:
        """Give the description."""
        if self._encoded is None:
            self._encoded = self._document()
        return web.Response(body=self._encoded, content_type="application/json")
