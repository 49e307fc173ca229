"""The contract of runtimes, for those of the unit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chronicled.daemon.units.conformance.collection import Judged
from chronicled.daemon.units.loading import resolve
from chronicled.runtimes.offered import RuntimeContext
from chronicled.runtimes.runtime import Runtime
from chronicled.runtimes.testing import RuntimeContract

__all__ = ["SUBJECTS"]


def _runtimes(judged: Judged) -> list[tuple[str, Any]]:
    unit = None if judged.loaded is None else judged.loaded.unit
    return [] if unit is None else list(unit.runtimes.items())


SUBJECTS: dict[str, Callable[[Judged], list[tuple[str, Any]]]] = {
    "factory": lambda judged: [(name, (name, reference)) for name, reference in _runtimes(judged)],
}
"""What each test's argument stands for."""


def _opened(factory: tuple[str, str], directory: Path) -> Runtime:
    name, reference = factory
    folder = directory / "runtime"
    folder.mkdir(mode=0o700, exist_ok=True)
    runtime: Runtime = resolve(reference, f"The runtime {name!r}")(RuntimeContext(name, str(folder), "conformance"))
    return runtime


def test_the_runtime_is_called_as_it_is_declared(factory: tuple[str, str], tmp_path: Path) -> None:
    """Sessions name it, and the log says it: both by the name that the unit declares."""
    assert _opened(factory, tmp_path).name == factory[0]


class TestRuntime(RuntimeContract):
    """A unit's runtime keeps the contract that ours keep. Needs pytest-asyncio with `asyncio_mode = auto`."""

    @pytest.fixture
    def runtime(self, factory: tuple[str, str], directory: Path) -> Runtime:
        """The runtime under test."""
        return _opened(factory, directory)
