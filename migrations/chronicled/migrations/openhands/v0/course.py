"""The course of one session of OpenHands V0: its records in order, causes found, actions ended once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chronicled.events.codec import encode_json
from chronicled.events.envelope import ACTION, LIFECYCLE, OBSERVATION, Category
from chronicled.events.kind import KindSpec
from chronicled.events.kinds import BUILTIN
from chronicled.events.outcome import Effects, Outcome
from chronicled.migrations.conversion import OPAQUE, Converted, Course, Ids, Made, Original
from chronicled.migrations.openhands.instance import INSTANCE_KEY, read_instance
from chronicled.migrations.openhands.v0 import action_steps, observation_steps
from chronicled.migrations.openhands.v0.actions import RUNNABLE, action_fields
from chronicled.migrations.openhands.v0.envelope import Envelope, Unreadable, is_array, is_object, lift
from chronicled.migrations.openhands.v0.memory import OPEN_MAX, Confirmation, Memory, Open
from chronicled.migrations.openhands.v0.observations import ENDINGS, NOTED, Ending, read_ending, read_noted

__all__ = ["FORMAT", "OpenHandsV0"]

FORMAT: Final = "openhands.v0"
FOREIGN: Final = f"{FORMAT}.{OPAQUE}"
END_KEY: Final = "\x00end"
"""Key of the ends that the source does not show, with the id of the action behind it."""
SHOWN_BYTES_MAX: Final = 16 << 10
"""Largest record that an opaque event shows; every one is in the blob of its chunk."""
DETAIL_CHARACTERS_MAX: Final = 4 << 10
PARTS_MAX: Final = 8
"""Most events that one half of a pair becomes."""
WRONG: Final = (Unreadable, msgspec.ValidationError, ValueError, TypeError, LookupError, RecursionError, OverflowError)
"""What a record that does not fit raises on its way: it becomes opaque."""

SPECS: Final[Mapping[tuple[Category, str], KindSpec]] = {(spec.category, spec.kind): spec for spec in BUILTIN}
"""Current versions: the last one of a kind stands last."""
TERMINAL_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    kind: frozenset(SPECS[OBSERVATION, kind].payload.__struct_fields__) for kind in RUNNABLE
}


class OpenHandsV0:
    """The `Conversion` of OpenHands V0: events in folders, trajectories, histories of evaluations."""

    format = FORMAT

    def course(self, tenant: str, session: str, state: bytes | None = None) -> Course:
        """Begin a session's conversion, or go on behind what `state` remembers."""
        memory = Memory() if state is None else msgspec.json.decode(state, type=Memory)
        return OpenHandsCourse(Ids(tenant, session), memory)


