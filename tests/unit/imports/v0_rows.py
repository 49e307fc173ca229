"""One made record for every change of OpenHands V0's wire that is known, by the release that changed it."""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """A shape: what was written, and what it is here."""

    release: str
    """The release that changed the shape: such records were written before it, or since it."""
    name: str
    records: tuple[Any, ...]
    kinds: tuple[str, ...]
    """Of every event that is made, the last record's end of the source left out."""
    payload: Json = {}
    """Fields of the last event's payload."""
    fails_there: bool = False
    """OpenHands 0.62.0 cannot read it, or reads it wrongly."""
    opaque: bool = False
    """It has no counterpart of ours: kept as it is, with the reason."""
    lost: tuple[str, ...] = ()
    """What is told to have found no place."""


def act(type: str, /, id: int = 0, source: str = "agent", **args: Any) -> Json:
    """Return an action as the store keeps it."""
    return {"id": id, "timestamp": f"2025-01-02T03:04:{id:02}.000001", "source": source, "action": type, "args": args}


def obs(type: str, /, content: str = "", id: int = 1, cause: int | None = 0, **extras: Any) -> Json:
    """Return an observation as the store keeps it."""
    found: Json = {"id": id, "timestamp": f"2025-01-02T03:04:{id:02}.000001", "source": "agent", "observation": type}
    if cause is not None:
        found["cause"] = cause
    return {**found, "content": content, "extras": extras}


MASK = "<secret_hidden>"
METADATA = {"exit_code": 0, "pid": -1, "working_dir": "/workspace", "prefix": "", "suffix": ""}
RUN = act("run", command="ls", thought="")
EDITOR = "print(file_editor(**{'command': 'str_replace', 'path': '/a', 'old_str': 'x', 'new_str': \"y'\"}))"
VIEW = "print(file_editor(**{'command': 'view', 'path': '/a', 'view_range': [2, 5]}))"
READ_END = obs("read", "text", path="/a")

ENVELOPE: tuple[Row, ...] = (
    Row("0.6.0", "the first that was stored", (RUN, obs("run", "a", command="ls", exit_code=0, command_id=-1)),
        ("run", "run"), {"outcome": "ok", "exit_code": 0, "output": "a"}),
    Row("0.9.0", "timeout", ({**RUN, "timeout": 30.5},), ("run",), {"timeout_seconds": 30.5}),
    Row("0.9.4", "a time among the fields", (act("run", command="ls", timestamp="2024-09-01T00:00:00"),), ("run",),
        {"command": "ls"}),
    Row("0.12.0", "tool_call_metadata", ({**RUN, "tool_call_metadata": {"tool_call_id": "x"}},), ("run",),
        lost=("tool_call_metadata",)),
    Row("0.12.2", "source environment", ({**RUN, "source": "environment"},), ("run",), {"command": "ls"}),
    Row("0.15.3", "success", (RUN, {**obs("run", "a", command="ls", metadata=METADATA), "success": True}),
        ("run", "run"), {"outcome": "ok"}),
    Row("0.29.0", "llm_metrics", ({**RUN, "llm_metrics": {"accumulated_cost": 1.5}},), ("run",),
        lost=("llm_metrics",)),
    Row("0.50.0", "a mask in the time and source", ({**RUN, "timestamp": MASK, "source": MASK},), ("run",),
        {"command": "ls"}, fails_there=True, lost=("source",)),
    Row("0.24.0", "_diff_cache", (act("edit", path="/a", command="create", file_text="x"),
        obs("edit", "done", path="/a", prev_exist=True, old_content=None, new_content=None, _diff_cache=None)),
        ("edit", "edit"), {"outcome": "ok", "existed": True}),
)  # fmt: skip

