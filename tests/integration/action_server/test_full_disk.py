"""The action server on a full disk: what it cannot keep, it still tells."""

from __future__ import annotations

from pathlib import Path

from chronicled.events.outcome import Outcome
from chronicled.runtimes.process import ProcessRuntime
from chronicled.runtimes.testing import FrameWorker, make_spec


async def test_an_action_ends_although_neither_its_result_nor_a_word_of_that_can_be_written(tmp_path: Path) -> None:
    """With result spool and the server's own log on a full disk, the result comes over the connection all the same."""
    spec = make_spec(tmp_path)
    folder = tmp_path / "sandboxes" / spec.sandbox
    folder.mkdir(parents=True, mode=0o700)
    (folder / "server.log").symlink_to("/dev/full")
    worker = FrameWorker(spec, tmp_path)
    worker.spool_path.symlink_to("/dev/full")
    worker.listen()
    sandbox = await ProcessRuntime(str(tmp_path / "sandboxes")).start(spec)
    try:
        await worker.connect()
        for _ in range(2):
            assert (await worker.result(await worker.dispatch("run", {"command": "true"}))).outcome is Outcome.OK
    finally:
        await worker.close()
        await sandbox.kill()
