"""An engine that takes nobody in without a certificate: DOCKER_HOST with DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import pytest
from tests.engine.fixture import MUSL, Engine
from tests.engine.own import own_engine
from tests.engine.tls import Authority, TlsEngine
from tests.integration.daemon.process import DaemonProcess, until
from tests.integration.engines.served import Served, closed

from chronicled.runtimes.docker.engine import Engine as Client
from chronicled.runtimes.docker.failure import EngineRefused, EngineUnreachable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("carrier")]

NOTHING_SHARED: Final = ("docker.transport=stdio", "docker.carrier=volume", "docker.workspace=layer")
STRANGER: Final = Authority("somebody else")


@pytest.fixture(scope="module")
def guarded(engine: Engine) -> Generator[TlsEngine]:
    """An engine at a TCP port, with TLS on both sides."""
    with own_engine(engine, [MUSL], TlsEngine) as own:
        assert isinstance(own, TlsEngine)
        yield own


@pytest.fixture
def files(guarded: TlsEngine, tmp_path: Path) -> Path:
    """What a client of that engine has."""
    return guarded.authority.write(tmp_path / "tls", server=False)


async def asked(host: str, directory: Path | str) -> str:
    """Ask the engine what it is; return its version, or what went wrong."""
    client = Client(host, str(directory))
    try:
        return (await client.facts()).version
    except (EngineUnreachable, EngineRefused) as error:
        return f"{type(error).__name__}: {error.detail}"
    finally:
        await client.aclose()


async def test_a_session_lives_behind_tls(guarded: TlsEngine, files: Path, tmp_path: Path) -> None:
    """By the variables alone a daemon reaches the engine: sandboxes run, survive its death, and are removed."""
    variables = {"DOCKER_HOST": guarded.tcp, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(files)}
    (tmp_path / "d").mkdir()
    daemon = DaemonProcess(tmp_path / "d", *NOTHING_SHARED, environment=variables)
    try:
        served = Served(await daemon.start(), guarded.tcp)
        session = await served.session(MUSL)
        assert (await session.run("v=kept; echo $v >file; head -c 3000000 /dev/zero"))["output_bytes"] == 3_000_000
        container = guarded("ps", "--quiet", "--filter", f"label={served.label}")
        assert container
        begun = await session.begin("sleep 0.5; echo after")
        await served.restart()
        assert (await session.ended(begun))["output"] == "after\n"
        assert (await session.run("echo $v; cat file; pwd"))["output"] == "kept\nkept\n/workspace\n"
        assert guarded("ps", "--quiet", "--filter", f"label={served.label}") == container
        await closed(served, session)
        assert guarded("ps", "--all", "--quiet") == ""
    finally:
        await daemon.aclose()


def another_authority(files: Path) -> None:
    """Trust somebody who has not signed the engine's certificate."""
    stranger = STRANGER.write(files.parent / "stranger", server=False)
    shutil.copy(stranger / "ca.pem", files)


def another_client(files: Path) -> None:
    """Show a certificate that the engine's authority has not signed."""
    stranger = STRANGER.write(files.parent / "stranger", server=False)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(stranger / name, files)


def no_client(files: Path) -> None:
    """Show no certificate at all."""
    for name in ("cert.pem", "key.pem"):
        (files / name).unlink()


WRONG: Final[dict[str, tuple[Callable[[Path], object], str]]] = {
    "the engine is another's": (another_authority, "its certificate is not accepted by {}/ca.pem: unable to get local"),
    "the client is another's": (another_client, "it does not accept {}/cert.pem"),
    "the client shows nothing": (no_client, "it does not accept {}/cert.pem"),
    "no authority": (lambda files: (files / "ca.pem").unlink(), "{}/ca.pem cannot be read: No such file"),
    "an authority that is none": (
        lambda files: (files / "ca.pem").write_text("none"),
        "{}/ca.pem holds no certificate",
    ),
    "no key": (lambda files: (files / "key.pem").unlink(), "{}/key.pem cannot be read: No such file"),
    "a key that is none": (
        lambda files: (files / "key.pem").write_text("none"),
        "{}/cert.pem and key.pem are no certificate with its key",
    ),
    "nothing there": (shutil.rmtree, "docker.tls_directory: {}/ca.pem cannot be read: No such file"),
}


