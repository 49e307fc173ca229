"""TLS to an engine: where its files are, what is made of them, and what is wrong when it fails, in words."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from typing import Final

from chronicled.runtimes.docker.failure import causes

__all__ = ["FilesUnusable", "Stamp", "context_of", "files_of", "stamp_of", "trouble_of"]

AUTHORITY: Final = "ca.pem"
CERTIFICATE: Final = "cert.pem"
KEY: Final = "key.pem"
Stamp = tuple[tuple[int, int] | None, ...]
"""By what it is seen that files were changed."""
_REFUSED: Final = re.compile(r"(?i)ALERT|HANDSHAKE_FAILURE")
"""In OpenSSL's errors: it was the other side that did not go on."""
_NO_TLS: Final = re.compile(r"(?i)WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST")


class FilesUnusable(OSError):
    """Raised when a file for TLS cannot be read, or is not what it must be; the text names it."""


def files_of(directory: str, environment: Mapping[str, str]) -> str:
    """Return the folder of the files for TLS; empty is none, and then TLS is not spoken.

    Args:
        directory: The setting.
        environment: As Docker's own client reads it: DOCKER_TLS_VERIFY asks for TLS with the files of DOCKER_CERT_PATH,
            or of its own folder.
    """
    if directory or not environment.get("DOCKER_TLS_VERIFY"):
        return directory
    own = environment.get("DOCKER_CONFIG") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".docker"
    )
    return environment.get("DOCKER_CERT_PATH") or own


def context_of(directory: str) -> ssl.SSLContext:
    """Return what verifies an engine by `ca.pem`, and shows it `cert.pem` where there is one. Blocks.

    Raises:
        FilesUnusable: says which.
    """
    authority, certificate, key = (os.path.join(directory, name) for name in (AUTHORITY, CERTIFICATE, KEY))
    path = authority
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=_readable(authority))
        # An engine need not ask for one.
        if os.path.lexists(certificate) or os.path.lexists(key):
            path = key
            _readable(key)
            path = certificate
            context.load_cert_chain(_readable(certificate), key, password=_no_password)
    except ssl.SSLError:
        what = "holds no certificate" if path == authority else f"and {KEY} are no certificate with its key"
        raise FilesUnusable(f"docker.tls_directory: {path} {what}") from None
    except OSError as error:
        raise FilesUnusable(f"docker.tls_directory: {path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise FilesUnusable(f"docker.tls_directory: {key} is locked by a password") from None
    return context


def stamp_of(directory: str) -> Stamp:
    """Return what is another as soon as one of the files is. Blocks for a moment."""
    found: list[tuple[int, int] | None] = []
    for name in (AUTHORITY, CERTIFICATE, KEY):
        try:
            status = os.stat(os.path.join(directory, name))
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_ino))
    return tuple(found)


def _readable(path: str) -> str:
    with open(path, "rb"):
        return path


def _no_password() -> str:
    # Without this OpenSSL would ask for it at the terminal.
    raise ValueError


def trouble_of(error: BaseException, directory: str) -> str | None:
    """Return what of TLS is wrong, in words; None where the error is none of TLS.

    Args:
        error: With what the connection failed, or what came of that.
        directory: Where the files are.
    """
    for cause in causes(error):
        if isinstance(cause, FilesUnusable):
            return str(cause)
        # One that aiohttp keeps inside another of almost the same kind, which tells nothing.
        if isinstance(cause, ssl.SSLCertVerificationError) and hasattr(cause, "verify_message"):
            return f"its certificate is not accepted by {os.path.join(directory, AUTHORITY)}: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError) and not hasattr(cause, "certificate_error"):
            told = f"{cause.reason or ''} {cause}"
            if _REFUSED.search(told):
                return f"it does not accept {os.path.join(directory, CERTIFICATE)} ({_sentence(cause)})"
            if _NO_TLS.search(told):
                return "it does not speak TLS there (docker.tls_directory, DOCKER_TLS_VERIFY)"
            return f"TLS failed: {_sentence(cause)}"
    return None


def _sentence(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
