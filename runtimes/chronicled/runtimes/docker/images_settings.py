"""Settings of images: where they come from, how many at once, and what a build may use."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

__all__ = ["ImageSettings", "PullPolicy"]

PullPolicy = Literal["missing", "always", "never"]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Bytes = Annotated[int, msgspec.Meta(ge=1 << 20, le=1 << 50)]


class ImageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How images are got, and kept."""

    pull: PullPolicy = "missing"
    """When an image is fetched for a session that does not say."""
    registries: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=512)], ...] = ()
    """Where images may be pulled from: `HOST[:PORT]`, or `HOST[:PORT]/PATH` for what is at and below it; with none,
    from anywhere. What is on the engine already may be used all the same."""
    prefetch: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=512)], ...] = ()
    """Images to have before anybody asks for them; fetched at start, side by side."""
    credentials_file: str | None = None
    """Credentials of registries, in the form of Docker's `config.json` (`auths`); read anew for each pull."""
    pulls_max: Count = 3
    """Pulls side by side; more wait."""
    pull_attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    """Tries, where the registry does not answer."""
    pull_seconds: Seconds = 3600.0
    quiet_seconds: Seconds = 300.0
    """A pull or build of which the engine tells nothing for so long is given up."""
    builds_max: Count = 1
    """Builds side by side; more wait."""
    builds_waiting_max: Count = 16
    """Builds and prefetches that may wait or run; more are refused."""
    build_seconds: Seconds = 3600.0
    build_network: Literal["none", "default"] = "none"
    """What the steps of a build reach; `default` is the engine's bridge."""
    build_memory_bytes: Bytes = 2 << 30
    build_cpus: Annotated[float, msgspec.Meta(gt=0, le=1024)] = 2.0
    build_pids: Annotated[int, msgspec.Meta(ge=16, le=1 << 22)] = 4096
    """Most processes of a build's step at one time."""
    build_disk_bytes: Bytes = 32 << 30
    """What the steps of a build may write, all together; looked at every other second."""
    build_context_bytes_max: Bytes = 512 << 20
    """Largest context that may be uploaded."""
    keep_seconds: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 3600.0
    """An image that was used within so long is never pruned."""
    cache_bytes_max: Bytes | None = None
    """What images of ours may take in all: the longest unused ones go when there are more; None sets no bound."""
