"""The route table's rows, and the match of a request's path with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from chronicled.daemon.http.call import Call
from chronicled.daemon.http.percent import decode_percent
from chronicled.events.errors import ChronicledError, MethodNotAllowed, NotFound

__all__ = ["Answer", "Handler", "Route", "Router"]

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Answer(msgspec.Struct, frozen=True):
    """One successful answer of a route: what it means, and its body's type by media type."""

    description: str
    content: dict[str, tuple[Any, ...]] = {}
    """By media type, the types that a JSON body may have; none for bytes and text."""
    headers: dict[str, str] = {}
    """What each header says."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the API: routing, documentation and validation read the same row."""

    method: str
    path: str
    """`{name}` stands for one segment."""
    name: str
    """Unique; the operation's id in the OpenAPI document."""
    summary: str
    handler: Handler
    answers: dict[int, Answer]
    problems: tuple[type[ChronicledError], ...] = ()
    """What it can answer beside what every route can."""
    query: type[msgspec.Struct] | None = None
    headers: type[msgspec.Struct] | None = None
    """Request headers that it reads, by field name (`_` for `-`)."""
    body: Any = None
    """Type of the JSON body."""
    media: tuple[str, ...] = ()
    """Media types of a body that is bytes; any other is taken as the last of them."""
    body_required: bool = True
    writes: bool = False
    """Whether it can change anything; refused while the daemon drains."""
    open: bool = False
    """Whether it answers a caller who proves nothing (health)."""


class Router:
    """Finds the route of a request; unknown paths and methods are errors with a class of their own."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[tuple[str | None, ...], tuple[str, ...], dict[str, Route]]]] = {}
        methods: dict[str, dict[str, Route]] = {}
        for route in routes:
            known = methods.setdefault(route.path, {})
            if route.method in known:
                raise ValueError(f"two routes for {route.method} {route.path}")
            known[route.method] = route
        for path, by_method in methods.items():
            if "{" not in path:
                self._fixed[path] = by_method
                continue
            parts = path.split("/")[1:]
            pattern = tuple(None if part.startswith("{") else part for part in parts)
            names = tuple(part[1:-1] for part in parts if part.startswith("{"))
            self._patterns.setdefault(len(parts), []).append((pattern, names, by_method))

    def match(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route and what its path's names stand for, percent-decoded once, after splitting.

        HEAD finds the route of GET: its handler says the head of the same answer.

        Raises:
            NotFound: no route has that path.
            MethodNotAllowed: it does not take that method.
            InvalidRequest: the path's percent-encoding is broken.
        """
        found = self._fixed.get(path)
        names: Mapping[str, str] = {}
        if found is None:
            found, names = self._match_pattern(path)
        route = found.get("GET" if method == "HEAD" else method)
        if route is None:
            allow = ", ".join(sorted({*found, *(["HEAD"] if "GET" in found else [])}))
            raise MethodNotAllowed(f"{path[:200]} takes {allow}, not {method[:32]}.", allow=allow)
        return route, names

    def _match_pattern(self, path: str) -> tuple[dict[str, Route], Mapping[str, str]]:
        parts = path.split("/")[1:]
        for pattern, names, by_method in self._patterns.get(len(parts), ()):
            values = [part for part, fixed in zip(parts, pattern, strict=True) if fixed is None]
            if all(fixed is None or fixed == part for part, fixed in zip(parts, pattern, strict=True)):
                return by_method, {name: decode_percent(value) for name, value in zip(names, values, strict=True)}
        raise NotFound(f"There is nothing at {path[:200]!r}; /openapi.json lists what there is.")
