"""What reads an old payload by a path of followed steps: it decodes the fields, moves and computes, and builds."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, get_type_hints

import msgspec

from chronicled.migrations.construction import Term, construction
from chronicled.migrations.inlining.path import Path, Untold

__all__ = ["inlined"]


def inlined(
    old: type[msgspec.Struct],
    new: type[msgspec.Struct],
    steps: Sequence[Callable[[dict[str, Any]], dict[str, Any]]],
    called: Callable[[msgspec.Raw], Any],
) -> Callable[[msgspec.Raw], Any]:
    """Return what reads stored bytes of the struct `old` as `new` through the steps, as `called` does, and sooner.

    Returns `called` itself where a step cannot be followed. What is unusual of a payload (a field that is not there,
    one that fits nothing, a step that raises) is left to it, so that what comes of such a payload is one and the same.
    """
    path = Path([field.encode_name for field in msgspec.structs.fields(old)])
    fields = {field.encode_name: field for field in msgspec.structs.fields(new)}
    try:
        for step in steps:
            path.follow(step)
    except Untold:
        return called
    config = new.__struct_config__
    if path.holds.keys() - fields.keys() or config.tag is not None or config.array_like:
        return called
    hints = get_type_hints(new, include_extras=True)
    places = Counter(path.holds.values())
    # Nothing looks into what is only moved: it is decoded as what it will be. The rest is decoded as a step expects it.
    moved = {
        variable: hints[fields[entry].name]
        for entry, variable in path.holds.items()
        if variable in path.sources.values() and variable not in path.names.computed and places[variable] == 1
    }
    terms = {
        entry: Term(f"old.{variable}", checked=True) if variable in moved else Term(variable)
        for entry, variable in path.holds.items()
    }
    lines, scope = construction(new, terms)
    taken = [f"{variable} = old.{variable}" for variable in path.sources.values() if variable not in moved]
    stored = msgspec.defstruct(
        "Stored",
        [(variable, moved.get(variable, Any)) for variable in path.sources.values()],
        rename={variable: entry for entry, variable in path.sources.items()},
        forbid_unknown_fields=True,
        gc=False,
    )
    scope |= path.names.scope | {"decode": msgspec.json.Decoder(stored).decode, "called": called}
    scope["__name__"] = f"chronicled.steps.{getattr(steps[-1], '__module__', '')}"
    code = _compiled(["old = decode(raw)", *taken], path.body, lines)
    exec(code, scope)  # noqa: S102 - it holds nothing but the text of the steps, which run anyway, and names of ours
    found: Callable[[msgspec.Raw], Any] = scope["read"]
    return found


def _compiled(before: Sequence[str], body: Sequence[ast.stmt], after: Sequence[str]) -> CodeType:
    first, last = "".join(f"  {line}\n" for line in before), "".join(f"  {line}\n" for line in after)
    module = ast.parse(f"def read(raw):\n try:\n{first}{last} except Exception:\n  return called(raw)\n")
    (guarded,) = (each for each in ast.walk(module) if isinstance(each, ast.Try))
    guarded.body[len(before) : len(before)] = body
    return compile(ast.fix_missing_locations(module), "<steps>", "exec", dont_inherit=True)
