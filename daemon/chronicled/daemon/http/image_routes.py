"""Images: list, build, prefetch, prune."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web

from chronicled.daemon.http.bodies import Body, View
from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import KEY_PATTERN, idempotency_key, submitter, wait_seconds
from chronicled.daemon.http.route import Answer, Route
from chronicled.daemon.image_jobs import ImageJob, ImageJobs, Wanted
from chronicled.daemon.image_stream import IMAGES_SESSION
from chronicled.events.clock import format_time
from chronicled.events.envelope import Event
from chronicled.events.errors import IdReused, ImageError, ImageUnreachable, StorageFull
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes.docker.images_listing import CachedImage
from chronicled.runtimes.docker.images_reference import BUILT_NAME, REFERENCE
from chronicled.runtimes.docker.images_settings import PullPolicy

__all__ = ["ImageRoutes"]

JSON: Final = "application/json"
TAR: Final = "application/x-tar"
TEXT: Final = "text/plain"
DOCKERFILE_BYTES_MAX: Final = 1 << 20
IMAGES_MAX: Final = 256
ImageName = Annotated[str, msgspec.Meta(max_length=512, extra_json_schema={"pattern": REFERENCE})]
"""Its pattern is for the description: the error of its own says more."""
ARGUMENTS: Final = r"^([A-Za-z_][A-Za-z0-9_]{0,255}=[^\x00-\x1f\x7f-\x9f\u2028\u2029]*(\n|$))*$"


class BuildQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to build from the body: the context as a tar archive, or a Dockerfile alone as text."""

    name: Annotated[str, msgspec.Meta(max_length=200, extra_json_schema={"pattern": BUILT_NAME})]
    """Name of the image, `path[:tag]`, among the tenant's own."""
    dockerfile: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] = "Dockerfile"
    """Path of the Dockerfile within the context."""
    arguments: Annotated[str, msgspec.Meta(pattern=ARGUMENTS, max_length=65_536)] = ""
    """Build arguments: `NAME=VALUE`, one a line."""
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    """Stage to end at."""
    fresh: bool = False
    """Run every step anew."""


class ImageHeaders(msgspec.Struct, frozen=True):
    """Headers of a request for images."""

    idempotency_key: Annotated[str, msgspec.Meta(pattern=KEY_PATTERN)] | None = None
    """Makes a retry safe: the same key, with the same request, gives the same jobs."""
    prefer: str | None = None
    """`wait=SECONDS`: how long to wait for the end. Other preferences are left alone."""


class PrefetchBody(Body, frozen=True, kw_only=True):
    """Images to have before they are needed."""

    images: Annotated[list[ImageName], msgspec.Meta(min_length=1, max_length=IMAGES_MAX)]
    pull: PullPolicy | None = None
    """`always` asks the registry also for what is there."""


class PruneBody(Body, frozen=True, kw_only=True):
    """What to remove."""

    unused_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    """For how long unused; left out takes the setting `images.keep_seconds`."""


class ImageView(View, frozen=True, kw_only=True):
    """One name of an image on the engine."""

    image: str
    id: str
    digest: str | None
    size_bytes: int
    origin: str
    """`pulled` or `built` by this daemon, or `found` there: that is never removed."""
    used: str | None
    """Last use, RFC 3339 UTC, where it is ours."""
    containers: int


class ImageList(View, frozen=True, kw_only=True):
    """What there is and what is on its way."""

    images: list[ImageView]
    jobs: list[ImageProgress]
    """The caller's builds and prefetches that are not over."""


class JobView(View, frozen=True, kw_only=True):
    """A build or the fetching of one image, begun."""

    job: str
    """The `job` of each of its events."""
    image: str
    """What to name in a session, once it is done."""
    event: Event


class JobList(View, frozen=True, kw_only=True):
    """What was begun."""

    session: str
    """Whose stream tells how it goes: follow its `image_progress` events."""
    jobs: list[JobView]


class Pruned(View, frozen=True, kw_only=True):
    """What was removed."""

    images: list[ImageView]


