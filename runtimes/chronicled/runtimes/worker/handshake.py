"""The handshake: who dialled, and may it stay."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import anyio
import msgspec

from chronicled.events.errors import ProtocolError, ProtocolMismatch, StaleFence
from chronicled.runtimes.action_server.connection import Peer
from chronicled.runtimes.action_server.frames import Hello, Refusal, Transfer, Welcome
from chronicled.runtimes.action_server.protocol_range import Spoken, agree, spoken_here
from chronicled.runtimes.worker.link import Link

__all__ = ["Expected", "choose_transfer", "shake_hands"]


def choose_transfer(hello: Hello) -> Transfer | None:
    """Return the best way of transfer that the server offers, None if it offers none that is known here."""
    return "descriptors" if "descriptors" in hello.transfers else "inband" if "inband" in hello.transfers else None


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a socket expects."""

    generation: str
    token: str
    boot_id: str
    fence: int
    results: int
    """Descriptor of the generation's result spool."""
    unclaimed_seconds: float
    seconds: float
    """How long the peer may take to speak."""
    accepts: Callable[[Peer], bool] | None = None
    """Whether a process of this host can be the generation's server, as its runtime knows; None for any."""


async def shake_hands(link: Link, expected: Expected) -> Hello:
    """Return who dialled, once it has proven itself and been welcomed.

    Raises:
        ProtocolMismatch: no common protocol version; it was told so.
        ProtocolError: it is not whom the socket expects, or did not speak in time; it was refused.
        StaleFence: the action server has a worker with a newer claim.
    """
    with anyio.move_on_after(expected.seconds):
        hello = await link.receive()
        if not isinstance(hello, Hello):
            raise ProtocolError("The peer did not begin with hello.")
        return _judge(link, hello, expected)
    raise ProtocolError(f"The peer did not say hello within {expected.seconds} s.")


def _judge(link: Link, hello: Hello, expected: Expected) -> Hello:
    peer = None if expected.accepts is None else link.peer
    if peer is not None and expected.accepts is not None and not expected.accepts(peer):
        link.send(Refusal(code="refused", message="This process is not of the sandbox."))
        raise ProtocolError(f"Process {peer.pid} of user {peer.uid} dialled, which is not of the sandbox.")
    if not hmac.compare_digest(hello.token.encode(), expected.token.encode()):
        link.send(Refusal(code="refused", message="The token is wrong."))
        raise ProtocolError("A peer with a wrong token dialled.")
    if hello.generation != expected.generation or hello.boot_id != expected.boot_id:
        link.send(Refusal(code="refused", message="Another generation is expected here."))
        raise ProtocolError(f"Generation {hello.generation[:64]!r} dialled the socket of {expected.generation}.")
    try:
        version = agree(Spoken(hello.protocol_min, hello.protocol), spoken_here())
    except ProtocolMismatch as mismatch:
        link.send(Refusal(code=mismatch.code, message=mismatch.detail))
        raise
    if hello.fence > expected.fence:
        link.send(Refusal(code="stale-fence", message="A newer claim has been here."))
        raise StaleFence(f"The action server has seen fence {hello.fence}, this worker holds {expected.fence}.")
    transfer = choose_transfer(hello)
    if transfer is None:
        link.send(Refusal(code="protocol-mismatch", message="No way of transfer is left."))
        raise ProtocolMismatch(f"The action server can transfer by {hello.transfers!r} only.")
    welcome = Welcome(
        protocol=version,
        fence=expected.fence,
        unclaimed_seconds_max=expected.unclaimed_seconds,
        transfer=transfer,
    )
    link.send(welcome, expected.results)
    return hello
