from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chronicled.runtimes import process_proof
from chronicled.runtimes.process import ProcessRuntime
from chronicled.runtimes.runtime import Sandbox, SandboxSpec
from chronicled.runtimes.testing import FrameWorker, RuntimeContract


class TestProcessRuntime(RuntimeContract):
    """The process runtime keeps the contract."""

    @pytest.fixture
    def runtime(self, directory: Path) -> ProcessRuntime:
        """The runtime under test."""
        return ProcessRuntime(str(directory / "sandboxes"))

    async def test_a_copy_leaves_the_sandboxes_of_the_first_alone(
        self, directory: Path, spec: SandboxSpec, worker: FrameWorker, sandbox: Sandbox
    ) -> None:
        """What lives for the instance that a folder was copied from is neither taken over nor ended by the copy."""
        first, copied = directory / "sandboxes", directory / "copied"
        shutil.copytree(first, copied)
        copy = ProcessRuntime(str(copied))
        assert await copy.attach(sandbox.handle, spec) is None
        assert await copy.epitaph(sandbox.handle, spec) == "another_instance"
        with pytest.MonkeyPatch.context() as broken:
            # Negative control: one that does not ask for the lock takes the other's sandbox for its own.
            broken.setattr(process_proof, "is_locked", bool)
            assert await copy.attach(sandbox.handle, spec) is not None
        assert await copy.sweep(()) == [spec.sandbox]
        assert not list(copied.iterdir())
        _, output = await worker.run("echo alive")
        assert output == b"alive\n"
        assert await ProcessRuntime(str(first)).attach(sandbox.handle, spec) is not None
