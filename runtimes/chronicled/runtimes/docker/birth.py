"""The start of one container: image, network, carrier and plan; made, started, inspected, and only then handed over."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import anyio
import anyio.to_thread

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.kinds.lifecycle import ImageProgress
from chronicled.runtimes import process_proof
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.action_server.settings import Settings, encode
from chronicled.runtimes.carrier.cache import UNITS_PATH
from chronicled.runtimes.docker import environment, kernel_view, labels, paths, podman, premises, volumes
from chronicled.runtimes.docker.container import Container
from chronicled.runtimes.docker.facts import EngineFacts
from chronicled.runtimes.docker.failure import EngineRefused
from chronicled.runtimes.docker.images_found import ResolvedImage
from chronicled.runtimes.docker.inspection import differences
from chronicled.runtimes.docker.network_policy import NetworkGrant, policy_named
from chronicled.runtimes.docker.peers import is_of
from chronicled.runtimes.docker.plan import RUN_DIRECTORY, WORKSPACE, Mount, Plan, network_of, ulimits_of, user_of
from chronicled.runtimes.docker.policy import container_body
from chronicled.runtimes.docker.sandbox import DockerSandbox, Life
from chronicled.runtimes.runtime import Report, SandboxSpec

if TYPE_CHECKING:
    from chronicled.runtimes.docker.runtime import DockerRuntime

__all__ = ["Birth"]

SLOW_SECONDS: Final = 2.0
"""A carrier that takes longer is being made, and the session's stream says so."""
DIFFERENCES_MAX: Final = 8
"""Most differences that an error names."""
_UNLIMITED: Final = re.compile(r"(?i)storage-opt|quota")
"""In what an engine says that cannot limit a disk."""


