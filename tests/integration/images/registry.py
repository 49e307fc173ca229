"""A real image registry on loopback, and a pipe in front of it that can be slow, or break."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from tests.integration.daemon.process import free_port
from tests.stream_server import stream_server

ROOT = Path(__file__).parents[3]
USER, PASSWORD = "somebody", "p4ss-of-the-registry"
# bcrypt of PASSWORD, as `htpasswd -nbB` makes it.
HTPASSWD = f"{USER}:$2y$05$dXTpR7.lPlvTuQL5bJ/JceOUX4ETcayHG5WCkGAi2HjingABZvsDm\n"
HOSTS: set[str] = set()
"""What names of images of this process's registries begin with."""
CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""


class Registry:
    """One registry process."""

    def __init__(self, directory: Path, program: str, *, auth: bool = False) -> None:
        self._directory = directory
        self._program = program
        self._auth = auth
        self._process: subprocess.Popen[bytes] | None = None
        self.asked = b""
        """What it was asked for through slow pipes."""
        self.port = free_port()
        HOSTS.add(self.host)

    @property
    def host(self) -> str:
        """What names of its images begin with."""
        return f"127.0.0.1:{self.port}"

    @property
    def storage(self) -> Path:
        """Where its files are."""
        return self._directory / "storage"

    async def start(self) -> None:
        """Start it, again with what it had where it was stopped; return once it answers."""
        self._spawn()
        for _ in range(200):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise AssertionError((self._directory / "log").read_text())

    def _spawn(self) -> None:
        self.storage.mkdir(parents=True, exist_ok=True)
        (self._directory / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: test, path: {self._directory}/htpasswd}}}}" if self._auth else ""
        config = self._directory / "config.yml"
        config.write_text(CONFIG.format(root=self.storage, port=self.port, auth=auth))
        with open(self._directory / "log", "ab") as log:
            self._process = subprocess.Popen([self._program, "serve", str(config)], stdout=log, stderr=log)

    async def kill(self) -> None:
        """End it at once. Idempotent."""
        if self._process is not None:
            self._process.kill()
            await anyio.to_thread.run_sync(self._process.wait)
            self._process = None


def credentials() -> dict[str, str]:
    """Return whom the registry knows."""
    return {"username": USER, "password": PASSWORD}


async def push(docker: Any, registry: Registry, name: str, size: int = 1000, architecture: str = "amd64") -> str:
    """Make an image of so many random bytes, put it into the registry, remove it here; return its digest."""
    full = f"{registry.host}/{name}"
    loaded: list[Any] = await docker.images.import_image(saved_image(full, os.urandom(size), architecture))
    assert any("Loaded" in str(each) for each in loaded), loaded
    messages: list[Any] = await docker.images.push(full, auth=credentials())
    digest = next(each["aux"]["Digest"] for each in messages if "aux" in each)
    await docker.images.delete(full)
    return str(digest)


def saved_image(name: str, content: bytes, architecture: str) -> io.BytesIO:
    """Return an image with one file as `docker save` would."""
    layer = archive({"content": content})
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["A=b"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    return io.BytesIO(archive({"config.json": config, "layer.tar": layer, "manifest.json": manifest}))


def archive(files: dict[str, bytes]) -> bytes:
    """Return a tar of the files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as writing:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            writing.addfile(info, io.BytesIO(content))
    return data.getvalue()


@asynccontextmanager
async def slow_pipe(registry: Registry, bytes_per_second: int) -> AsyncGenerator[str, None]:
    """Give a host that leads to the registry, with so many bytes a second in each answer's direction."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: int, *, note: bool) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(max(1, rate // 20)):
                if note:
                    registry.asked += data
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(len(data) / rate)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", registry.port)
        try:
            await asyncio.gather(
                copy(reader, far_writer, 100_000_000, note=True),
                copy(far_reader, writer, bytes_per_second, note=False),
            )
        finally:
            far_writer.transport.abort()
            with contextlib.suppress(OSError):
                await far_writer.wait_closed()

    async with stream_server(serve) as port:
        host = f"127.0.0.1:{port}"
        HOSTS.add(host)
        yield host
