"""A sandbox in which a unit's executors are tried: of the process runtime, with a worker reduced to frames."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from chronicled.daemon.units.conformance.examples import ActionExample
from chronicled.daemon.units.loading import Loaded
from chronicled.daemon.units.parts import parcel_of
from chronicled.events.outcome import Outcome
from chronicled.events.registry import Registry
from chronicled.migrations.unit import Unit
from chronicled.migrations.vocabulary import vocabulary
from chronicled.runtimes.action_server import frames
from chronicled.runtimes.delivery.delivery import Delivery
from chronicled.runtimes.frame_worker import FrameWorker, make_spec
from chronicled.runtimes.process import ProcessRuntime

__all__ = ["Trial", "trial_problems"]

SOON_SECONDS: Final = 3.0
DEADLINE_SECONDS: Final = 0.5


async def trial_problems(loaded: Loaded, directory: Path, story: Callable[[Trial], Awaitable[list[str]]]) -> list[str]:
    """Return what a story in a fresh sandbox with this unit finds; the sandbox is gone afterwards."""
    delivery = Delivery(str(directory / "units"), [parcel_of(loaded)])
    runtime = ProcessRuntime(str(directory / "sandboxes"), delivery=delivery, fault_point="")
    spec = make_spec(directory)
    worker = FrameWorker(spec, directory)
    worker.listen()
    sandbox = await runtime.start(spec)
    try:
        hello = await worker.connect()
        log = directory / "sandboxes" / spec.sandbox / "server.log"
        return await story(Trial(worker, hello, vocabulary([loaded.unit]).registry, log, sandbox.wait_ended))
    finally:
        await sandbox.kill()
        await worker.close()
        await runtime.remove(spec.sandbox)


class Trial:
    """What can be tried in the sandbox; each answer is what was found wrong.

    Args:
        worker: Speaks with the sandbox.
        hello: What its server said.
        registry: Knows the unit's kinds.
        log: The server's log.
        ended: Waits for the sandbox's end.
    """

    def __init__(
        self,
        worker: FrameWorker,
        hello: frames.Hello,
        registry: Registry,
        log: Path,
        ended: Callable[[], Awaitable[str]],
    ) -> None:
        self._worker = worker
        self._hello = hello
        self._registry = registry
        self._log = log
        self._ended = ended

    def missing(self, unit: Unit) -> list[str]:
        """Return which runnable kinds nothing executes, or only in another version."""
        found = [f"{owner}: {reason}" for owner, reason in self._hello.missing.items()]
        for kind in sorted({spec.kind for spec in unit.kinds if spec.runnable}):
            current = self._registry.current("action", kind).version
            version = self._hello.versions.get(kind)
            if version is None:
                found.append(f"{kind}: nothing executes it in a sandbox")
            elif version != current:
                found.append(f"{kind}: its executor takes version {version}, the current one is {current}")
        return found

    async def differences(self, example: ActionExample, lane: str = "main") -> list[str]:
        """Return in what an action ends otherwise than its example says."""
        action = await self._dispatch(example, lane)
        result = await self._result(action)
        output = self._worker.output(action).decode(errors="replace")
        what = f"{example.kind} {msgspec.json.encode(example.payload).decode()}"
        found: list[str] = []
        if result.outcome is not Outcome(example.outcome):
            found.append(f"{what} ended {result.outcome} ({result.reason}: {result.message}), not {example.outcome}")
        elif result.outcome is Outcome.FAILED and not result.reason:
            found.append(f"{what} failed without a `reason`")
        if example.output not in output:
            found.append(f"{what} printed {output!r}, without {example.output!r}")
        found += self._fields(what, example, result)
        return found

    def _fields(self, what: str, example: ActionExample, result: frames.Result) -> list[str]:
        found = [
            f"{what}: {name} is {result.fields.get(name)!r}, not {value!r}"
            for name, value in example.fields.items()
            if result.fields.get(name) != value
        ]
        spec = self._registry.current("observation", example.kind)
        said: dict[str, Any] = {"outcome": result.outcome, "effects": result.effects, **result.fields}
        try:
            msgspec.convert(said, spec.payload, str_keys=True)
        except msgspec.ValidationError as error:
            found.append(f"{what}: its fields do not fit the observation, and would be dropped: {error}")
        return found

    async def garbage(self, example: ActionExample) -> list[str]:
        """Return what goes wrong with payloads that are none."""
        found: list[str] = []
        for data in (b"[]", b'{"no_such_field_of_anybody": {}}', b"\xff"):
            action = await self._worker.dispatch(example.kind, data)
            result = await self._result(action)
            if result.outcome not in (Outcome.FAILED, Outcome.ERROR):
                found.append(f"{example.kind} with the payload {data!r} ended {result.outcome}")
        return [*found, *await self.differences(example)]

    async def ended_by_cancel(self, slow: ActionExample, after: ActionExample) -> list[str]:
        """Return what goes wrong with a cancel."""
        action = await self._started(slow)
        begun = time.monotonic()
        await self._worker.send(frames.Cancel(action=action))
        found = self._judged(await self._result(action), Outcome.CANCELLED, begun)
        return [*found, *await self.differences(after)]

    async def ended_by_deadline(self, slow: ActionExample) -> list[str]:
        """Return what goes wrong with a deadline."""
        action = await self._dispatch(slow, timeout_seconds=DEADLINE_SECONDS)
        result = await self._result(action)
        found = self._judged(result, Outcome.TIMEOUT, time.monotonic() - (result.duration_seconds or 0.0))
        return found if result.deadline == "command" else [*found, f"the deadline is called {result.deadline!r}"]

    async def side_by_side(self, slow: ActionExample, other: ActionExample) -> list[str]:
        """Return what keeps an action of another lane from running meanwhile."""
        action = await self._started(slow)
        begun = time.monotonic()
        found = await self.differences(other, "beside")
        if action in self._worker.results:
            found.append("the slow example was over before the other one")
        if time.monotonic() - begun > SOON_SECONDS:
            found.append(f"the other action took {time.monotonic() - begun:.1f} s while the slow one ran")
        await self._worker.send(frames.Cancel(action=action))
        await self._result(action)
        return found

    async def closed(self) -> list[str]:
        """Return what was not in order at the end of the sandbox."""
        begun = time.monotonic()
        await self._worker.send(frames.Shutdown())
        await self._ended()
        words = self._log.read_text(errors="replace") if self._log.exists() else ""
        found = [line for line in words.splitlines() if "did not close in order" in line]
        if time.monotonic() - begun > SOON_SECONDS:
            found.append(f"the sandbox took {time.monotonic() - begun:.1f} s to end")
        return found

    async def _started(self, slow: ActionExample) -> str:
        action = await self._dispatch(slow)
        await self._worker.until(
            lambda: (
                action in self._worker.results
                or any(isinstance(frame, frames.Started) and frame.action == action for frame in self._worker.seen)
            )
        )
        return action

    async def _dispatch(self, example: ActionExample, lane: str = "main", timeout_seconds: float = 30.0) -> str:
        spec = self._registry.current("action", example.kind)
        # As a worker sends it: every field written out.
        payload = msgspec.json.encode(msgspec.convert(example.payload, spec.payload, str_keys=True))
        return await self._worker.dispatch(
            example.kind, payload, lane=lane, timeout_seconds=timeout_seconds, version=spec.version
        )

    async def _result(self, action: str) -> frames.Result:
        result = await self._worker.result(action, seconds=40.0)
        await self._worker.send(frames.Settle(action=action))
        return result

    @staticmethod
    def _judged(result: frames.Result, outcome: Outcome, since: float) -> list[str]:
        found: list[str] = []
        if result.outcome is not outcome:
            found.append(f"it ended {result.outcome} ({result.reason}: {result.message}), not {outcome}")
        if time.monotonic() - since > SOON_SECONDS:
            found.append(f"it ended only {time.monotonic() - since:.1f} s later")
        return found
