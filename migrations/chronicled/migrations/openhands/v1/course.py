"""The course of one conversation of OpenHands V1: its records in order, causes found, actions ended once."""

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
from chronicled.migrations.openhands.v1 import observations
from chronicled.migrations.openhands.v1.actions import RUNNABLE, action_fields, spoken
from chronicled.migrations.openhands.v1.memory import OPEN_MAX, Memory, Open
from chronicled.migrations.openhands.v1.noted import NOTED, read_noted
from chronicled.migrations.openhands.v1.reading import Reading, Unreadable, empty, items, kind_of, mapping, text

__all__ = ["FORMAT", "OpenHandsV1", "is_event"]

FORMAT: Final = "openhands.v1"
FOREIGN: Final = f"{FORMAT}.{OPAQUE}"
END_KEY: Final = "\x00end"
"""Key of the ends that the source does not show, with the id of the action behind it."""
ROOT: Final = "__root__"
SHOWN_BYTES_MAX: Final = 16 << 10
"""Largest record that an opaque event shows; every one is in the blob of its chunk."""
DETAIL_CHARACTERS_MAX: Final = 4 << 10
REASONING_PART: Final = 1
SPOKEN_PART: Final = 2
ASKED_PART: Final = 3
"""Which of the events that one record becomes a thought is, and an action that is made of what its end tells."""
CALLS: Final = frozenset(
    {"ActionEvent", "ObservationEvent", "UserRejectObservation", "AgentErrorEvent", "ACPToolCallEvent"}
)
OVER: Final = frozenset({"completed", "failed"})
"""What the status of a call over ACP says when it has ended."""
WRONG: Final = (Unreadable, msgspec.ValidationError, ValueError, TypeError, LookupError, RecursionError, OverflowError)
"""What a record that does not fit raises on its way: it becomes opaque."""

SPECS: Final[Mapping[tuple[Category, str], KindSpec]] = {(spec.category, spec.kind): spec for spec in BUILTIN}
"""Current versions: the last one of a kind stands last."""


class OpenHandsV1:
    """The `Conversion` of OpenHands V1: the events of a conversation of the agent SDK."""

    format = FORMAT

    def course(self, tenant: str, session: str, state: bytes | None = None) -> Course:
        """Begin a session's conversion, or go on behind what `state` remembers."""
        memory = Memory() if state is None else msgspec.json.decode(state, type=Memory)
        return OpenHandsV1Course(Ids(tenant, session), memory)