TYPES: tuple[Row, ...] = (
    Row("0.5.0", "thoughts", (act("read", path="/a", thoughts=["one", "two"]),), ("read",), {"thought": "one\ntwo"},
        fails_there=True),
    Row("0.5.2", "change_task_state", (act("change_task_state", task_state="paused"),), ("change_agent_state",),
        {"agent_state": "paused"}, fails_there=True),
    Row("0.5.3", "user_message", (act("user_message", source="user", message="hi"),), ("message",),
        {"content": "hi", "role": "user"}, fails_there=True),
    Row("0.5.3", "talk", (act("talk", content="hello"),), ("message",), {"content": "hello", "role": "agent"},
        fails_there=True),
    Row("0.5.3", "start", (act("start", task="do it"),), ("message",), {"content": "do it"}, fails_there=True),
    Row("0.5.3", "echo", (act("echo", message="hello"),), ("message",), {"content": "hello", "role": "agent"},
        fails_there=True),
    Row("0.5.3", "chat", (act("chat", source="user", message="hi"),), ("message",), {"content": "hi", "role": "user"},
        fails_there=True),
    Row("0.5.3", "resume", (act("resume"),), ("change_agent_state",), {"agent_state": "running"}, fails_there=True),
    Row("0.5.3", "stop", (act("stop"),), ("change_agent_state",), {"agent_state": "stopped"}, fails_there=True),
    Row("0.5.3", "pause", (act("pause"),), ("change_agent_state",), {"agent_state": "paused"}, fails_there=True),
    Row("0.6.0", "kill by id", ({"action": "kill", "args": {"id": 3}},), ("openhands.v0.opaque",), fails_there=True,
        opaque=True),
    Row("0.6.0", "modify_task by id", ({"action": "modify_task", "args": {"id": "0.1", "state": "done"}},),
        ("openhands.v0.opaque",), fails_there=True, opaque=True),
    Row("0.8.0", "kill", (act("kill", command_id=3),), ("openhands.v0.opaque",), fails_there=True, opaque=True),
    Row("0.8.0", "background", (act("run", command="sleep 9", background=True),), ("run",), {"command": "sleep 9"},
        fails_there=True, lost=("args.background",)),
    Row("0.8.0", "recall from memory", (act("recall", query="what was it"),), ("recall",),
        {"recall_type": "knowledge", "query": "what was it"}, fails_there=True),
    Row("0.8.0", "what memory brought", (act("recall", query="q"), obs("recall", "", memories=["m"], role="assistant")),
        ("recall", "recall"), {"recall_type": "knowledge", "details": {"memories": ["m"], "role": "assistant"}},
        fails_there=True),
    Row("0.12.0", "is_confirmed", (act("run", command="ls", is_confirmed="confirmed"),), ("run",), {"command": "ls"}),
    Row("0.8.3", "user_rejected", (act("run", command="ls", confirmation_state="rejected"),
        obs("user_rejected", "no")), ("run", "run"), {"outcome": "rejected", "effects": "none"}),
    Row("0.13.1", "images_urls", (act("message", content="see", images_urls=["http://a/b.png"]),), ("message",),
        {"image_urls": ["http://a/b.png"]}),
    Row("0.12.0", "action_risk", (act("run", command="ls", action_risk=None),), ("run",),
        {"security_risk": "unknown"}, fails_there=True),
    Row("0.12.0", "action_risk that says something", (act("run", command="ls", action_risk=2),), ("run",),
        {"security_risk": "high"}, fails_there=True),
    Row("0.55.0", "security_risk null", (act("run", command="ls", security_risk=None),), ("run",),
        {"security_risk": "unknown"}),
    Row("0.55.0", "security_risk as a number", (act("run", command="ls", security_risk=1),), ("run",),
        {"security_risk": "medium"}),
    Row("0.55.0", "a security_risk that is none", (act("run", command="ls", security_risk=7),), ("run",),
        {"security_risk": "unknown"}, lost=("args.security_risk",)),
    Row("0.50.0", "a mask in the confirmation_state", (act("run", command="ls", confirmation_state=MASK),), ("run",),
        {"command": "ls"}, fails_there=True, lost=("args.confirmation_state",)),
    Row("0.9.0", "status_code", (act("browse", url="http://a"),
        obs("browse", "page", url="http://a", status_code=200, trigger_by_action="browse")), ("browse", "browse"),
        {"content": "page", "outcome": "ok"}, fails_there=True, lost=("extras.status_code",)),
    Row("0.19.0", "keep_prompt", (act("run", command="ls", keep_prompt=True),), ("run",), {"command": "ls"}),
    Row("0.9.3", "blocking", (act("run", command="ls", blocking=True),), ("run",), lost=("args.blocking",)),
    Row("0.10.0", "hidden", (act("run", command="ls", hidden=True),), ("run",), {"hidden": True}),
    Row("0.10.0", "hidden output", (act("run", command="ls", hidden=True), obs("run", "a", command="ls", hidden=True,
        metadata=METADATA)), ("run", "run"), {"output": "a"}),
    Row("0.62.0", "types that no class ever had", (act("push"), act("send_pr", id=1)), ("openhands.v0.opaque",) * 2,
        fails_there=True, opaque=True),
    Row("0.62.0", "observations that no class ever had", (obs("message", "a", cause=None), obs("chat", "b", id=2,
        cause=None)), ("notice", "notice"), {"content": "b"}, fails_there=True),
    Row("0.11.0", "an edit by a draft", (act("edit", path="/a", content="draft", start=1, end=-1),
        obs("edit", "", path="/a", prev_exist=True, old_content="a", new_content="b")),
        ("openhands.v0.opaque", "edit"), {"outcome": "ok", "existed": True}, fails_there=True, opaque=True),
    Row("0.17.0", "an edit by a draft that says so", (act("edit", path="/a", content="draft", start=1, end=-1,
        impl_source="llm_based_edit"),), ("openhands.v0.opaque",), opaque=True),
    Row("0.13.0", "a fatal error", (RUN, obs("error", "broken")), ("run", "run"),
        {"outcome": "failed", "effects": "possible", "message": "broken"}),
    Row("0.13.0", "error_id", (obs("error", "gone", cause=None, error_id="STATUS$ERROR"),), ("notice",),
        {"level": "error", "reason": "STATUS$ERROR"}),
    Row("0.19.0", "interpreter_details", (RUN, obs("run", "", command="ls", command_id=-1, exit_code=1,
        interpreter_details="python 3")), ("run", "run"), {"outcome": "failed", "exit_code": 1},
        lost=("extras.interpreter_details",)),
    Row("0.12.0", "include_extra", (act("run_ipython", code="1+1"),), ("run_ipython",), {"include_extra": True}),
    Row("0.15.0", "no trigger_by_action", (act("browse_interactive", browser_actions="noop()"),
        obs("browse", "page", url="http://a", last_browser_action="noop()")),
        ("browse_interactive", "browse_interactive"), {"last_browser_action": "noop()"}, fails_there=True),
    Row("0.24.0", "translated_ipython_code of an edit", (act("edit", path="/a", translated_ipython_code=EDITOR),
        obs("edit", "", path="/a", formatted_output_and_error="done", prev_exist=True, old_content="", new_content="")),
        ("edit", "edit"), {"content": "done"}),
    Row("0.24.0", "translated_ipython_code of a read", (act("read", path="/a", translated_ipython_code=VIEW), READ_END),
        ("read", "read"), {"content": "text"}),
    Row("0.24.0", "other translated_ipython_code", (act("read", path="/a", translated_ipython_code="import os"),),
        ("read",), lost=("args.translated_ipython_code",)),
    Row("0.24.0", "formatted_output_and_error beside content", (act("edit", path="/a", command="undo_edit"),
        obs("edit", "x", path="/a", formatted_output_and_error="more", prev_exist=False)), ("edit", "edit"),
        {"content": "x"}, lost=("extras.formatted_output_and_error",)),
    Row("0.19.0", "exit_code and command_id", (RUN, obs("run", "a", command="ls", exit_code=2, command_id=4)),
        ("run", "run"), {"exit_code": 2, "outcome": "failed"}, lost=("extras.command_id",)),
    Row("0.19.0", "add_task", (act("add_task", goal="x", parent=""),), ("openhands.v0.opaque",), fails_there=True,
        opaque=True),
    Row("0.19.0", "modify_task", (act("modify_task", task_id="0", state="done"),), ("openhands.v0.opaque",),
        fails_there=True, opaque=True),
    Row("0.20.0", "condense", (obs("condense", "in short", cause=None),), ("condensation",), {"content": "in short"}),
    Row("0.21.0", "is_input", (act("run", command="C-c", is_input=True),), ("run",), lost=("args.is_input",)),
    Row("0.22.0", "initialize", (act("initialize", model="x"),), ("openhands.v0.opaque",), fails_there=True,
        opaque=True),
    Row("0.22.0", "the state init", (obs("agent_state_changed", "", cause=None, agent_state="init"),),
        ("agent_state_changed",), {"agent_state": "init"}),
    Row("0.24.0", "the editor's own fields", (act("edit", path="/a", command="insert", insert_line=3, new_str="n",
        file_text=None, old_str=None, content="", start=1, end=-1, impl_source="oh_aci"),), ("edit",),
        {"command": "insert", "insert_line": 3, "new_str": "n"}),
    Row("0.24.0", "view_range", (act("read", path="/a", start=0, end=-1, view_range=[3, -1]),), ("read",),
        {"line_first": 3}),
    Row("0.28.0", "think", (act("think", thought="hm"), obs("think", "Your thought has been logged.")), ("think",),
        {"thought": "hm"}),
    Row("0.28.0", "diff", (act("edit", path="/a", command="create", file_text="x"),
        obs("edit", "", path="/a", diff="+x", impl_source="oh_aci")), ("edit", "edit"), {"diff": "+x"}),
    Row("0.52.0", "task_completed", (act("finish", final_thought="ok", task_completed="partial", outputs={}),),
        ("finish",), {"outputs": {"task_completed": "partial"}, "final_thought": "ok"}),
    Row("0.29.0", "recall of a workspace", (act("recall", recall_type="workspace_context", query="q"),
        obs("recall", "added", recall_type="workspace_context", repo_name="a/b", runtime_hosts={"h": 1}, date="d",
            microagent_knowledge=[], working_dir="/w", conversation_instructions="c", repo_branch="main",
            custom_secrets_descriptions={"K": "v"})), ("recall", "recall"), {"recall_type": "workspace_context"}),
    Row("0.30.1", "summarize", (act("summarize", summary="so far"),), ("think",), {"thought": "so far"},
        fails_there=True),
    Row("0.31.0", "condensation by ids", (act("condensation", forgotten_event_ids=[1, 2], summary="s",
        summary_offset=1),), ("condensation",), {"summary": "s"}),
    Row("0.31.0", "condensation by range", (act("condensation", forgotten_events_start_id=1,
        forgotten_events_end_id=3),), ("condensation",)),
    Row("0.31.0", "agent_state_changed with a reason", (obs("agent_state_changed", "", cause=None,
        agent_state="error", reason="quota"),), ("agent_state_changed",), {"reason": "quota"}),
    Row("0.36.1", "call_tool_mcp with arguments as text", (act("call_tool_mcp", name="fetch", arguments='{"a": 1}'),
        obs("mcp", "got")), ("call_tool_mcp", "call_tool_mcp"), {"content": "got"}, fails_there=True),
    Row("0.36.1", "call_tool_mcp without arguments", (act("call_tool_mcp", name="fetch", arguments=None),),
        ("call_tool_mcp",), {"arguments": {}}, fails_there=True),
    Row("0.36.1", "call_tool_mcp with arguments that are no JSON", (act("call_tool_mcp", name="f", arguments="{"),),
        ("openhands.v0.opaque",), fails_there=True, opaque=True),
    Row("0.34.0", "system", (act("system", content="you are", tools=[{"name": "bash"}], openhands_version="0.34.0",
        agent_class="CodeActAgent"),), ("system",), {"agent": "CodeActAgent", "agent_version": "0.34.0"}),
    Row("0.34.0", "is_static and cwd", (act("run", command="ls", is_static=True, cwd="/w"),), ("run",),
        {"working_directory": "/w"}, lost=("args.is_static",)),
    Row("0.37.0", "times in metadata", (RUN, obs("run", "", command="ls", metadata={**METADATA, "timestamp": "x"})),
        ("run", "run"), {"exit_code": 0}),
    Row("0.38.0", "screenshot_path and filter_visible_only", (act("browse", url="http://a"), obs("browse", "", url="u",
        trigger_by_action="browse", screenshot_path="/s.png", filter_visible_only=True)), ("browse", "browse"),
        lost=("extras.screenshot_path", "extras.filter_visible_only")),
    Row("0.47.0", "download", (obs("download", "got it", cause=None, file_path="/a.zip"),), ("notice",),
        {"content": "got it"}),
    Row("0.39.1", "images of a cell", (act("run_ipython", code="plot()"),
        obs("run_ipython", "", code="plot()", image_urls=["data:image/png;base64,AAAA"])),
        ("run_ipython", "run_ipython"), {"image_urls": ["data:image/png;base64,AAAA"]}),
    Row("0.40.0", "name and arguments of a tool", (act("call_tool_mcp", name="f", arguments={}),
        obs("mcp", "x", name="f", arguments={"a": 1})), ("call_tool_mcp", "call_tool_mcp"), {"name": "f"}),
    Row("0.43.0", "return_axtree", (act("browse", url="http://a", return_axtree=True),), ("browse",),
        {"return_axtree": True}),
    Row("0.45.0", "file_urls", (act("message", content="x", file_urls=["/f"], source="user"),), ("message",),
        {"file_urls": ["/f"], "role": "user"}),
    Row("0.48.0", "condensation_request", (act("condensation_request"),), ("condensation_request",)),
    Row("0.54.0", "task_tracking", (act("task_tracking", command="plan",
        task_list=[{"id": "1", "title": "a", "status": "todo", "notes": ""}]),
        obs("task_tracking", "ok", command="plan", task_list=[{"title": "a", "status": "done"}])),
        ("task_tracking", "task_tracking"), {"command": "plan", "content": "ok"}),
    Row("0.60.0", "loop_recovery", (act("loop_recovery", option=2), obs("loop_detection", "round and round")),
        ("loop_recovery", "loop_detection"), {"content": "round and round"}),
    Row("0.50.0", "an output that was cut", (RUN, obs("run", "a [... Observation truncated due to length ...] b",
        command="ls", metadata=METADATA)), ("run", "run"), {"truncated": True}),
    Row("0.50.0", "an output of before it was cut", (RUN, obs("run", "x" * 100_000, command="ls", metadata=METADATA)),
        ("run", "run"), {"output_blob": True, "output_bytes": 100_000}, fails_there=True),
)  # fmt: skip

