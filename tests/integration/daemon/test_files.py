"""Files and trees through the daemon: uploaded, listed, edited, asked about and brought back, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tarfile
from typing import Any

import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import Answer, DaemonProcess, files_below, until

from chronicled.client import connect

TAR = {"Content-Type": "application/x-tar"}
WAIT = {"Prefer": "wait=20"}


def archive(*members: tuple[str, bytes]) -> bytes:
    """Return an archive of files, as another program writes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o640
            info.mtime = 1_700_000_000
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def observed(answer: Answer) -> Any:
    """Return the observation's payload of an action that has ended."""
    assert answer.status == 200, answer
    return answer.json["observation"]["payload"]


async def put(daemon: DaemonProcess, session: str, path: str, data: Any, **headers: str) -> Answer:
    """Upload bytes."""
    return await daemon.call("PUT", f"{session}/files?path={path}", data=data, headers=headers)


async def act(daemon: DaemonProcess, session: str, kind: str, **payload: Any) -> Any:
    """Do one action to its end and return the observation's payload."""
    return observed(await daemon.post(f"{session}/actions", {"kind": kind, "payload": payload}, headers=WAIT))


async def test_a_tree_goes_in_and_comes_back(daemon: DaemonProcess, session: str) -> None:
    """Files of an uploaded archive are there for commands, and a download has the same bytes, modes and times."""
    members = (("a/b.txt", b"hello\n"), ("a/ünï", os.urandom(70_000)), ("c", b""))
    done = observed(await put(daemon, session, "in", archive(*members), **TAR, **WAIT))
    assert (done["outcome"], done["entries"], done["bytes_written"]) == ("ok", 4, 70_006)
    shown = await act(daemon, session, "run", command="cat in/a/b.txt; stat -c %a,%Y in/c")
    assert shown["output"] == "hello\n640,1700000000\n"
    answer = await daemon.get(f"{session}/files?path=in")
    assert (answer.status, answer.media) == (200, "application/x-tar")
    with tarfile.open(fileobj=io.BytesIO(answer.data)) as tar:
        found = {info.name: tar.extractfile(info) for info in tar if info.isfile()}
        assert {name: file.read() for name, file in found.items() if file is not None} == dict(members)
    told = (await daemon.get(f"{session}/actions/{answer.headers['X-Action-Id']}")).json["observation"]["payload"]
    assert told["output_digest"] == hashlib.sha256(answer.data).hexdigest()
    assert "output" not in told
    again = await daemon.get(f"{session}/files?path=in")
    assert again.headers["ETag"] == answer.headers["ETag"]


async def test_one_file_goes_in_and_comes_back_in_ranges(daemon: DaemonProcess, session: str) -> None:
    """A raw file keeps its bytes and takes its mode; its download is one action under its key, served in ranges."""
    data = os.urandom(300_000)
    done = observed(await put(daemon, session, "d/raw&mode=0751", data, **WAIT))
    assert (done["outcome"], done["bytes_written"]) == ("ok", len(data))
    assert (await act(daemon, session, "run", command="stat -c %a d/raw"))["output"] == "751\n"
    path = f"{session}/files?path=d/raw&form=file"
    whole = await daemon.get(path, headers={"Idempotency-Key": "k"})
    assert (whole.data == data, whole.media) == (True, "application/octet-stream")
    part = await daemon.get(path, headers={"Idempotency-Key": "k", "Range": "bytes=1000-1999"})
    assert (part.status, part.data) == (206, data[1000:2000])
    assert part.headers["X-Action-Id"] == whole.headers["X-Action-Id"]
    empty = observed(await put(daemon, session, "empty", b"", **WAIT))
    assert (empty["outcome"], (await daemon.get(f"{session}/files?path=empty&form=file")).data) == ("ok", b"")


