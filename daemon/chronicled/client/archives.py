"""Files and trees of the caller's machine on their way to a sandbox, and from one."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from typing import IO, TypeVar

from anyio import create_task_group, sleep_forever, to_thread

from chronicled.events.errors import InvalidRequest
from chronicled.runtimes.action_server.files.content import Content
from chronicled.runtimes.action_server.files.extraction import Extracted, extract
from chronicled.runtimes.action_server.files.failure import FileFailure
from chronicled.runtimes.action_server.files.packing import Packing
from chronicled.runtimes.action_server.files.regular import chunks
from chronicled.runtimes.action_server.files.replacement import replace_file
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["Source", "opened", "packed", "prepare", "received", "replace", "unpack"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Source = str | os.PathLike[str] | bytes
"""What is uploaded: a file's or folder's path, or the bytes of one file."""


@contextlib.contextmanager
def opened(source: Source) -> Generator[IO[bytes]]:
    """Give the bytes of one file.

    Raises:
        OSError: it cannot be read.
    """
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        yield file


@contextlib.asynccontextmanager
async def packed(source: str | os.PathLike[str]) -> AsyncGenerator[tuple[IO[bytes], Packing]]:
    """Give the archive of a folder, and what was left out of it; it is kept in a file without a name meanwhile.

    Raises:
        InvalidRequest: it is no folder and no file, or there is too much in it.
        OSError: it cannot be read, or there is no room for the archive.

    Cancellation: the archive is dropped.
    """
    work = Work(os.fspath(source), {})
    packing = Packing(work)

    def pack(file: IO[bytes]) -> None:
        for piece in packing.tree(os.fspath(source)):
            file.write(piece)
        file.seek(0)

    with tempfile.TemporaryFile() as file:
        try:
            await _in_thread(pack, file, work)
        except FileFailure as problem:
            raise InvalidRequest(f"It cannot be uploaded: {problem.message}.") from None
        yield file, packing


def prepare(target: str | os.PathLike[str], tree: bool) -> str:
    """Return the folder that a download goes to, made where it is missing.

    Raises:
        OSError: it cannot be made.
    """
    path = os.path.abspath(target)
    directory = path if tree else os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    return directory


@contextlib.asynccontextmanager
async def received(pieces: AsyncGenerator[bytes], directory: str) -> AsyncGenerator[IO[bytes]]:
    """Give a file without a name that holds what comes; it is kept near the directory where it will go.

    Raises:
        OSError: there is no room for it.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                await to_thread.run_sync(file.write, piece)
        file.seek(0)
        yield file


async def unpack(file: IO[bytes], directory: str) -> Extracted:
    """Extract an archive that came out of a sandbox below a folder, and nowhere else; see `extraction`.

    Raises:
        InvalidRequest: it holds what is not taken, and nothing was written; or an entry could not be written.
        OSError: the folder cannot be opened.

    Cancellation: stops behind the present entry.
    """
    work = Work(directory, {})

    def act(descriptor: int) -> Extracted:
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return extract(Content(descriptor, os.fstat(descriptor).st_size, directory, work), root, work)
        finally:
            os.close(root)

    file.flush()
    try:
        return await _in_thread(act, file.fileno(), work)
    except FileFailure as problem:
        raise InvalidRequest(f"The archive cannot be extracted: {problem.message}.") from None


async def _in_thread(act: Callable[[Argument], Result], argument: Argument, work: Work) -> Result:
    """Do work in a thread. A cancelled caller has it stopped, and waits until it has."""
    done: list[Result] = []
    failed: list[Exception] = []
    async with create_task_group() as tasks:
        tasks.start_soon(_stop_at_cancel, work)
        try:
            done.append(await to_thread.run_sync(act, argument))
        except Exception as error:
            # Raised below: a task group would wrap it.
            failed.append(error)
        tasks.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return done[0]


async def _stop_at_cancel(work: Work) -> None:
    try:
        await sleep_forever()
    finally:
        work.stop()


def replace(content: IO[bytes], target: str) -> None:
    """Replace a file in one step by what an open file holds.

    Raises:
        OSError: it cannot be written.
    """
    content.flush()
    replace_file(target, chunks(content.fileno()))
