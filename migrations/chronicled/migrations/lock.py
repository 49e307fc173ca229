"""The schema lock: a fingerprint of each kind's payload schema at each version.

A schema that changed without a new version would make old bytes mean something else, silently. The lock file makes that
a failing test: it is written once per version, and a line in it never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec

from chronicled.events.kind import KindSpec

__all__ = ["fingerprint", "lock_of", "locked", "problems", "render"]

_canonical = msgspec.json.Encoder(order="deterministic")


def fingerprint(spec: KindSpec) -> str:
    """Return 16 hex digits over everything that readers and writers of this version rely on.

    That is the JSON schema (fields, types, defaults, constraints) and the flags; docstrings do not count.
    """
    _, components = msgspec.json.schema_components([spec.payload], ref_template="{name}")
    bare = {name: _without_prose(schema) for name, schema in components.items()}
    data = _canonical.encode([spec.payload.__name__, bare, spec.runnable, spec.terminal])
    return hashlib.sha256(data).hexdigest()[:16]


def _without_prose(value: Any) -> Any:
    match value:
        case dict():
            items = cast("dict[str, Any]", value)
            # A property may itself be called "description": then its value is a schema, not a sentence.
            return {k: _without_prose(v) for k, v in items.items() if not (k == "description" and isinstance(v, str))}
        case list():
            return [_without_prose(item) for item in cast("Sequence[Any]", value)]
        case _:
            return value


def lock_of(specs: Iterable[KindSpec]) -> dict[str, str]:
    """Return the lock of these kinds: `category kind version` to fingerprint, sorted."""
    return dict(sorted((f"{spec.category} {spec.kind} {spec.version}", fingerprint(spec)) for spec in specs))


def render(lock: Mapping[str, str]) -> str:
    """Return the lock file's text, one line a kind and version."""
    return "".join(f"{name} {digest}\n" for name, digest in sorted(lock.items()))


def locked() -> dict[str, str]:
    """Return the lock that ships with this version."""
    text = files("chronicled.migrations").joinpath("schema.lock").read_text(encoding="utf-8")
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))


def problems(specs: Iterable[KindSpec], lock: Mapping[str, str]) -> list[str]:
    """Return what is wrong between the code and the lock, one sentence each; empty means nothing."""
    found: list[str] = []
    current = lock_of(specs)
    for name, digest in lock.items():
        if name not in current:
            found.append(f"{name}: is in the lock but not in the code; old events of it could not be read any more.")
        elif current[name] != digest:
            found.append(f"{name}: its schema has changed; add a new version and an upcaster instead.")
    found.extend(f"{name}: is not in the lock yet; write it with `make lock`." for name in current if name not in lock)
    return found
