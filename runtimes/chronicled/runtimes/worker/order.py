"""What a session's sandbox is to be, and whom its socket expects: as the session's log says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from chronicled.events.envelope import Event
from chronicled.events.errors import SandboxUnreachable
from chronicled.events.kinds.lifecycle import GenerationStarted, SandboxRequested
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.runtime import Runtime, SandboxSpec
from chronicled.runtimes.worker.handshake import Expected

if TYPE_CHECKING:
    from chronicled.runtimes.worker.session import SessionWorker

__all__ = ["Order"]

Record = TypeVar("Record", SandboxRequested, GenerationStarted)


class Order:
    """The order for the sandboxes of one session."""

    def __init__(self, session: SessionWorker) -> None:
        self._session = session
        self._context = session.context

    def decoded(self, event: Event | None, expected: type[Record]) -> Record | None:
        """Return the payload of an event of the log, None where there is none.

        Raises:
            SandboxUnreachable: it cannot be read here.
        """
        if event is None:
            return None
        payload = self._context.codec.decode(event)
        if not isinstance(payload, expected):
            raise SandboxUnreachable(
                f"The session's {event.kind} cannot be read here: nothing is known of its sandbox."
            )
        return payload

    def spec(self, sandbox: str, generation: str, token: str, position: int) -> SandboxSpec:
        """Return what is to be started, or was; `position` is that of its request."""
        session, directories = self._session, self._context.directories
        created = session.created
        return SandboxSpec(
            tenant=session.key.tenant,
            session=session.key.session,
            sandbox=sandbox,
            generation=generation,
            token=token,
            socket_directory=directories.socket_directory(sandbox),
            working_directory=directories.home(sandbox),
            image=None if created is None else created.image,
            environment=session.environment.variables,
            request=SandboxRequest() if created is None else created.sandbox,
            position=position,
            image_pin=self.pin(),
        )

    def pin(self) -> str | None:
        """Return what brings the same image as the session's sandboxes had so far; None where there was none."""
        # A session's image is what its name stood for when it began, whoever moves the name meanwhile.
        begun = self.decoded(self._session.fold.begun, GenerationStarted)
        return None if begun is None else begun.image_digest

    def expected(
        self, spec: SandboxSpec, runtime: Runtime | None, results: int, boot_id: str | None = None
    ) -> Expected:
        """Return whom the sandbox's socket expects; `boot_id` is that of its machine, if not this boot's."""
        settings = self._context.settings
        return Expected(
            generation=spec.generation,
            token=spec.token,
            boot_id=boot_id or settings.boot_id,
            fence=self._session.publisher.fence,
            results=results,
            unclaimed_seconds=settings.unclaimed_seconds,
            seconds=settings.handshake_seconds,
            accepts=None if runtime is None else partial(runtime.may_dial, spec.sandbox),
        )
