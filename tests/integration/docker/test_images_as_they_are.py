from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from tests.engine.fixture import DEBIAN, FILE, IMAGES, MUSL, NO_PYTHON, RUBBISH
from tests.integration.docker.host import running, runtime_of, serving

from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.testing import FrameWorker, make_spec

pytestmark = pytest.mark.usefixtures("engine")


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("user", ["1000:1000", "54321:12345"])
async def test_any_image_runs_hardened(image: str, user: str, tmp_path: Path) -> None:
    """Unmodified images run commands, read and write files, with a read-only root, no capability and any user."""
    runtime = runtime_of()
    request = SandboxRequest(read_only=True, user=user)
    async with running(runtime), serving(runtime, tmp_path, request, image=image) as (worker, *_):
        result, output = await worker.run("x=$((6*7)); echo $x $PWD $HOME; cat <<<here")
        assert (result.fields["exit_code"], output) == (0, b"42 /workspace /workspace\nhere\n")
        written = await worker.dispatch("write", {"path": "file", "content": "text\n"})
        assert (await worker.result(written)).outcome == "ok"
        read = await worker.result(await worker.dispatch("read", {"path": "/workspace/file"}))
        assert read.fields["content"] == "text\n"
        result, _ = await worker.run("echo x >/outside")
        assert result.fields["exit_code"] != 0


async def test_commands_see_the_images_own_environment(tmp_path: Path) -> None:
    """What an image sets reaches its commands, even what would have killed the server; ours reaches none of them."""
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path, image=RUBBISH, environment={"MINE": "1"}) as (worker, *_):
        _, output = await worker.run('echo "$PYTHONHOME $PYTHONPATH $LD_LIBRARY_PATH $LD_PRELOAD $MINE $LC_CTYPE"')
        assert output.startswith(b"/rubbish /rubbish /lib:/rubbish /lib/ld-musl-")
        assert output.endswith(b".so.1 1 \n")


@pytest.mark.parametrize("image", [DEBIAN, NO_PYTHON, MUSL, FILE])
async def test_a_start_tells_its_phases_and_its_image(image: str, tmp_path: Path) -> None:
    """Where the time of a start went is told phase by phase, with what brings back the same image."""
    runtime = runtime_of()
    async with running(runtime), serving(runtime, tmp_path, image=image) as (_, sandbox, _spec):
        assert {"pull", "network", "create", "start", "inspect"} <= set(sandbox.phases)
        assert all(0 <= seconds < 30 for seconds in sandbox.phases.values())
        assert sandbox.image_digest.startswith("sha256:")


@pytest.mark.slow
async def test_fifty_at_once(tmp_path: Path) -> None:
    """Fifty sandboxes that are asked for at once all come up, answer, and are removed."""
    runtime = runtime_of(memory_bytes=64 << 20)
    gate = asyncio.Semaphore(4)
    begun = time.monotonic()

    async def one() -> Any:
        spec = make_spec(tmp_path, image=MUSL)
        worker = FrameWorker(spec, tmp_path)
        worker.listen()
        try:
            async with gate:
                sandbox = await runtime.start(spec)
                await worker.connect()
            await sandbox.greeted()
            _, output = await worker.run("echo up")
            return output, sandbox, spec
        finally:
            await worker.close()

    async with running(runtime):
        found = await asyncio.gather(*(one() for _ in range(50)))
        assert [output for output, *_ in found] == [b"up\n"] * 50
        assert time.monotonic() - begun < 90
        waiting = [asyncio.create_task(sandbox.wait_ended()) for _, sandbox, _ in found]
        assert len(await runtime.sweep(())) == 50
        async with asyncio.timeout(30):
            reasons = await asyncio.gather(*waiting)
        assert set(reasons) <= {"removed", "killed"}
