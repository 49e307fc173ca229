"""The OpenAPI 3.1 document, made from the route table, the bodies' structs and the registry of kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from chronicled.daemon.http.bodies import NAME_PATTERN, ActionBody, Problem
from chronicled.daemon.http.problem import MEDIA_TYPE
from chronicled.daemon.http.route import Answer, Route
from chronicled.events.codec import encode_json
from chronicled.events.envelope import ACTION
from chronicled.events.errors import (
    ChronicledError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Refused,
    RequestTimeout,
    StoreFailed,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)
from chronicled.events.parts import BLOBS
from chronicled.events.registry import Registry

__all__ = ["document"]

REF: Final = "#/components/schemas/{name}"
SUBMISSION: Final = "Submission"
EVERYWHERE: Final = (InvalidRequest, Unauthenticated, Refused, ChronicledError, StoreFailed, Overloaded, Unavailable)
WITH_BODY: Final = (PayloadTooLarge, UnsupportedMedia, RequestTimeout)
# Names of path segments, and what each looks like.
PATH_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "session": {"type": "string", "pattern": NAME_PATTERN},
    "cursor": {"type": "string", "pattern": NAME_PATTERN},
    "id": {"type": "string", "format": "uuid"},
    "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 128},
}

Schema = dict[str, Any]


def document(routes: Sequence[Route], registry: Registry, actions_max: int, runtimes: Iterable[str]) -> bytes:
    """Return the document, encoded; what this daemon's configuration decides (runtimes, limits) is in it too."""
    types = _types(routes, registry)
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = dict(zip(map(id, types), schemas, strict=True))
    components[SUBMISSION] = _submission(registry, components)
    components["SessionBody"]["properties"]["runtime"] = {"enum": [None, *sorted(runtimes)], "default": None}
    maker = _Maker(by_type, components, actions_max)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = maker.operation(route)
    return encode_json(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "chronicled",
                "version": version("chronicled"),
                "description": "Runs what AI agents ask for, in sandboxes, and keeps the chronicle of it.",
            },
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "TCP only."}},
            },
            "x-kinds": _kinds(registry, by_type),
        }
    )


def _types(routes: Iterable[Route], registry: Registry) -> list[Any]:
    types: dict[int, Any] = {id(Problem): Problem, id(ActionBody): ActionBody}
    for route in routes:
        wanted = [route.query, route.headers, route.body]
        wanted += [kind for answer in route.answers.values() for kinds in answer.content.values() for kind in kinds]
        for kind in wanted:
            if kind is not None:
                types[id(kind)] = kind
    for spec in registry:
        # A former version has the name of the current one: it is described where it stands.
        if registry.find_current(spec.category, spec.kind) is spec:
            types[id(spec.payload)] = spec.payload
    return list(types.values())


def _kinds(registry: Registry, schemas: dict[int, Schema]) -> list[Schema]:
    return [
        {
            "category": spec.category,
            "kind": spec.kind,
            "version": spec.version,
            "runnable": spec.runnable,
            "terminal": spec.terminal,
            "payload": schemas.get(id(spec.payload)) or msgspec.json.schema(spec.payload),
        }
        for spec in registry
    ]


def _submission(registry: Registry, components: dict[str, Any]) -> Schema:
    """Return the schema of an action as it is submitted: one alternative a kind, its payload's schema in place."""
    common = components["ActionBody"]["properties"]
    choices: list[Schema] = []
    for spec in registry:
        if spec.category != ACTION or registry.find_current(ACTION, spec.kind) is not spec:
            continue
        required = any(field.required for field in msgspec.structs.fields(spec.payload))
        payload: Schema = {"$ref": REF.format(name=spec.payload.__name__)}
        if spec.parts:
            # Events of the kind name blobs; whoever submits one does not.
            stored: Schema = components[spec.payload.__name__]
            fields = {**stored["properties"], BLOBS: {"type": "object", "maxProperties": 0}}
            payload = {**stored, "properties": fields}
        choices.append(
            {
                "type": "object",
                "title": spec.kind,
                "properties": {**common, "kind": {"const": spec.kind}, "payload": payload},
                "required": ["kind", "payload"] if required else ["kind"],
                "additionalProperties": False,
            }
        )
    return {"oneOf": choices, "discriminator": {"propertyName": "kind"}}