@pytest.mark.parametrize("way", sorted(WRONG))
async def test_what_is_wrong_is_said(guarded: TlsEngine, files: Path, way: str) -> None:
    """Whatever of the certificates is wrong, the engine is not reached, and it is told which file and why."""
    assert await asked(guarded.tcp, files) == guarded("version", "--format", "{{.Server.Version}}")
    spoil, told = WRONG[way]
    spoil(files)
    found = await asked(guarded.tcp, files)
    assert found.startswith("EngineUnreachable: The engine could not be asked to describe itself: "), found
    assert told.format(files) in found


async def test_another_name_than_the_certificates_is_not_believed(guarded: TlsEngine, files: Path) -> None:
    """A certificate of the right authority for another address is not taken."""
    found = await asked(guarded.tcp.replace("127.0.0.1", "localhost"), files)
    assert "its certificate is not accepted" in found
    assert "not valid for 'localhost'" in found


async def test_without_tls_it_is_said_how_to_have_it(guarded: TlsEngine, engine: Engine) -> None:
    """Who speaks plainly to an engine with TLS learns by what settings to speak it."""
    assert "EngineRefused: " in (found := await asked(guarded.tcp, ""))
    assert "DOCKER_TLS_VERIFY" in found


async def test_certificates_can_be_changed_while_it_runs(guarded: TlsEngine, files: Path) -> None:
    """Once the old ones are refused, the new ones are taken up by the next call, without a new start."""
    another_client(files)
    client = Client(guarded.tcp, str(files))
    try:
        with pytest.raises(EngineUnreachable, match="does not accept"):
            await client.facts()
        shutil.rmtree(files)
        guarded.authority.write(files, server=False)
        with pytest.raises(EngineUnreachable, match="does not accept"):
            await client.facts()
        assert (await client.facts()).version
    finally:
        await client.aclose()


def connected(engine: TlsEngine) -> int:
    """Return how many connections to the engine are open at the end of who has asked for them."""
    port = int(engine.tcp.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()]
    return [row[2:4] for row in rows].count([f"0100007F:{port:04X}", "01"])


@contextlib.contextmanager
def frozen(engine: TlsEngine) -> Generator[None]:
    """Have the engine stand still."""
    assert engine.process is not None
    engine.process.send_signal(signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, engine.process.pid, os.WSTOPPED)
        yield
    finally:
        engine.process.send_signal(signal.SIGCONT)


async def test_nothing_is_open_once_it_is_closed(guarded: TlsEngine, files: Path) -> None:
    """TLS parts in order by waiting for the other side: a client that is closed does not, though nothing answers."""
    client = Client(guarded.tcp, str(files))
    seen: list[Any] = []
    following = asyncio.create_task(client.follow({}, time.time_ns(), seen.append))
    try:
        guarded("volume", "rm", guarded("volume", "create"))

        async def told() -> bool:
            return len(seen) > 1

        await until(told)
        assert connected(guarded) == 1
        with frozen(guarded):
            following.cancel()
            await asyncio.wait([following])
            assert connected(guarded) == 1  # it waits for the engine's last word
            await client.aclose()
            assert connected(guarded) == 0
    finally:
        following.cancel()
        await client.aclose()


def test_the_doctor_asks_as_docker_does(guarded: TlsEngine, files: Path, tmp_path: Path) -> None:
    """Without a path the files are those of Docker's own client; without any it is told what is missing."""

    def found(home: Path, *options: str, **variables: str) -> str:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "DOCKER_HOST": guarded.tcp, **variables}
        command = [sys.executable, "-m", "chronicled.cli", "doctor", "--data", str(tmp_path / "none"), *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        (line,) = [line for line in done.stdout.splitlines() if " engine " in line]
        return line

    (tmp_path / "home").mkdir()
    shutil.copytree(files, tmp_path / "home" / ".docker")
    assert f"answers at {guarded.tcp}" in found(tmp_path / "home", DOCKER_TLS_VERIFY="1")
    assert f"{tmp_path}/.docker/ca.pem cannot be read" in found(tmp_path, DOCKER_TLS_VERIFY="1")
    assert "DOCKER_TLS_VERIFY" in found(tmp_path / "home")
    # The daemon's own settings go before the variables.
    configuration = tmp_path / "c.toml"
    configuration.write_text(f'[docker]\nhost = "{guarded.tcp}"\ntls_directory = "{files}"\n')
    assert f"answers at {guarded.tcp}" in found(
        tmp_path, "--config", str(configuration), DOCKER_HOST="tcp://127.0.0.1:9"
    )
    configuration.write_text('[docker]\nhost = "ssh://host"\n')
    assert "neither unix:///PATH nor tcp://HOST:PORT" in found(tmp_path, "--config", str(configuration))
