"""The Dockerfile in a context, as the engine will find it."""

from __future__ import annotations

import posixpath
import tarfile
from typing import Any, Final, cast

from chronicled.events.errors import ImageBuildFailed

__all__ = ["dockerfile_of"]

DOCKERFILE_BYTES_MAX: Final = 1 << 20
UNPACKED_BYTES_MAX: Final = 64 << 30
ENTRIES_MAX: Final = 2_000_000
USUAL: Final = "Dockerfile"


def dockerfile_of(context: str, name: str) -> str:
    """Return the Dockerfile's text. Blocks for as long as the context takes to be unpacked.

    Args:
        context: Path of the archive.
        name: The Dockerfile's path within it.

    Raises:
        ImageBuildFailed: it is no archive, or not for sure what the engine would find: it must be a regular file that
            stands there once, and nothing may lie below a link.
        OSError: the archive cannot be read.
    """
    wanted = _path(name)
    # The engine takes the other spelling where the usual one is not there.
    spellings = [wanted, _path(USUAL.lower())] if wanted == _path(USUAL) else [wanted]
    found: dict[str, str] = {}
    links: set[str] = set()
    try:
        with tarfile.open(context, "r|*") as archive:
            for count, entry in enumerate(archive):
                if count > ENTRIES_MAX or archive.offset > UNPACKED_BYTES_MAX:
                    raise ImageBuildFailed(f"The context has over {ENTRIES_MAX} entries or {UNPACKED_BYTES_MAX} bytes.")
                path = _path(entry.name)
                if set(archive.pax_headers) - {"comment"} or any(above in links for above in _above(path)):
                    raise ImageBuildFailed(
                        f"The context is not plain: {entry.name[:200]} lies below a link or is renamed."
                    )
                if entry.issym():
                    links.add(path)
                if path in spellings:
                    found[path] = _text(archive, entry, again=path in found)
                # An archive of a million entries is not kept in memory.
                cast("Any", archive).members.clear()
    except (tarfile.TarError, EOFError) as error:
        raise ImageBuildFailed(f"The context is no tar archive, or a broken one: {error}.") from None
    if any(above in links for spelling in spellings for above in _above(spelling)):
        raise ImageBuildFailed(f"{name[:200]} lies below a link of the context: name it by its own path.")
    for spelling in spellings:
        if spelling in found:
            return found[spelling]
    raise ImageBuildFailed(f"The context has no {name[:200]}.")


def _text(archive: tarfile.TarFile, entry: tarfile.TarInfo, *, again: bool) -> str:
    if again or entry.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or entry.size > DOCKERFILE_BYTES_MAX:
        raise ImageBuildFailed(
            f"{entry.name[:200]} must be a regular file of at most {DOCKERFILE_BYTES_MAX} bytes, once in the context."
        )
    content = archive.extractfile(entry)
    assert content is not None
    return content.read().decode(errors="replace")


def _path(name: str) -> str:
    return posixpath.normpath(f"/{name}").replace("//", "/")


def _above(path: str) -> list[str]:
    above: list[str] = []
    while (path := posixpath.dirname(path)) != "/":
        above.append(path)
    return above
