"""The last of what reads an old payload: the text of a call of the new struct, with its fields checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from chronicled.events.plain import typed

__all__ = ["Term", "construction"]

SCALARS: Final = (str, int, float, bool)


class Term(NamedTuple):
    """Where a field of the new struct comes from."""

    text: str
    """An expression."""
    checked: bool = False
    """It is of the field's very type already, since a decoder has made it of that."""
    plain: bool = True
    """It gives plain JSON values, and no structs or times."""


def construction(new: type[msgspec.Struct], terms: Mapping[str, Term]) -> tuple[list[str], dict[str, Any]]:
    """Return lines that return `new` made of those terms, by name in the JSON, and what stands behind names in them.

    Whoever runs the lines raises `msgspec.ValidationError` for what does not fit its field.
    """
    hints = get_type_hints(new, include_extras=True)
    scope: dict[str, Any] = {"new": new, "convert": msgspec.convert, "builtins": msgspec.to_builtins, "typed": typed}
    made: list[str] = []
    checked: list[tuple[str, Any]] = []
    parts: list[str] = []
    for field in msgspec.structs.fields(new):
        term, name, wanted = terms.get(field.encode_name), field.name, hints[field.name]
        if term is None:
            continue
        if term.checked:
            made.append(f"{name}={term.text}")
        elif wanted in SCALARS:
            scope[f"type_{name}"] = wanted
            made.append(f"{name}=v if type(v := {term.text}) is type_{name} else convert(v, type_{name})")
        else:
            checked.append((name, wanted))
            parts.append(term.text if term.plain else f"builtins({term.text})")
            made.append(f"{name}=checked.{name}")
    lines: list[str] = []
    if checked:
        # All that needs more than a look at once: what a type means is looked up anew for each, but not for a struct's.
        scope["Checked"] = msgspec.defstruct("Checked", checked, array_like=True, gc=False)
        lines.append(f"checked = typed(({', '.join(parts)},), Checked)")
    return [*lines, f"return new({', '.join(made)})"], scope
