"""What an export must not show: the secrets of one session, opened from the data directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from chronicled.events.errors import SecretsUnavailable
from chronicled.events.secret_redaction import SecretRedaction
from chronicled.events.worker_log import SessionKey
from chronicled.storage.disk import SystemDisk
from chronicled.storage.seal import Seal
from chronicled.storage.secrets import SecretStore

__all__ = ["SECRETS", "session_redaction"]

SECRETS: Final = "secrets"
"""The folder of the data directory."""


def session_redaction(data: Path, key: SessionKey, *, expected: bool) -> SecretRedaction:
    """Return a redaction that knows the session's secrets.

    Args:
        data: The data directory.
        key: The session.
        expected: Whether the log says that the session has secrets, and not that they are destroyed.

    A session whose secrets are not there though they should be, or cannot be read, is blocked: see `SecretRedaction`.
    """
    redaction = SecretRedaction()
    seal = Seal(str(data), os.environ.get("CREDENTIALS_DIRECTORY"), SystemDisk())
    store = SecretStore(str(data / SECRETS), seal, SystemDisk())
    try:
        record = store.find(key)
    except SecretsUnavailable as error:
        redaction.block(
            key.tenant, key.session, f"The secrets of session {key.session!r} cannot be read. {error.detail}"
        )
        return redaction
    if record is not None and record.values:
        redaction.register(key.tenant, key.session, record.values)
    elif record is None and expected:
        redaction.block(
            key.tenant,
            key.session,
            f"The secrets of session {key.session!r} are not there, so nothing of it is shown. Restore them with the"
            " data directory.",
        )
    return redaction
