"""The route table: every operation of the API, in the order in which the document lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronicled.daemon.configuration import LimitSettings
from chronicled.daemon.exports import Exports
from chronicled.daemon.http.action_routes import ActionRoutes
from chronicled.daemon.http.blob_routes import BlobRoutes
from chronicled.daemon.http.cursor_routes import CursorRoutes
from chronicled.daemon.http.event_routes import EventRoutes
from chronicled.daemon.http.export_routes import ExportRoutes
from chronicled.daemon.http.file_routes import FileRoutes
from chronicled.daemon.http.follow import Follower
from chronicled.daemon.http.health_routes import HealthRoutes
from chronicled.daemon.http.open_action_routes import OpenActionRoutes
from chronicled.daemon.http.openapi import document
from chronicled.daemon.http.output_routes import LiveOutputs, OutputRoutes
from chronicled.daemon.http.route import Route
from chronicled.daemon.http.secret_routes import SecretRoutes
from chronicled.daemon.http.session_routes import SessionRoutes
from chronicled.daemon.http.subscribers import Subscribers
from chronicled.daemon.metrics import Metrics
from chronicled.daemon.registration import Registration
from chronicled.daemon.submission import Submission
from chronicled.daemon.waits import Waits
from chronicled.events.blobs import BlobStore
from chronicled.events.codec import Codec
from chronicled.events.presentation import Presentation
from chronicled.events.store import EventStore
from chronicled.events.stream import EventStream
from chronicled.runtimes.runtime import Runtime
from chronicled.storage.cursors import CursorStore
from chronicled.storage.projections import Projections

if TYPE_CHECKING:
    from chronicled.daemon.image_jobs import ImageJobs

__all__ = ["Parts", "route_table"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the API stands on."""

    store: EventStore
    stream: EventStream
    projections: Projections
    blobs: BlobStore
    cursors: CursorStore
    outputs: LiveOutputs
    exports: Exports
    codec: Codec
    submission: Submission
    registration: Registration
    waits: Waits
    subscribers: Subscribers
    metrics: Metrics
    limits: LimitSettings
    runtimes: Mapping[str, Runtime]
    """By name."""
    runtime_default: str
    images: ImageJobs | None
    """None where there is no engine; then there are no routes for them."""
    context_bytes_max: int
    """Largest context of a build."""
    unready: Callable[[], str | None]
    """Tells why the daemon takes no requests; None when it does."""


def _images(parts: Parts) -> tuple[Route, ...]:
    if parts.images is None:
        return ()
    # Imported when there is an engine: with its client it is a third of a second.
    from chronicled.daemon.http.image_routes import ImageRoutes

    return ImageRoutes(parts.images, parts.context_bytes_max, parts.limits.wait_seconds_max).routes()


def route_table(parts: Parts) -> tuple[Route, ...]:
    """Return every route, bound to the parts."""
    limits = parts.limits
    presentation = Presentation(parts.codec)
    seconds = limits.write_seconds_max
    sessions = SessionRoutes(parts.submission, parts.projections, parts.runtimes, parts.runtime_default, parts.codec)
    actions = ActionRoutes(
        parts.submission,
        parts.store,
        parts.projections,
        parts.waits,
        presentation,
        limits.wait_seconds_max,
        limits.actions_per_request_max,
    )
    opened = OpenActionRoutes(parts.projections, presentation)
    secrets = SecretRoutes(parts.registration)
    outputs = OutputRoutes(parts.submission, parts.store, parts.outputs, parts.blobs, parts.subscribers, seconds)
    follower = Follower(parts.stream, parts.subscribers, presentation, seconds)
    events = EventRoutes(parts.store, follower, presentation, parts.cursors)
    cursors = CursorRoutes(parts.store, parts.cursors)
    blobs = BlobRoutes(parts.store, parts.blobs, seconds)
    exports = ExportRoutes(parts.exports, seconds)
    files = FileRoutes(
        parts.submission,
        parts.store,
        parts.codec,
        parts.blobs,
        actions,
        blobs,
        parts.waits,
        upload_bytes_max=limits.upload_bytes_max,
        uploads_max=limits.uploads_max,
        upload_seconds_max=limits.upload_seconds_max,
        wait_seconds_max=limits.wait_seconds_max,
    )
    health = HealthRoutes(
        parts.metrics,
        parts.unready,
        lambda: document(routes, parts.codec.registry, limits.actions_per_request_max, parts.runtimes),
    )
    routes = (
        *(
            route
            for resource in (sessions, secrets, opened, actions, outputs, files, events, cursors, blobs, exports)
            for route in resource.routes()
        ),
        *_images(parts),
        *health.routes(),
    )
    return routes
