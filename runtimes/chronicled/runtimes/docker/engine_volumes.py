"""The engine's volumes, as far as sandboxes and carriers need them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from chronicled.runtimes.docker.connections import Connections

if TYPE_CHECKING:
    import aiodocker

__all__ = ["EngineVolumes"]

Document = dict[str, Any]


class EngineVolumes(Connections):
    """Volumes of one engine. Every call raises `EngineRefused` and `EngineUnreachable`, as `Connections.call`."""

    async def volume_device(self, name: str) -> str:
        """Return what a named volume is mounted from, empty where that is the engine's own or it is not there yet."""
        options = cast("dict[str, str]", (await self._volume(name) or {}).get("Options") or {})
        return options.get("device", "")

    async def volume_labels(self, name: str) -> dict[str, str] | None:
        """Return a volume's labels, None where there is no such volume."""
        found = await self._volume(name)
        return None if found is None else cast("dict[str, str]", found.get("Labels") or {})

    async def _volume(self, name: str) -> Document | None:
        async def ask(client: aiodocker.Docker) -> Document:
            volumes: Any = client.volumes
            return cast("Document", await (await volumes.get(name)).show())

        return await self.find("inspect a volume", ask)

    async def volumes(self, label: str) -> dict[str, str]:
        """Return the volumes with a label of that name: when each was made, by their names."""

        async def ask(client: aiodocker.Docker) -> dict[str, str]:
            volumes: Any = client.volumes
            answer: Document = await volumes.list(filters={"label": [label]})
            return {str(each["Name"]): str(each.get("CreatedAt") or "") for each in answer.get("Volumes") or ()}

        return await self.call("list volumes", self.call_seconds, ask)

    async def make_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Make a volume; one that is there stays as it is."""

        async def ask(client: aiodocker.Docker) -> None:
            volumes: Any = client.volumes
            await volumes.create({"Name": name, "Labels": dict(labels)})

        await self.call("make a volume", self.call_seconds, ask)

    async def remove_volume(self, name: str) -> bool:
        """Remove a volume; return False where it is gone, or a container has it."""

        async def ask(client: aiodocker.Docker) -> None:
            volumes: Any = client.volumes
            await (await volumes.get(name)).delete()

        return await self.act("remove a volume", ask)

    async def mounted(self) -> frozenset[str]:
        """Return the host paths and volumes that any container has, whoever made it, running or not."""

        async def ask(client: aiodocker.Docker) -> frozenset[str]:
            containers: Any = client.containers
            found: set[str] = set()
            for container in await containers.list(all=1):
                # One that is on its way out may have none to tell.
                mounts = msgspec.convert(container["Mounts"] or [], list[_Mounted])
                found.update(name for mount in mounts for name in (mount.source, mount.name) if name)
            return frozenset(found)

        return await self.call("list containers", self.call_seconds, ask)


class _Mounted(msgspec.Struct, rename="pascal"):
    source: str = ""
    name: str = ""
