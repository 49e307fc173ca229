"""Steps that bring an observation of any release to the shape of 0.62.0, oldest change first; see `action_steps`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from chronicled.migrations.openhands.v0.envelope import Envelope, is_object, text

__all__ = ["bring_on"]

Step = Callable[[Envelope], None]


def bring_on(envelope: Envelope) -> None:
    """Take every step that the observation's shape asks for."""
    for step in _STEPS.get(envelope.type, ()):
        step(envelope)


def _run(e: Envelope) -> None:
    fields = e.fields
    if "exit_code" in fields or "command_id" in fields:
        e.step("0.19.0", "exit_code and command_id are metadata")
        metadata: Any = fields.get("metadata")
        kept = dict(metadata) if is_object(metadata) else {}
        if "exit_code" in fields:
            kept.setdefault("exit_code", fields.pop("exit_code"))
        fields["metadata"] = kept
        # The older number counted commands; the newer one is the system's, so it is not carried over as one.
        if fields.get("command_id") == -1:
            del fields["command_id"]
    if "interpreter_details" in fields:
        e.step("0.19.0", "interpreter_details are gone")


def _browse(e: Envelope) -> None:
    fields = e.fields
    if "status_code" in fields:
        e.step("0.9.0", "status_code is gone")
    if "trigger_by_action" not in fields:
        e.step("0.15.0", "the kind of the action tells what was browsed")


def _edit(e: Envelope) -> None:
    fields = e.fields
    fields.pop("_diff_cache", None)
    if "formatted_output_and_error" in fields:
        e.step("0.24.0", "formatted_output_and_error is the content")
        said = fields.pop("formatted_output_and_error")
        if not e.content:
            e.content = said
        elif said != e.content:
            fields["formatted_output_and_error"] = said


def _recall(e: Envelope) -> None:
    if "recall_type" not in e.fields and "memories" in e.fields:
        e.step("0.8.0", "what memory brought is recalled knowledge")
        e.fields["recall_type"] = "knowledge"


def _error(e: Envelope) -> None:
    if e.flat and not e.content and "message" in e.fields:
        e.content = text(e.fields.pop("message"))


_STEPS: Final[dict[str, tuple[Step, ...]]] = {
    "run": (_run,),
    "browse": (_browse,),
    "edit": (_edit,),
    "recall": (_recall,),
    "error": (_error,),
}
