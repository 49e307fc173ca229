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

Key = tuple[Category, str, int]


class Registry:
    """Holds every kind that this process knows, at each version and under each name that it ever had.

    Guarantees that versions of a kind have no gap from 1 to the newest, and that a runnable action has a terminal
    observation of the same name.
    """

    def __init__(self, specs: Iterable[KindSpec] = ()) -> None:
        self._specs: dict[Key, KindSpec] = {}
        self._newest: dict[tuple[Category, str], KindSpec] = {}
        self._read_as: dict[tuple[Category, str, int | None], KindSpec] = {}
        self._names: dict[str, frozenset[str]] | None = None
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
        newest = self._newest.get((spec.category, spec.kind))
        wanted = 1 if newest is None else newest.version + 1
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
        self._newest[spec.category, spec.kind] = spec
        self._read_as.clear()
        self._names = None

    def check(self) -> None:
        """Check what only the whole can show.

        Raises:
            ValueError: a runnable action has no terminal observation of its kind; or a version becomes what is not
                there, or itself, or something that runs or ends otherwise.
        """
        for spec in self:
            for final in self._finals(spec):
                if (final.runnable, final.terminal) != (spec.runnable, spec.terminal):
                    raise ValueError(f"{spec.kind}: version {spec.version} becomes {final.kind}, which acts otherwise")
            if (spec.runnable or spec.terminal) and len({final.kind for final in self._finals(spec)}) > 1:
                raise ValueError(f"{spec.kind}: which action is to run, and what ends it, cannot depend on the payload")
        for spec in self:
            if spec.runnable:
                kind = self._finals(spec)[0].kind
                terminal = self._newest.get((OBSERVATION, kind))
                if terminal is None or not terminal.terminal:
                    raise ValueError(f"{kind}: a runnable action needs a terminal observation of the same kind")

    def following(self, spec: KindSpec) -> tuple[KindSpec, ...]:
        """Return what payloads of that version are brought to next: nothing if it is current.

        Raises:
            ValueError: it becomes something that is not registered.
        """
        if not spec.becomes:
            following = self._specs.get((spec.category, spec.kind, spec.version + 1))
            return () if following is None else (following,)
        found: list[KindSpec] = []
        for kind, version in spec.becomes:
            target = self._specs.get((spec.category, kind, version))
            if target is None:
                raise ValueError(f"{spec.kind}: version {spec.version} becomes {kind} {version}, which is not there")
            found.append(target)
        return tuple(found)

    def _finals(self, spec: KindSpec) -> list[KindSpec]:
        """Return the current versions that payloads of this one may be read as."""
        finals: dict[Key, KindSpec] = {}
        seen: set[Key] = set()
        waiting = [spec]
        while waiting:
            each = waiting.pop()
            if each.key in seen:
                continue
            seen.add(each.key)
            following = self.following(each)
            if not following:
                finals[each.key] = each
            waiting += following
        if not finals:
            raise ValueError(f"{spec.kind}: version {spec.version} becomes itself again")
        return [finals[key] for key in sorted(finals)]

    def find(self, category: Category, kind: str, version: int) -> KindSpec | None:
        """Return the kind at exactly that version, or None."""
        return self._specs.get((category, kind, version))

    def find_current(self, category: Category, kind: str, version: int | None = None) -> KindSpec | None:
        """Return what events of that kind (and version) are read as: its newest version, under its name of today.

        A version that is not known counts as the newest. Where the payload decides among several kinds, it is one of
        them: they run and end alike. None: nobody registered the kind.
        """
        key = (category, kind, version)
        found = self._read_as.get(key)
        if found is None:
            newest = self._newest.get((category, kind))
            if newest is None:
                return None
            spec = newest if version is None else self._specs.get((category, kind, version))
            found = self._finals(spec or newest)[0]
            if spec is not None:
                self._read_as[key] = found
        return found

    def name(self, category: Category, kind: str, version: int) -> str:
        """Return the kind's name of today; of a kind that nobody registered, the one that it has."""
        found = self.find_current(category, kind, version)
        return kind if found is None else found.kind

    def current(self, category: Category, kind: str) -> KindSpec:
        """Return the newest version of the kind, in which new events of it are written.

        Raises:
            UnknownKind: nobody registered it, or it has another name by now.
        """
        spec = self._newest.get((category, kind))
        if spec is None:
            names = (name for other, name in self._newest if other == category)
            known = ", ".join(sorted(name for name in names if not self._newest[category, name].becomes))
            raise UnknownKind(f"There is no {category} kind {kind[:128]!r}. Known: {known}.")
        if spec.becomes:
            today = " or ".join(repr(final.kind) for final in self._finals(spec))
            raise UnknownKind(f"The {category} kind {kind!r} is called {today} now.")
        return spec

    def terminal_of(self, kind: str, version: int | None = None) -> KindSpec:
        """Return the observation that ends a runnable action of that kind (and version), at its current version.

        Raises:
            UnknownKind: there is none.
        """
        action = self.find_current(ACTION, kind, version)
        return self.current(OBSERVATION, kind if action is None else action.kind)

    def of_today(self, kinds: frozenset[str]) -> frozenset[str]:
        """Return the kinds, with those that the former names among them stand for."""
        names = self._former_names()
        return kinds.union(*(names.get(kind, frozenset()) for kind in kinds)) if names else kinds

    def spellings(self, kinds: frozenset[str]) -> frozenset[str]:
        """Return every name under which events of those kinds may stand in a log: former names, and names of today."""
        names = self._former_names()
        if not names:
            return kinds
        wanted = self.of_today(kinds)
        return wanted.union(former for former, today in names.items() if today & wanted)

    def _former_names(self) -> dict[str, frozenset[str]]:
        if self._names is None:
            self._names = {}
            for spec in self:
                if spec.becomes:
                    today = {final.kind for final in self._finals(spec)} - {spec.kind}
                    self._names[spec.kind] = self._names.get(spec.kind, frozenset()) | today
        return self._names

    def __iter__(self) -> Iterator[KindSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)


def builtin_registry() -> Registry:
    """Return a registry of the built-in kinds."""
    registry = Registry(BUILTIN)
    registry.check()
    return registry