class OpenHandsV1Course:
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
            return self._opaque(record, "damaged", record.problem)
        given: Any = record.value
        if not isinstance(given, dict):
            return self._opaque(record, "no event", f"an event is an object, not {record.value.__class__.__name__}")
        value = mapping(record.value)
        if record.key == INSTANCE_KEY:
            return read_instance(record, value, self._ids)
        shape = "no event"
        try:
            kind, guessed = kind_of(value, CALLS | NOTED.keys())
            r = Reading(record.key, kind, value)
            shape = r.shape
            if guessed:
                r.steps.append(f"its fields tell that it is a {kind}")
            made = self._made(r)
            shape = r.shape
        except WRONG as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            return self._opaque(record, shape, reason)
        parent = value.get("parent_id")
        if parent is not None and parent != self._memory.last:
            r.lost.append("parent_id")
        self._memory.last = r.id
        return Converted(shape, made, tuple(r.steps), tuple(r.lost), _time(value), False, r.attached)

    def finish(self) -> Converted:
        """End what is open; see `Course.finish`."""
        return Converted("end of the source", tuple(self._end_unseen(name) for name in list(self._memory.open)))

    def _made(self, r: Reading) -> tuple[Made, ...]:
        match r.kind:
            case "ActionEvent":
                return self._action(r)
            case "ObservationEvent":
                return self._ended(r, self._memory.open.get(text(r.value.get("action_id"))))
            case "UserRejectObservation":
                return self._refused(r)
            case "AgentErrorEvent":
                return self._troubled(r)
            case "ACPToolCallEvent":
                return self._acp(r)
            case _:
                category, kind, fields = read_noted(r, self._ids)
                cause = self._known(r.value.get("action_id")) or self._known(r.value.get("message_id"))
                if cause is not None:
                    r.lost = [path for path in r.lost if path not in {"action_id", "message_id"}]
                made = self._plain(r, category, kind, fields, cause)
                self._memory.note(r.id, made.id, "")
                return (*self._reasoned(r, mapping(r.value.get("llm_message")).get("reasoning_content")), made)

    # -- calls of tools --------------------------------------------------------------------------------------------

    def _action(self, r: Reading) -> tuple[Made, ...]:
        said = spoken(r)
        kind, fields = action_fields(r, said)
        action = self._plain(r, ACTION, kind, fields, None)
        made = self._reasoned(r, r.value.get("reasoning_content"))
        if said and kind == "think":
            made.append(self._thought(r, said, SPOKEN_PART))
            r.steps.append("what was said before a thought is a thought of its own")
        made.append(action)
        id = action.id
        if kind not in RUNNABLE:
            self._memory.note(r.id, id, "")
            return tuple(made)
        made += self._open(r, id, kind, text(r.value.get("tool_call_id")), mapping(r.value.get("action")) != {})
        return tuple(made)

    def _reasoned(self, r: Reading, reasoning: Any) -> list[Made]:
        """Return what the model thought before it acted or spoke, as a thought."""
        if not isinstance(reasoning, str) or not reasoning:
            return []
        r.steps.append("the model's reasoning is a thought of its own")
        return [self._thought(r, reasoning, REASONING_PART)]

    def _thought(self, r: Reading, thought: str, part: int) -> Made:
        payload = SPECS[ACTION, "think"].payload(thought=thought)
        return Made(self._ids.of(r.key, part), ACTION, "think", payload, None, False, r.actor)

    def _open(self, r: Reading, id: str, kind: str, call: str, executable: bool) -> list[Made]:
        memory = self._memory
        ends: list[Made] = []
        if r.id in memory.open:
            ends.append(self._end_unseen(r.id))
        memory.note(r.id, id, kind)
        memory.open[r.id] = Open(id, kind, call, executable)
        if len(memory.open) > OPEN_MAX:
            ends.append(self._end_unseen(next(iter(memory.open))))
        return ends

    def _ended(self, r: Reading, action: Open | None) -> tuple[Made, ...]:
        name = text(r.value.get("action_id"))
        if action is not None:
            return (self._close(r, name, action, observations.ended(r, action.kind)),)
        known = self._memory.known.get(name)
        if known is not None and known[1]:
            return (self._late(r, known[0], "ok", observations.said(r)[0]),)
        asked = None if known is not None else observations.asked(r)
        return self._noted_end(r, known) if asked is None else self._end_of_missing(r, *asked)

    def _end_of_missing(self, r: Reading, kind: str, asked: dict[str, Any]) -> tuple[Made, ...]:
        """Return the end with an action before it, made of what it tells of the one that is missing."""
        fields = observations.ended(r, kind)
        payload = msgspec.convert(asked, SPECS[ACTION, kind].payload)
        action = Made(self._ids.of(r.key, ASKED_PART), ACTION, kind, payload, None, False, "import")
        ended = msgspec.convert(fields, SPECS[OBSERVATION, kind].payload)
        id, blobs = self._ids.of(r.key), tuple(r.attached)
        r.steps.append("its action is not in the source, and made of what it tells")
        return (action, Made(id, OBSERVATION, kind, ended, action.id, True, r.actor, blobs=blobs))

    def _noted_end(self, r: Reading, known: tuple[str, str] | None) -> tuple[Made, ...]:
        """Return what came of a call that is only recorded here, or of one that is not in the source."""
        o = mapping(r.value.get("observation"))
        content, images, error = observations.said(r)
        if images:
            r.lost.append("observation.content")
        cause = None if known is None else known[0]
        around = {"observation", "action_id", "tool_name", "tool_call_id"}
        kind = "notice"
        fields: dict[str, Any] = {"content": content, "level": "error" if error else "info", "reason": "tool"}
        taken = {"content", "is_error", "output", "error", "message"}
        if o.get("kind") == "TaskTrackerObservation":
            tasks: dict[str, Any] = {"command": o.get("command") or "view", "task_list": items(o.get("task_list"))}
            kind, fields = "task_tracking", {"content": content, **tasks}
            taken |= {"command", "task_list"}
        elif o.get("kind") in {"FinishObservation", "ThinkObservation"} and known is not None and not error:
            # It says again what the action said.
            return ()
        elif known is None:
            r.steps.append("its action is not in the source")
            r.lost.append("action_id")
        r.lose_rest(taken, o, "observation.")
        r.lose_rest(around)
        return (self._plain(r, OBSERVATION, kind, fields, cause),)

    def _refused(self, r: Reading) -> tuple[Made, ...]:
        name = text(r.value.get("action_id"))
        action = self._memory.open.get(name)
        fields = observations.refused(r)
        if action is not None:
            return (self._close(r, name, action, fields),)
        known = self._memory.known.get(name)
        if known is not None and known[1]:
            return (self._late(r, known[0], fields["outcome"], fields["message"]),)
        cause = None if known is None else known[0]
        return (self._plain(r, OBSERVATION, "user_rejected", {"content": fields["message"]}, cause),)

    def _troubled(self, r: Reading) -> tuple[Made, ...]:
        name = self._memory.called(text(r.value.get("tool_call_id")))
        action = None if name is None else self._memory.open[name]
        fields = observations.troubled(r, executable=action is None or action.executable)
        if name is not None and action is not None:
            return (self._close(r, name, action, fields),)
        notice = {"content": fields["message"], "level": "error", "reason": fields["reason"]}
        return (self._plain(r, OBSERVATION, "notice", notice, None),)

    def _acp(self, r: Reading) -> tuple[Made, ...]:
        """Return the call over ACP that the event tells of for the first time, and its end when it has come."""
        value = r.value
        call, status = text(value.get("tool_call_id")), text(value.get("status"))
        name = self._memory.called(call)
        made: list[Made] = []
        # Read first: what cannot be read must leave nothing open.
        end = _acp_end(value, status)
        if name is None:
            given: Any = value.get("raw_input")
            arguments = mapping(given) if isinstance(given, dict) else {} if empty(given) else {"input": given}
            asked = {"name": text(value.get("title")) or "unknown", "arguments": arguments}
            made.append(self._plain(r, ACTION, "call_tool_mcp", asked, None))
            made += self._open(r, made[0].id, "call_tool_mcp", call, True)
            name = r.id
        elif status not in OVER:
            r.steps.append("news of a call that is told already")
            return (self._plain(r, OBSERVATION, "notice", {"content": f"{status} {call}", "reason": "tool"}, None),)
        r.lose_rest({"tool_call_id", "title", "status", "raw_input", "raw_output", "content", "is_error"})
        if end is not None:
            made.append(self._close(r, name, self._memory.open[name], end, 2))
        return tuple(made)

    # -- events ----------------------------------------------------------------------------------------------------

    def _plain(
        self, r: Reading, category: Category, kind: str, fields: dict[str, Any], cause: str | None, part: int = 0
    ) -> Made:
        payload = msgspec.convert(fields, SPECS[category, kind].payload)
        blobs = tuple(r.attached)
        return Made(self._ids.of(r.key, part), category, kind, payload, cause, False, r.actor, blobs=blobs)

    def _close(self, r: Reading, name: str, action: Open, fields: dict[str, Any], part: int = 0) -> Made:
        """Return the end of an action. It is over only when that could be made: else it ends with the source."""
        payload = msgspec.convert(fields, SPECS[OBSERVATION, action.kind].payload)
        id, blobs = self._ids.of(r.key, part), tuple(r.attached)
        made = Made(id, OBSERVATION, action.kind, payload, action.id, True, r.actor, blobs=blobs)
        del self._memory.open[name]
        return made

    def _late(self, r: Reading, action: str, outcome: str, detail: str) -> Made:
        r.steps.append("its action had ended already")
        r.lost.append("observation" if "observation" in r.value else "rejection_reason")
        fields = {"outcome": str(outcome), "detail": detail[:DETAIL_CHARACTERS_MAX]}
        return self._plain(r, LIFECYCLE, "late_result", fields, action)

    def _end_unseen(self, name: str) -> Made:
        action = self._memory.open.pop(name)
        payload = SPECS[OBSERVATION, action.kind].payload(
            outcome=Outcome.UNKNOWN,
            effects=Effects.POSSIBLE,
            reason="not_in_import",
            message="What was imported does not show how it ended.",
        )
        return Made(self._ids.of(END_KEY + action.id), OBSERVATION, action.kind, payload, action.id, True, "import")

    def _known(self, name: Any) -> str | None:
        known = self._memory.known.get(name) if isinstance(name, str) else None
        return None if known is None else known[0]

    def _opaque(self, record: Original, shape: str, reason: str) -> Converted:
        value = mapping(record.value)
        category: Category = ACTION if "tool_call" in value else OBSERVATION if "observation" in value else LIFECYCLE
        id = self._ids.of(record.key)
        payload: dict[str, Any] = {"reason": reason[:1024], "shape": shape, "record": record.key}
        if record.value is not None:
            shown = encode_json(record.value)
            if len(shown) <= SHOWN_BYTES_MAX:
                payload["original"] = msgspec.Raw(shown)
        name = value.get("id")
        self._memory.last = name if isinstance(name, str) else record.key
        if category == ACTION:
            self._memory.note(self._memory.last, id, "")
        made = Made(id, category, FOREIGN, payload, self._known(value.get("action_id")), False, "import")
        return Converted(shape, (made,), time=_time(value), opaque=True)


