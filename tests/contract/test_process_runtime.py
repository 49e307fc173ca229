from __future__ import annotations

from pathlib import Path

import pytest

from chronicled.runtimes.process import ProcessRuntime
from chronicled.runtimes.testing import RuntimeContract


class TestProcessRuntime(RuntimeContract):
    """The process runtime keeps the contract."""

    @pytest.fixture
    def runtime(self, directory: Path) -> ProcessRuntime:
        """The runtime under test."""
        return ProcessRuntime(str(directory / "sandboxes"))
