"""Changes of single fields, said as data: a path of them becomes one step, however long it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec

from chronicled.migrations.construction import Term, construction

__all__ = ["Fields", "reader"]


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """An upgrade (or downgrade) that renames, changes, removes and adds fields, each by itself.

    Its names are those in the JSON. It can be called like any other upgrade; but payloads that are several such steps
    old are read as their own version's struct, and the current one is made of it at once.
    """

    renamed: Mapping[str, str] = {}
    """New names by old ones."""
    changed: Mapping[str, Callable[[Any], Any]] = {}
    """By old name, what makes the new value of the old one; pure and total."""
    removed: tuple[str, ...] = ()
    added: Mapping[str, Any] = {}
    """Values that old payloads get, where the default of the new version is not it. None of them is a list or a map."""

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the payload changed; what it has not stays away."""
        for name, change in self.changed.items():
            if name in payload:
                payload[name] = change(payload[name])
        for name in self.removed:
            payload.pop(name, None)
        moved = [(new, payload.pop(old)) for old, new in self.renamed.items() if old in payload]
        payload.update(moved)
        payload.update(self.added)
        return payload


class _Path:
    """Several steps as one: where each field of the end comes from."""

    def __init__(self, names: Sequence[str]) -> None:
        self.sources: dict[str, tuple[str, tuple[Callable[[Any], Any], ...]]] = {name: (name, ()) for name in names}
        self.added: dict[str, Any] = {}

    def follow(self, step: Fields) -> None:
        for name, change in step.changed.items():
            if name in self.sources:
                source, changes = self.sources[name]
                self.sources[name] = (source, (*changes, change))
            elif name in self.added:
                self.added[name] = change(self.added[name])
        for name in step.removed:
            self.sources.pop(name, None)
            self.added.pop(name, None)
        for known in (self.sources, self.added):
            moved = {new: known.pop(old) for old, new in step.renamed.items() if old in known}
            known |= moved
        for name, value in step.added.items():
            self.sources.pop(name, None)
            self.added[name] = value


def reader(
    old: type[msgspec.Struct], new: type[msgspec.Struct], steps: Sequence[Fields]
) -> Callable[[msgspec.Raw], Any]:
    """Return what reads stored bytes of the struct `old` as `new`, all steps at once.

    What it returns has been checked as a decoder would: fields whose type is the same were when `old` was read, others
    are when they are made. It raises what a decoder does, or a step's function.
    """
    olds, news = msgspec.structs.fields(old), msgspec.structs.fields(new)
    path = _Path([field.encode_name for field in olds])
    for step in steps:
        path.follow(step)
    if lost := sorted(path.sources.keys() - {field.encode_name for field in news}):
        raise ValueError(f"{new.__name__} has no field {lost[0]!r}; say that it is renamed or removed")
    source, scope = _written(path, old, new)
    scope["decode"] = msgspec.json.Decoder(old).decode
    # As dataclasses do it: a constructor that is written out costs a fifth of one that is called with a map.
    exec(source, scope)  # noqa: S102 - nothing but names of fields is put into it
    found: Callable[[msgspec.Raw], Any] = scope["read"]
    return found


def _written(path: _Path, old: type[msgspec.Struct], new: type[msgspec.Struct]) -> tuple[str, dict[str, Any]]:
    """Return the source of the function that reads, and what stands behind the names in it."""
    attributes = {field.encode_name: field.name for field in msgspec.structs.fields(old)}
    old_hints, new_hints = (get_type_hints(kind, include_extras=True) for kind in (old, new))
    scope: dict[str, Any] = {}
    terms: dict[str, Term] = {}
    for field in msgspec.structs.fields(new):
        name, wanted = field.encode_name, new_hints[field.name]
        if name in path.added:
            scope[f"added_{field.name}"] = msgspec.convert(path.added[name], wanted)
            terms[name] = Term(f"added_{field.name}", checked=True)
        elif name in path.sources:
            origin, changes = path.sources[name]
            text = f"old.{attributes[origin]}"
            for number, change in enumerate(changes):
                scope[f"change_{number}_{field.name}"] = change
                text = f"change_{number}_{field.name}({text})"
            # What nobody changes was checked when the old struct was read.
            terms[name] = Term(text, not changes and old_hints[attributes[origin]] == wanted, bool(changes))
    lines, made = construction(new, terms)
    body = "".join(f" {line}\n" for line in ["old = decode(raw)", *lines])
    return f"def read(raw):\n{body}", scope | made
