from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import anyio

from chronicled.runtimes.worker.descriptors import Descriptors


def leads_to(descriptor: int, path: Path) -> bool:
    """Tell whether the descriptor is open, and on that file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


async def test_a_descriptor_in_use_is_closed_after_its_use(tmp_path: Path) -> None:
    """While a thread writes, closing waits, so that its bytes cannot go to another file of the same number."""
    descriptors = Descriptors()
    target = os.open(tmp_path / "target", os.O_CREAT | os.O_RDWR)
    begun, go_on = threading.Event(), threading.Event()

    def write() -> int:
        begun.set()
        assert go_on.wait(60)
        return os.pwrite(target, b"bytes", 0)

    other = -1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(descriptors.use, write)
        assert await asyncio.to_thread(begun.wait, 60)
        descriptors.close(target)
        assert leads_to(target, tmp_path / "target")
        other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
        tasks.cancel_scope.cancel()
        go_on.set()
    assert (os.pread(other, 10, 0), os.stat(tmp_path / "target").st_size) == (b"", 5)
    # Which number the next file gets is not this test's to say: what others leave behind may be closed at any time.
    assert not leads_to(target, tmp_path / "target")
    descriptors.close(other)
    assert not leads_to(other, tmp_path / "other")
