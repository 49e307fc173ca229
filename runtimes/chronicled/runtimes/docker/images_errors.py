"""What an engine's words about an image mean, and what to do about it."""

from __future__ import annotations

import re
from typing import Final

from chronicled.events.errors import (
    ImageError,
    ImageNotFound,
    ImageUnauthorized,
    ImageUnfit,
    ImageUnreachable,
)
from chronicled.runtimes.docker.failure import denied

__all__ = ["engine_silent", "explain"]

_WORDS_MAX: Final = 600
# In this order: what a registry refuses it often calls "not found or not authorized".
_MEANINGS: Final[tuple[tuple[str, type[ImageError], str], ...]] = (
    (
        r"no space left on device|disk quota exceeded",
        ImageError,
        "The engine's disk is full: `chronicled image prune` removes images that nobody uses, or give it more room.",
    ),
    (
        r"no matching manifest|does not match the specified platform|image operating system .* cannot be used",
        ImageUnfit,
        "It is not made for this machine's architecture: ask for an image that is.",
    ),
    (
        r"manifest verification failed|filesystem layer verification failed|digest mismatch|does not match digest"
        r"|invalid checksum digest|unexpected digest|failed to verify",
        ImageUnfit,
        "The registry's bytes are not those that the digest promises: the registry is damaged or lies; do not use it.",
    ),
    (
        r"unauthorized|no basic auth credentials|authentication required|access (to the resource is )?denied"
        r"|pull access denied|denied: |forbidden|incorrect username or password|invalid username/password"
        r"|\b401\b|\b403\b",
        ImageUnauthorized,
        "The registry wants credentials, or other ones, or there is no such repository: set `images.credentials_file` "
        "to a file in the form of Docker's config.json that has the registry, and check the name.",
    ),
    (
        r"manifest unknown|manifest for .* not found|repository .* not found|name unknown|repository name not known"
        r"|not found: |no such image|404",
        ImageNotFound,
        "The registry has no such image: check name, tag and digest.",
    ),
    (
        r"toomanyrequests|rate limit|\b429\b",
        ImageUnreachable,
        "The registry limits how often one may ask: wait, give credentials, or prefetch once from a mirror.",
    ),
    (
        r"connection refused|no such host|i/o timeout|network is unreachable|no route to host|connection reset|\bEOF\b"
        r"|TLS handshake|deadline exceeded|Client\.Timeout|server misbehaving|broken pipe|\b50[0234]\b|x509|dial tcp"
        r"|server gave HTTP response to HTTPS client",
        ImageUnreachable,
        "The engine cannot reach the registry: check its name, its certificate and the engine's network.",
    ),
)


def explain(image: str, words: str, status: int = 0) -> ImageError:
    """Return the error that an engine's words about an image stand for.

    Args:
        image: What was asked for.
        words: What the engine said; credentials are taken out already.
        status: The engine's HTTP status, 0 where it said so in the midst of a stream.
    """
    said = " ".join(words.split())[:_WORDS_MAX]
    for pattern, kind, advice in _MEANINGS:
        if re.search(pattern, said, re.IGNORECASE):
            return kind(f"{image}: {advice} The engine said: {said}", image=image)
    if status == 404:
        return ImageNotFound(f"{image}: The engine has no such image. It said: {said}", image=image)
    return ImageError(f"{image}: The engine said: {said or 'nothing'}", image=image)


def engine_silent(error: Exception) -> ImageUnreachable:
    """Return the error of an engine that did not answer, with why as far as the system tells."""
    if denied(error):
        why = "this user may not use its socket: add it to the socket's group"
    else:
        why = " ".join(str(error).split())[:_WORDS_MAX] or type(error).__name__
    return ImageUnreachable(f"The engine does not answer ({why}).")
