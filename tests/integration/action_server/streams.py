"""A stand-in for an engine: keeps a process with its standard streams, and lets workers attach to them and go."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from chronicled.runtimes.action_server import bootstrap, settings
from chronicled.runtimes.process import clean_environment, import_paths
from chronicled.runtimes.runtime import SandboxSpec


class Attachment:
    """The streams as one worker has them; once detached it carries nothing."""

    def __init__(self, main: MainProcess) -> None:
        self._main = main
        self._reads: asyncio.Queue[bytes] = asyncio.Queue(maxsize=4)
        self.detached = False
        self.break_after: int | None = None
        """Break both ways once so many bytes have passed."""

    async def read(self) -> bytes:
        """Return what the process printed since."""
        while not self.detached:
            try:
                return await asyncio.wait_for(self._reads.get(), 0.05)
            except TimeoutError:
                continue
        return b""

    async def write(self, data: bytes) -> None:
        """Write to the process; what follows a break is lost."""
        if self.break_after is not None:
            data, self.break_after = data[: self.break_after], self.break_after - len(data)
            if self.break_after <= 0:
                self.detached = True
        await self._main.write(data)
        if self.detached:
            raise OSError("detached")

    async def close(self) -> None:
        """Detach."""
        self.detached = True

    async def take(self, data: bytes) -> None:
        """Take what the process printed."""
        if self.break_after is not None:
            data, self.break_after = data[: self.break_after], self.break_after - len(data)
            if self.break_after <= 0:
                self.detached = True
        while data and not self.detached:
            try:
                await asyncio.wait_for(self._reads.put(data), 0.05)
                return
            except TimeoutError:
                continue


class MainProcess:
    """The main process of a container, as its engine has it: output that nobody is attached for is thrown away."""

    def __init__(self, spec: SandboxSpec) -> None:
        Path(spec.working_directory).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", "-S", os.path.abspath(bootstrap.__file__), spec.sandbox, spec.generation]
        self.process = subprocess.Popen(
            [*command, bootstrap.STDIO_OPTION], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"LANG": "C.UTF-8"}
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)
        self._attached: Attachment | None = None
        self._loop = asyncio.get_running_loop()
        self._copying = self._loop.create_task(self._copy())
        self._told = settings.encode(_settings(spec))

    async def tell(self) -> None:
        """Write the settings, as who starts the container does."""
        await self.write(len(self._told).to_bytes(4, "big") + self._told)

    async def attach(self) -> Attachment:
        """Attach in place of whoever was."""
        if self._attached is not None:
            self._attached.detached = True
        self._attached = Attachment(self)
        return self._attached

    async def write(self, data: bytes) -> None:
        """Write to standard input, in pieces as an engine does."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._stdin, view[:32768]) :]
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer, self._stdin)

    async def close(self) -> None:
        """End the process."""
        self._copying.cancel()
        await asyncio.wait((self._copying,))
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, 20)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()

    async def _copy(self) -> None:
        while True:
            try:
                data = os.read(self._stdout, 32768)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader, self._stdout)
                continue
            if not data:
                return
            if self._attached is not None:
                await self._attached.take(data)

    async def _ready(self, add: object, remove: object, descriptor: int) -> None:
        ready = asyncio.Event()
        assert callable(add)
        assert callable(remove)
        add(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            remove(descriptor)


def _settings(spec: SandboxSpec) -> settings.Settings:
    told = settings.Settings()
    told.generation, told.sandbox, told.token = spec.generation, spec.sandbox, spec.token
    told.working_directory = spec.working_directory
    told.import_paths = import_paths()
    environment = clean_environment(told.working_directory, os.environ) | spec.environment
    told.environment = {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}
    return told
