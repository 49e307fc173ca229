"""The ground on which the carrier is mounted: an image may have nothing of its own there.

Links and volumes of an image decide what a mount covers, and what covers a mount. Where an image brought files of its
own to the carrier's place, they could end up over it, and would be run as the action server.
"""

from __future__ import annotations

import io
import tarfile
from typing import Final

from chronicled.events.errors import SandboxStartFailed
from chronicled.runtimes.docker import paths
from chronicled.runtimes.docker.errands import Errands
from chronicled.runtimes.docker.images_found import ResolvedImage

__all__ = ["Ground"]

ARCHIVE_BYTES_MAX: Final = 64 << 10
"""Empty folders, as a mount leaves them in an image that was made of a sandbox, are a few hundred bytes."""
IMAGES_MAX: Final = 4096


class Ground:
    """Looks at images, at each once.

    Args:
        errands: Through whom.
    """

    def __init__(self, errands: Errands) -> None:
        self._errands = errands
        self._free: set[str] = set()

    async def check(self, image: ResolvedImage) -> None:
        """Return where a carrier can be mounted in containers of the image.

        Raises:
            SandboxStartFailed: the image has something of its own in that place.
            EngineRefused, EngineUnreachable: it cannot be looked at.
        """
        for volume in image.volumes:
            if paths.is_within(paths.normal(volume), paths.CARRIER):
                raise _taken(image, f"it declares a volume at {volume}")
        if image.id in self._free:
            return
        async with self._errands.run(image.id) as container:
            archive = await self._errands.engine.peek(container, paths.CARRIER, ARCHIVE_BYTES_MAX)
        if archive is not None and not _only_folders(archive):
            raise _taken(image, f"it has files of its own at {paths.CARRIER}")
        if len(self._free) >= IMAGES_MAX:
            self._free.clear()
        self._free.add(image.id)


def _taken(image: ResolvedImage, why: str) -> SandboxStartFailed:
    return SandboxStartFailed(f"image: {image.reference} cannot be used, since {why}, where the carrier has to be.")


def _only_folders(archive: bytes) -> bool:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as members:
            # One that was cut off is far from empty.
            return len(archive) < ARCHIVE_BYTES_MAX and all(member.isdir() for member in members)
    except tarfile.TarError:
        return False
