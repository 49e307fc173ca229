"""Containers for the tests of the carrier: an unmodified image, the carrier, and a worker reduced to frames."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

from tests.engine.fixture import Engine

from chronicled.runtimes.action_server import bootstrap, frames, settings
from chronicled.runtimes.carrier import MOUNT_PATH
from chronicled.runtimes.runtime import SandboxSpec
from chronicled.runtimes.testing import FrameWorker, make_spec

__all__ = ["ENVIRONMENT", "LABEL", "command", "container", "encoded_settings"]

LABEL: Final = "chronicled-test.carrier"
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "WHO": "me"}
"""What the shells of these containers are to see, beside what bash sets by itself."""


def encoded_settings(spec: SandboxSpec, environment: dict[str, str] | None = None) -> bytes:
    """Return the settings of a sandbox whose socket directory is mounted."""
    told = settings.Settings()
    told.generation, told.sandbox, told.token = spec.generation, spec.sandbox, spec.token
    told.socket_directory = f"{MOUNT_PATH}/run"
    chosen = ENVIRONMENT if environment is None else environment
    told.environment = {name.encode(): value.encode() for name, value in chosen.items()}
    return settings.encode(told)


def command(image: str, spec: SandboxSpec, *how: str) -> list[str]:
    """Return the words of `docker run` from the entrypoint on."""
    program = f"{MOUNT_PATH}/lib/site/chronicled/runtimes/action_server/{Path(bootstrap.__file__).name}"
    entrypoint = ["--entrypoint", f"{MOUNT_PATH}/bin/python3"]
    return [*entrypoint, image, "-I", "-S", program, spec.sandbox, spec.generation, *how]


@contextlib.asynccontextmanager
async def container(
    engine: Engine,
    directory: Path,
    image: str,
    source: str,
    options: Sequence[str] = (),
    transfer: frames.Transfer = "descriptors",
) -> AsyncGenerator[tuple[FrameWorker, str]]:
    """Run an image with the carrier from `source` (a folder or a volume); give a connected worker and the container."""
    spec = make_spec(directory)
    worker = _listen(spec, directory, transfer)
    name = f"carrier-{uuid.uuid4().hex[:12]}"
    mounts = ["-v", f"{source}:{MOUNT_PATH}:ro", "-v", f"{spec.socket_directory}:{MOUNT_PATH}/run:ro"]
    try:
        engine(
            *("run", "--detach", "--name", name, "--label", LABEL, "--env", "LD_PRELOAD=", *mounts, *options),
            *command(image, spec, bootstrap.SETTINGS_OPTION, f"{MOUNT_PATH}/run/settings"),
        )
        try:
            await worker.connect()
        except TimeoutError:
            raise AssertionError(f"no Hello; the container says: {engine('logs', name)}") from None
        # As a worker does: before anything of the agent's runs.
        os.unlink(f"{spec.socket_directory}/settings")
        yield worker, name
    finally:
        await worker.close()
        engine("rm", "--force", "--volumes", name)


def _listen(spec: SandboxSpec, directory: Path, transfer: frames.Transfer) -> FrameWorker:
    """Fill the socket's directory as a worker does, so that any uid of a container can read and dial."""
    told = Path(spec.socket_directory, "settings")
    told.write_bytes(encoded_settings(spec))
    told.chmod(0o644)
    os.chmod(spec.socket_directory, 0o711)
    worker = FrameWorker(spec, directory, transfer)
    worker.listen()
    os.chmod(f"{spec.socket_directory}/worker.sock", 0o666)
    return worker
