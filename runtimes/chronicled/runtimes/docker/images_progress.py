"""How far a pull or build is: folded from what the engine tells, read by whoever waits, at its own pace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, cast

import anyio

from chronicled.events.kinds.lifecycle import ImageProgress

__all__ = ["PROGRESS_SECONDS", "Listener", "Phase", "Status", "Track"]

Phase = Literal["pull", "build"]
Status = Literal["queued", "running", "done", "failed", "cancelled"]
Listener = Callable[[ImageProgress], Awaitable[None]]
"""Takes one report; at most one a second, never two at a time."""

PROGRESS_SECONDS: Final = 1.0
LAYERS_MAX: Final = 512
STEP_CHARACTERS_MAX: Final = 200
_OVER: Final = frozenset({"done", "failed", "cancelled"})


class Track:
    """The state of one pull or build. Whoever is slow to read it misses steps, never the end."""

    def __init__(self, image: str, phase: Phase) -> None:
        self._image = image
        self._phase: Phase = phase
        self._status: Status = "queued"
        self._layers: dict[str, tuple[int, int]] = {}
        self._step = ""
        self._digest: str | None = None
        self._error: str | None = None
        self._version = 0
        self._changed = anyio.Event()

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self._status in _OVER

    async def changed(self, version: int) -> None:
        """Return once it has another version."""
        while self._version == version:
            await self._changed.wait()

    def set(self, status: Status, *, digest: str | None = None, error: str | None = None) -> None:
        """Go on to another status."""
        self._status, self._digest, self._error = status, digest, error
        self._note()

    def take(self, message: dict[str, Any]) -> None:
        """Fold one message of the engine's stream."""
        layer: Any = message.get("id")
        detail: Any = message.get("progressDetail")
        printed: Any = message.get("stream")
        text = message.get("status")
        if isinstance(printed, str) and printed.startswith("Step "):
            # What the steps of a build print is not how far it is.
            text = printed
        if isinstance(layer, str) and isinstance(detail, dict):
            self._take_layer(layer, str(text or ""), cast("dict[str, Any]", detail))
        elif isinstance(text, str) and text.strip():
            self._step = " ".join(text.split())[:STEP_CHARACTERS_MAX]
        self._note()

    def _take_layer(self, layer: str, text: str, detail: dict[str, Any]) -> None:
        current, total = detail.get("current"), detail.get("total")
        if text == "Downloading" and isinstance(current, int) and isinstance(total, int) and total > 0:
            if layer in self._layers or len(self._layers) < LAYERS_MAX:
                self._layers[layer] = (current, total)
        elif text in {"Download complete", "Pull complete"} and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = (total, total)
        self._step = text[:STEP_CHARACTERS_MAX]

    def report(self) -> ImageProgress:
        """Return how far it is."""
        return ImageProgress(
            image=self._image,
            phase=self._phase,
            status=self._status,
            bytes_done=sum(done for done, _ in self._layers.values()),
            bytes_total=sum(total for _, total in self._layers.values()),
            step="" if self.over else self._step,
            digest=self._digest,
            error=self._error,
        )

    def _note(self) -> None:
        self._version += 1
        # Nobody who waits is lost: each takes the event that it waits for along.
        self._changed.set()
        self._changed = anyio.Event()
