from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from chronicled.runtimes.action_server.frames import Transfer
from chronicled.runtimes.process import ProcessRuntime
from chronicled.runtimes.testing import FrameWorker, make_spec
from chronicled.runtimes.testing_files import FileContract


class TestFilesOfProcesses(FileContract):
    """The process runtime keeps what is promised of files, by both ways of transfer."""

    @pytest.fixture(params=["descriptors", "inband"])
    async def worker(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FrameWorker]:
        """A worker of a process sandbox."""
        spec = make_spec(tmp_path)
        worker = FrameWorker(spec, tmp_path, cast("Transfer", request.param))
        worker.listen()
        sandbox = await ProcessRuntime(str(tmp_path / "sandboxes")).start(spec)
        await worker.connect()
        yield worker
        await sandbox.kill()
        await worker.close()
