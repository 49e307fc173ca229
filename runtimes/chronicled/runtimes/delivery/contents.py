"""The files of an installed distribution, as they are to stand in a sandbox; of editable installs too."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote, urlparse

from chronicled.events.errors import UnitBroken
from chronicled.runtimes.delivery.distributions import normal_name, release_of

__all__ = ["Files", "files_of", "files_of_module"]

Files = dict[str, Path]
"""Where a file is, by its path below an import root."""

METADATA: Final = ("METADATA", "entry_points.txt", "top_level.txt")
"""What is kept of a distribution's own data: enough to be found by `importlib.metadata`."""
NOT_SHIPPED: Final = frozenset(
    {"test", "tests", "doc", "docs", "example", "examples", "build", "dist", "venv", "node_modules", "benchmarks"}
    | {"setup", "conftest", "noxfile", "tasks"}
)
"""Beside the packages of an editable project, where nothing says what belongs to it."""


def files_of(owner: str, distribution: Distribution, modules: Iterable[str] = ()) -> Files:
    """Return the files of a distribution.

    Args:
        owner: The unit, for errors.
        distribution: It.
        modules: Top-level modules that are known to be its own.

    Raises:
        UnitBroken: it does not say what belongs to it.
    """
    files: Files = {}
    roots: list[Path] = []
    mapped: dict[str, str] = {}
    for path in distribution.files or ():
        place, parts = Path(str(distribution.locate_file(path))), path.parts
        if path.is_absolute() or ".." in parts or "__pycache__" in parts or place.suffix == ".pyc":
            continue
        if parts[0].endswith(".dist-info"):
            if len(parts) == 2 and parts[1] in METADATA:
                files["/".join(parts)] = place
        elif place.suffix == ".pth":
            roots += _folders(place)
        elif parts[0].startswith("__editable__"):
            mapped |= _mapping(place)
        else:
            files["/".join(parts)] = place
    for name, location in mapped.items():
        files |= _of_module(name, Path(location))
    if roots:
        known = {*modules, *(distribution.read_text("top_level.txt") or "").split()}
        files |= _of_roots(distribution, roots, known)
    if not any(not path.split("/")[0].endswith(".dist-info") for path in files):
        raise UnitBroken(
            f"The unit {owner!r} needs {release_of(distribution)} in sandboxes, and its metadata does not say which "
            "files it has: install it again with pip.",
            unit=owner,
        )
    return files


def files_of_module(owner: str, module: str) -> Files:
    """Return the files of a top-level module that belongs to no distribution: it was put on the path by hand.

    Raises:
        UnitBroken: it cannot be found.
    """
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations:
        return _below(Path(next(iter(spec.submodule_search_locations))), module)
    if spec is not None and spec.origin and spec.origin.endswith(".py"):
        return {f"{module}.py": Path(spec.origin)}
    raise UnitBroken(f"The unit {owner!r} has executors in {module}, which cannot be found here.", unit=owner)


def _folders(pth: Path) -> Iterator[Path]:
    for line in pth.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(("#", "import ", "import\t")):
            yield (pth.parent / line.strip()).resolve()


def _mapping(finder: Path) -> dict[str, str]:
    """Return the modules that setuptools' finder of an editable install knows, without running it."""
    if finder.suffix != ".py":
        return {}
    for node in ast.parse(finder.read_bytes()).body:
        names = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(name, ast.Name) and name.id == "MAPPING" for name in names):
            return cast("dict[str, str]", ast.literal_eval(value))
    return {}


def _of_roots(distribution: Distribution, roots: list[Path], known: set[str]) -> Files:
    project = _project(distribution)
    mine = [root for root in roots if root.is_dir() and (project is None or root.is_relative_to(project))]
    found: Files = {}
    for root in mine:
        names = {name for name in known if _place(root, name) is not None}
        own = normal_name(distribution.metadata["Name"]).replace("-", "_")
        if not names and _place(root, own) is not None:
            names = {own}
        for name in sorted(names or _packages(root)):
            place = _place(root, name)
            if place is not None:
                found |= _of_module(name, place)
    return found


def _project(distribution: Distribution) -> Path | None:
    """Return the folder of the project that is installed editable, where pip has noted it."""
    try:
        noted: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    except ValueError:
        return None
    url = urlparse(str(noted.get("url", "")))
    return Path(unquote(url.path)).resolve() if url.scheme == "file" else None


def _packages(root: Path) -> set[str]:
    names = {path.name for path in root.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    names |= {path.stem for path in root.glob("*.py")}
    return {name for name in names if name.isidentifier()} - NOT_SHIPPED


def _place(root: Path, name: str) -> Path | None:
    for place in (root / name, root / f"{name}.py"):
        if place.exists():
            return place
    return None


def _of_module(name: str, place: Path) -> Files:
    relative = name.replace(".", "/")
    if place.is_dir():
        return _below(place, relative)
    source = place if place.suffix == ".py" else place.with_suffix(".py")
    return {f"{relative}.py": source}


def _below(folder: Path, relative: str) -> Files:
    found: Files = {}
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each != "__pycache__" and not each.startswith("."))
        inside = os.path.relpath(path, folder)
        for name in names:
            # Names with a dot in front are the author's own: settings, credentials (`.env`).
            if not name.endswith(".pyc") and not name.startswith("."):
                place = relative if inside == "." else f"{relative}/{inside}"
                found[f"{place}/{name}"] = Path(path) / name
    return found
