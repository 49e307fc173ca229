"""The registry of kinds: (category, kind, version) to payload type. Open to third parties, no closed unions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chronicled.events.envelope import ACTION, OBSERVATION, Category
from chronicled.events.errors import UnknownKind
from chronicled.events.ids import check_kind
from chronicled.events.kind import KindSpec, TerminalPayload
from chronicled.events.kinds import BUILTIN
from chronicled.events.parts import BLOBS

__all__ = ["Registry", "builtin_registry"]


class Registry:
    """Holds every kind that this process knows, at each version.

    Guarantees that versions of a kind have no gap from 1 to the current one, and that a runnable action has a terminal
    observation of the same name.
    """

    def __init__(self, specs: Iterable[KindSpec] = ()) -> None:
        self._specs: dict[tuple[Category, str, int], KindSpec] = {}
        self._current: dict[tuple[Category, str], KindSpec] = {}
        for spec in specs:
            self.register(spec)

    def register(self, spec: KindSpec) -> None:
        """Add one kind at one version; versions come in order from 1.

        Raises:
            InvalidName: the kind's name does not match the pattern.
            ValueError: it is registered already, skips a version, its flags do not fit its category, or it
                names parts or an attachment that its payload does not have.
        """
        check_kind(spec.kind)
        current = self._current.get((spec.category, spec.kind))
        wanted = 1 if current is None else current.version + 1
        if spec.version != wanted:
            raise ValueError(f"{spec.category} {spec.kind}: version {spec.version} does not follow {wanted - 1}")
        if spec.runnable and spec.category != ACTION:
            raise ValueError(f"{spec.kind}: only an action is runnable")
        if spec.terminal and (spec.category != OBSERVATION or not issubclass(spec.payload, TerminalPayload)):
            raise ValueError(f"{spec.kind}: a terminal kind is an observation whose payload is a TerminalPayload")
        if spec.parts and not {BLOBS, *spec.parts} <= set(spec.payload.__struct_fields__):
            raise ValueError(f"{spec.kind}: a payload with parts has each of them as a field, and a field `{BLOBS}`")
        if spec.attachment is not None and not (spec.runnable and spec.attachment in spec.payload.__struct_fields__):
            raise ValueError(f"{spec.kind}: an attachment is a field of a runnable action's payload")
        self._specs[spec.key] = spec
        self._current[spec.category, spec.kind] = spec

    def check(self) -> None:
        """Check what only the whole can show.

        Raises:
            ValueError: a runnable action has no terminal observation of its kind.
        """
        for (category, kind), spec in self._current.items():
            if category == ACTION and spec.runnable:
                terminal = self._current.get((OBSERVATION, kind))
                if terminal is None or not terminal.terminal:
                    raise ValueError(f"{kind}: a runnable action needs a terminal observation of the same kind")

    def find(self, category: Category, kind: str, version: int) -> KindSpec | None:
        """Return the kind at exactly that version, or None."""
        return self._specs.get((category, kind, version))

    def find_current(self, category: Category, kind: str) -> KindSpec | None:
        """Return the newest version of the kind, or None."""
        return self._current.get((category, kind))

    def current(self, category: Category, kind: str) -> KindSpec:
        """Return the newest version of the kind.

        Raises:
            UnknownKind: nobody registered it.
        """
        spec = self._current.get((category, kind))
        if spec is None:
            known = ", ".join(sorted(name for other, name in self._current if other == category))
            raise UnknownKind(f"There is no {category} kind {kind[:128]!r}. Known: {known}.")
        return spec

    def __iter__(self) -> Iterator[KindSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)


def builtin_registry() -> Registry:
    """Return a registry of the built-in kinds."""
    registry = Registry(BUILTIN)
    registry.check()
    return registry
