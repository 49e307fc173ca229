"""What `write` does."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from chronicled.events.kinds.actions import Write
from chronicled.runtimes.action_server.files.failure import BadArguments
from chronicled.runtimes.action_server.files.replacement import replace_file
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["IN_PLACE", "write"]

IN_PLACE: Final = "it was written in place and not in one step: its folder is not writable, or the file is mounted"


def write(arguments: Write, work: Work) -> dict[str, Any]:
    """Replace the file and return the observation's fields.

    Raises:
        OSError: it cannot be written.
        BadArguments: the content is not base64, or has no UTF-8 form.
    """
    try:
        if arguments.encoding == "base64":
            data = base64.b64decode(arguments.content, validate=True)
        else:
            data = arguments.content.encode()
    except (ValueError, binascii.Error) as problem:
        raise BadArguments(f"the content cannot be decoded: {problem}") from None
    path = work.resolve(arguments.path)
    done = replace_file(path, [data])
    fields: dict[str, Any] = {"path": path, "bytes_written": done.bytes_written, "existed": done.existed}
    return fields | ({"message": IN_PLACE} if done.in_place else {})
