"""What a session's client does with files: to the sandbox, out of it, and what is there."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import IO, TYPE_CHECKING, Any

import msgspec

from chronicled.client.ending import Ending
from chronicled.client.recorded import WAIT_SECONDS, decode
from chronicled.client.transport import Transport
from chronicled.events.errors import PathNotFound, TransferFailed
from chronicled.events.ids import IdSource

if TYPE_CHECKING:
    from chronicled.client.archives import Source

__all__ = ["FileTransfers"]


class FileTransfers(ABC):
    """The methods of a session that are about files."""

    def __init__(self, transport: Transport, path: str, ids: IdSource) -> None:
        self._transport = transport
        self._path = path
        self._ids = ids

    @abstractmethod
    async def act(
        self, kind: str, payload: Mapping[str, Any] | msgspec.Struct, *, lane: str = "main", id: str | None = None
    ) -> Ending:
        """Submit a runnable action and wait for its end."""
        ...

    @abstractmethod
    async def wait(self, action: str) -> Ending:
        """Wait for the end of a runnable action."""
        ...

    @abstractmethod
    def read_blob(self, digest: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a blob."""
        ...

    async def upload(
        self, source: Source, path: str, *, mode: str | None = None, lane: str = "main", key: str | None = None
    ) -> Ending:
        """Put a file, a folder's tree, or bytes where the sandbox can use them, and wait for the end.

        Of a folder, regular files, folders and relative links that stay inside go; `files put` on the command line says
        what does not. It is kept as an archive in the temporary directory meanwhile.

        Args:
            source: Path of a file or folder, or the bytes of a file.
            path: The file, or the folder below which the tree goes; relative to where the lane is.
            mode: Permission bits of a file, e.g. `0755`; None takes those of the source, or for bytes what is usual.
            lane: Which of the session's lanes.
            key: Idempotency key: the same key and bytes are the same action. One is made when it is left out.

        Raises:
            InvalidRequest: it is neither file nor folder, or there is too much of it.
            PayloadTooLarge: it is larger than the daemon takes.
            OSError: the source cannot be read.
            As `act` otherwise; the way the action itself ended is in the returned value.
        """
        from chronicled.client import archives

        if not isinstance(source, bytes) and await asyncio.to_thread(os.path.isdir, source):
            async with archives.packed(source) as (archive, _):
                return await self.send_content(archive, path, tree=True, lane=lane, key=key)
        if mode is None and not isinstance(source, bytes):
            mode = f"{(await asyncio.to_thread(os.stat, source)).st_mode & 0o777:04o}"
        with archives.opened(source) as file:
            return await self.send_content(file, path, tree=False, mode=mode, lane=lane, key=key)

    async def send_content(
        self,
        content: IO[bytes],
        path: str,
        *,
        tree: bool,
        mode: str | None = None,
        lane: str = "main",
        key: str | None = None,
    ) -> Ending:
        """Upload what an open file holds, a tar archive where it is a tree; see `upload`."""
        query = {"path": path, "lane": lane} | ({} if mode is None else {"mode": mode})
        headers = {
            "Content-Type": "application/x-tar" if tree else "application/octet-stream",
            "Idempotency-Key": key or self._ids.new(),
            "Prefer": f"wait={WAIT_SECONDS}",
        }
        answer = await self._transport.send(
            "PUT", f"{self._path}/files", content, headers=headers, query=query, wait_seconds=WAIT_SECONDS
        )
        recorded = decode(answer)
        if recorded.observation is not None:
            return Ending.of(recorded.action, recorded.observation)
        return await self.wait(recorded.action.id)

    async def download(
        self,
        path: str,
        target: str | os.PathLike[str],
        *,
        tree: bool = False,
        extract: bool = True,
        lane: str = "main",
    ) -> Ending:
        """Bring a file, or what is in a folder, out of the sandbox, and wait for the end.

        A tree is extracted below the target, which is made where it is missing, and nowhere else: what comes out of a
        sandbox is not trusted. A file replaces the target in one step. Nothing is written unless the action ended well.

        Args:
            path: The file or folder; relative to where the lane is.
            target: Where it goes.
            tree: Whether it is a folder.
            extract: False keeps a tree's archive as the target, a file.
            lane: Which of the session's lanes.

        Raises:
            InvalidRequest: what came cannot be extracted here.
            OSError: the target cannot be written.
            As `act` otherwise; the way the action itself ended is in the returned value.
        """
        from chronicled.client import archives

        ending = await self.act("download", {"path": path, "form": "tree" if tree else "file"}, lane=lane)
        if not ending.ok:
            return ending
        unpacks = tree and extract
        directory = await asyncio.to_thread(archives.prepare, target, unpacks)
        async with archives.received(self._downloaded(ending), directory) as content:
            if unpacks:
                await archives.unpack(content, directory)
            else:
                await asyncio.to_thread(archives.replace, content, os.fspath(target))
        return ending

    async def _downloaded(self, ending: Ending) -> AsyncGenerator[bytes, None]:
        digest = ending.payload.get("output_digest")
        if digest is not None:
            async with aclosing(self.read_blob(digest)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def list_files(
        self, path: str = ".", *, depth: int = 1, hidden: bool = True, lane: str = "main"
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what is in a folder, page by page; each page is an action of its own.

        Raises:
            PathNotFound: there is no such folder.
            TransferFailed: it cannot be listed.
            As `act` otherwise.
        """
        after = None
        while True:
            ending = await self.act("list", {"path": path, "depth": depth, "hidden": hidden, "after": after}, lane=lane)
            if not ending.ok:
                kind = PathNotFound if ending.payload.get("reason") == "not_found" else TransferFailed
                raise kind(ending.message or f"The list ended {ending.outcome}.", action=ending.action.id)
            for entry in ending.payload["entries"]:
                yield entry
            after = ending.payload.get("next")
            if after is None:
                return
