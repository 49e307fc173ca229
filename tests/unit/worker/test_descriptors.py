from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import anyio

from chronicled.runtimes.worker.descriptors import Descriptors


async def test_a_descriptor_in_use_is_closed_after_its_use(tmp_path: Path) -> None:
    """While a thread writes, closing waits, so that its bytes cannot go to another file of the same number."""
    descriptors = Descriptors()
    target = os.open(tmp_path / "target", os.O_CREAT | os.O_RDWR)
    begun, go_on = threading.Event(), threading.Event()

    def write() -> int:
        begun.set()
        assert go_on.wait(10)
        return os.pwrite(target, b"bytes", 0)

    other = -1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(descriptors.use, write)
        await asyncio.to_thread(begun.wait, 10)
        descriptors.close(target)
        other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
        assert other != target
        tasks.cancel_scope.cancel()
        go_on.set()
    assert (os.pread(other, 10, 0), os.stat(tmp_path / "target").st_size) == (b"", 5)
    again = os.open(tmp_path / "again", os.O_CREAT | os.O_RDWR)
    assert again == target
    for descriptor in (other, again):
        descriptors.close(descriptor)