async def test_an_upload_is_one_action_however_often_it_is_sent(daemon: DaemonProcess, session: str) -> None:
    """The same key and bytes are one action, other bytes under the key are refused, and without a wait it is 202."""
    headers = {"Idempotency-Key": "once"}
    first = await put(daemon, session, "f", b"one", **headers)
    assert (first.status, first.headers["Location"]) == (202, f"{session}/actions/{first.json['action']['id']}")
    second = await put(daemon, session, "f", b"one", **headers, **WAIT)
    assert second.json["action"]["id"] == first.json["action"]["id"]
    other = await put(daemon, session, "f", b"two", **headers)
    assert (other.status, other.json["code"]) == (422, "id-reused")
    assert len([each for each in await daemon.events() if each["kind"] == "upload"]) == 2


async def test_what_cannot_be_transferred_is_a_problem(daemon: DaemonProcess, session: str) -> None:
    """A missing path, a pipe, no session, a foreign blob, an archive that is none: each told by name, at once."""
    missing = await daemon.get(f"{session}/files?path=nothing")
    assert (missing.status, missing.json["code"], missing.json["reason"]) == (404, "path-not-found", "not_found")
    await act(daemon, session, "run", command="mkfifo pipe")
    pipe = await daemon.get(f"{session}/files?path=pipe&form=file")
    assert (pipe.status, pipe.json["code"], pipe.json["reason"]) == (409, "transfer-failed", "not_regular")
    absent = await put(daemon, "/v1/sessions/none", "f", b"x")
    assert (absent.status, absent.json["code"]) == (404, "session-not-found")
    assert (await daemon.call("PUT", f"{session}/files", data=b"x")).status == 400
    refused = observed(await put(daemon, session, "t", b"no archive" * 100, **TAR, **WAIT))
    assert (refused["outcome"], refused["reason"]) == ("failed", "archive_refused")
    stolen = {"path": "x", "form": "file", "content": hashlib.sha256(b"foreign").hexdigest(), "content_bytes": 7}
    answer = await daemon.post(f"{session}/actions", {"kind": "upload", "payload": stolen})
    assert (answer.status, answer.json["code"]) == (404, "blob-not-found")


async def test_a_blob_of_another_session_cannot_be_uploaded(daemon: DaemonProcess, session: str) -> None:
    """Who may name a blob may read it: only blobs that the session's own events name are taken as content."""
    await daemon.post("/v1/sessions", {"session": "other"})
    data = b"private" * 1000
    observed(await put(daemon, "/v1/sessions/other", "f", data, **WAIT))
    payload = {"path": "f", "form": "file", "content": hashlib.sha256(data).hexdigest(), "content_bytes": len(data)}
    answer = await daemon.post(f"{session}/actions", {"kind": "upload", "payload": payload})
    assert (answer.status, answer.json["code"]) == (404, "blob-not-found")
    own = await act(daemon, "/v1/sessions/other", "upload", **{**payload, "path": "copy"})
    assert own["outcome"] == "ok"


async def test_a_body_that_is_too_large_is_refused(launch: Launch) -> None:
    """An announced or streamed body over the limit gets 413; nothing is kept and no action is made."""
    daemon = await launch("limits.upload_bytes_max=100000")
    await daemon.post("/v1/sessions", {"session": "s"})

    async def streamed() -> Any:
        for _ in range(20):
            yield bytes(10_000)

    for body in (bytes(100_001), streamed()):
        answer = await daemon.call("PUT", "/v1/sessions/s/files?path=f", data=body)
        assert (answer.status, answer.json["code"]) == (413, "payload-too-large")
    assert not [each for each in await daemon.events() if each["kind"] == "upload"]
    assert not files_below(daemon.data / "blobs")


