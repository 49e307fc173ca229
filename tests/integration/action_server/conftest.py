from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chronicled.runtimes.action_server.frames import Transfer
from chronicled.runtimes.process import ProcessRuntime, ProcessSandbox
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import FrameWorker, make_spec


@pytest.fixture
def spec(tmp_path: Path) -> SandboxSpec:
    """What the tests start."""
    return make_spec(tmp_path, environment={"FROM_SESSION": "yes"})


@pytest.fixture
async def sandbox(tmp_path: Path, spec: SandboxSpec) -> AsyncIterator[ProcessSandbox]:
    """A started sandbox; its server dials until a worker listens."""
    sandbox = await ProcessRuntime(str(tmp_path / "sandboxes")).start(spec)
    yield sandbox
    await sandbox.kill()


@pytest.fixture(params=["descriptors", "inband"])
def transfer(request: pytest.FixtureRequest) -> Transfer:
    """The way in which output, results and contents get across: every test is run by both."""
    value: Transfer = request.param
    return value


@pytest.fixture
async def worker(
    tmp_path: Path, spec: SandboxSpec, sandbox: ProcessSandbox, transfer: Transfer
) -> AsyncIterator[FrameWorker]:
    """A worker, connected to the sandbox's server."""
    worker = FrameWorker(spec, tmp_path, transfer)
    worker.listen()
    await worker.connect()
    yield worker
    await worker.close()
