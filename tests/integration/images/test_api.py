"""Images over the API: a daemon, its engine, and the stream that tells how it goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.engine.fixture import MUSL
from tests.integration.daemon.process import Answer, DaemonProcess
from tests.integration.images.registry import Registry, archive, push, slow_pipe

pytestmark = pytest.mark.usefixtures("engine")
PATH = "/v1/images"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[DaemonProcess]:
    """A daemon that may prune what it has just brought."""
    (tmp_path / "d").mkdir()
    daemon = DaemonProcess(tmp_path / "d", "images.keep_seconds=0", "images.pull_attempts=1")
    yield await daemon.start()
    await daemon.aclose()


async def send(daemon: DaemonProcess, query: str, body: bytes, media: str, **headers: str) -> Answer:
    """Ask for a build."""
    sent = {"Content-Type": media, **headers}
    return await daemon.call("POST", f"{PATH}?{query}", data=body, headers=sent)


async def told(daemon: DaemonProcess, job: str) -> list[dict[str, Any]]:
    """Return the payloads of a job's events."""
    page = (await daemon.get("/v1/sessions/_images/events?limit=1000")).json
    return [each["payload"] for each in page["events"] if each["payload"]["job"] == job]


async def test_a_build_is_told_in_the_tenants_stream(daemon: DaemonProcess, docker: Any) -> None:
    """A context becomes an image of the tenant's own; the stream tells its beginning, steps and end, durably."""
    dockerfile = f"FROM {MUSL}\nARG word\nCOPY file /x\nRUN echo $word && sleep 2 # {uuid4()}\n"
    context = archive({"sub/Dockerfile": dockerfile.encode(), "file": b"x"})
    query = "name=made/here:1&dockerfile=sub/Dockerfile&arguments=word=a%3D%2Cb%0Aother=c"
    answer = await send(daemon, query, context, "application/x-tar", Prefer="wait=60")
    assert answer.status == 200, answer
    assert answer.json["session"] == "_images"
    job = answer.json["jobs"][0]
    assert job["image"] == "chronicled.invalid/default/made/here:1"
    events = await told(daemon, job["job"])
    assert [events[0]["status"], events[-1]["status"]] == ["queued", "done"]
    assert any(each["step"].startswith("Step 4/6 : RUN") for each in events), events
    found = await docker.images.inspect(job["image"])
    assert events[-1]["digest"] == found["Id"]
    listed = (await daemon.get(PATH)).json
    mine = next(each for each in listed["images"] if each["image"] == job["image"])
    assert (mine["origin"], mine["id"], listed["jobs"]) == ("built", found["Id"], [])
    gone = await daemon.post(f"{PATH}/prune", {"unused_seconds": 0})
    assert [each["image"] for each in gone.json["images"]] == [job["image"]]


async def test_a_dockerfile_alone_is_enough(daemon: DaemonProcess, docker: Any) -> None:
    """Text is taken as a Dockerfile; a failed step is told with what it printed; a retry under a key is one job."""
    key = {"Idempotency-Key": "k", "Prefer": "wait=60"}
    dockerfile = f"FROM {MUSL}\nRUN echo why-it-failed; exit 7\n".encode()
    first = await send(daemon, "name=bad", dockerfile, "text/plain", **key)
    assert first.status == 200, first
    events = await told(daemon, first.json["jobs"][0]["job"])
    assert events[-1]["status"] == "failed"
    assert "why-it-failed" in events[-1]["error"]
    again = await send(daemon, "name=bad", dockerfile, "text/plain", **key)
    assert again.json["jobs"] == first.json["jobs"]
    assert (await send(daemon, "name=bad", dockerfile + b"\n", "text/plain", **key)).status == 422
    for query in ("", "name=UPPER", "name=a&arguments=x", "name=a&dockerfile="):
        assert (await send(daemon, query, b"FROM scratch\n", "text/plain")).status == 400, query
    named = await send(daemon, "name=UPPER", b"FROM scratch\n", "text/plain")
    assert "'UPPER' cannot be built: the name of a built image is `path[:tag]`" in named.json["detail"]


async def test_a_prefetch_is_told_and_shared(daemon: DaemonProcess, docker: Any, registry: Registry) -> None:
    """Each image of a list has a job of its own; what is there is done at once, what cannot be had says why."""
    digest = await push(docker, registry, "wanted:1")
    images = [f"{registry.host}/wanted:1", MUSL, f"{registry.host}/missing:1"]
    answer = await daemon.post(f"{PATH}/prefetch", {"images": images}, headers={"Prefer": "wait=60"})
    assert answer.status == 200, answer
    ends = [(await told(daemon, job["job"]))[-1] for job in answer.json["jobs"]]
    assert [end["status"] for end in ends] == ["done", "done", "failed"]
    assert ends[0]["digest"] == digest
    assert "check name, tag and digest" in ends[2]["error"]
    assert (await daemon.post(f"{PATH}/prefetch", {"images": ["not a name"]})).status == 400
    assert (await daemon.get("/v1/sessions")).json["sessions"] == [], "the stream of images is no session to run in"


async def test_jobs_that_the_daemon_cut_short_have_an_end(tmp_path: Path, docker: Any, registry: Registry) -> None:
    """After a stop a job is told to be cancelled, and after a kill -9 the next daemon tells that it failed."""
    await push(docker, registry, "slow:1", size=40_000_000)
    (tmp_path / "d").mkdir()
    async with slow_pipe(registry, 1_000_000) as host:
        for kill, status in ((False, "cancelled"), (True, "failed")):
            daemon = await DaemonProcess(tmp_path / "d").start()
            answer = await daemon.post(f"{PATH}/prefetch", {"images": [f"{host}/slow:1"]})
            assert answer.status == 202, answer
            assert (await daemon.get(PATH)).json["jobs"][0]["job"] == answer.json["jobs"][0]["job"]
            await (daemon.kill() if kill else daemon.stop())
            await daemon.disconnect()
            daemon = await DaemonProcess(tmp_path / "d").start()
            try:
                events: list[dict[str, Any]] = []
                while not events or events[-1]["status"] not in {"cancelled", "failed"}:
                    events = await told(daemon, answer.json["jobs"][0]["job"])
                assert events[-1]["status"] == status
            finally:
                await daemon.aclose()


async def test_the_configured_images_are_there_soon(tmp_path: Path, docker: Any, registry: Registry) -> None:
    """What the configuration lists is fetched at start, told in the daemon's own tenant, and never pruned."""
    await push(docker, registry, "listed:1")
    name = f"{registry.host}/listed:1"
    (tmp_path / "d").mkdir()
    listing = {"CHRONICLED_IMAGES__PREFETCH": f"{name},{MUSL}"}
    daemon = await DaemonProcess(tmp_path / "d", "images.keep_seconds=0", environment=listing).start()
    try:
        listed: list[str] = []
        while name not in listed:
            listed = [each["image"] for each in (await daemon.get(PATH)).json["images"]]
        assert (await daemon.post(f"{PATH}/prune", {})).json["images"] == []
        assert (await daemon.get("/v1/sessions/_images/events")).status == 404, "nobody of this tenant asked"
    finally:
        await daemon.aclose()