CIRCULATING: tuple[Row, ...] = (
    Row("0.15.0", "flat", ({"action": "run", "command": "ls", "thought": "t", "is_confirmed": "confirmed"},
        {"observation": "run", "content": "a", "command": "ls", "exit_code": 0, "command_id": -1}), ("run", "run"),
        {"output": "a", "exit_code": 0}, fails_there=True),
    Row("0.15.0", "flat message", ({"action": "message", "content": "fix it", "images_urls": None,
        "wait_for_response": False, "action_risk": None},), ("message",), {"content": "fix it", "role": "user"},
        fails_there=True),
    Row("0.13.0", "a pair of events", ([RUN, obs("run", "a", command="ls", exit_code=0)],), ("run", "run"),
        {"output": "a"}, fails_there=True),
    Row("0.13.0", "a flat pair", ([{"action": "run_ipython", "code": "1"},
        {"observation": "run_ipython", "content": "1", "code": "1"}],), ("run_ipython", "run_ipython"),
        {"output": "1"}, fails_there=True),
    Row("0.13.0", "a pair with nothing observed", ([act("message", content="m"), obs("null")],), ("message",),
        {"content": "m"}, fails_there=True),
    Row("0.9.0", "feedback: arguments in extras", (
        {"action": "run_ipython", "content": None, "extras": {"code": "1", "is_confirmed": "confirmed"}, "id": 3,
            "message": "m", "observation": None, "source": "agent", "timestamp": "2024-07-17 16:09:27.242119"},
        {"action": None, "content": "1", "extras": {"code": "1"}, "id": 4, "message": "m",
            "observation": "run_ipython", "source": "agent", "timestamp": "2024-07-17 16:09:28.242119"}),
        ("run_ipython", "run_ipython"), {"output": "1", "outcome": "ok"}, fails_there=True),
    Row("0.9.0", "feedback: a message beside its extras", ({"action": "message", "content": "hi", "id": 1,
        "extras": {"content": "hi", "images_urls": [], "wait_for_response": True}, "observation": None,
        "source": "user", "timestamp": None, "message": "hi"},), ("message",),
        {"content": "hi", "role": "user", "wait_for_response": True}, fails_there=True),
    Row("0.9.0", "feedback: a message without any", ({"action": "message", "content": "hi", "extras": {}, "id": 1,
        "observation": None, "source": "agent"},), ("message",), {"content": "hi", "role": "agent"},
        fails_there=True),
    Row("0.9.0", "feedback: what the server told", ({"status": "ok", "sid": "s", "source": "environment"},),
        ("notice",), {"content": "ok", "reason": "status"}, fails_there=True, lost=("extras.sid",)),
    Row("0.9.0", "feedback: what the server told, as a row", ({"action": None, "content": "ok", "extras": None,
        "id": None, "message": None, "observation": None, "source": "environment", "timestamp": None},),
        ("notice",), {"content": "ok", "level": "info"}, fails_there=True),
    Row("0.9.0", "feedback: a blank status", ({"status": " ", "source": "environment"},), (), fails_there=True),
    Row("0.9.0", "feedback: an error of the server", ({"error": "Invalid token", "error_code": 401},), ("notice",),
        {"content": "Invalid token", "level": "error"}, fails_there=True, lost=("extras.error_code",)),
    Row("0.9.0", "feedback: an error of the server, as a row", ({"action": None, "content": "Invalid token", "id": None,
        "extras": {"error": "Invalid token", "error_code": 401}, "observation": None, "source": "environment"},),
        ("notice",), {"content": "Invalid token", "level": "error"}, fails_there=True, lost=("extras.error_code",)),
    Row("0.15.0", "feedback: news of the runtime", ({"status_update": True, "type": "info", "id": "STATUS$READY",
        "message": "Ready"},), ("notice",), {"content": "Ready", "level": "info"}, fails_there=True),
    Row("0.15.0", "feedback: trouble of the runtime", ({"status_update": True, "type": "error", "id": "STATUS$ERROR",
        "message": "It failed"},), ("notice",), {"content": "It failed", "level": "error"}, fails_there=True),
    Row("0.9.0", "an observation that names no cause", (RUN, obs("run", "a", cause=None, command="ls", exit_code=0)),
        ("run", "run"), {"output": "a"}),
    Row("0.9.0", "an error that names no cause", (RUN, obs("error", "gone", cause=None)), ("run", "notice"),
        {"content": "gone"}),
    Row("0.62.0", "a newer type", (act("teleport", to="moon"), obs("teleport", "there")),
        ("openhands.v0.opaque", "openhands.v0.opaque"), fails_there=True, opaque=True),
    Row("0.62.0", "a newer field", (act("run", command="ls", warp=9),), ("run",), {"command": "ls"}, fails_there=True,
        lost=("args.warp",)),
    Row("0.62.0", "a newer field around", ({**RUN, "trace": "x"},), ("run",), {"command": "ls"}, lost=("trace",)),
    Row("0.62.0", "an observation without its action", (obs("run", "a", command="make", metadata=METADATA, cause=77),),
        ("run", "run"), {"output": "a"}),
    Row("0.62.0", "an end that does not tell its action", (obs("edit", "", path="/a", diff="+x", cause=77),),
        ("openhands.v0.opaque",), opaque=True),
    Row("0.62.0", "a second end of what nobody could read", (act("edit", path="/a", content="draft"),
        obs("edit", "", path="/a"), obs("edit", "b", id=2, path="/a")),
        ("openhands.v0.opaque", "edit", "late_result"), {"detail": "b"}, opaque=True),
    Row("0.62.0", "a second end", (RUN, obs("run", "a", command="ls", metadata=METADATA),
        obs("run", "b", id=2, command="ls", metadata=METADATA)), ("run", "run", "late_result"), {"detail": "b"}),
    Row("0.62.0", "an end of another kind", (act("edit", path="/a", command="view"), obs("read", "text", path="/a")),
        ("edit", "edit"), {"content": "text", "outcome": "ok"}),
    Row("0.62.0", "still running", (RUN, obs("run", "x", command="ls", metadata={**METADATA, "exit_code": -1,
        "suffix": "\n[The command has no new output after 10 seconds. You may wait longer.]"})), ("run", "run"),
        {"outcome": "timeout", "deadline": "quiet", "effects": "possible"}),
    Row("0.62.0", "ended for time", (RUN, obs("run", "x", command="ls", metadata={**METADATA, "exit_code": -1,
        "suffix": "\n[The command timed out after 120 seconds.]"})), ("run", "run"),
        {"outcome": "timeout", "deadline": "command"}),
    Row("0.62.0", "no exit code", (RUN, obs("run", "x", command="ls", metadata={**METADATA, "exit_code": -1})),
        ("run", "run"), {"outcome": "unknown"}),
    Row("0.62.0", "an agent that was reset", (RUN, obs("error", "stopped",
        error_id="AGENT_ERROR$ERROR_ACTION_NOT_EXECUTED_STOPPED")), ("run", "run"), {"outcome": "unknown"}),
    Row("0.62.0", "an editor's error", (act("read", path="/a"), obs("read", "ERROR:\nno file", path="/a")),
        ("read", "read"), {"outcome": "failed"}),
    Row("0.62.0", "a write of some lines", (act("write", path="/a", content="x", start=3, end=5),),
        ("openhands.v0.opaque",), opaque=True),
    Row("0.62.0", "nothing", (act("null"), obs("null")), ()),
)  # fmt: skip

ROWS = (*ENVELOPE, *TYPES, *CIRCULATING)
