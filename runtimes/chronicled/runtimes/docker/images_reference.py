"""Names of images: `[registry/]path[:tag][@digest]`, or the id of an image that the engine has."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from chronicled.events.errors import InvalidRequest

__all__ = [
    "BUILT_NAME",
    "BUILT_REGISTRY",
    "DIGEST",
    "REFERENCE",
    "Reference",
    "built_name",
    "is_reference",
    "owner_of",
    "parse_reference",
]

BUILT_REGISTRY: Final = "chronicled.invalid"
"""Where the names of built images lie: no registry can ever have that name (RFC 2606), so none is ever asked."""
HUB: Final = "docker.io"
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_PORT: Final = r":[0-9]{1,5}"
# Without a dot or a port the first part is one of a path on the default registry.
_HOST: Final = rf"(?:(?:localhost|{_LABEL}(?:\.{_LABEL}){{1,8}}|\[[0-9a-fA-F:.]{{2,45}}\])(?:{_PORT})?|{_LABEL}{_PORT})"
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE: Final = re.compile(
    rf"(?:(?P<host>{_HOST})/)?(?P<path>{_PART}(?:/{_PART}){{0,15}})"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
REFERENCE: Final = (
    rf"^(({_HOST}/)?{_PART}(/{_PART}){{0,15}}(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(@sha256:[0-9a-f]{{64}})?"
    r"|sha256:[0-9a-f]{64})$"
)
"""What `parse_reference` takes."""
BUILT_NAME: Final = rf"^{_PART}(/{_PART}){{0,15}}(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?$"
"""`path[:tag]`, as an image to be built is called."""
_TENANT: Final = re.compile(r"[^a-z0-9]+")


class Reference(msgspec.Struct, frozen=True):
    """A name, completed the way the engine does it."""

    registry: str
    path: str
    tag: str | None
    digest: str | None
    id: str | None = None
    """Set instead of the others where the name is an image's id."""

    @property
    def repository(self) -> str:
        """Registry and path."""
        return f"{self.registry}/{self.path}"

    @property
    def full(self) -> str:
        """The whole name; a digest makes the tag mean nothing, so it is left out then."""
        if self.id is not None:
            return self.id
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @property
    def pullable(self) -> bool:
        """Whether there may be a registry that has it."""
        return self.id is None and self.registry != BUILT_REGISTRY

    def pinned(self, digest: str) -> Reference:
        """Return the same image at exactly that digest; an image without a manifest is pinned by its id."""
        return msgspec.structs.replace(self, tag=None, digest=digest)


def parse_reference(text: str) -> Reference:
    """Return what the name says, `docker.io`, `library/` and `latest` filled in.

    Raises:
        InvalidRequest: it is no name of an image.
    """
    if DIGEST.fullmatch(text):
        return Reference("", "", None, None, text)
    match = _REFERENCE.fullmatch(text) if len(text) <= 512 else None
    if match is None:
        raise InvalidRequest(
            f"{text[:200]!r} is no name of an image; such a name is `[registry/]path[:tag][@sha256:...]` in lower "
            "case, or the id of an image that the engine has (`sha256:...`).",
            member="image",
        )
    host, path = match["host"], match["path"]
    if host in {None, "index.docker.io", "registry-1.docker.io"}:
        host = HUB
    assert host is not None
    if host == HUB and "/" not in path:
        path = f"library/{path}"
    tag = match["tag"] or (None if match["digest"] else "latest")
    return Reference(host.lower(), path, tag, match["digest"])


def is_reference(text: str) -> bool:
    """Return whether `parse_reference` takes the text."""
    try:
        parse_reference(text)
    except InvalidRequest:
        return False
    return True


def built_name(tenant: str, name: str) -> Reference:
    """Return where an image that a tenant builds as `name` (`path[:tag]`) stands: tenants never meet.

    Raises:
        InvalidRequest: it is no such name.
    """
    match = re.fullmatch(BUILT_NAME, name) if len(name) <= 200 else None
    if match is None:
        raise InvalidRequest(
            f"{name[:200]!r} cannot be built: the name of a built image is `path[:tag]` in lower case.", member="name"
        )
    path, _, tag = name.partition(":")
    return Reference(BUILT_REGISTRY, f"{owner_of(tenant)}/{path}", tag or "latest", None)


def owner_of(tenant: str) -> str:
    """Return the first part of the paths of what a tenant builds; no two tenants have the same."""
    plain = _TENANT.sub("-", tenant.lower()).strip("-") or "t"
    if plain == tenant:
        return plain
    # What differs only in what a path cannot hold must not become one.
    return f"{plain[:64]}--{hashlib.sha256(tenant.encode()).hexdigest()[:32]}"