def is_event(value: Any) -> bool:
    """Tell whether a value is an event of OpenHands V1 that this conversion knows."""
    if not isinstance(value, dict):
        return False
    try:
        kind_of(mapping(value), CALLS | NOTED.keys())
    except Unreadable:
        return False
    return True


def _acp_end(value: Mapping[str, Any], status: str) -> dict[str, Any] | None:
    """Return how a call over ACP ended, None while it has not."""
    failed = status == "failed" or value.get("is_error") is True
    if status not in OVER and not failed:
        return None
    content, result = _acp_result(value)
    outcome = Outcome.FAILED if failed else Outcome.OK
    return {"content": content, "result": result, "effects": Effects.COMPLETE, "outcome": outcome}


def _acp_result(value: Mapping[str, Any]) -> tuple[str, Any]:
    """Return what came of a call over ACP, as text, and as it is where it is no text."""
    output = value.get("raw_output")
    said = [output] if isinstance(output, str) else []
    for item in items(value.get("content")):
        inner = mapping(mapping(item).get("content")) or mapping(item)
        if isinstance(inner.get("text"), str):
            said.append(inner["text"])
    rest = {} if isinstance(output, str) or empty(output) else {"raw_output": output}
    if value.get("content"):
        rest["content"] = value["content"]
    return "\n".join(said), rest or None


def _time(value: Mapping[str, Any]) -> str | None:
    time = value.get("timestamp")
    return time if isinstance(time, str) else None
