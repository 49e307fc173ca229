"""The schema lock: a fingerprint of each kind's payload schema at each version.

A schema that changed without a new version would make old bytes mean something else, silently. The lock file makes that
a failing test: it is written once per version, and a line in it never changes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, cast

import msgspec

from chronicled.events.kind import KindSpec

__all__ = ["LOCK_NAME", "fingerprint", "lock_of", "locked", "merged", "parse", "problems", "render"]

LOCK_NAME: Final = "schema.lock"
LINE: Final = re.compile(r"(action|observation|lifecycle) [a-z0-9_.]+ [1-9][0-9]* [0-9a-f]{16}")
NOT_YET: Final = "is not in the lock yet; write it with `chronicled migrate lock` (ours: `make lock`)."

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


def parse(text: str) -> dict[str, str]:
    """Return the lock that a lock file's text holds.

    Raises:
        ValueError: a line is not `category kind version fingerprint`.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        if LINE.fullmatch(line) is None:
            raise ValueError(f"{line[:100]!r} is no line of a schema lock")
    return dict(line.rsplit(" ", 1) for line in lines)


def locked(package: str = "chronicled.migrations") -> dict[str, str]:
    """Return the lock that ships in a package, by default that of the built-in kinds; empty where it has none.

    Raises:
        ModuleNotFoundError: there is no such package.
        ValueError: its lock is none.
    """
    file = files(package).joinpath(LOCK_NAME)
    return parse(file.read_text(encoding="utf-8")) if file.is_file() else {}


def merged(specs: Iterable[KindSpec], lock: Mapping[str, str]) -> dict[str, str]:
    """Return the lock with what the code has beyond it. Lines that are there never change and never go.

    Raises:
        ValueError: the code does not fit them; names each, one sentence a line.
    """
    specs = list(specs)
    found = [problem for problem in problems(specs, lock) if not problem.endswith(NOT_YET)]
    if found:
        raise ValueError("\n".join(found))
    return {**lock, **lock_of(specs)}


def problems(specs: Iterable[KindSpec], lock: Mapping[str, str]) -> list[str]:
    """Return what is wrong between the code and the lock, one sentence each; empty means nothing."""
    found: list[str] = []
    current = lock_of(specs)
    for name, digest in lock.items():
        if name not in current:
            found.append(f"{name}: is in the lock but not in the code; old events of it could not be read any more.")
        elif current[name] != digest:
            found.append(f"{name}: its schema has changed; add a new version and an upcaster instead.")
    found.extend(f"{name}: {NOT_YET}" for name in current if name not in lock)
    return found