class Birth:
    """One start. Whatever goes wrong on the way is the caller's to clear up.

    Args:
        runtime: Who starts it.
        spec: What.
        report: Takes what is to be told meanwhile.
    """

    def __init__(self, runtime: DockerRuntime, spec: SandboxSpec, report: Report | None) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._engine = runtime.engine
        self._spec = spec
        self._report = report
        self.phase = "engine"
        """What it is at, or stopped at."""
        self.begun = False
        """Whether anything may have been made that must be cleared up."""
        self._phases: dict[str, float] = {}

    async def run(self) -> DockerSandbox:
        """Return the sandbox.

        Raises:
            SandboxStartFailed: it cannot be given, or is not what was planned.
            EngineRefused, EngineUnreachable, OSError, ValueError: at `phase`.
        """
        spec, engine = self._spec, self._engine
        facts = await engine.facts()
        self._judge(facts)
        with self._timed("pull"):
            name = spec.image or self._settings.image
            image = await self._runtime.images.resolve(
                name, spec.request.pull, pinned=spec.image_pin, listener=self._report
            )
        policy = policy_named(self._runtime.networks, network_of(spec.request, self._settings))
        with self._timed("carrier"):
            await self._runtime.ground.check(image)
            carried = await self._carried(facts, image)
        self.begun = True
        with self._timed("network"):
            grant = await policy.prepare(spec)
        with self._timed("create"):
            plan = await self._plan(facts, image, grant, carried)
            await anyio.to_thread.run_sync(self._prepare, plan, facts)
            container = await self._create(plan, facts)
            if self._settings.workspace == "layer":
                await engine.put_archive(container, "/", premises.folder(WORKSPACE, plan.user))
            self._runtime.note(spec, container)
            await policy.attach(spec, container)
        # From its first moment on: notices of unknown containers are dropped.
        self._runtime.notices.shortage(container)
        with self._timed("start"):
            await engine.start(container)
        with self._timed("inspect"):
            found = await engine.inspect(container)
            await self._compare(plan, found, facts)
        assert found is not None
        if plan.stdio:
            with self._timed("tell"):
                await self._runtime.lines.tell(container, encode(self.told(plan)))
            self._runtime.lines.open(spec.socket_directory, container, spec.token)
        life = Life(engine, facts.id, container, found.state.started_at, self._runtime.instance, found.state.pid)
        return self._runtime.sandbox(life, spec, phases=self._phases, digest=image.pin)

    async def _create(self, plan: Plan, facts: EngineFacts) -> str:
        try:
            # To the end: of a container whose making was cut short nobody would know the id.
            with anyio.CancelScope(shield=True):
                return await self._engine.create(labels.container_name(plan.sandbox), container_body(plan))
        except EngineRefused as error:
            if plan.disk_bytes and _UNLIMITED.search(error.detail):
                # Its driver could, with a file system that is mounted so: only trying tells.
                raise SandboxStartFailed(_no_disk_limit(facts, f": {error.detail}")) from error
            raise
        raise AssertionError("a shield lets nothing through")

    @contextmanager
    def _timed(self, phase: str) -> Generator[None]:
        began, self.phase = time.monotonic(), phase
        yield
        self._phases[phase] = round(time.monotonic() - began, 6)

    def _judge(self, facts: EngineFacts) -> None:
        """Refuse by name what this engine cannot give.

        Raises:
            SandboxStartFailed: it asks for such a thing.
        """
        request, settings = self._spec.request, self._settings
        reasons: list[str] = []
        if not facts.seccomp:
            reasons.append("seccomp: the engine runs without it, and no sandbox does")
        if not settings.limits_unkept_allowed:
            told = "the engine cannot limit it, whatever its inspection says (docker.limits_unkept_allowed)"
            reasons += [f"{name}: {told}" for name in facts.unkept]
        if not facts.swap_limit and "memory_bytes" not in facts.unkept and not settings.swap_unlimited_allowed:
            reasons.append("memory_bytes: the engine's kernel cannot limit swap (docker.swap_unlimited_allowed)")
        if (request.disk_bytes or settings.disk_bytes) and not facts.limits_disk:
            reasons.append(_no_disk_limit(facts))
        if request.cpus is not None and facts.cpus and request.cpus > facts.cpus:
            reasons.append(f"cpus: {request.cpus:g} are asked for, the engine has {facts.cpus}")
        isolation = request.isolation or settings.isolation
        if isolation is not None and settings.isolations[isolation] not in facts.runtimes:
            known = ", ".join(facts.runtimes)
            reasons.append(f"isolation: the engine has no runtime {settings.isolations[isolation]!r}, only {known}")
        elif isolation is not None and facts.podman:
            reasons.append("isolation: Podman does not tell which runtime a container has")
        if facts.podman and not self._engine.local:
            reasons.append("docker.host: what a Podman of another machine makes of a container cannot be read back")
        if reasons:
            raise SandboxStartFailed("; ".join(reasons))

    async def _carried(self, facts: EngineFacts, image: ResolvedImage) -> Mount:
        """Return the carrier's mount. Where it has to be made first, that is told as the coming of an image is."""
        told = False

        async def tell(status: Literal["running", "done"]) -> None:
            if self._report is not None:
                await self._report(ImageProgress(image=paths.CARRIER, phase="build", status=status))

        async def tell_if_slow() -> None:
            nonlocal told
            await anyio.sleep(SLOW_SECONDS)
            told = True
            with anyio.CancelScope(shield=True):
                await tell("running")

        mount: Mount | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tell_if_slow)
                mount = await self._runtime.carrier.mount(self._runtime.errands, facts, image.id)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # One of the two failed, and the other was cancelled for it.
            raise group.exceptions[0] from None
        if told:
            await tell("done")
        assert mount is not None
        return mount

    async def _plan(self, facts: EngineFacts, image: ResolvedImage, grant: NetworkGrant, carried: Mount) -> Plan:
        spec, settings, request = self._spec, self._settings, self._spec.request
        user = user_of(request, settings, self._runtime.uid, self._runtime.gid)
        isolation = request.isolation or settings.isolation
        mounts, tmpfs = await self._mounts(facts, carried)
        disk_bytes = request.disk_bytes or settings.disk_bytes
        free = {paths.normal(path) for path in image.volumes} - {*tmpfs, *(mount.target for mount in mounts)}
        if disk_bytes and free:
            raise SandboxStartFailed(
                f"disk_bytes: the image declares volumes ({', '.join(sorted(free))}), for which no limit holds: ask"
                " for a tmpfs or a volume in their place"
            )
        return Plan(
            sandbox=spec.sandbox,
            generation=spec.generation,
            labels=labels.labels_of(
                instance=self._runtime.instance,
                worker=self._runtime.worker,
                sandbox=spec.sandbox,
                generation=spec.generation,
                position=spec.position,
            ),
            image=image,
            user=user,
            capabilities=settings.capabilities if user.startswith("0:") else (),
            read_only=settings.read_only if request.read_only is None else request.read_only,
            memory_bytes=request.memory_bytes or settings.memory_bytes,
            cpus=request.cpus or min(settings.cpus, facts.cpus or settings.cpus),
            processes_max=request.processes_max or settings.processes_max,
            shm_bytes=settings.shm_bytes,
            disk_bytes=disk_bytes,
            ulimits=ulimits_of(request, settings, self._runtime.limits),
            mounts=mounts,
            tmpfs=tmpfs,
            devices=tuple(request.devices),
            gpus=request.gpus or 0,
            runtime=None if isolation is None else settings.isolations[isolation],
            grant=grant,
            seccomp_profile=await anyio.to_thread.run_sync(_profile, settings.seccomp_profile),
            blanked=environment.blanked(environment.variables(image.environment)),
            own=environment.OWN,
            stdio=settings.transport == "stdio",
        )

    async def _mounts(self, facts: EngineFacts, carried: Mount) -> tuple[tuple[Mount, ...], dict[str, int]]:
        spec, settings, request = self._spec, self._settings, self._spec.request
        mounts = [carried]
        if settings.transport == "socket":
            mounts.append(Mount(source=spec.socket_directory, target=RUN_DIRECTORY, read_only=True))
        tmpfs = dict(request.tmpfs)
        if settings.workspace == "bind":
            mounts.append(Mount(source=spec.working_directory, target=WORKSPACE, read_only=False))
        elif settings.workspace == "tmpfs":
            tmpfs[WORKSPACE] = settings.workspace_bytes
        own = (*self._runtime.protected, facts.root_directory, self._engine.address.removeprefix("unix://"))
        mounts += await volumes.mounts_of(request.volumes, settings.volumes_allowed, own, self._engine)
        if settings.tmp_bytes and "/tmp" not in {*tmpfs, *(mount.target for mount in mounts)}:
            tmpfs["/tmp"] = settings.tmp_bytes
        return tuple(mounts), tmpfs

    def _prepare(self, plan: Plan, facts: EngineFacts) -> None:
        """Make what the sandbox has on this host. Blocks.

        Raises:
            OSError: it cannot be made.
            ValueError: a variable holds NUL.
        """
        spec, settings = self._spec, self._settings
        if settings.workspace == "bind":
            premises.give_directory(spec.working_directory, plan.user, remapped=facts.remapped)
        if settings.transport == "socket":
            premises.open_door(spec.socket_directory)
            premises.tell(spec.socket_directory, self.told(plan))

    def told(self, plan: Plan) -> Settings:
        """Return what the action server is told at its start."""
        spec = self._spec
        told = Settings()
        told.generation, told.sandbox, told.token = spec.generation, spec.sandbox, spec.token
        told.socket_directory = RUN_DIRECTORY
        told.working_directory = spec.request.working_directory or WORKSPACE
        # For a kernel of the sandbox's own (gVisor), which tells none.
        told.boot_id = process_proof.boot_id()
        if plan.runtime is not None:
            # A kernel between the sandbox and this host lets no descriptor through.
            told.transfers = "inband"
        told.fault_point = self._runtime.fault_point
        told.egress_port = plan.grant.egress_port
        told.import_paths = [f"{paths.CARRIER}/lib/site"]
        if self._runtime.delivery is not None:
            told.unit_paths = [f"{paths.CARRIER}/{UNITS_PATH}"]
            told.executors += self._runtime.delivery.executors
        told.environment = environment.commands_environment(
            environment.variables(plan.image.environment), plan.grant.environment, spec.environment
        )
        return told

    async def _compare(self, plan: Plan, found: Container | None, facts: EngineFacts) -> None:
        """Refuse a container that is not as planned, before anything but the action server has run in it.

        Raises:
            SandboxStartFailed: says in what it differs.
        """
        if found is None:
            raise SandboxStartFailed("The container was gone as soon as it was started.")
        if facts.podman and found.state.running:
            shown = self._settings.cgroup_shown_allowed
            found = await anyio.to_thread.run_sync(
                partial(podman.in_words_of_docker, found, cgroup_shown_allowed=shown)
            )
        reasons = differences(plan, found, facts)
        if not reasons and found.state.running:
            # One of its processes, unless they are numbered otherwise here: in a container of the daemon's own.
            ours = self._engine.local and plan.runtime is None and is_of(Peer(found.state.pid, 0, 0), found.id)
            seen = found.state.pid if ours else None
            reasons = await anyio.to_thread.run_sync(_misled, plan.mounts, seen)
        if not reasons and (plan.runtime is not None or facts.podman):
            reasons = await self._unkept(plan.runtime or "Podman", found)
        if reasons:
            listed = "; ".join(reasons[:DIFFERENCES_MAX])
            raise SandboxStartFailed(f"The container is not as it was ordered, and was ended: {listed}")

    async def _unkept(self, runtime: str, found: Container) -> list[str]:
        # An engine tells the limits that it was told; another runtime than its own may not have kept them, and Podman
        # says that it can where the user that it runs as cannot.
        if self._settings.limits_unkept_allowed or not self._engine.local:
            return []
        if await anyio.to_thread.run_sync(kernel_view.kept_in, found.state.pid, found.id):
            return []
        return [f"memory_bytes: {runtime} keeps no limits here (docker.limits_unkept_allowed)"]


def _no_disk_limit(facts: EngineFacts, words: str = "") -> str:
    return f"disk_bytes: the engine's storage driver ({facts.storage}) cannot limit it{words}"


def _misled(mounts: Sequence[Mount], process: int | None) -> list[str]:
    """Return what a container sees otherwise than planned, as far as a process in it shows. Blocks."""
    reasons = volumes.misled(mounts, process)
    if process is None:
        return reasons
    try:
        # An image's links can lead other mounts over the carrier.
        found = sorted(kernel_view.mounted_within(process, paths.CARRIER))
        planned = sorted(mount.target for mount in mounts if paths.is_within(mount.target, paths.CARRIER))
        if found != planned:
            reasons.append(f"mounts: at {paths.CARRIER} are {found} instead of {planned}")
    except PermissionError:
        # Its view is not ours to see.
        pass
    except OSError as error:
        reasons.append(f"mounts: what is at {paths.CARRIER} cannot be seen: {error.strerror}")
    # Of one that has ended nothing can be seen, and nothing more can happen: its end says why.
    return [] if reasons and kernel_view.is_over(process) else reasons


def _profile(path: str) -> str:
    if not path:
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read(1 << 20)
