from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.action_server.streams import Attachment, MainProcess

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import FrameWorker
from chronicled.runtimes.worker.attach_link import AttachConnection, AttachLink


class StdioWorker:
    """A worker that reaches its server over standard streams only."""

    def __init__(self, spec: SandboxSpec, directory: Path) -> None:
        self.frames = FrameWorker(spec, directory, "inband")
        self.main = MainProcess(spec)
        self.attachment: Attachment | None = None
        self._carrying: asyncio.Task[None] | None = None

    async def attach(self, fence: int = 1, unclaimed_seconds_max: float = 900.0) -> Attachment:
        """Attach, in place of the attachment before, and be welcomed."""
        await self.detach()
        self.attachment = await self.main.attach()
        connection = AttachConnection(self.frames.spec.token, os.urandom(16))
        self._carrying = asyncio.create_task(connection.run(self.attachment))
        link = AttachLink(connection, self.frames.spec.token)
        await self.frames.connect(fence, unclaimed_seconds_max, link)
        return self.attachment

    async def detach(self) -> None:
        """Go without a word."""
        if self._carrying is not None:
            self._carrying.cancel()
            await asyncio.wait((self._carrying,))
        if self.attachment is not None:
            await self.attachment.close()

    async def close(self) -> None:
        """End everything."""
        await self.detach()
        await self.frames.close()
        await self.main.close()


@pytest.fixture
async def worker(tmp_path: Path, spec: SandboxSpec) -> AsyncIterator[StdioWorker]:
    """A worker that is attached to a new server."""
    worker = StdioWorker(spec, tmp_path)
    await worker.main.tell()
    await worker.attach()
    yield worker
    await worker.close()


async def test_actions_run_over_standard_streams(worker: StdioWorker) -> None:
    """Commands, their output, typed input and a cancel get across, and nobody can read the token from the stream."""
    result, output = await worker.frames.run("echo $FROM_SESSION; exit 3")
    assert (result.outcome, result.fields["exit_code"], output) == (Outcome.FAILED, 3, b"yes\n")
    action = await worker.frames.dispatch("run", {"command": "read line; echo got $line"})
    await worker.frames.frame(frames.Started, action=action)
    await worker.frames.send(frames.Input(action=action, data=b"it\n"))
    await worker.frames.result(action)
    assert worker.frames.output(action) == b"got it\n"


async def test_an_attachment_anew_takes_up_where_the_last_one_was(worker: StdioWorker) -> None:
    """A worker that went without a word finds the shell as it was, and output and result that came meanwhile."""
    await worker.frames.run("name=kept")
    action = await worker.frames.dispatch("run", {"command": "for i in 1 2 3; do echo $i; sleep 0.1; done; echo $name"})
    await worker.frames.frame(frames.Started, action=action)
    await worker.detach()
    await worker.attach(fence=2)
    await worker.frames.result(action)
    assert worker.frames.output(action) == b"1\n2\n3\nkept\n"


async def lose_server(worker: StdioWorker) -> None:
    """Have the server know that its worker is gone, at once and not after a silence."""
    await worker.main.write(bytes(1000))
    await worker.frames.until(lambda: worker.frames.lost is not None)
    await worker.detach()


async def test_a_server_that_stood_still_waits_for_who_wakes_it(worker: StdioWorker) -> None:
    """Frozen for longer than it may go without a worker, it is there on waking; awake for as long, it ends."""
    await worker.attach(fence=2, unclaimed_seconds_max=1.0)
    await worker.frames.run("name=kept")
    assert worker.frames.hello is not None
    server = worker.frames.hello.pid
    await lose_server(worker)
    os.kill(server, signal.SIGSTOP)
    # The clock has to pass the deadline, by more than one round takes; nothing is waited for.
    await asyncio.sleep(4.0)
    os.kill(server, signal.SIGCONT)
    await worker.attach(fence=3, unclaimed_seconds_max=1.0)
    assert (await worker.frames.run("echo $name"))[1] == b"kept\n"
    await lose_server(worker)
    await asyncio.to_thread(worker.main.process.wait, 20)


@pytest.mark.parametrize("cut", [1, 20, 47, 48, 49, 100, 1000, 40_000, 100_000, 300_000, 1_000_000])
async def test_a_cut_at_any_byte_loses_nothing_and_repeats_nothing(worker: StdioWorker, cut: int) -> None:
    """Attachments that break again and again, in the midst of records both ways: the output is whole in the end."""
    command = {"command": "seq 1 300000; echo once >>count"}
    action = await worker.frames.dispatch("run", command)
    for fence in range(2, 5):
        assert worker.attachment is not None
        worker.attachment.break_after = cut
        with contextlib.suppress(TimeoutError):
            await worker.frames.result(action, seconds=0.3)
        await worker.attach(fence=fence)
        await worker.frames.dispatch("run", command, action=action)
    await worker.frames.result(action)
    assert worker.frames.output(action) == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert (await worker.frames.run("cat count"))[1] == b"once\n"


async def test_a_hundred_megabytes_over_standard_streams(worker: StdioWorker) -> None:
    """A large output comes whole."""
    result, output = await worker.frames.run("head -c 100000000 /dev/zero")
    assert (result.output_bytes, result.output_dropped_bytes, len(output)) == (100_000_000, 0, 100_000_000)


async def test_what_others_write_into_the_stream_is_refused_and_gone_with_the_attachment(worker: StdioWorker) -> None:
    """Bytes of a stranger among the frames end the epoch; after the next attachment everything goes on."""
    await worker.frames.run("true")
    await worker.main.write(b"\x00" * 100 + b"a stranger's frame")
    await worker.frames.until(lambda: worker.frames.lost is not None)
    await worker.attach(fence=2)
    assert (await worker.frames.run("echo on"))[1] == b"on\n"


async def test_an_opening_that_was_used_opens_nothing(worker: StdioWorker) -> None:
    """What was read from the stream and is written into it again is no worker: no fence is taken from it."""
    assert worker.attachment is not None
    heard: list[bytes] = []
    write = worker.main.write

    async def overheard(data: bytes) -> None:
        heard.append(data)
        await write(data)

    worker.main.write = overheard  # type: ignore[method-assign]  # a tap on the wire
    await worker.attach(fence=2)
    worker.main.write = write  # type: ignore[method-assign]  # the tap is gone
    await worker.attach(fence=3)
    await worker.frames.run("true")
    await write(b"".join(heard))
    await worker.frames.until(lambda: worker.frames.lost is not None)
    await worker.attach(fence=4)
    assert worker.frames.hello is not None
    assert worker.frames.hello.fence == 3
    assert (await worker.frames.run("echo on"))[1] == b"on\n"