class OpenHandsCourse:
    """See `Course`."""

    def __init__(self, ids: Ids, memory: Memory) -> None:
        self._ids = ids
        self._memory = memory

    def state(self) -> bytes:
        """Return what is remembered."""
        return encode_json(self._memory)

    def convert(self, record: Original) -> Converted:
        """Return what the record becomes; see `Course.convert`."""
        if record.problem is not None:
            return self._opaque(record, record.value, "damaged", record.problem, 0)
        value = record.value
        if record.key == INSTANCE_KEY and is_object(value):
            return read_instance(record, value, self._ids)
        if is_array(value) and len(value) == 2:
            return self._convert_pair(record, value)
        return self._convert_one(record, value, 0, None)

    def finish(self) -> Converted:
        """End what is open; see `Course.finish`."""
        made = tuple(self._end_unseen(name) for name in list(self._memory.open))
        return Converted("end of the source", made)

    def _convert_pair(self, record: Original, pair: list[Any]) -> Converted:
        first = self._convert_one(record, pair[0], 0, None)
        cause = next((made.id for made in first.made if made.category == ACTION), None)
        second = self._convert_one(record, pair[1], PARTS_MAX, cause)
        return Converted(
            f"pair of {first.shape} and {second.shape}",
            (*first.made, *second.made),
            (*first.steps, *second.steps),
            (*(f"0.{path}" for path in first.lost), *(f"1.{path}" for path in second.lost)),
            first.time,
            first.opaque or second.opaque,
            {**first.attached, **second.attached},
        )

    def _convert_one(self, record: Original, value: Any, part: int, paired: str | None) -> Converted:
        e: Envelope | None = None
        try:
            e = lift(record.key, value)
            made = self._action(e, part) if e.action else self._observation(e, part, paired)
        except WRONG as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            return self._opaque(record, value, "no event" if e is None else e.shape, reason, part)
        return Converted(e.shape, made, tuple(e.steps), tuple(e.lost), e.time, False, e.attached)

    # -- actions ---------------------------------------------------------------------------------------------------

    def _action(self, e: Envelope, part: int) -> tuple[Made, ...]:
        if e.type == "null":
            return ()
        action_steps.bring_on(e)
        kind, fields = action_fields(e, self._ids)
        payload = msgspec.convert(fields, SPECS[ACTION, kind].payload)
        name, id, actor = _name(e), self._ids.of(e.key, part), _actor(e)
        made: tuple[Made, ...] = (
            Made(id, ACTION, kind, payload, self._cause(e), False, actor, blobs=tuple(e.attached)),
        )
        memory = self._memory
        if kind not in RUNNABLE:
            memory.note(name, id, "")
            return made
        if name in memory.open:
            # The source has the id twice: what it is about from here on is the newer one.
            made = (self._end_unseen(name), *made)
        memory.note(name, id, kind)
        state = e.fields.get("confirmation_state")
        confirmation: Confirmation = ""
        if state in {"awaiting_confirmation", "rejected"}:
            confirmation = "rejected" if state == "rejected" else "awaiting"
        memory.open[name] = Open(id, kind, confirmation, actor)
        if len(memory.open) > OPEN_MAX:
            made = (*made, self._end_unseen(next(iter(memory.open))))
        return made

    def _end_unseen(self, name: str) -> Made:
        action = self._memory.open.pop(name)
        if action.confirmation:
            outcome, effects, reason = Outcome.REJECTED, Effects.NONE, "not_confirmed"
            message = "It waited for a confirmation that the source does not show, or was rejected."
        else:
            outcome, effects, reason = Outcome.UNKNOWN, Effects.POSSIBLE, "not_in_import"
            message = "What was imported does not show how it ended."
        payload = SPECS[OBSERVATION, action.kind].payload(
            outcome=outcome, effects=effects, reason=reason, message=message
        )
        id = self._ids.of(END_KEY + action.id)
        return Made(id, OBSERVATION, action.kind, payload, action.id, True, "import")

    # -- observations ----------------------------------------------------------------------------------------------

    def _observation(self, e: Envelope, part: int, paired: str | None) -> tuple[Made, ...]:
        observation_steps.bring_on(e)
        id, name = self._ids.of(e.key, part), self._ended_name(e, paired)
        action = None if name is None else self._memory.open.get(name)
        if e.type in ENDINGS:
            if name is not None and action is not None:
                made = self._end(e, id, action)
                del self._memory.open[name]
                return made
            known = self._memory.known.get(str(e.cause))
            if known is not None and known[1] == OPAQUE and e.type not in NOTED:
                return self._end_of_opaque(e, id, known[0])
            if known is not None and known[1] not in {"", OPAQUE}:
                return (self._late(e, id, known[0]),)
            if e.type not in NOTED:
                return self._end_of_missing(e, id, part)
        noted = read_noted(e)
        if noted is None:
            return ()
        kind, fields = noted
        payload = msgspec.convert(fields, SPECS[OBSERVATION, kind].payload)
        return (Made(id, OBSERVATION, kind, payload, self._cause(e), False, _actor(e)),)

    def _ended_name(self, e: Envelope, paired: str | None) -> str | None:
        """Return by what name the action is remembered that the observation is about."""
        opened = self._memory.open
        if e.cause is not None:
            return str(e.cause)
        if paired is not None:
            return next((name for name, action in opened.items() if action.id == paired), None)
        if not opened or "cause" in e.lost:
            return None
        # Flat exports and what people gave as feedback name no cause: an observation follows its action.
        newest = next(reversed(opened))
        kind = opened[newest].kind
        fits = e.type == kind or (e.type, kind) in {("mcp", "call_tool_mcp"), ("browse", "browse_interactive")}
        return newest if fits or (e.flat and e.type in {"error", "user_rejected", "success"}) else None

    def _end(self, e: Envelope, id: str, action: Open) -> tuple[Made, ...]:
        ending = read_ending(e, action.kind)
        payload = self._terminal(e, ending, action.kind)
        return (Made(id, OBSERVATION, action.kind, payload, action.id, True, _actor(e), blobs=tuple(e.attached)),)

    def _terminal(self, e: Envelope, ending: Ending, kind: str) -> msgspec.Struct:
        fields, has = ending.fields, TERMINAL_FIELDS[kind]
        if ending.kind and ending.kind != kind:
            e.steps.append(f"an observation {ending.kind} ends an action {kind}")
            said = fields.get("content") or fields.get("output") or ""
            place = "content" if "content" in has else "output" if "output" in has else "message"
            e.lost.extend(f"extras.{name}" for name in e.fields)
            fields = {place: said} if said else {}
        return msgspec.convert({**ending.common(), **fields}, SPECS[OBSERVATION, kind].payload)

    def _end_of_opaque(self, e: Envelope, id: str, action: str) -> tuple[Made, ...]:
        """Return the end of an action that nobody could read: what it led to can be."""
        ending = read_ending(e, None)
        payload = self._terminal(e, ending, ending.kind)
        self._memory.note(str(e.cause), action, ending.kind)
        return (Made(id, OBSERVATION, ending.kind, payload, action, True, _actor(e), blobs=tuple(e.attached)),)

    def _end_of_missing(self, e: Envelope, id: str, part: int) -> tuple[Made, ...]:
        """Return the observation with an action before it, made of what it tells of the one that is missing."""
        ending = read_ending(e, None)
        if not ending.asked or "" in ending.asked.values():
            raise Unreadable("its action is not in the source, and it does not tell what was asked")
        e.steps.append("its action is not in the source, and made of what it tells")
        asked = msgspec.convert(ending.asked, SPECS[ACTION, ending.kind].payload)
        payload = self._terminal(e, ending, ending.kind)
        action = self._ids.of(e.key, part + 1)
        return (
            Made(action, ACTION, ending.kind, asked, None, False, "import"),
            Made(id, OBSERVATION, ending.kind, payload, action, True, _actor(e), blobs=tuple(e.attached)),
        )

    def _late(self, e: Envelope, id: str, action: str) -> Made:
        ending = read_ending(e, None)
        e.steps.append("its action had ended already")
        said = ending.fields.get("output") or ending.fields.get("content") or ending.message or ""
        if len(said) > DETAIL_CHARACTERS_MAX:
            e.lost.append("content")
        e.lost.extend(f"extras.{name}" for name in e.fields)
        fields = {"outcome": ending.outcome, "detail": said[:DETAIL_CHARACTERS_MAX]}
        payload = msgspec.convert(fields, SPECS[LIFECYCLE, "late_result"].payload)
        return Made(id, LIFECYCLE, "late_result", payload, action, False, _actor(e), blobs=tuple(e.attached))

    def _cause(self, e: Envelope) -> str | None:
        if e.cause is None:
            return None
        known = self._memory.known.get(str(e.cause))
        if known is None:
            e.lost.append("cause")
            return None
        return known[0]

    # -- what cannot be read ---------------------------------------------------------------------------------------

    def _opaque(self, record: Original, value: Any, shape: str, reason: str, part: int) -> Converted:
        category: Category = LIFECYCLE
        payload: dict[str, Any] = {"reason": reason[:1024], "shape": shape, "record": record.key}
        id, cause, time = self._ids.of(record.key, part), None, None
        if is_object(value):
            category = ACTION if "action" in value else OBSERVATION if "observation" in value else LIFECYCLE
            time = value.get("timestamp")
            named = value.get("cause")
            known = self._memory.known.get(str(named)) if type(named) is int else None
            cause = known[0] if known is not None else None
            if category == ACTION:
                name = str(value["id"]) if type(value.get("id")) is int else record.key
                self._memory.note(name, id, OPAQUE)
        if value is not None:
            shown = encode_json(value)
            if len(shown) <= SHOWN_BYTES_MAX:
                payload["original"] = msgspec.Raw(shown)
        made = Made(id, category, FOREIGN, payload, cause, False, "import")
        return Converted(shape, (made,), time=time if isinstance(time, str) else None, opaque=True)


def _name(e: Envelope) -> str:
    return e.key if e.id is None else str(e.id)


def _actor(e: Envelope) -> str:
    return "openhands" if e.source is None else f"openhands:{e.source}"
