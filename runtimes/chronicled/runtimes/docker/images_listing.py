"""The images that an engine has, by name, and whose they are."""

from __future__ import annotations

from typing import Any, Literal

import aiohttp
import msgspec
from aiodocker import DockerError

from chronicled.events.errors import InvalidRequest
from chronicled.runtimes.docker.images_errors import engine_silent
from chronicled.runtimes.docker.images_ledger import Entry
from chronicled.runtimes.docker.images_reference import parse_reference

__all__ = ["CachedImage", "listed"]


class CachedImage(msgspec.Struct, frozen=True, kw_only=True):
    """One name of an image that the engine has."""

    reference: str
    id: str
    digest: str | None
    size_bytes: int
    origin: Literal["pulled", "built", "found"]
    """`found`: somebody else brought it, and it is never removed."""
    used: float | None
    """Unix time of its last use here, where it is ours."""
    containers: int
    """Containers made from it, running or not."""


async def listed(docker: Any, entries: dict[str, Entry], engine: str) -> list[CachedImage]:
    """Return every image of the engine that has a name, in the order of names.

    Raises:
        ImageUnreachable: the engine does not answer.
    """
    try:
        images: list[dict[str, Any]] = await docker.images.list()
        containers: list[Any] = await docker.containers.list(all=1)
    except (DockerError, aiohttp.ClientError, OSError) as error:
        raise engine_silent(error) from None
    used: dict[str, int] = {}
    for container in containers:
        used[container["ImageID"]] = used.get(container["ImageID"], 0) + 1
    found: list[CachedImage] = []
    for image in images:
        for text, digest in _names(image):
            entry = entries.get(text)
            ours = entry is not None and entry.engine == engine and entry.id == image["Id"]
            found.append(
                CachedImage(
                    reference=text,
                    id=image["Id"],
                    digest=digest,
                    size_bytes=int(image.get("Size") or 0),
                    origin=entry.origin if entry is not None and ours else "found",
                    used=entry.used if entry is not None and ours else None,
                    containers=used.get(image["Id"], 0),
                )
            )
    return sorted(found, key=lambda each: each.reference)


def _names(image: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return an image's names, completed: its tags, and the digests of repositories in which it has no tag."""
    digests: dict[str, str] = {}
    for text in image.get("RepoDigests") or ():
        repository, _, digest = str(text).partition("@")
        if "<none>" not in repository:
            digests[repository] = digest
    names: list[tuple[str, str | None]] = []
    for text in image.get("RepoTags") or ():
        if "<none>" in text:
            continue
        repository = str(text).rpartition(":")[0]
        names.append((_full(text), digests.pop(repository, None)))
    names += [(_full(f"{repository}@{digest}"), digest) for repository, digest in digests.items()]
    return names


def _full(text: str) -> str:
    try:
        return parse_reference(text).full
    except InvalidRequest:
        return text
