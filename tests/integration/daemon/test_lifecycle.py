from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import stat
from pathlib import Path

import aiohttp
import pytest
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import DaemonProcess, free_port, server_sent_events, until
from tests.integration.daemon.test_actions import ACTIONS, END_SECONDS_MAX, run, until_output, until_status
from tests.integration.daemon.test_events import SSE, think

EXIT_REFUSED = 4
EXIT_FAILED = 70
RESTART_SECONDS_MAX = 2.0


async def test_start_and_end_are_in_the_log(daemon: DaemonProcess) -> None:
    """The start stands before all else, an orderly end after all else; the next start follows it."""
    await daemon.post("/v1/sessions", {"session": "s"})
    assert await daemon.stop() == 0
    assert not daemon.socket.exists()
    await daemon.start()
    kinds = [event["kind"] for event in await daemon.events() if event["tenant"] == "_system"]
    assert kinds == ["daemon_started", "daemon_stopped", "daemon_started"]


async def test_what_is_ours_is_private(daemon: DaemonProcess) -> None:
    """Socket, log and identity are for their owner alone, and so is the directory."""
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.data.stat().st_mode) == 0o700
    for name in ("log.sqlite", "projections.sqlite", "instance.json", "daemon.lock"):
        assert stat.S_IMODE((daemon.data / name).stat().st_mode) == 0o600, name


