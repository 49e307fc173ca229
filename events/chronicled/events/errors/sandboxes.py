"""What a runtime, or the image of a sandbox, fails with."""

from __future__ import annotations

from chronicled.events.errors.root import ChronicledError

__all__ = [
    "ImageBuildFailed",
    "ImageError",
    "ImageNotAllowed",
    "ImageNotFound",
    "ImageUnauthorized",
    "ImageUnfit",
    "ImageUnreachable",
    "SandboxError",
    "SandboxStartFailed",
    "SandboxUnreachable",
]


class SandboxError(ChronicledError):
    """Root of what a runtime can fail with."""

    code = "sandbox-error"
    title = "The sandbox failed"


class SandboxStartFailed(SandboxError):
    """Raised when a sandbox could not be created or its action server did not report in time."""

    code = "sandbox-start-failed"
    title = "The sandbox could not start"


class ImageError(SandboxStartFailed):
    """Root of what can keep an image from being had: a pull, a build or a look-up that failed."""

    code = "image-unavailable"
    title = "The image could not be had"


class ImageNotFound(ImageError):
    """Raised when the image is neither on the engine nor, where it may be pulled, in its registry."""

    code = "image-not-found"
    title = "There is no such image"
    status = 404


class ImageUnauthorized(ImageError):
    """Raised when the registry does not give the image to whom the configured credentials are."""

    code = "image-unauthorized"
    title = "The registry refuses the image"
    status = 403


class ImageNotAllowed(ImageError):
    """Raised when an image would have to be pulled from where this daemon may pull nothing from."""

    code = "image-not-allowed"
    title = "The image may not be pulled"
    status = 403


class ImageUnreachable(ImageError):
    """Raised when the registry or the engine did not answer, or not in time; trying again may help."""

    code = "image-unreachable"
    title = "The registry does not answer"
    status = 503
    retryable = True


class ImageUnfit(ImageError):
    """Raised when an image is made for another architecture, or its bytes are not those that its digest says."""

    code = "image-unfit"
    title = "The image cannot be used here"
    status = 422


class ImageBuildFailed(ImageError):
    """Raised when a step of a build failed or went over one of its limits; the detail ends with what it printed."""

    code = "image-build-failed"
    title = "The image could not be built"
    status = 422


class SandboxUnreachable(SandboxError):
    """Raised when a sandbox does not answer; that is no proof of its death."""

    code = "sandbox-unreachable"
    title = "The sandbox does not answer"
    retryable = True
