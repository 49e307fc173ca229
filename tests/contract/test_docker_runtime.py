from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.engine.own import OwnEngine
from tests.integration.docker.host import running, runtime_of

from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import RuntimeContract, make_spec


class TestDockerRuntime(RuntimeContract):
    """The docker runtime keeps the contract."""

    @pytest.fixture
    async def runtime(self, directory: Path, engine: Engine) -> AsyncIterator[DockerRuntime]:
        """The runtime under test, over the real engine."""
        async with running(runtime_of()) as runtime:
            yield runtime


@pytest.mark.slow
class TestDockerRuntimeUnderGvisor(RuntimeContract):
    """It keeps it under gVisor too, which takes no descriptors from outside."""

    transfer: ClassVar[frames.Transfer] = "inband"

    @pytest.fixture
    def spec(self, directory: Path) -> SandboxSpec:
        """What the tests start: isolated, with a read-only root."""
        return make_spec(directory, request=SandboxRequest(isolation="gvisor", read_only=True))

    @pytest.fixture
    async def runtime(self, directory: Path, gvisor: OwnEngine) -> AsyncIterator[DockerRuntime]:
        """The runtime under test, over an engine that has gVisor."""
        async with running(runtime_of(gvisor.host, image=MUSL, limits_unkept_allowed=True)) as runtime:
            yield runtime