async def test_sigterm_ends_streams_and_waits_and_keeps_sandboxes(launch: Launch) -> None:
    """A drain answers waits with what is known, ends streams cleanly, and leaves running commands alone."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    command = run("echo up; while [ ! -e go ]; do sleep 0.05; done; echo done")
    waiting = asyncio.create_task(daemon.post(ACTIONS, command, headers={"Prefer": "wait=60"}))
    stream = await daemon.client.get("/v1/events", headers=SSE)
    id = ""
    async for message in server_sent_events(stream):
        if message.event == "run":
            id = json.loads(message.data)["id"]
            break
    await until_output(daemon, id, b"up\n")
    assert await daemon.stop() == 0
    answer = await waiting
    assert (answer.status, answer.json["action"]["id"]) == (202, id)
    await stream.content.read()
    await daemon.start()
    assert (await daemon.get(f"{ACTIONS}/{id}")).json["status"] == "running"
    home = next(iter((daemon.data / "sandboxes").glob("*/home")))
    (home / "go").touch()
    ended = await until_status(daemon, id, "ok", "failed", "sandbox_lost", "unknown")
    assert ended.json["observation"]["payload"]["output"] == "up\ndone\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_followed_output_ends_as_one_answer(launch: Launch, number: signal.Signals) -> None:
    """An orderly stop, a closed terminal's too, ends the stream in order: no second answer stands in its middle."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    submitted = await daemon.post(ACTIONS, run("echo begin; while [ ! -e go ]; do sleep 0.1; done; echo end"))
    id = submitted.json["action"]["id"]
    reader, writer = await asyncio.open_unix_connection(str(daemon.socket))
    writer.write(f"GET {ACTIONS}/{id}/output HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(END_SECONDS_MAX):
        head = await reader.readuntil(b"begin\n")
        assert daemon.process is not None
        daemon.process.send_signal(number)
        rest = await reader.read()
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest == b"\r\n0\r\n\r\n"
    assert await daemon.wait() == 0
    await daemon.start()
    (next(iter((daemon.data / "sandboxes").glob("*/home"))) / "go").touch()
    assert (await daemon.get(f"{ACTIONS}/{id}/output")).data == b"begin\nend\n"


async def test_a_drain_takes_nothing_new(launch: Launch) -> None:
    """While requests are finished, `readyz` is red and submissions are refused with a 503 that can be retried."""
    daemon = await launch("limits.drain_seconds=60")
    await daemon.post("/v1/sessions", {"session": "s"})
    _, slow = await asyncio.open_unix_connection(str(daemon.socket))
    slow.write(b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{")
    await slow.drain()
    # Its answer comes on the same connection behind the slow request, so that one is being served by now.
    assert (await daemon.get("/livez")).status == 200
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)

    async def red() -> bool:
        return (await daemon.get("/readyz")).status == 503

    await until(red)
    refused = await daemon.post(ACTIONS, think())
    assert (refused.status, refused.json["code"], refused.json["retryable"]) == (503, "unavailable", True)
    assert (await daemon.get("/livez")).status == 200
    slow.write(b"}")
    assert await daemon.wait() == 0
    slow.close()


async def test_a_drain_has_a_bound(launch: Launch) -> None:
    """A request that never ends holds the end up no longer than configured."""
    daemon = await launch("limits.drain_seconds=0.3")
    _, slow = await asyncio.open_unix_connection(str(daemon.socket))
    slow.write(b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
    await slow.drain()
    assert (await daemon.get("/livez")).status == 200
    async with asyncio.timeout(5):
        assert await daemon.stop() == 0
    slow.close()


async def test_kill_and_restart(launch: Launch) -> None:
    """After `kill -9` all that was acked is there, the socket of the dead is replaced, and ready comes within 2 s."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    acked: list[int] = []
    seconds: list[float] = []
    for n in range(3):
        answers = [await daemon.post(ACTIONS, think(str(n))) for _ in range(10)]
        acked += [answer.json["action"]["position"] for answer in answers]
        await daemon.kill()
        assert daemon.socket.exists()
        await daemon.start()
        seconds.append(daemon.ready_seconds)
    assert max(seconds) < RESTART_SECONDS_MAX, seconds
    assert {event["position"] for event in await daemon.events("/v1/events", "kind=think")} >= set(acked)
    positions = [event["position"] for event in await daemon.events()]
    assert positions == list(range(1, len(positions) + 1))


async def test_a_copied_directory_leaves_what_runs_alone(launch: Launch, tmp_path: Path) -> None:
    """A daemon on a copy says that it cannot know what became of what runs, and neither ends it nor takes it over."""
    daemon = await launch()
    await daemon.post("/v1/sessions", {"session": "s"})
    id = (await daemon.post(ACTIONS, run("echo up; read line; echo $line"))).json["action"]["id"]
    await until_output(daemon, id, b"up\n")
    (tmp_path / "copy").mkdir()
    await daemon.copy_data(tmp_path / "copy" / "data", {"run"})
    copy = await launch(name="copy")
    await until_status(copy, id, "unknown")
    ended = (await copy.get(f"{ACTIONS}/{id}")).json["observation"]["payload"]
    assert ended["reason"] == "another_instance"
    answer = await copy.post(ACTIONS, run("echo of the copy"), headers={"Prefer": "wait=20"})
    assert answer.json["observation"]["payload"]["output"] == "of the copy\n"
    await daemon.post(f"{ACTIONS}/{id}/input", {"data": "lives\n"})
    await until_status(daemon, id, "ok")
    assert (await daemon.get(f"{ACTIONS}/{id}/output")).data == b"up\nlives\n"


@pytest.mark.parametrize("how", ["removed", "moved", "replaced", "unlocked"])
async def test_a_daemon_whose_directory_is_taken_away_stops(tmp_path: Path, how: str) -> None:
    """What is taken then would not be kept, and whoever begins anew there would have its sandboxes swept: it ends."""
    daemon = await DaemonProcess(tmp_path).start()
    await daemon.disconnect()
    if how == "unlocked":
        (daemon.data / "daemon.lock").unlink()
    elif how == "removed":
        shutil.rmtree(daemon.data, ignore_errors=True)
    else:
        daemon.data.rename(tmp_path / "elsewhere")
        if how == "replaced":
            daemon.data.mkdir(0o700)
            (daemon.data / "daemon.lock").touch()
    assert await daemon.wait() == EXIT_FAILED
    # Where more is missing than the lock, another part may find it first.
    assert how != "unlocked" or "was removed, moved or replaced" in daemon.log_text()


async def test_a_second_daemon_on_the_same_data_is_refused(daemon: DaemonProcess, tmp_path: Path) -> None:
    """It ends with exit code 4 and says who has the directory; the first one never notices."""
    before = await daemon.written()
    second = DaemonProcess(tmp_path / "second")
    second.directory.mkdir()
    second.data = daemon.data
    second.spawn()
    assert await second.wait() == EXIT_REFUSED
    assert str(daemon.pid) in second.log_text()
    assert not second.socket.exists()
    assert await daemon.written() == before
    assert (await daemon.get("/readyz")).status == 200


async def test_a_log_that_is_gone_is_not_begun_anew(daemon: DaemonProcess, tmp_path: Path) -> None:
    """Where the log is missing but what was derived from it is there, no second chronicle begins in its place."""
    await daemon.post("/v1/sessions", {"session": "s"})
    assert await daemon.stop() == 0
    (daemon.data / "log.sqlite").rename(tmp_path / "elsewhere")
    daemon.spawn()
    assert await daemon.wait() == EXIT_REFUSED
    assert "log.sqlite is missing" in daemon.log_text()
    assert not (daemon.data / "log.sqlite").exists()
    (tmp_path / "elsewhere").rename(daemon.data / "log.sqlite")
    await daemon.start()
    assert (await daemon.get("/v1/sessions/s")).status == 200


async def test_a_second_daemon_on_the_same_socket_is_refused(daemon: DaemonProcess, tmp_path: Path) -> None:
    """The socket of a living daemon is never replaced, whatever data the second one has."""
    second = DaemonProcess(tmp_path / "second")
    second.directory.mkdir()
    second.socket = daemon.socket
    second.spawn()
    assert await second.wait() == EXIT_REFUSED
    assert "listens" in second.log_text()
    assert not (second.data / "log.sqlite").exists()
    assert (await daemon.get("/readyz")).status == 200


async def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """A file in the socket's place is somebody's: refused, and left as it was."""
    daemon = DaemonProcess(tmp_path)
    daemon.socket.write_text("mine")
    daemon.spawn()
    assert await daemon.wait() == EXIT_REFUSED
    assert daemon.socket.read_text() == "mine"


async def test_a_socket_path_beyond_the_kernels_limit_works(tmp_path: Path) -> None:
    """A path longer than 107 bytes is served like any other."""
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    daemon = DaemonProcess(directory)
    daemon.spawn()
    try:

        async def exists() -> bool:
            return daemon.socket.exists()

        await until(exists)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{descriptor}/s")
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.read()
        writer.close()
        os.close(descriptor)
    finally:
        assert await daemon.stop() == 0


async def test_systemd_is_told(tmp_path: Path) -> None:
    """With NOTIFY_SOCKET set, `READY=1` comes when requests are taken, `STOPPING=1` when the drain begins."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.settimeout(20)
    receiver.bind(str(tmp_path / "n"))
    daemon = DaemonProcess(tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "n")})
    await daemon.start()
    try:
        assert b"READY=1" in await asyncio.to_thread(receiver.recv, 4096)
    finally:
        await daemon.aclose()
    assert b"STOPPING=1" in await asyncio.to_thread(receiver.recv, 4096)
    receiver.close()


async def test_a_fault_point_kills_at_its_nth_arrival(tmp_path: Path) -> None:
    """An armed point ends the process with SIGKILL when it is reached for the n-th time, and not before."""
    daemon = DaemonProcess(tmp_path, environment={"CHRONICLED_FAULT_POINT": "commit_to_ack:4"})
    await daemon.start()
    assert (await daemon.post("/v1/sessions", {"session": "s"})).status == 201
    with contextlib.suppress(aiohttp.ClientError):
        for _ in range(4):
            await daemon.post(ACTIONS, think())
    assert await daemon.wait() == -signal.SIGKILL
    daemon.environment.clear()
    await daemon.start()
    await daemon.aclose()


async def test_an_unknown_fault_point_is_a_usage_error(tmp_path: Path) -> None:
    """A misspelt point would test nothing, so it is refused."""
    daemon = DaemonProcess(tmp_path, environment={"CHRONICLED_FAULT_POINT": "nowhere:1"})
    daemon.spawn()
    assert await daemon.wait() == 2


async def test_tcp_needs_the_token_and_consent(launch: Launch, tmp_path: Path) -> None:
    """With an unisolated runtime TCP is refused unless allowed; then every request but health needs the token."""
    port = free_port()
    refused = DaemonProcess(tmp_path / "refused", f"http.address=127.0.0.1:{port}")
    refused.directory.mkdir()
    refused.spawn()
    assert await refused.wait() == EXIT_REFUSED
    assert "allow_unisolated" in refused.log_text()
    daemon = await launch(f"http.address=127.0.0.1:{port}", "runtime.allow_unisolated=true")
    token_file = daemon.data / "http.token"
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            async with client.get("/v1/sessions", headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
                assert (await response.json(content_type=None))["code"] == "unauthenticated"
        async with client.get("/livez") as response:
            assert response.status == 200
        bearer = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
        async with client.post("/v1/sessions", json={"session": "t"}, headers=bearer) as response:
            assert response.status == 201
        async with client.get("/v1/events", headers=bearer) as response:
            events = (await response.json())["events"]
            assert {event["tenant"] for event in events} == {"default"}


@pytest.mark.parametrize(
    "setting",
    [
        "docker.image=NO NAME",
        "docker.network=nowhere",
        "docker.isolation=nothing",
        "docker.user=0:0",
        'docker.ulimits={"nofile": 600, "no_such": 1}',
        'images.prefetch=["NO NAME"]',
        'runtime.warm=[{"image": "NO NAME"}]',
    ],
)
async def test_what_no_session_could_be_given_is_told_at_the_start(tmp_path: Path, setting: str) -> None:
    """What sandboxes are to get by default, and cannot, ends the start with the setting's name."""
    daemon = DaemonProcess(tmp_path, "docker.host=tcp://127.0.0.1:1", setting)
    daemon.spawn()
    assert await daemon.wait() == 2
    assert setting.partition("=")[0] in daemon.log_text()
    assert "Traceback" not in daemon.log_text()


async def test_a_taken_address_is_a_plain_refusal(tmp_path: Path) -> None:
    """An address or a token that cannot be had ends the start in one line that says so, without a traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"http.address=127.0.0.1:{taken.getsockname()[1]}"
        daemon = DaemonProcess(tmp_path, address, "runtime.allow_unisolated=true")
        daemon.spawn()
        assert await daemon.wait() == EXIT_REFUSED
        assert "Address already in use" in daemon.log_text()
    daemon = DaemonProcess(tmp_path, address, "runtime.allow_unisolated=true", f"http.token_file={tmp_path}/none")
    daemon.spawn()
    assert await daemon.wait() == EXIT_REFUSED
    assert "none cannot be read" in daemon.log_text()
    assert "Traceback" not in daemon.log_text()


async def test_the_first_line_says_where(daemon: DaemonProcess) -> None:
    """Whoever starts a daemon is told its socket and its data directory."""
    line = next(json.loads(line) for line in daemon.log_text().splitlines() if '"serving"' in line)
    assert (line["at"], line["data"]) == ([str(daemon.socket)], str(daemon.data))


async def test_logs_hold_no_payload(launch: Launch) -> None:
    """Even at debug level what clients send and commands print stays out of the daemon's own log."""
    daemon = await launch("log.level=debug")
    await daemon.post("/v1/sessions", {"session": "s"})
    await daemon.post(ACTIONS, run("echo canary-5d1f"), headers={"Prefer": "wait=20"})
    await daemon.post(ACTIONS, {"kind": "run", "payload": {"command": 1, "canary-5d1f": "x"}})
    assert '"request"' in daemon.log_text()
    assert "canary-5d1f" not in daemon.log_text()
