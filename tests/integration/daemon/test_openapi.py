"""The document describes the API truly: Schemathesis makes requests from it and checks every answer against it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from tests.conftest import Figures
from tests.integration.daemon.process import DaemonProcess, free_port

from chronicled.migrations.formats.choice import FORMATS
from chronicled.runtimes.docker.images_reference import REFERENCE

OPERATIONS = 24
EXAMPLES = 60
HARMLESS = "true"
SECRET = "a-value-that-nobody-else-has-4711"
OPEN = "open"
SLOW = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example)


class Served:
    """A daemon on TCP with an open session, an ended action in it, and what is needed to call it."""

    def __init__(self, daemon: DaemonProcess, base: str, token: str, action: str, document: dict[str, Any]) -> None:
        self.daemon = daemon
        self.base = base
        self.token = token
        self.action = action
        self.document = document
        self.examples: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve on a free port for the whole module."""
    port = free_port()
    daemon = DaemonProcess(
        tmp_path_factory.mktemp("fuzz"),
        f"http.address=127.0.0.1:{port}",
        "runtime.allow_unisolated=true",
        "limits.wait_seconds_max=1",
    )

    async def prepare() -> tuple[str, dict[str, Any]]:
        await daemon.start()
        await daemon.post("/v1/sessions", {"session": OPEN})
        await daemon.post("/v1/sessions", {"session": "other"})
        ran = await daemon.post(
            f"/v1/sessions/{OPEN}/actions",
            {"kind": "run", "payload": {"command": "echo x"}},
            headers={"Prefer": "wait=1"},
        )
        document = (await daemon.get("/openapi.json")).json
        await daemon.disconnect()
        return ran.json["action"]["id"], document

    action, document = asyncio.run(prepare())
    token = (daemon.data / "http.token").read_text().strip()
    served = Served(daemon, f"http://127.0.0.1:{port}", token, action, document)
    yield served
    asyncio.run(daemon.aclose())
    assert "request failed" not in daemon.log_text()


def is_image(value: Any) -> bool:
    """Tell whether an image could have that name."""
    return isinstance(value, str) and re.fullmatch(REFERENCE, value) is not None


def tame(action: dict[str, Any]) -> None:
    """Take out of a generated action what would do harm."""
    images: Any = action.get("images")
    if hasattr(images, "append"):
        # No registry is asked for whatever names come up: one of this name is built here or nowhere.
        action["images"] = ["chronicled.invalid/a/b:1" if is_image(each) else each for each in images]
    payload: Any = action.get("payload")
    if isinstance(payload, dict):
        payload = cast("dict[str, Any]", payload)
        # What is generated runs for real: commands become harmless, files stay below the working directory.
        if isinstance(payload.get("command"), str) and action.get("kind") == "run":
            payload["command"] = HARMLESS
        if isinstance(payload.get("argv"), list) and payload["argv"] and action.get("kind") == "run":
            payload["argv"] = ["true"]
        if payload.get("argv") and action.get("kind") == "run":
            payload["argv"] = [HARMLESS]
        if isinstance(payload.get("path"), str) and payload["path"]:
            payload["path"] = tame_path(payload["path"])


def tame_path(path: str) -> str:
    """Return a path below the working directory."""
    return "made/" + path.strip("/. \x00")[:50].replace("..", "_") + "x"