async def test_a_download_that_is_too_large_is_refused(launch: Launch) -> None:
    """The operator's bound holds for what comes out, as one for what goes in does; what is just as large comes."""
    daemon = await launch("limits.download_bytes_max=100000")
    await daemon.post("/v1/sessions", {"session": "s"})
    await act(daemon, "/v1/sessions/s", "run", command="head -c 100000 /dev/zero >fits; head -c 100001 /dev/zero >not")
    assert len((await daemon.get("/v1/sessions/s/files?path=fits&form=file")).data) == 100_000
    answer = await daemon.get("/v1/sessions/s/files?path=not&form=file")
    assert (answer.status, answer.json["reason"]) == (409, "too_large"), answer


async def test_a_queued_upload_survives_a_kill_of_the_daemon(launch: Launch) -> None:
    """The content of an accepted upload is durable: killed before it ran, the next daemon brings it."""
    daemon = await launch(name="one")
    await daemon.post("/v1/sessions", {"session": "s"})
    session = "/v1/sessions/s"
    running = await daemon.post(f"{session}/actions", {"kind": "run", "payload": {"command": "read line"}})
    data = os.urandom(200_000)
    queued = (await put(daemon, session, "late", data)).json["action"]["id"]
    await daemon.kill()
    await daemon.start()
    await daemon.post(f"{session}/actions/{running.json['action']['id']}/input", {"data": "x\n"})
    answer = await daemon.get(f"{session}/files?path=late&form=file")
    assert answer.data == data
    ended = (await daemon.get(f"{session}/actions/{queued}")).json["observation"]["payload"]
    assert (ended["outcome"], ended["bytes_written"]) == ("ok", len(data))


@pytest.mark.slow
async def test_a_large_download_takes_little_memory(daemon: DaemonProcess, session: str) -> None:
    """256 MiB and more go through the daemon in bounded memory, in one blob with the digest that is told."""
    await act(daemon, session, "run", command="head -c 300M /dev/zero > large")
    before = peak(daemon.pid)
    digest = hashlib.sha256()
    async with daemon.client.get(f"http://daemon{session}/files?path=large&form=file") as response:
        assert response.status == 200
        async for chunk in response.content.iter_chunked(1 << 20):
            digest.update(chunk)
    assert digest.hexdigest() == response.headers["ETag"].strip('"')
    assert int(response.headers["Content-Length"]) == 300 << 20
    assert peak(daemon.pid) - before < 64 << 10


def peak(pid: int) -> int:
    """Return the highest resident size of a process so far, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))


async def test_secrets_neither_go_in_nor_come_out(daemon: DaemonProcess) -> None:
    """A body with a secret is refused and not kept; what is downloaded has it masked, the archive whole."""
    value = "hunter2-and-then-some"
    session = "/v1/sessions/s"
    await daemon.post("/v1/sessions", {"session": "s", "secrets": {"PASSWORD": value}})
    for body in (b"x" * 70_000 + value.encode() + b"y" * 70_000, archive(("f", value.encode())), value.encode()):
        refused = await put(daemon, session, "f", body, **WAIT)
        assert (refused.status, refused.json["code"]) == (409, "transfer-failed")
    assert observed(await put(daemon, session, "plain", b"x" * 200_000, **WAIT))["outcome"] == "ok"
    await act(daemon, session, "run", command='mkdir d; printf "a%sb" "$PASSWORD" >d/f; printf after >d/g')
    whole = await daemon.get(f"{session}/files?path=d")
    with tarfile.open(fileobj=io.BytesIO(whole.data)) as tar:
        contents = [file.read() for info in tar if (file := tar.extractfile(info)) is not None]
    assert (contents[0][:1], contents[0][-1:], len(contents[0])) == (b"a", b"b", len(value) + 2)
    assert (value.encode() in contents[0], contents[1]) == (False, b"after")
    assert not [path for path, stored in files_below(daemon.data / "blobs") if value.encode() in stored]


async def test_uploads_beside_a_command_that_swaps_links_stay_inside(daemon: DaemonProcess, session: str) -> None:
    """While another lane's command flips a folder and a link to the outside, no upload leaves a byte there."""
    outside = daemon.directory / "outside"
    outside.mkdir()
    swap = f"mv in/d in/e; ln -s {outside} in/d; rm in/d; mv in/e in/d"
    swap = f"mkdir -p in/d; while [ ! -e over ]; do {swap}; done"
    body = {"kind": "run", "payload": {"command": swap}, "lane": "attacker"}
    attacker = (await daemon.post(f"{session}/actions", body)).json["action"]["id"]
    data = archive(*((f"d/f{number}", b"x") for number in range(20)))
    outcomes = [observed(await put(daemon, session, "in", data, **TAR, **WAIT))["outcome"] for _ in range(40)]
    assert set(outcomes) <= {"ok", "failed"}
    await act(daemon, session, "run", command="touch over")
    assert list(outside.iterdir()) == []
    await daemon.post(f"{session}/actions/{attacker}/cancel")


