"""Where images may be pulled from."""

from __future__ import annotations

from collections.abc import Sequence

from chronicled.events.errors import ImageNotAllowed, InvalidRequest
from chronicled.runtimes.docker.images_reference import Reference, parse_reference

__all__ = ["Registries"]


class Registries:
    """The places of the setting `images.registries`.

    Args:
        places: `HOST[:PORT]` or `HOST[:PORT]/PATH`; none allows all.

    Raises:
        InvalidRequest: one is no such place.
    """

    def __init__(self, places: Sequence[str] = ()) -> None:
        self._places = tuple(_place(text) for text in places)
        self._named = ", ".join(places)

    def check(self, name: Reference) -> None:
        """Return if the image may be pulled.

        Raises:
            ImageNotAllowed: it may not; names what may be.
        """
        if not self._places or any(_lies_in(name, *place) for place in self._places):
            return
        raise ImageNotAllowed(
            f"{name.full} may not be pulled: `images.registries` allows {self._named}. Ask for an image of those, or "
            "have it allowed, or brought to the engine.",
            image=name.full,
        )


def _lies_in(name: Reference, registry: str, path: str) -> bool:
    # Whole parts of the path: `team` is not `teammate`.
    return name.registry == registry and (not path or f"{name.path}/".startswith(f"{path}/"))


def _place(text: str) -> tuple[str, str]:
    host, _, path = text.partition("/")
    try:
        inside = parse_reference(f"{text}/any")
    except InvalidRequest:
        inside = None
    # A host is told from a part of a path by its dot or port.
    if inside is None or parse_reference(f"{host}/any/any").path != "any/any" or text.endswith("/"):
        raise InvalidRequest(
            f"{text[:200]!r} is no place of images; such a place is `HOST[:PORT]`, where HOST has a dot, a port, or is "
            "localhost, or `HOST[:PORT]/PATH` in lower case.",
            member="registries",
        )
    return inside.registry, inside.path.removesuffix("/any") if path else ""
