"""Podman's Docker-compatible API: what its inspection says in other words, or not at all, in those of Docker.

It lists the capabilities that were dropped of those that it would have given, calls a namespace of one's own `private`
or `shareable`, tells mounts twice, and is silent on masked paths and the cgroup namespace. So what confines a container
is read from the kernel, and only what means the same is said in Docker's words: the comparison stays as strict.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.docker.container import Container, Limit, Networking
from chronicled.runtimes.docker.inspection import MASKED, READ_ONLY
from chronicled.runtimes.docker.kernel_view import KernelView, look

__all__ = ["in_words_of_docker", "translated"]

_BRIDGE: Final = "podman"
_OWN: Final = frozenset({"", "private", "shareable"})


def in_words_of_docker(found: Container, *, cgroup_shown_allowed: bool = False) -> Container:
    """Return an inspection of Podman's, of a container that runs on this machine, as Docker would have put it. Blocks.

    Args:
        found: The inspection.
        cgroup_shown_allowed: Whether the host's cgroup namespace passes for one of the container's own.

    Raises:
        SandboxStartFailed: the container cannot be looked at.
    """
    try:
        view = look(found.state.pid, MASKED, READ_ONLY)
    except (OSError, KeyError, ValueError) as error:
        raise SandboxStartFailed(f"What Podman made of the container cannot be seen: {error!r}") from error
    if cgroup_shown_allowed:
        view = msgspec.structs.replace(view, own_namespaces=view.own_namespaces | {"cgroup"})
    return translated(found, view)


def translated(found: Container, view: KernelView) -> Container:
    """Return the inspection with what the kernel shows in place of what Podman says otherwise."""
    host = found.host_config
    own = view.own_namespaces
    options = [option for option in host.security_opt or () if view.no_new_privileges or not _forbids(option)]
    limits = [
        Limit(name=each.name.removeprefix("RLIMIT_").lower(), soft=each.soft, hard=each.hard)
        for each in host.ulimits or ()
    ]
    changed = msgspec.structs.replace(
        host,
        # What is not left has been dropped.
        cap_drop=["ALL"],
        cap_add=list(view.capabilities),
        security_opt=options if view.seccomp else [*options, "seccomp=unconfined"],
        pid_mode=_mode(host.pid_mode, "pid" in own, ""),
        # `shareable` is all that it knows: another container could be let in, by who commands the engine anyway.
        ipc_mode=_mode(host.ipc_mode, "ipc" in own, "private"),
        uts_mode=_mode(host.uts_mode, "uts" in own, ""),
        cgroupns_mode=_mode(host.cgroupns_mode, "cgroup" in own, "private"),
        masked_paths=sorted(view.masked),
        readonly_paths=sorted(view.read_only),
        binds=_told_once(host.binds or (), found),
        ulimits=limits,
    )
    networks = Networking(networks=_networks(found, alone="net" in own), ports=found.network_settings.ports)
    return msgspec.structs.replace(found, host_config=changed, network_settings=networks)


def _forbids(option: str) -> bool:
    return option.startswith("no-new-privileges")


def _mode(said: str, own: bool, word: str) -> str:
    """Return Docker's word for a namespace of one's own, if it is one; what it is otherwise."""
    if said not in _OWN:
        return said
    return word if own else "host"


def _networks(found: Container, *, alone: bool) -> dict[str, Any]:
    """Return the networks by Docker's names for the two that every engine has."""
    networks = found.network_settings.networks or {}
    if not networks and alone and found.host_config.network_mode == "none":
        return {"none": {}}
    return {"bridge" if name == _BRIDGE else name: network for name, network in networks.items()}


def _told_once(binds: Sequence[str], found: Container) -> list[str]:
    """Return the binds that are not in the list of mounts, which is compared by itself."""
    listed = {mount.destination for mount in found.mounts or ()}
    return [bind for bind in binds if len(parts := bind.split(":")) < 2 or parts[1] not in listed]