@pytest.mark.slow
async def test_a_large_upload_takes_little_memory(daemon: DaemonProcess, session: str) -> None:
    """300 MiB go through the daemon into the sandbox in bounded memory, byte for byte."""
    piece, digest = os.urandom(1 << 20), hashlib.sha256()

    async def body() -> Any:
        for _ in range(300):
            digest.update(piece)
            yield piece

    await act(daemon, session, "run", command="true")
    before = peak(daemon.pid)
    done = observed(await daemon.call("PUT", f"{session}/files?path=large", data=body(), headers=WAIT))
    assert (done["outcome"], done["bytes_written"]) == ("ok", 300 << 20)
    assert peak(daemon.pid) - before < 64 << 10
    told = await act(daemon, session, "run", command="sha256sum <large")
    assert told["output"].split()[0] == digest.hexdigest()


async def test_the_clients_upload_survives_a_kill_of_the_daemon(launch: Launch) -> None:
    """A daemon that dies while a body is sent is asked again once it is back, and the upload is one action."""
    daemon = await launch(name="one")
    data = os.urandom(30_000_000)
    async with connect(str(daemon.socket)) as client:
        session = await client.session("s")
        uploading = asyncio.create_task(session.upload(data, "file"))
        incoming = daemon.data / "blobs" / "incoming"

        async def half_there() -> bool:
            return any(len(there) > 1 << 20 for _, there in await asyncio.to_thread(files_below, incoming))

        await until(half_there)
        await daemon.kill()
        await daemon.start()
        ending = await uploading
        assert (ending.ok, ending.payload["bytes_written"]) == (True, len(data))
        assert (await session.run("sha256sum <file")).output.split()[0] == hashlib.sha256(data).hexdigest()
    uploads = [each for each in await daemon.events() if each["kind"] == "upload"]
    assert [each["category"] for each in uploads] == ["action", "observation"]


async def test_an_upload_that_drips_is_ended(launch: Launch) -> None:
    """A body that does not arrive in time gets 408 and its place is free again; more at once than allowed get 503."""
    daemon = await launch("limits.uploads_max=1")
    await daemon.post("/v1/sessions", {"session": "s"})
    over = asyncio.Event()

    async def drip() -> Any:
        yield b"x"
        await over.wait()

    async def arrives() -> bool:
        return any(await asyncio.to_thread(os.listdir, daemon.data / "blobs" / "incoming"))

    dripping = asyncio.create_task(put(daemon, "/v1/sessions/s", "f", drip()))
    await until(arrives)
    assert (await put(daemon, "/v1/sessions/s", "g", b"x")).status == 503
    over.set()
    assert (await dripping).status == 202
    # Its time is over only where there is no more to be asked meanwhile.
    assert await daemon.stop() == 0
    daemon.settings = (*daemon.settings, "limits.upload_seconds_max=1")
    await daemon.start()
    over.clear()
    answer = await put(daemon, "/v1/sessions/s", "f", drip())
    assert (answer.status, answer.json["code"]) == (408, "request-timeout")
    assert (await put(daemon, "/v1/sessions/s", "g", b"x")).status == 202
    over.set()
