"""The docker runtime: sandboxes that are containers, made from unmodified images, hardened, without ports.

Every container carries labels of whose it is, and nothing without all of ours is ever touched. They outlive the worker;
what is true of one is asked of the engine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import structlog

from chronicled.events.errors import SandboxError, SandboxStartFailed, SandboxUnreachable
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes import process_proof
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.docker import labels, premises
from chronicled.runtimes.docker.attach_link import AttachLines
from chronicled.runtimes.docker.birth import Birth
from chronicled.runtimes.docker.carriage import CarrierSource
from chronicled.runtimes.docker.engine import Engine
from chronicled.runtimes.docker.errands import Errands
from chronicled.runtimes.docker.failure import EngineDenied, EngineRefused, EngineUnreachable
from chronicled.runtimes.docker.ground import Ground
from chronicled.runtimes.docker.images import ImageStore
from chronicled.runtimes.docker.images_found import resolved
from chronicled.runtimes.docker.images_reference import parse_reference
from chronicled.runtimes.docker.network_policy import NetworkPolicy, NoNetwork
from chronicled.runtimes.docker.notices import Notices
from chronicled.runtimes.docker.peers import is_of
from chronicled.runtimes.docker.plan import limits_here, network_of, refusals
from chronicled.runtimes.docker.sandbox import DockerSandbox, Life, ending_of, moment_of
from chronicled.runtimes.docker.settings import DockerSettings
from chronicled.runtimes.process import FAULT_POINT_VARIABLE
from chronicled.runtimes.runtime import Handle, Report, SandboxSpec
from chronicled.runtimes.worker.link import Listen

if TYPE_CHECKING:
    from chronicled.runtimes.delivery.delivery import Delivery

__all__ = ["DockerRuntime"]

REMOVE_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 0.1
REACH_SECONDS: Final = 10.0
"""How long a start waits for an engine that does not answer."""
COLLECT_SECONDS: Final = 3600.0
"""How often carriers that nobody has any more are looked for."""
ABORT_SECONDS: Final = 60.0
"""How long a start that failed waits for the proof that nothing of it is left."""

_log = structlog.get_logger("chronicled.docker")


class DockerRuntime:
    """Starts sandboxes as containers of one engine.

    Args:
        settings: What the operator decided.
        instance: Id of this instance: data directory and machine. Containers of another are never touched.
        worker: Name of the worker.
        carrier: Where the action server comes from.
        images: Brings images to the engine.
        engine: The engine; None is that of the settings. Closed when `run` ends.
        networks: Network policies by name; `none` alone by default.
        protected: Paths of this host that no sandbox may see, whatever the settings allow: the data directory, ...
        delivery: Units of third parties, which the carrier has; None has none.
        fault_point: Handed to action servers, for crash tests; None takes it from this process's environment.

    Raises:
        ConfigurationError: the engine's address cannot be used.
    """

    def __init__(
        self,
        settings: DockerSettings,
        *,
        instance: str,
        worker: str,
        carrier: CarrierSource,
        images: ImageStore,
        engine: Engine | None = None,
        networks: Mapping[str, NetworkPolicy] | None = None,
        protected: Sequence[str] = (),
        delivery: Delivery | None = None,
        fault_point: str | None = None,
    ) -> None:
        self.delivery = delivery
        self.settings = settings
        self.instance = instance
        self.engine = engine or Engine(settings.host, settings.tls_directory)
        self.networks: Mapping[str, NetworkPolicy] = networks or {"none": NoNetwork()}
        self.images = images
        self.carrier = carrier
        self.worker = worker
        self.protected = tuple(protected)
        self.fault_point = os.environ.get(FAULT_POINT_VARIABLE, "") if fault_point is None else fault_point
        self._dialling: dict[str, str | None] = {}
        """By sandbox, the container whose processes may dial for it; None for any process of this host."""
        self.lines = AttachLines(self.engine)
        """How sandboxes are reached whose directory cannot be shared."""
        self.errands = Errands(self.engine, instance)
        self.ground = Ground(self.errands)
        self.notices = Notices(self.engine, instance)
        self._collect_at = 0.0
        self.limits = limits_here()
        self.uid, self.gid = os.geteuid(), os.getegid()

    @property
    def name(self) -> str:
        """`docker`."""
        return "docker"

    @property
    def isolated(self) -> bool:
        """True: code in a sandbox reaches nothing of the host but what was mounted for it."""
        return True

    @property
    def listen(self) -> Listen | None:
        """Over their standard streams, where that is set; see `Runtime.listen`."""
        return self.lines.listen if self.settings.transport == "stdio" else None

    def may_dial(self, sandbox: str, peer: Peer) -> bool:
        """Return whether the process is one of the sandbox's container; see `Runtime.may_dial`."""
        container = self._dialling.get(sandbox, "")
        return container is None or is_of(peer, container)

    def note(self, spec: SandboxSpec, container: str) -> None:
        """Learn which container a sandbox is, before anything of it can dial."""
        # Under another isolation than the engine's own, a process of this host speaks for the sandbox.
        isolated = spec.request.isolation or self.settings.isolation
        self._dialling[spec.sandbox] = None if isolated else container

    @property
    def pauses(self) -> bool:
        """True: the engine stops all processes of a container."""
        return True

    async def run(self) -> None:
        """Follow the engine's notices until cancelled, then close the connections to it; see `Runtime.run`."""
        try:
            await self.notices.run()
        finally:
            with anyio.CancelScope(shield=True):
                await self.engine.aclose()

    def refuses(self, request: SandboxRequest, image: str | None = None) -> list[str]:
        """Everything that configuration and machine do not allow; see `Runtime.refuses`."""
        return refusals(request, image, self.settings, self.limits, self.networks)

    # -- starting --------------------------------------------------------------------------------------------------

    async def start(self, spec: SandboxSpec, report: Report | None = None) -> DockerSandbox:
        """Start a sandbox; see `Runtime.start`.

        Raises:
            SandboxUnreachable: it failed on the way, and the engine was lost, so that something of it may be left:
                `remove` it.
        """
        if reasons := self.refuses(spec.request, spec.image):
            raise SandboxStartFailed("; ".join(reasons))
        birth = Birth(self, spec, report)
        try:
            await self._reach()
            return await birth.run()
        except (EngineRefused, EngineUnreachable, OSError, ValueError) as error:
            await self._abort(birth, spec)
            made = {} if birth.begun else {"made": False}
            raise SandboxStartFailed(f"{birth.phase}: {getattr(error, 'detail', error)}", **made) from error
        except BaseException:
            await self._abort(birth, spec)
            raise

    async def _reach(self) -> None:
        """Return once the engine answers. One that is being restarted is waited for, as nothing was begun yet."""
        deadline = time.monotonic() + REACH_SECONDS
        while True:
            try:
                await self.engine.facts()
                return
            except EngineDenied:
                raise
            except EngineUnreachable:
                if time.monotonic() > deadline:
                    raise
            await anyio.sleep(RETRY_SECONDS)

    async def _abort(self, birth: Birth, spec: SandboxSpec) -> None:
        if not birth.begun:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(ABORT_SECONDS):
            await anyio.to_thread.run_sync(premises.untell, spec.socket_directory)
            await self.remove(spec.sandbox)
            return
        raise SandboxUnreachable(f"{birth.phase}: the start failed, and it is not known what is left of it.")

    def sandbox(self, life: Life, spec: SandboxSpec, *, phases: dict[str, float], digest: str | None) -> DockerSandbox:
        """Return the sandbox of a container that runs."""
        return DockerSandbox(
            life,
            boot_id=process_proof.boot_id() if self.engine.local else "",
            shortage=self.notices.shortage(life.container),
            stillness=self.notices.stillness(life.container),
            socket_directory=spec.socket_directory if self.settings.transport == "socket" else None,
            phases=phases,
            image_digest=digest,
        )

    # -- finding again ---------------------------------------------------------------------------------------------

    async def attach(self, handle: Handle, spec: SandboxSpec) -> DockerSandbox | None:
        """Find a sandbox again, or prove it dead; see `Runtime.attach`."""
        if self._rebooted(handle):
            return None
        life = self._life(handle)
        state = await life.ended()
        if state is None:
            await self._take_up(life, spec)
            return self.sandbox(life, spec, phases={}, digest=None)
        if state.status == "restarted":
            await self.remove(spec.sandbox)
        return None

    async def _take_up(self, life: Life, spec: SandboxSpec) -> None:
        self.note(spec, life.container)
        await self.notices.recall(life.container, moment_of(life.started_at))
        if self.settings.transport == "socket":
            await anyio.to_thread.run_sync(premises.open_door, spec.socket_directory)
        else:
            self.lines.open(spec.socket_directory, life.container, spec.token)
        policy = self.networks.get(network_of(spec.request, self.settings))
        try:
            if policy is not None:
                await policy.resume(spec)
        except SandboxStartFailed as error:
            # It lives on without a network that works: no reason to end what runs in it.
            _log.warning("network_not_resumed", sandbox=spec.sandbox, detail=error.detail)

    async def epitaph(self, handle: Handle, spec: SandboxSpec) -> str:
        """Return why its container ended, as long as the engine has it; see `Runtime.epitaph`."""
        if self._rebooted(handle):
            return "host_rebooted"
        try:
            state = await self._life(handle).ended()
        except SandboxUnreachable:
            return "found_dead"
        return "found_dead" if state is None else ending_of(state)

    def _life(self, handle: Handle) -> Life:
        return Life(
            self.engine,
            str(handle.get("engine", "")),
            str(handle.get("container", "")),
            str(handle.get("started_at", "")),
            self.instance,
        )

    def _rebooted(self, handle: Handle) -> bool:
        # No process outlives its boot. Of another machine's boots nothing is known.
        known = str(handle.get("boot_id", ""))
        return bool(known) and self.engine.local and known != process_proof.boot_id()

    # -- removing --------------------------------------------------------------------------------------------------

    async def remove(self, sandbox: str) -> None:
        """Remove the sandbox's container and network, if there are any; see `Runtime.remove`."""
        deadline, trouble = time.monotonic() + REMOVE_SECONDS, ""
        while True:
            try:
                mine = await self._containers(f"{labels.SANDBOX}={sandbox}")
                if not mine:
                    break
                for container in mine:
                    await self._remove(container)
            except (EngineRefused, EngineUnreachable) as error:
                trouble = error.detail
            if time.monotonic() > deadline:
                raise SandboxUnreachable(f"Sandbox {sandbox} could not be removed: {trouble or 'it is still there'}")
            await anyio.sleep(RETRY_SECONDS)
        self._dialling.pop(sandbox, None)
        await self._release(sandbox)

    async def _release(self, sandbox: str) -> None:
        for policy in self.networks.values():
            try:
                await policy.release(sandbox)
            except SandboxError as error:
                raise SandboxUnreachable(f"The network of sandbox {sandbox} is left: {error.detail}") from error

    async def sweep(self, known: Collection[str], head: int = 0) -> Sequence[str]:
        """Remove containers of this instance whose sandboxes are not known; see `Runtime.sweep`."""
        removed: list[str] = []
        trouble: SandboxUnreachable | None = None
        try:
            found = await self._containers()
        except EngineRefused as error:
            raise SandboxUnreachable(f"The engine does not list its containers: {error.detail}") from error
        for owner in found.values():
            # Known by now, even if it was not when the engine was asked.
            if owner.sandbox in known or owner.position > head:
                continue
            try:
                await self.remove(owner.sandbox)
                removed.append(owner.sandbox)
            except SandboxUnreachable as error:
                trouble = error
        for policy in self.networks.values():
            try:
                await policy.sweep(known, head)
            except SandboxError as error:
                trouble = SandboxUnreachable(f"Something of networks is left: {error.detail}")
        try:
            await self.errands.sweep()
        except SandboxError as error:
            trouble = SandboxUnreachable(f"Something of errands is left: {error.detail}")
        await self._collect_carriers()
        if trouble is not None:
            raise trouble
        return removed

    async def _collect_carriers(self) -> None:
        if time.monotonic() < self._collect_at:
            return
        self._collect_at = time.monotonic() + COLLECT_SECONDS
        try:
            if removed := await self.carrier.collect(self.engine):
                _log.info("carriers_collected", carriers=removed)
        except (SandboxError, OSError) as error:
            # They only take up room; the next time comes.
            _log.warning("carriers_not_collected", detail=getattr(error, "detail", str(error)))

    async def _containers(self, *further: str) -> dict[str, labels.Owner]:
        """Return the containers that are ours by all of their labels."""
        found: dict[str, labels.Owner] = {}
        for entry in await self.engine.containers(f"{labels.INSTANCE}={self.instance}", *further):
            owner = labels.owner_of(entry.get("Labels") or {})
            if owner is not None and owner.instance == self.instance and not await self._inherited(entry, owner):
                found[entry["Id"]] = owner
        return found

    async def _inherited(self, entry: Mapping[str, Any], owner: labels.Owner) -> bool:
        """Return whether somebody made it from an image that was made of one of ours: that has all of its labels."""
        if f"/{labels.container_name(owner.sandbox)}" in (entry.get("Names") or ()):
            return False
        image = await self.engine.image(str(entry.get("ImageID")))
        if image is None:
            return False
        found = resolved(parse_reference(str(image["Id"])), image)
        return found.labels.get(labels.SANDBOX) == owner.sandbox

    async def _remove(self, container: str) -> None:
        await self.engine.remove(container)
        self.notices.forget(container)
