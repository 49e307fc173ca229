"""An image as the engine describes it: what a sandbox needs to know of it."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from chronicled.runtimes.docker.images_reference import Reference, parse_reference

__all__ = ["ResolvedImage", "resolved"]


class ResolvedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is on the engine: what to create a container from, and what its containers begin with."""

    reference: str
    """What was asked for, completed."""
    id: str
    """The engine's id: exactly these bytes; create containers by it."""
    digest: str | None
    """Of the manifest, where the image came from a registry."""
    environment: tuple[str, ...] = ()
    """`NAME=VALUE`, as the image sets it."""
    user: str = ""
    working_directory: str = ""
    volumes: tuple[str, ...] = ()
    """Paths for which the engine would make anonymous volumes."""
    labels: dict[str, str] = {}
    triggers: tuple[str, ...] = ()
    """Instructions that a build which begins from it carries out (`ONBUILD`)."""
    architecture: str = ""
    os: str = ""
    size_bytes: int = 0

    @property
    def pin(self) -> str:
        """What brings back the same image: the manifest's digest, or the id of an image without one."""
        return self.digest or self.id


def resolved(reference: Reference, inspected: dict[str, Any]) -> ResolvedImage:
    """Return the image that the engine described (`GET /images/NAME/json`)."""
    config = cast("dict[str, Any]", inspected.get("Config") or {})
    return ResolvedImage(
        reference=reference.full,
        id=str(inspected["Id"]),
        digest=_digest(reference, inspected),
        environment=tuple(config.get("Env") or ()),
        user=str(config.get("User") or ""),
        working_directory=str(config.get("WorkingDir") or ""),
        volumes=tuple(sorted(config.get("Volumes") or {})),
        labels=dict(config.get("Labels") or {}),
        triggers=tuple(config.get("OnBuild") or ()),
        architecture=str(inspected.get("Architecture") or ""),
        os=str(inspected.get("Os") or ""),
        size_bytes=int(inspected.get("Size") or 0),
    )


def _digest(reference: Reference, inspected: dict[str, Any]) -> str | None:
    """Return the digest under which the image's own repository has it; of several, the one that was asked for."""
    if reference.digest is not None and reference.digest != inspected["Id"]:
        return reference.digest
    found: list[str] = []
    for text in cast("list[str]", inspected.get("RepoDigests") or []):
        repository, _, digest = text.partition("@")
        if "<none>" not in repository and parse_reference(text).repository == reference.repository:
            found.append(digest)
    return found[0] if found else None
