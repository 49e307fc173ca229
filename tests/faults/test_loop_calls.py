"""The event loop's thread under a microscope: which calls it makes that wait for a disk or for somebody."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.integration.daemon.process import DaemonProcess
from tests.integration.daemon.test_actions import ACTIONS, run, until_status
from tests.integration.daemon.test_events import SSE, think

TRANSFER_BYTES_MAX = 64 << 10
"""So much may be read or written on the loop's thread at once: what is in the kernel's memory takes microseconds."""
WAIT = {"Prefer": "wait=20"}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what tells."""
    target = tmp_path_factory.mktemp("watch") / "loop_watch.so"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler: install gcc")
    source = Path(__file__).with_name("loop_watch.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(target), str(source), "-ldl"], check=True)
    return target


class Watched(DaemonProcess):
    """A daemon whose first thread is watched from ready to the begin of its end."""

    def __init__(self, directory: Path, library: Path, *, least: int, program: tuple[str, ...] | None = None) -> None:
        self.told = directory / "told"
        self.armed = directory / "armed"
        watched = {
            "LD_PRELOAD": str(library),
            "WATCH_LOG": str(self.told),
            "WATCH_AFTER": str(self.armed),
            "WATCH_BYTES": str(least),
        }
        super().__init__(directory, environment=watched, program=program or ("-m", "chronicled.daemon"))

    def calls(self) -> list[str]:
        """Return what it called, each with what it was called on."""
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        return [line.partition(" ")[2] for line in lines if line.startswith(f"{self.pid} ")]


async def use_everything(daemon: Watched) -> None:
    """Submit, follow, read, cancel, upload, download, keep secrets, restart shells, close: what clients do all day."""
    await daemon.post("/v1/sessions", {"session": "s", "secrets": {"TOKEN": "aNew/Value+4711x"}})
    followers = [await daemon.client.get("/v1/events", headers=SSE) for _ in range(3)]
    await asyncio.gather(*(daemon.post(ACTIONS, think("x" * 300_000)) for _ in range(20)))
    await asyncio.gather(*(daemon.post(ACTIONS, [think()] * 200) for _ in range(10)))
    loud = "echo $TOKEN; head -c 3000000 /dev/zero | tr '\\0' 'x'"
    ended = (await daemon.post(ACTIONS, run(loud), headers=WAIT)).json["observation"]
    assert ended["payload"]["outcome"] == "ok"
    assert len((await daemon.get(f"{ACTIONS}/{ended['cause']}/output")).data) == 3_000_000 + len("<secret:TOKEN>\n")
    sleeping = (await daemon.post(ACTIONS, run("sleep 60"))).json["action"]["id"]
    queued = (await daemon.post(ACTIONS, run("sleep 60"))).json["action"]["id"]
    for id in (queued, sleeping):
        await daemon.post(f"{ACTIONS}/{id}/cancel")
        await until_status(daemon, id, "cancelled")
    files = "/v1/sessions/s/files"
    media = {"Content-Type": "application/octet-stream", **WAIT}
    put = await daemon.call("PUT", f"{files}?path=big", data=b"y" * 900_000, headers=media)
    assert put.json["observation"]["payload"]["outcome"] == "ok"
    assert len((await daemon.get(f"{files}?path=big", headers=WAIT)).data) > 900_000
    await asyncio.gather(*(daemon.get("/v1/events?limit=1000") for _ in range(5)))
    for path in ("/openapi.json", "/v1/sessions", "/metrics", "/readyz", "/v1/sessions/s/secrets"):
        assert (await daemon.get(path)).status == 200
    for response in followers:
        response.close()
    assert (await daemon.call("DELETE", "/v1/sessions/s")).status == 200


@pytest.mark.slow
async def test_nothing_that_waits_is_called_on_the_loop(tmp_path: Path, watch: Path) -> None:
    """No sync, lock, sleep or wait, and no file of size read or written there, whatever clients do: threads do that."""
    daemon = Watched(tmp_path, watch, least=TRANSFER_BYTES_MAX)
    await daemon.start()
    daemon.armed.touch()
    try:
        await use_everything(daemon)
        calls = daemon.calls()
    finally:
        daemon.armed.unlink()
        await daemon.aclose()
    assert calls == []


@pytest.mark.slow
async def test_what_the_loop_does_call_is_seen(tmp_path: Path, watch: Path) -> None:
    """The first control: small writes, which are allowed there, are told once they are asked for."""
    daemon = Watched(tmp_path, watch, least=1)
    await daemon.start()
    daemon.armed.touch()
    try:
        await daemon.post("/v1/sessions", {"session": "s"})
        await daemon.post(ACTIONS, run("true"), headers=WAIT)
        calls = daemon.calls()
    finally:
        daemon.armed.unlink()
        await daemon.aclose()
    assert any(call.startswith("write") and call.endswith("/journal/dispatch") for call in calls), calls


BLOCKING = """
import os, subprocess, sys, time
from chronicled.daemon import application, configuration
from chronicled.daemon.submission import Submission
prepare = Submission.prepare
def slow(*arguments, **options):
    with open(os.path.join(sys.argv[1], "file"), "wb", 0) as file:
        {call}
    return prepare(*arguments, **options)
Submission.prepare = slow
settings = dict(each.split("=", 1) for each in sys.argv[2:])
sys.exit(application.serve(configuration.load(flags=settings)))
"""
CALLS = {
    "fsync": "os.fsync(file.fileno())",
    "fdatasync": "os.fdatasync(file.fileno())",
    "write": "file.write(bytes(100_000))",
    "posix_fallocate": "os.posix_fallocate(file.fileno(), 0, 10)",
    "sleep": "time.sleep(0.001)",
    "waitpid": "subprocess.run(['true'])",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_waits_would_be_noticed(tmp_path: Path, watch: Path, name: str) -> None:
    """The second control: one such call in the way of a submission, however short, is told by its name."""
    script = tmp_path / "blocking.py"
    script.write_text(BLOCKING.format(call=CALLS[name]))
    daemon = Watched(tmp_path, watch, least=TRANSFER_BYTES_MAX, program=(str(script), str(tmp_path)))
    await daemon.start()
    daemon.armed.touch()
    try:
        await daemon.post("/v1/sessions", {"session": "s"})
        await daemon.post(ACTIONS, think())
        calls = daemon.calls()
    finally:
        daemon.armed.unlink()
        await daemon.aclose()
    assert any(call.startswith(name) for call in calls), calls
