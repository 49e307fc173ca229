"""Engines whose data is on a file system of their own, in a file: one that limits disks, and one that does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.engine.own import OwnEngine

__all__ = ["BtrfsEngine", "XfsEngine"]

_BYTES: Final = 640 << 20
"""Of the file, which has holes. Neither makes a file system of much less."""
_SECONDS_MAX: Final = 60.0


class BtrfsEngine(OwnEngine):
    """An engine that stores by `btrfs`, which can limit what a container writes."""

    program: ClassVar = "mkfs.btrfs"
    driver: ClassVar = "btrfs"

    def __init__(self, directory: Path, architecture: str, configuration: Mapping[str, Any]) -> None:
        super().__init__(directory, architecture, {"storage-driver": self.driver, **configuration})
        data = directory / "data"
        data.mkdir()
        disk = directory / "disk"
        disk.touch()
        os.truncate(disk, _BYTES)
        for words in ([self.program, "-q", str(disk)], ["mount", "-o", "loop", str(disk), str(data)]):
            subprocess.run(words, check=True, capture_output=True, timeout=_SECONDS_MAX)

    @classmethod
    def missing(cls) -> list[str]:
        """Return the programs that it takes and that are not here."""
        return [] if shutil.which(cls.program) else [cls.program]


class XfsEngine(BtrfsEngine):
    """An engine that stores by `overlay2` on XFS, as one that limits disks does, but mounted without quotas."""

    program: ClassVar = "mkfs.xfs"
    driver: ClassVar = "overlay2"
