"""The action server's process: composition of its parts, from fork to exit."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable

from chronicled.events import faultpoint
from chronicled.runtimes.action_server import frames, process_tree
from chronicled.runtimes.action_server.backlog import SpillRoom
from chronicled.runtimes.action_server.dial import Dialler
from chronicled.runtimes.action_server.executor import ExecutorTable, SandboxContext
from chronicled.runtimes.action_server.files import FileExecutor
from chronicled.runtimes.action_server.lane_shell import find_bash
from chronicled.runtimes.action_server.lanes import LANES_MAX
from chronicled.runtimes.action_server.output_stream import OutputStreams
from chronicled.runtimes.action_server.run import RunExecutor
from chronicled.runtimes.action_server.server import OPEN_ACTIONS_MAX, ActionServer
from chronicled.runtimes.action_server.settings import Settings
from chronicled.runtimes.action_server.stdio import StdioServer
from chronicled.runtimes.action_server.supervision import Supervisor

__all__ = ["main"]

BUILD = "0.1.0"


def main(settings: Settings, reaper: socket.socket, up: int) -> int:
    """Serve until the generation ends; return the exit status. A line to descriptor `up` says that it is up."""
    _arm(settings.fault_point)
    asyncio.run(_serve(settings, reaper, up))
    return 0


async def _serve(settings: Settings, reaper: socket.socket, up: int) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    supervisor = Supervisor(reaper, over.set)
    table = ExecutorTable()
    # Where an output waits for a worker that is away: best on a disk, in a file that has no name.
    room = SpillRoom((settings.working_directory, "/tmp", "/var/tmp"))

    def background(lane: str, data: bytes, size: int) -> None:
        server.post(frames.Background(lane=lane, data=data, size=size))

    search_path = os.fsdecode(settings.environment.get(b"PATH", b""))
    bash = find_bash(search_path, os.path.dirname(sys.executable))
    run = RunExecutor(supervisor, bash, settings.environment, background)
    streams = OutputStreams(settings.token, room)
    server = ActionServer(table, settings.working_directory, over.set, streams, run.set_variables)
    server.lanes.holds_state = run.holds_state
    table.add(run)
    table.add(FileExecutor(settings.environment))
    units: dict[str, dict[str, str]] = {}
    if settings.executors:
        units = await _load_units(settings, table)
    line = _line(settings, server, lambda: _hello(settings, table, server, **units))
    os.write(up, b"\n")
    os.close(up)
    dialling = loop.create_task(line.run())
    ending = loop.create_task(over.wait())
    try:
        await asyncio.wait((dialling, ending), return_when=asyncio.FIRST_COMPLETED)
        if dialling.done():
            dialling.result()
    finally:
        for task in (dialling, ending):
            task.cancel()
        await asyncio.wait((dialling, ending))
        await server.close()
        supervisor.close()


def _line(settings: Settings, server: ActionServer, hello: Callable[[], frames.Hello]) -> Dialler | StdioServer:
    """Return what keeps the worker and the server together."""
    if settings.stdio is not None:
        return StdioServer(server, settings.stdio, settings.token, hello, settings.unclaimed_seconds_max)
    return Dialler(server, settings.socket_directory, hello, settings.unclaimed_seconds_max)


async def _load_units(settings: Settings, table: ExecutorTable) -> dict[str, dict[str, str]]:
    # Imported when there are any: a sandbox without them does not pay for it.
    from chronicled.runtimes.action_server.unit_executors import load_executors

    context = SandboxContext(
        sandbox=settings.sandbox,
        generation=settings.generation,
        working_directory=settings.working_directory,
        environment={os.fsdecode(name): os.fsdecode(value) for name, value in settings.environment.items()},
    )
    loaded = await load_executors(settings.executors, settings.unit_paths, table, context)
    return {"units": loaded.units, "missing": loaded.missing}


def _hello(
    settings: Settings,
    table: ExecutorTable,
    server: ActionServer,
    units: dict[str, str] | None = None,
    missing: dict[str, str] | None = None,
) -> frames.Hello:
    pid = os.getpid()
    known = process_tree.identify(pid)
    transfers = ("inband",) if settings.stdio is not None else tuple(settings.transfers.split())
    return frames.Hello(
        protocol=frames.PROTOCOL,
        protocol_min=frames.PROTOCOL_MIN,
        build=BUILD,
        boot_id=_boot_id(settings),
        generation=settings.generation,
        # Over standard streams, where others may read, its seals prove that it knows the token.
        token="" if settings.stdio is not None else settings.token,
        fence=server.fence,
        pid=pid,
        start_ticks=known[0][1] if known is not None else 0,
        kinds=table.kinds,
        versions=table.versions,
        units=units or {},
        missing=missing or {},
        limits={"open_actions_max": OPEN_ACTIONS_MAX, "lanes_max": LANES_MAX},
        transfers=transfers if server.transfer is None else (server.transfer,),
    )


def _boot_id(settings: Settings) -> str:
    if settings.stdio is not None and settings.boot_id:
        # On whatever host its engine runs: what lives is for the engine to say, and the worker goes by its own boot.
        return settings.boot_id
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        # A kernel of the sandbox's own (gVisor), which lives no longer than the sandbox: the worker's word will do.
        return settings.boot_id


def _arm(setting: str) -> None:
    """Arm a fault point given as `name:n`: the n-th arrival there kills this process."""
    name, _, count = setting.partition(":")
    if name not in faultpoint.POINTS:
        return
    left = int(count or 1)

    def reached(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    faultpoint.arm(reached)
