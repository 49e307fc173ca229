"""The volumes that a session asks for: resolved before the container is made, and looked at again inside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import anyio.to_thread

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import Volume
from chronicled.runtimes.docker import paths
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.plan import Mount

__all__ = ["misled", "mounts_of"]


async def mounts_of(
    volumes: Iterable[Volume], allowed: Sequence[str], protected: Iterable[str], engine: Engine
) -> list[Mount]:
    """Return the mounts of volumes that the allow-list has, as they are on the disk now.

    Args:
        volumes: What is asked for.
        allowed: Host paths and names of volumes that may be.
        protected: What may not, whatever is allowed.
        engine: Knows named volumes.

    Raises:
        SandboxStartFailed: one may not be mounted; names it.
        EngineRefused, EngineUnreachable: a named volume cannot be looked at.
    """
    asked = list(volumes)
    if not asked:
        return []
    guarded = await anyio.to_thread.run_sync(
        paths.protected_paths, [path for path in protected if paths.is_host_path(path)]
    )
    mounts: list[Mount] = []
    for volume in asked:
        source, target, read_only = volume.source, volume.target, volume.read_only
        if paths.is_host_path(source):
            if not engine.local:
                # Where a link of that host leads cannot be seen from here.
                raise SandboxStartFailed(
                    f"volumes: {source} is a path of the engine's host, which cannot be looked at over"
                    f" {engine.address}: use a named volume"
                )
            found = await anyio.to_thread.run_sync(paths.resolve, source, allowed, guarded)
            mounts.append(Mount(source=found.path, target=target, read_only=read_only, identity=found.identity))
            continue
        if source not in allowed:
            raise SandboxStartFailed(f"volumes: the volume {source!r} is not in docker.volumes_allowed")
        device = await engine.volume_device(source)
        if paths.is_host_path(device):
            # A path of the host under another name.
            await anyio.to_thread.run_sync(paths.resolve, device, allowed, guarded)
        mounts.append(Mount(type="volume", source=source, target=target, read_only=read_only))
    return mounts


def misled(mounts: Iterable[Mount], process: int | None) -> list[str]:
    """Return which volumes show another directory than was allowed: a link was put in the way meanwhile. Blocks.

    Args:
        mounts: Those of the container.
        process: One in the container, whose view is looked at; None where there is none on this machine.
    """
    reasons: list[str] = []
    for mount in mounts:
        if mount.identity is None:
            continue
        try:
            identity = _seen(mount, process)
        except OSError as error:
            reasons.append(f"volumes: {mount.target} cannot be looked at: {error.strerror}")
            continue
        except SandboxStartFailed as error:
            reasons.append(error.detail)
            continue
        if identity != mount.identity:
            reasons.append(f"volumes: {mount.target} is not {mount.source} as it was when it was allowed")
    return reasons


def _seen(mount: Mount, process: int | None) -> tuple[int, int]:
    if process is not None:
        try:
            return paths.identity_within(process, mount.target)
        except PermissionError:
            # Its view is not ours to see.
            pass
    # At least the path must lead there still.
    return paths.resolve(mount.source, [mount.source], []).identity
