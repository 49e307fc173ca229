"""What `upload` does: one file, or a tree from an archive."""

from __future__ import annotations

import os
from typing import Any

from chronicled.events.kinds.files import Upload
from chronicled.runtimes.action_server.files.content import Content
from chronicled.runtimes.action_server.files.extraction import extract
from chronicled.runtimes.action_server.files.failure import BadArguments
from chronicled.runtimes.action_server.files.replacement import replace_file
from chronicled.runtimes.action_server.files.work import Work
from chronicled.runtimes.action_server.files.writing import IN_PLACE

__all__ = ["upload"]


def upload(arguments: Upload, work: Work) -> dict[str, Any]:
    """Put the content where it belongs and return the observation's fields.

    Raises:
        FileFailure: the archive is not taken, or an entry of it cannot be written.
        OSError: the file, or the folder of the tree, cannot be made.
        BadArguments: no content came with the action.
    """
    if work.content is None:
        raise BadArguments("no content came with the upload")
    path = work.resolve(arguments.path)
    directory = path if arguments.form == "tree" else os.path.dirname(os.path.realpath(path))
    os.makedirs(directory, exist_ok=True)
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        content = Content(work.content, arguments.content_bytes, directory, work)
        try:
            if arguments.form == "tree":
                done = extract(content, root, work)
                return {"path": path, "entries": done.entries, "bytes_written": done.bytes_written}
            mode = None if arguments.mode is None else int(arguments.mode, 8)
            replaced = replace_file(path, work.until_stopped(content.pieces()), mode=mode)
        finally:
            content.close()
    finally:
        os.close(root)
    fields: dict[str, Any] = {"path": path, "entries": 1, "bytes_written": replaced.bytes_written}
    return fields | ({"message": IN_PLACE} if replaced.in_place else {})