class _Maker:
    def __init__(self, schemas: dict[int, Schema], components: dict[str, Any], actions_max: int) -> None:
        self._schemas = schemas
        self._components = components
        self._actions_max = actions_max

    def operation(self, route: Route) -> Schema:
        operation: Schema = {
            "operationId": route.name,
            "summary": route.summary,
            "parameters": self._parameters(route),
            "responses": self._responses(route),
        }
        if not route.open:
            operation["security"] = [{}, {"token": []}]
        if route.body is not None:
            operation["requestBody"] = {
                "required": route.body_required,
                "content": {"application/json": {"schema": self._body(route.body)}},
            }
        elif route.media:
            operation["requestBody"] = {
                "required": route.body_required,
                "content": {media: {} for media in route.media},
            }
        return operation

    def _body(self, kind: Any) -> Schema:
        if kind == ActionBody | list[ActionBody]:
            one = {"$ref": REF.format(name=SUBMISSION)}
            return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": self._actions_max}]}
        return self._schemas[id(kind)]

    def _parameters(self, route: Route) -> list[Schema]:
        parameters: list[Schema] = [
            {"name": name, "in": "path", "required": True, "schema": PATH_SCHEMAS[name]}
            for name in re.findall(r"{(\w+)}", route.path)
        ]
        for place, kind in (("query", route.query), ("header", route.headers)):
            if kind is None:
                continue
            needed = {field.encode_name for field in msgspec.structs.fields(kind) if field.required}
            for name, schema in self._properties(kind).items():
                shown = name if place == "query" else "-".join(part.capitalize() for part in name.split("_"))
                required = name in needed
                parameters.append({"name": shown, "in": place, "required": required, "schema": _without_null(schema)})
        return parameters

    def _properties(self, kind: type[msgspec.Struct]) -> dict[str, Schema]:
        name = self._schemas[id(kind)]["$ref"].rpartition("/")[2]
        properties: dict[str, Schema] = self._components[name]["properties"]
        return properties

    def _responses(self, route: Route) -> Schema:
        responses = {str(status): self._answer(answer) for status, answer in route.answers.items()}
        problems: list[type[ChronicledError]] = [*route.problems, *EVERYWHERE]
        if route.body is not None or route.media:
            problems += WITH_BODY
        if "{" in route.path:
            problems.append(NotFound)
        by_status: dict[int, list[type[ChronicledError]]] = {}
        for problem in problems:
            by_status.setdefault(problem.status, []).append(problem)
        for status, classes in sorted(by_status.items()):
            codes = sorted({each.code for each in classes})
            responses[str(status)] = {
                "description": f"{classes[0].title}: {', '.join(codes)}.",
                "content": {MEDIA_TYPE: {"schema": self._schemas[id(Problem)]}},
            }
        return responses

    @staticmethod
    def _media(schemas: list[Schema]) -> Schema:
        if not schemas:
            return {}
        return {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}

    def _answer(self, answer: Answer) -> Schema:
        shown: Schema = {"description": answer.description}
        if answer.content:
            shown["content"] = {
                media: self._media([self._schemas[id(kind)] for kind in kinds])
                for media, kinds in answer.content.items()
            }
        if answer.headers:
            shown["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
            }
        return shown


def _without_null(schema: Schema) -> Schema:
    # A parameter that may be left out is never null on the wire.
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if not choices:
        return schema
    return choices[0] if len(choices) == 1 else {**schema, "anyOf": choices}
