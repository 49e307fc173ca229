"""The kit's tests as pytest items: modules of this package, beside the author's own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from chronicled.daemon.units.conformance.examples import UnitExamples
from chronicled.daemon.units.loading import Loaded, load_unit, resolve
from chronicled.daemon.units.parts import judge_delivery
from chronicled.events.errors import UnitBroken

__all__ = ["Judged", "collect"]

MODULES = ("kit_static", "kit_executors", "kit_runtimes")


class Judged:
    """The unit that is judged, as the kit's modules see it.

    Args:
        name: As it was named to pytest.
        examples: The same of its examples; empty for none.
    """

    def __init__(self, name: str, examples: str) -> None:
        self.name = name
        self.broken = ""
        self.loaded: Loaded | None = None
        self.examples: UnitExamples | None = None
        try:
            self.loaded = load_unit(name)
            judge_delivery(self.loaded)
            if examples:
                found = resolve(examples, "The examples")
                if not isinstance(found, UnitExamples):
                    raise UnitBroken(f"{examples} is a {type(found).__name__}, and no UnitExamples.")
                self.examples = found
        except UnitBroken as error:
            self.broken = error.detail


class KitModule(pytest.Module):
    """A module of the kit, collected by its name and not by where it is."""

    judged: Judged
    module_name: str

    def _getobj(self) -> ModuleType:
        return importlib.import_module(self.module_name)

    def collect(self) -> Any:
        """Collect the module's tests, with what they are parametrized by."""
        self.obj.pytest_generate_tests = self._generate  # of this session's unit
        return super().collect()

    def _generate(self, metafunc: pytest.Metafunc) -> None:
        subjects = self.obj.SUBJECTS
        for name in metafunc.fixturenames:
            if name in subjects:
                found: list[tuple[str, Any]] = subjects[name](self.judged)
                values, ids = [value for _, value in found], [label for label, _ in found]
                metafunc.parametrize(name, values, ids=ids, scope="module")


def collect(session: pytest.Session, name: str, examples: str, *, keeping: bool = False) -> Iterator[pytest.Item]:
    """Return the items of the kit for a unit; before that, write down what is to be kept of it, if that is wanted."""
    judged = Judged(name, examples)
    if keeping and judged.loaded is not None:
        from chronicled.daemon.units.conformance.keeping import keep

        for written in keep(judged.loaded.unit):
            sys.stdout.write(f"written: {written}\n")
    for module in MODULES:
        full = f"{__package__}.{module}"
        path = Path(__file__).with_name(f"{module}.py")
        node: KitModule = cast("Any", KitModule).from_parent(session, path=path, name=f"chronicled[{name}]::{module}")
        node.judged, node.module_name = judged, full
        yield from session.genitems(node)
