"""Which of our own modules the action server needs, found by reading them: nothing is imported for it."""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Iterable, Iterator
from importlib import util
from pathlib import Path
from typing import Final

from chronicled.runtimes.carrier.failure import CarrierFailed

__all__ = ["ROOTS", "UNIT_ROOTS", "Sources", "closure"]

Sources = dict[str, bytes]
"""Content by path below a source root, e.g. `chronicled/events/codec.py`."""

ROOTS: Final = ("chronicled.runtimes.action_server",)
UNIT_ROOTS: Final = (*ROOTS, "chronicled.events", "chronicled.migrations")
"""The same with all that modules of units import of ours: plain data and functions."""
_NAMESPACE: Final = "chronicled"
_PARSING: Final = threading.Lock()
# Python 3.11 counts the depth of syntax trees for all threads together, and fails when two build one at a time.


def closure(roots: Iterable[str] = ROOTS) -> Sources:
    """Return the sources of these packages, all of their modules, and of all of ours that any of them imports.

    Raises:
        CarrierFailed: a module is missing or cannot be read.
    """
    folders = _namespace_folders()
    found: Sources = {}
    waiting: list[str] = []
    for root in roots:
        waiting += [root, *_modules_of(folders, root)]
    while waiting:
        name = waiting.pop()
        for module in _with_parents(name):
            path = _find(folders, module)
            if path is None:
                continue
            relative = path[1]
            if relative not in found:
                try:
                    found[relative] = path[0].read_bytes()
                    with _PARSING:
                        tree = ast.parse(found[relative])
                    waiting += _imports(tree)
                except (OSError, SyntaxError, ValueError) as error:
                    raise CarrierFailed(f"{path[0]} cannot go into the carrier: {error}.") from error
    for root in roots:
        if not any(path.startswith(root.replace(".", "/")) for path in found):
            raise CarrierFailed(f"The module {root} is not installed: install chronicled again.")
    return dict(sorted(found.items()))


def _namespace_folders() -> list[Path]:
    spec = util.find_spec(_NAMESPACE)
    if spec is None or spec.submodule_search_locations is None:
        raise CarrierFailed("The package chronicled is not installed as it should be: install it again.")
    return [Path(location) for location in spec.submodule_search_locations]


def _modules_of(folders: list[Path], package: str) -> Iterator[str]:
    for namespace in folders:
        folder = namespace.joinpath(*package.split(".")[1:])
        if folder.is_dir():
            for path in sorted(folder.rglob("*.py")):
                words = path.relative_to(namespace).with_suffix("").parts
                yield ".".join((_NAMESPACE, *words)).removesuffix(".__init__")
            # As when it is imported: the first folder that has the package has all of it.
            return


def _with_parents(name: str) -> Iterator[str]:
    words = name.split(".")
    for count in range(2, len(words) + 1):
        yield ".".join(words[:count])


def _find(folders: list[Path], module: str) -> tuple[Path, str] | None:
    """Return a module's file and its place below the source root; None for what is a name inside a module."""
    words = module.split(".")[1:]
    for folder in folders:
        for end in (f"{words[-1]}.py", os.path.join(words[-1], "__init__.py")):
            path = folder.joinpath(*words[:-1], end)
            if path.is_file():
                return path, os.path.join(_NAMESPACE, *words[:-1], end)
    return None


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yield what a module may import when it runs: not what it only names for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith(f"{_NAMESPACE}."))