class ImageRoutes:
    """The routes of images.

    Args:
        jobs: Builds and fetches.
        context_bytes_max: Largest context.
        wait_seconds_max: Longest wait.
    """

    def __init__(self, jobs: ImageJobs, context_bytes_max: int, wait_seconds_max: float) -> None:
        self._jobs = jobs
        self._context_bytes_max = context_bytes_max
        self._wait_seconds_max = wait_seconds_max
        self._prefetch_body = msgspec.json.Decoder(PrefetchBody)
        self._prune_body = msgspec.json.Decoder(PruneBody)

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        begun = {JSON: (JobList,)}
        answers = {202: Answer("Begun; not over yet.", begun), 200: Answer("Over; the events say how.", begun)}
        common: dict[str, Any] = {"headers": ImageHeaders, "answers": answers, "writes": True}
        return (
            Route(
                method="GET",
                path="/v1/images",
                name="list_images",
                summary="List the engine's images, and what is built or fetched",
                handler=self.show,
                answers={200: Answer("The images.", {JSON: (ImageList,)})},
                problems=(ImageUnreachable, ImageError),
            ),
            Route(
                method="POST",
                path="/v1/images",
                name="build_image",
                summary="Build an image from a context, or from a Dockerfile alone",
                handler=self.build,
                query=BuildQuery,
                media=(TEXT, TAR),
                problems=(IdReused, StorageFull),
                **common,
            ),
            Route(
                method="POST",
                path="/v1/images/prefetch",
                name="prefetch_images",
                summary="Fetch images before they are needed",
                handler=self.prefetch,
                body=PrefetchBody,
                problems=(IdReused, StorageFull),
                **common,
            ),
            Route(
                method="POST",
                path="/v1/images/prune",
                name="prune_images",
                summary="Remove images that this daemon brought and nobody uses",
                handler=self.prune,
                body=PruneBody,
                body_required=False,
                answers={200: Answer("What was removed.", {JSON: (Pruned,)})},
                problems=(ImageUnreachable, ImageError),
                writes=True,
            ),
        )

    async def show(self, call: Call) -> web.Response:
        """List images."""
        tenant = call.caller.tenant
        images = await self._jobs.images.cache.images(tenant)
        return json_response(ImageList(images=[_view(each) for each in images], jobs=self._jobs.running(tenant)))

    async def build(self, call: Call) -> web.Response:
        """Build an image."""
        query, key = call.query(BuildQuery), idempotency_key(call)
        seconds = wait_seconds(call, self._wait_seconds_max)
        media = (call.header("Content-Type") or "").partition(";")[0].strip().lower()
        text = media == TEXT
        wanted = Wanted(
            name=query.name,
            form="dockerfile" if text else "tar",
            dockerfile=query.dockerfile,
            arguments=dict(line.split("=", 1) for line in query.arguments.split("\n") if line),
            target=query.target,
            fresh=query.fresh,
        )
        async with aclosing(call.chunks(DOCKERFILE_BYTES_MAX if text else self._context_bytes_max)) as chunks:
            job = await self._jobs.build(submitter(call), wanted, chunks, key)
        return await self._answer([job], seconds)

    async def prefetch(self, call: Call) -> web.Response:
        """Fetch images."""
        body, key = await call.body(self._prefetch_body), idempotency_key(call)
        seconds = wait_seconds(call, self._wait_seconds_max)
        return await self._answer(await self._jobs.prefetch(submitter(call), body.images, body.pull, key), seconds)

    async def prune(self, call: Call) -> web.Response:
        """Remove images."""
        body = await call.body(self._prune_body) if call.request.body_exists else PruneBody()
        gone = await self._jobs.images.cache.prune(body.unused_seconds, tenant=call.caller.tenant)
        return json_response(Pruned(images=[_view(each) for each in gone]))

    async def _answer(self, jobs: list[ImageJob], seconds: float | None) -> web.Response:
        over = seconds is not None and await self._jobs.wait(jobs, seconds)
        views = [JobView(job=job.id, image=job.image, event=job.event) for job in jobs]
        return json_response(JobList(session=IMAGES_SESSION, jobs=views), 200 if over else 202)


def _view(image: CachedImage) -> ImageView:
    return ImageView(
        image=image.reference,
        id=image.id,
        digest=image.digest,
        size_bytes=image.size_bytes,
        origin=image.origin,
        used=None if image.used is None else format_time(int(image.used * 1e6)),
        containers=image.containers,
    )
