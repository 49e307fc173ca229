"""What OpenHands 0.62 reads, as a strict checker: for each type the fields of its class, required ones and all others.

Its readers refuse an unknown type, an unknown field and a missing required one; so does this.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

THOUGHT = {"thought": str}
CALL = THOUGHT | {"security_risk": int}
TEXT = (str, type(None))
LIST = (list, type(None))
# By type: fields that must be there, and fields that may.
ACTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "null": ({}, {}),
    "message": (
        {"content": str},
        {"file_urls": LIST, "image_urls": LIST, "wait_for_response": bool, "security_risk": int},
    ),
    "system": ({"content": str}, {"tools": LIST, "openhands_version": TEXT, "agent_class": TEXT}),
    "run": (
        {"command": str},
        CALL
        | {
            "is_input": bool,
            "blocking": bool,
            "is_static": bool,
            "cwd": TEXT,
            "hidden": bool,
            "confirmation_state": str,
        },
    ),
    "run_ipython": (
        {"code": str},
        CALL | {"include_extra": bool, "confirmation_state": str, "kernel_init_code": str},
    ),
    "read": ({"path": str}, CALL | {"start": int, "end": int, "impl_source": str, "view_range": LIST}),
    "write": ({"path": str, "content": str}, CALL | {"start": int, "end": int}),
    "edit": (
        {"path": str},
        CALL
        | {
            "command": str,
            "file_text": TEXT,
            "old_str": TEXT,
            "new_str": TEXT,
            "insert_line": (int, type(None)),
            "content": str,
            "start": int,
            "end": int,
            "impl_source": str,
        },
    ),
    "browse": ({"url": str}, CALL | {"return_axtree": bool}),
    "browse_interactive": (
        {"browser_actions": str},
        CALL | {"browsergym_send_msg_to_user": str, "return_axtree": bool},
    ),
    "call_tool_mcp": ({"name": str}, CALL | {"arguments": dict}),
    "think": ({}, THOUGHT),
    "finish": ({}, THOUGHT | {"final_thought": str, "outputs": dict}),
    "reject": ({}, THOUGHT | {"outputs": dict}),
    "delegate": ({"agent": str, "inputs": dict}, THOUGHT),
    "change_agent_state": ({"agent_state": str}, THOUGHT),
    "recall": ({"recall_type": str}, THOUGHT | {"query": str}),
    "condensation": (
        {},
        {
            "forgotten_event_ids": LIST,
            "forgotten_events_start_id": (int, type(None)),
            "forgotten_events_end_id": (int, type(None)),
            "summary": TEXT,
            "summary_offset": (int, type(None)),
        },
    ),
    "condensation_request": ({}, {}),
    "task_tracking": ({}, THOUGHT | {"command": str, "task_list": list}),
    "loop_recovery": ({}, {"option": int}),
}
RECALL = (
    "repo_name",
    "repo_directory",
    "repo_branch",
    "repo_instructions",
    "additional_agent_instructions",
    "date",
    "conversation_instructions",
    "working_dir",
)
OBSERVATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "null": ({}, {}),
    "run": ({"command": str}, {"metadata": dict, "hidden": bool}),
    "run_ipython": ({"code": str}, {"image_urls": LIST}),
    "read": ({"path": str}, {"impl_source": str}),
    "write": ({"path": str}, {}),
    "edit": (
        {},
        {
            "path": str,
            "prev_exist": bool,
            "old_content": TEXT,
            "new_content": TEXT,
            "impl_source": str,
            "diff": TEXT,
            "_diff_cache": TEXT,
        },
    ),
    "browse": (
        {"url": str, "trigger_by_action": str},
        {
            "screenshot": str,
            "screenshot_path": TEXT,
            "set_of_marks": str,
            "error": bool,
            "goal_image_urls": list,
            "open_pages_urls": list,
            "active_page_index": (int, list),
            "dom_object": dict,
            "axtree_object": dict,
            "extra_element_properties": dict,
            "last_browser_action": str,
            "last_browser_action_error": str,
            "focused_element_bid": str,
            "filter_visible_only": bool,
        },
    ),
    "mcp": ({}, {"name": str, "arguments": dict}),
    "delegate": ({"outputs": dict}, {}),
    "agent_state_changed": ({"agent_state": str}, {"reason": str}),
    "think": ({}, {}),
    "condense": ({}, {}),
    "recall": (
        {"recall_type": str},
        dict.fromkeys(RECALL, str)
        | {"runtime_hosts": dict, "custom_secrets_descriptions": dict, "microagent_knowledge": list},
    ),
    "error": ({}, {"error_id": str}),
    "success": ({}, {}),
    "user_rejected": ({}, {}),
    "task_tracking": ({}, {"command": str, "task_list": list}),
    "loop_detection": ({}, {}),
    "download": ({"file_path": str}, {}),
}
METADATA = {"exit_code", "pid", "username", "hostname", "working_dir", "py_interpreter_path", "prefix", "suffix"}
AROUND = {"id", "timestamp", "source", "message", "cause", "tool_call_metadata", "llm_metrics"}
ENUMS: dict[str, set[Any]] = {
    "recall_type": {"workspace_context", "knowledge"},
    "confirmation_state": {"confirmed", "rejected", "awaiting_confirmation"},
    "security_risk": {-1, 0, 1, 2},
    "trigger_by_action": {"browse", "browse_interactive"},
}


def check(events: list[dict[str, Any]], *, whole: bool = True) -> None:
    """Assert that OpenHands 0.62 would load every event: ids differ, causes are ids (if it is whole), fields fit."""
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids)
    for event in events:
        check_event(event)
        assert not whole or event.get("cause", ids[0]) in ids


def check_event(event: dict[str, Any]) -> None:
    """Assert that one event fits."""
    assert type(event["id"]) is int
    assert event["id"] >= 0
    assert event["source"] in {"agent", "user", "environment"}
    assert datetime.fromisoformat(event["timestamp"]).tzinfo is None
    assert isinstance(event.get("message", ""), str)
    action = "action" in event
    kind = event["action" if action else "observation"]
    around = AROUND | ({"action", "args", "timeout"} if action else {"observation", "content", "extras", "success"})
    assert event.keys() <= around, event.keys() - around
    required, optional = (ACTIONS if action else OBSERVATIONS)[kind]
    fields = event["args" if action else "extras"]
    assert fields.keys() >= required.keys(), f"{kind} lacks {required.keys() - fields.keys()}"
    for name, value in fields.items():
        assert name in required or name in optional, f"{kind} has no field {name}"
        assert isinstance(value, (required | optional)[name]), f"{kind}.{name}"
        assert name not in ENUMS or value in ENUMS[name], f"{kind}.{name}"
    if not action:
        assert isinstance(event["content"], str)
        assert fields.get("metadata", {}).keys() <= METADATA
    if kind == "condensation":
        check_condensation(fields)


def check_condensation(fields: dict[str, Any]) -> None:
    """Assert what its class checks when it is made."""
    listed = fields["forgotten_event_ids"] is not None
    first, last = fields["forgotten_events_start_id"], fields["forgotten_events_end_id"]
    assert listed == (first is None) == (last is None)
    assert (fields["summary"] is None) == (fields["summary_offset"] is None)
