"""Its policy: by what the payload says, so that a test chooses how it behaves."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import msgspec

from beta.kinds import Do
from chronicled.events.policy import Decision, PolicyRequest


async def decide(request: PolicyRequest) -> Decision:
    """Say no to `forbidden`, and behave badly where it is asked to."""
    if not isinstance(request.payload, Do):
        # Every action of every kind is asked for here.
        return Decision.allow()
    if seen := os.environ.get("BETA_SEEN"):
        _note(Path(seen), msgspec.json.encode(request.payload))
    match request.payload.what:
        case "forbidden":
            return Decision.reject("beta.forbidden", f"Not in {request.runtime} for {request.actor}.")
        case "fail":
            raise RuntimeError("a policy that fails")
        case "hang":
            await asyncio.sleep(3600)
        case "answer":
            return "yes"  # type: ignore[return-value]  # as somebody may who has no type checker
        case _:
            pass
    return Decision.allow()


def _note(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data + b"\n")


def decide_in_a_thread(request: PolicyRequest) -> Decision:
    """The same as a plain function that may block."""
    assert isinstance(request.payload, Do)
    if request.payload.what == "hang":
        time.sleep(6)
    return Decision(allowed=request.payload.what != "forbidden")
