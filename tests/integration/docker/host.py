"""A docker runtime over the real engine, for tests: with what it needs and nothing of which stays."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import subprocess
import tempfile
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.engine.fixture import DEBIAN

from chronicled.events.errors import ImageNotFound
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.carrier import Carrier
from chronicled.runtimes.carrier.place import remove_tree
from chronicled.runtimes.docker.carriage import CarrierDirectory
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.images_found import ResolvedImage, resolved
from chronicled.runtimes.docker.images_progress import Listener
from chronicled.runtimes.docker.images_reference import parse_reference
from chronicled.runtimes.docker.images_settings import PullPolicy
from chronicled.runtimes.docker.runtime import DockerRuntime
from chronicled.runtimes.docker.settings import DockerSettings
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import FrameWorker, make_spec


def docker(*words: str, host: str = "") -> str:
    """Run the engine's own client, as somebody from outside would; return what it printed."""
    command = ["docker", *(["--host", host] if host else []), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


class EngineImages:
    """The images that the engine has."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def resolve(
        self,
        reference: str,
        pull: PullPolicy | None = None,
        *,
        pinned: str | None = None,
        listener: Listener | None = None,
    ) -> ResolvedImage:
        """Return the image, if it is there."""
        found = await self._engine.image(reference)
        if found is None:
            raise ImageNotFound(f"{reference} is not there")
        return resolved(parse_reference(reference), found)


class OwnCarriers(CarrierDirectory):
    """Carriers of one test: their volume has a name of its own, for the usual one others fill, mount and remove."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._digest = f"sha256-{uuid.uuid4().hex}{uuid.uuid4().hex}"

    async def carrier(self, architecture: str) -> Carrier:
        """Return the carrier of an architecture, under the digest of this test."""
        return (await super().carrier(architecture))._replace(digest=self._digest)


@cache
def _carriers() -> str:
    """Return where carriers are kept while the tests run."""
    directory = tempfile.mkdtemp(prefix="chronicled-carriers-")
    atexit.register(remove_tree, Path(directory))
    return directory


def runtime_of(host: str = "", *, instance: str = "", protected: Sequence[str] = (), **settings: Any) -> DockerRuntime:
    """Return a docker runtime, by default of a fresh instance."""
    engine = Engine(host)
    values: dict[str, Any] = {"host": host, "image": DEBIAN, **settings}
    return DockerRuntime(
        DockerSettings(**values),
        instance=instance or f"test-{uuid.uuid4().hex[:12]}",
        worker="tester",
        carrier=CarrierDirectory(_carriers()),
        images=EngineImages(engine),
        engine=engine,
        protected=protected,
    )


def isolated(host: str, **settings: Any) -> DockerRuntime:
    """Return a docker runtime whose sandboxes are gVisor's, over an engine that has it."""
    return runtime_of(host, isolation="gvisor", limits_unkept_allowed=True, **settings)


@asynccontextmanager
async def running(runtime: DockerRuntime) -> AsyncGenerator[DockerRuntime]:
    """Run the runtime; at the end nothing of its instance is left on the engine."""
    task = asyncio.create_task(runtime.run())
    try:
        yield runtime
    finally:
        await runtime.sweep((), head=1 << 62)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def serving(
    runtime: DockerRuntime, directory: Path, request: SandboxRequest | None = None, **changes: Any
) -> AsyncGenerator[tuple[FrameWorker, Any, SandboxSpec]]:
    """Start a sandbox and give its worker, shaken hands, the sandbox and its spec."""
    spec = make_spec(directory, request=request or SandboxRequest(), **changes)
    worker = FrameWorker(spec, directory)
    worker.listen()
    try:
        sandbox = await runtime.start(spec)
        await worker.connect()
        await sandbox.greeted()
        yield worker, sandbox, spec
    finally:
        await worker.close()
        await runtime.remove(spec.sandbox)