@schemathesis.serializer("application/x-tar")
def archive(_context: Any, value: Any) -> bytes:
    """Return the body of an upload: whatever was generated, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


def whole(value: Any) -> Any:
    """Return the value with 1.0 written as 1: one number to JSON Schema, and two to those who read JSON."""
    if isinstance(value, dict):
        return {name: whole(each) for name, each in cast("dict[str, Any]", value).items()}
    if hasattr(value, "append"):
        return [whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53 else value


def heed(action: dict[str, Any], *, first: bool) -> None:
    """Make a valid action keep the rules that JSON Schema cannot say."""
    if action.get("encoding") == "base64":
        action["data"] = "eA=="
    if action.get("kind") == "run":
        payload = cast("dict[str, Any]", action.setdefault("payload", {}))
        payload["command"], payload["argv"] = HARMLESS, None
    if action.get("kind") == "read" and "payload" in action:
        action["payload"] |= {"byte_offset": None, "byte_count": None}
    if action.get("kind") == "condensation":
        action["payload"] = {"forgotten_event_ids": []}
    # An id of its own excludes an Idempotency-Key; only a request's first action carries an expected sequence.
    action.pop("id", None)
    if not first:
        action.pop("expected_sequence", None)


def keep_secrets(body: dict[str, Any]) -> None:
    """Give the secrets of a valid body values that can be told from other text, which no schema can ask for."""
    secrets = body.get("secrets")
    if isinstance(secrets, dict):
        body["secrets"] = dict.fromkeys(cast("dict[str, Any]", secrets), SECRET)
        for plain in ("variables", "environment"):
            if isinstance(body.get(plain), dict):
                body[plain] = {name: value for name, value in body[plain].items() if name not in body["secrets"]}
    elif hasattr(secrets, "append"):
        # One at most: the names of several must differ, and their variables.
        body["secrets"] = [{**each, "value": SECRET} for each in cast("list[dict[str, Any]]", secrets)[:1]]
    if isinstance(body.get("value"), str):
        body["value"] = SECRET


def load(served: Served, mode: schemathesis.GenerationMode) -> Any:
    """Return the document as Schemathesis reads it, aimed half of the time at what exists, and never at harm."""
    schema: Any = schemathesis.openapi.from_dict(served.document)
    schema.config.update(base_url=served.base)
    # What is valid may still meet another state than it was written for: a sequence, a key, an end, a cursor.
    accepted = schema.config.checks.positive_data_acceptance
    accepted.expected_statuses = [*accepted.expected_statuses, "406", "410", "412", "416", "422"]

    def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        if parameters and "%" in str(parameters.get("cursor", "")):
            parameters["cursor"] = "a b"  # goes out as it is: what is no name here could be one when it is decoded
        if parameters and "session" in parameters and len(str(parameters["session"])) % 2 == 0:
            # What others aim at stays open.
            parameters["session"] = "other" if context.operation.method.lower() == "delete" else OPEN
            if "id" in parameters and str(parameters["id"])[-1:] < "8":
                parameters["id"] = served.action
        return parameters

    def map_body(context: Any, body: Any) -> Any:
        actions: list[Any] = body if hasattr(body, "append") else [body]
        for index, each in enumerate(actions):
            if isinstance(each, dict):
                action = cast("dict[str, Any]", each)
                tame(action)
                if mode == schemathesis.GenerationMode.POSITIVE:
                    heed(action, first=index == 0)
                    if "cursor" in action:
                        action["cursor"] = "1"
                    keep_secrets(action)
        if mode == schemathesis.GenerationMode.POSITIVE:
            return whole(body)
        return body

    def map_values(context: Any, values: dict[str, Any] | None) -> dict[str, Any] | None:
        # What is uploaded or brought is so for real: below the working directory alone.
        path = values.get("path") if values else None
        if values and isinstance(path, str) and 0 < len(path) <= 4096:
            values["path"] = tame_path(path)
        # A cursor beyond the head is well formed and still wrong.
        for name in ("after", "Last-Event-ID", "Last-Event-Id"):
            if values and name in values and mode == schemathesis.GenerationMode.POSITIVE:
                values[name] = "1"
        if values and "cursor" in values and mode == schemathesis.GenerationMode.POSITIVE:
            values.pop("after", None)
        # Which variants a format has, and whose options are whose, no schema of single parameters can say.
        if values and "format" in values and mode == schemathesis.GenerationMode.POSITIVE:
            if values.get("variant") not in FORMATS.get(values["format"], ()):
                values.pop("variant", None)
            if values["format"] != "asciicast":
                values.pop("lane", None)
                values.pop("idle_limit", None)
            elif "lane" in values:
                values["lane"] = "main"  # it must be one that the session has
        # Any preference is admitted, but a `wait` must have its seconds.
        if values and "Prefer" in values and mode == schemathesis.GenerationMode.POSITIVE:
            values["Prefer"] = "wait=1"
        return values

    schema.hook("map_path_parameters")(map_path_parameters)
    schema.hook("map_body")(map_body)
    schema.hook("map_query")(map_values)
    schema.hook("map_headers")(map_values)
    return schema


def fuzz(served: Served, operation: Any, mode: schemathesis.GenerationMode) -> None:
    """Send generated requests of one operation, valid or broken ones, and check every answer."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=SLOW)
    def check(case: Any) -> None:
        response = case.call_and_validate(headers={"Authorization": f"Bearer {served.token}"}, timeout=30)
        served.examples[operation.label] += 1
        served.statuses[response.status_code] += 1

    check()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
@pytest.mark.timeout(300)
def test_every_operation_is_as_described(served: Served, mode: schemathesis.GenerationMode, figures: Figures) -> None:
    """No request is answered with a server error, and every answer has a status, type and body that is described."""
    operations = [result.ok() for result in load(served, mode).get_all_operations()]
    assert len(operations) >= OPERATIONS
    for operation in operations:
        # An operation without anything to send has nothing that could be broken.
        broken = mode == schemathesis.GenerationMode.NEGATIVE
        if not broken or list(operation.iter_parameters()) or operation.body:
            fuzz(served, operation, mode)
    counted = f"{sum(served.examples.values())} examples over {len(served.examples)} operations"
    figures(f"{counted}, answered {dict(sorted(served.statuses.items()))}")
    assert not [status for status in served.statuses if status >= 500], served.statuses
    served.examples.clear()
    served.statuses.clear()


def test_every_kind_and_route_is_described(served: Served) -> None:
    """The document holds each registered kind's payload schema, and each operation with its problems."""
    from chronicled.events.registry import builtin_registry

    document = served.document
    described = {(each["category"], each["kind"], each["version"]) for each in document["x-kinds"]}
    assert described == {spec.key for spec in builtin_registry()}
    names = set(document["components"]["schemas"])
    assert {each["payload"]["$ref"].rpartition("/")[2] for each in document["x-kinds"]} <= names
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) >= OPERATIONS
    for operation in operations:
        assert {"400", "403", "500", "503"} <= operation["responses"].keys()
