"""A carrier on a base of a few files: everything but the packages is real."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from chronicled.runtimes.carrier import Carrier, cache, ensure_carrier
from chronicled.runtimes.carrier.base import Base, close_modes
from chronicled.runtimes.carrier.listing import entries_of
from chronicled.runtimes.carrier.recipe import ARCHITECTURES, Architecture

FOREIGN: Final = next(each.name for each in ARCHITECTURES.values() if each.machine != os.uname().machine)
"""An architecture whose interpreter does not run here, so that a base without one will do."""

Build = Callable[..., Carrier]


class FakeBase:
    """Stands in for the packages; counts how often it is made."""

    def __init__(self) -> None:
        self.made = 0
        self.version = "1"
        self.failure: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self, _architecture: Architecture, tree: Path, _work: Path, _apt_state: Path) -> Base:
        """Make a base as `make_base` does."""
        with self._lock:
            self.made += 1
        (tree / "bin").mkdir()
        program = tree / "bin/python3"
        program.write_bytes(b"not really a program " * 1000)
        program.chmod(0o755)
        if self.failure is not None:
            raise self.failure
        (tree / "lib/applets").mkdir(parents=True)
        (tree / "lib/applets/ls").symlink_to("../../bin/busybox")
        (tree / "lib/os.py").write_text("name = 'posix'\n")
        (tree / "run").mkdir()
        close_modes(tree)
        return Base(packages={"python": self.version}, wheels={"msgspec": "1"}, entries=entries_of(tree))


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> FakeBase:
    """What is used in place of packages."""
    fake = FakeBase()
    monkeypatch.setattr(cache, "make_base", fake)
    return fake


@pytest.fixture
def build(base: FakeBase, tmp_path: Path) -> Build:
    """Make a carrier in a directory of the test's own."""
    assert base.made == 0

    def ensure(directory: str = "carriers", *, fresh: bool = False, layers: str = "cache") -> Carrier:
        return ensure_carrier(tmp_path / directory, FOREIGN, cache=tmp_path / layers, fresh=fresh)

    return ensure
