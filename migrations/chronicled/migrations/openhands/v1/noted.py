"""Events of OpenHands V1 that are no tool's call and no end of one: messages, prompts, states, remarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from chronicled.events.codec import encode_json
from chronicled.events.envelope import ACTION, OBSERVATION, Category
from chronicled.migrations.conversion import Ids
from chronicled.migrations.openhands.v1.reading import Reading, Unreadable, items, mapping, text

__all__ = ["NOTED", "Noted", "read_noted"]

Noted = tuple[Category, str, dict[str, Any]]

STATES: Final = frozenset({"execution_status", "agent_status"})
"""Keys of updates that say what the agent does; the second one before 1.0.0."""
SHOWN_CHARACTERS_MAX: Final = 4 << 10


def read_noted(r: Reading, ids: Ids) -> Noted:
    """Return category, kind and the payload's fields.

    Raises:
        Unreadable, KeyError: a field that is needed is missing, or nothing that can be read.
    """
    taken, read = NOTED[r.kind]
    made = read(r, ids)
    r.lose_rest(taken)
    return made


def _message(r: Reading, ids: Ids) -> Noted:
    message = mapping(r.value.get("llm_message"))
    if "activated_microagents" in r.value:
        r.step("1.0.0a5", "activated_microagents is activated_skills")
    content, images = r.texts(message.get("content") or [], "llm_message.content")
    role = message.get("role")
    agent = role == "assistant" or (role not in {"user", "system", "tool"} and r.value.get("source") == "agent")
    if role not in {"user", "assistant"}:
        r.lost.append("llm_message.role")
    taken = {"role", "content", *FLAGS}
    if isinstance(message.get("reasoning_content"), str):
        taken.add("reasoning_content")  # a thought of its own
    r.lose_rest(taken, message, "llm_message.")
    return ACTION, "message", {"content": content, "role": "agent" if agent else "user", "image_urls": images}


def _system(r: Reading, ids: Ids) -> Noted:
    prompt = r.value.get("system_prompt")
    parts = [mapping(prompt).get("text", prompt), mapping(r.value.get("dynamic_context")).get("text")]
    shown = [each for each in parts if isinstance(each, str) and each]
    if len(shown) > 1:
        r.steps.append("the prompt's static and dynamic parts are one text")
    tools: list[dict[str, Any]] = []
    for number, tool in enumerate(items(r.value.get("tools"))):
        if isinstance(tool, dict):
            # As they stand, however a library spelled their fields at the time.
            tools.append(mapping(tool))
        else:
            r.lost.append(f"tools.{number}")
    return ACTION, "system", {"content": "\n\n".join(shown), "tools": tools}


def _condensation(r: Reading, ids: Ids) -> Noted:
    forgotten: Any = r.value.get("forgotten_event_ids") or []
    if not isinstance(forgotten, list):
        raise Unreadable("the events that are forgotten are no list")
    names = [text(name) for name in items(forgotten)]
    fields: dict[str, Any] = {"forgotten_event_ids": [ids.of(name) for name in names]}
    summary, offset = r.value.get("summary"), r.value.get("summary_offset")
    if summary is not None and offset is not None:
        fields |= {"summary": text(summary), "summary_offset": offset}
    elif summary is not None:
        fields |= {"summary": text(summary), "summary_offset": 0}
        r.steps.append("a summary without a place stands at the start")
    elif offset is not None:
        r.lost.append("summary_offset")
    return ACTION, "condensation", fields


def _condensation_request(r: Reading, ids: Ids) -> Noted:
    return ACTION, "condensation_request", {}


def _summary(r: Reading, ids: Ids) -> Noted:
    return OBSERVATION, "condensation", {"content": text(r.value["summary"])}


def _update(r: Reading, ids: Ids) -> Noted:
    key, value = text(r.value.get("key")), r.value.get("value")
    if key in STATES and isinstance(value, str):
        if key != "execution_status":
            r.step("1.0.0", f"{key} is execution_status")
        return OBSERVATION, "agent_state_changed", {"agent_state": value}
    shown = encode_json(value).decode()
    if len(shown) > SHOWN_CHARACTERS_MAX:
        r.lost.append("value")
        shown = shown[:SHOWN_CHARACTERS_MAX]
    return OBSERVATION, "notice", {"content": f"{key}: {shown}", "reason": "conversation_state"}


def _paused(reason: str) -> Callable[[Reading, Ids], Noted]:
    return lambda r, ids: (OBSERVATION, "agent_state_changed", {"agent_state": "paused", "reason": reason})


def _error(r: Reading, ids: Ids) -> Noted:
    fields = {"content": text(r.value.get("detail")), "level": "error", "reason": text(r.value.get("code"))}
    return OBSERVATION, "notice", fields


def _hook(r: Reading, ids: Ids) -> Noted:
    value = r.value
    failed = value.get("success") is False or value.get("blocked") is True
    lines = [f"{text(value.get('hook_event_type'))}: {text(value.get('hook_command'))}"]
    lines += [text(value[name]) for name in ("stdout", "stderr", "reason", "error") if value.get(name)]
    return (
        OBSERVATION,
        "notice",
        {"content": "\n".join(lines), "level": "error" if failed else "info", "reason": "hook"},
    )


def _security(r: Reading, ids: Ids) -> Noted:
    risks = mapping(r.value.get("risks"))
    told = ", ".join(f"{ids.of(name)} {risk}" for name, risk in risks.items())
    return OBSERVATION, "notice", {"content": f"{text(r.value.get('analyzer'))}: {told}", "reason": "security_analysis"}


def _log(r: Reading, ids: Ids) -> Noted:
    shown = f"{text(r.value.get('filename'))} ({text(r.value.get('model_name'))})"
    return OBSERVATION, "notice", {"content": shown, "reason": "llm_completion_log"}


def _tokens(r: Reading, ids: Ids) -> Noted:
    counts = [len(items(r.value.get(name))) for name in ("prompt_token_ids", "response_token_ids")]
    return OBSERVATION, "notice", {"content": f"{counts[0]} tokens asked, {counts[1]} answered", "reason": "tokens"}


def _delta(r: Reading, ids: Ids) -> Noted:
    return OBSERVATION, "notice", {"content": text(r.value.get("content")), "reason": "streaming_delta"}


FLAGS: Final = (
    "cache_enabled",
    "vision_enabled",
    "function_calling_enabled",
    "force_string_serializer",
    "send_reasoning_content",
)
"""Of a message before 1.10.0: how it was to be sent, and nothing of what it says."""
NOTED: Final[Mapping[str, tuple[frozenset[str], Callable[[Reading, Ids], Noted]]]] = {
    "MessageEvent": (frozenset({"llm_message"}), _message),
    "SystemPromptEvent": (frozenset({"system_prompt", "dynamic_context", "tools"}), _system),
    "Condensation": (frozenset({"forgotten_event_ids", "summary", "summary_offset"}), _condensation),
    "CondensationRequest": (frozenset(), _condensation_request),
    "CondensationSummaryEvent": (frozenset({"summary"}), _summary),
    "ConversationStateUpdateEvent": (frozenset({"key", "value"}), _update),
    "SystemPromptUpdateEvent": (frozenset({"system_prompt", "dynamic_context", "tools"}), _system),
    "ConversationErrorEvent": (frozenset({"code", "detail"}), _error),
    "ServerErrorEvent": (frozenset({"code", "detail"}), _error),
    "PauseEvent": (frozenset(), _paused("pause")),
    "InterruptEvent": (frozenset(), _paused("interrupt")),
    "HookExecutionEvent": (
        frozenset({"hook_event_type", "hook_command", "success", "stdout", "stderr", "reason", "error"}),
        _hook,
    ),
    "SecurityAnalysisEvent": (frozenset({"analyzer", "risks"}), _security),
    "LLMCompletionLogEvent": (frozenset({"filename", "model_name"}), _log),
    "TokenEvent": (frozenset(), _tokens),
    "StreamingDeltaEvent": (frozenset({"content"}), _delta),
}
"""By class: the fields that find a place, and what reads them."""
