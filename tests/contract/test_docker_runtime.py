from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.fixture import Engine
from tests.integration.docker.host import running, runtime_of

from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.testing import RuntimeContract


class TestDockerRuntime(RuntimeContract):
    """The docker runtime keeps the contract."""

    @pytest.fixture
    async def runtime(self, directory: Path, engine: Engine) -> AsyncIterator[DockerRuntime]:
        """The runtime under test, over the real engine."""
        async with running(runtime_of()) as runtime:
            yield runtime
