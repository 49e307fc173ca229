"""Credentials of registries: from a file in the form of Docker's `config.json`; nowhere shown."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final, cast

import msgspec
from anyio import to_thread

from chronicled.events.errors import ImageUnauthorized, SecretRefused
from chronicled.events.secret_forms import check_value
from chronicled.events.secret_redaction import SecretRedaction, placeholder

__all__ = ["Credentials", "load_credentials"]

FILE_BYTES_MAX: Final = 1 << 20
_HUB: Final = {"index.docker.io", "registry-1.docker.io", "docker.io"}
_HIDDEN_LENGTH_MIN: Final = 4
HIDDEN: Final = "***"
"""Stands where a credential stood."""


class Credentials:
    """What the file held when it was read. Its text form shows nothing of it."""

    def __init__(self, by_registry: dict[str, dict[str, str]]) -> None:
        self._by_registry = by_registry

    def __repr__(self) -> str:
        return f"Credentials({sorted(self._by_registry)})"

    def header(self, registry: str) -> str | None:
        """Return the value of `X-Registry-Auth` for a registry, or None where it has no entry."""
        found = self._by_registry.get(registry)
        return None if found is None else _encoded({**found, "serveraddress": registry})

    def all_header(self) -> str:
        """Return the value of `X-Registry-Config`: a build may begin from images of several registries."""
        named = {
            "https://index.docker.io/v1/" if name == "docker.io" else name: each
            for name, each in self._by_registry.items()
        }
        return _encoded(named)

    def hide(self, text: str) -> str:
        """Return the text without any of the credentials, as they are or as they travel: registries and engines quote.

        Scans for as long as the text is long: it is a message, and not an output.
        """
        entries = self._by_registry.values()
        # As the header of a request holds them.
        packed = [f"{each['username']}:{each['password']}" for each in entries if "password" in each]
        values = {value for each in entries for value in each.values()}
        values |= {base64.b64encode(each.encode()).decode() for each in packed}
        for value in sorted(values, key=len, reverse=True):
            if len(value) >= _HIDDEN_LENGTH_MIN:
                text = text.replace(value, HIDDEN)
        # In whatever other shape they come; a short one has none that could be told from innocent text.
        secrets = [each.get("password") or each.get("identitytoken") or "" for each in entries]
        redaction = SecretRedaction()
        redaction.register("", "", {HIDDEN: [each for each in secrets if _is_searchable(each)]})
        return redaction.text("", "", text).replace(placeholder(HIDDEN), HIDDEN)


def _is_searchable(value: str) -> bool:
    try:
        check_value("", value)
    except SecretRefused:
        return False
    return True


async def load_credentials(path: str | None) -> Credentials:
    """Read the file; without a path there are none.

    Raises:
        ImageUnauthorized: it cannot be read, or has another form; says what, without any of its content.
    """
    if path is None:
        return Credentials({})
    try:
        data = await to_thread.run_sync(_read, path)
    except OSError as error:
        raise ImageUnauthorized(f"The credentials file {path} cannot be read: {error.strerror or error}.") from None
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
        entries = cast("dict[str, dict[str, Any]]", document.get("auths") or {})
        return Credentials({_registry_of(name): _entry(entry) for name, entry in entries.items() if entry})
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, AttributeError, ValueError):
        raise ImageUnauthorized(
            f"The credentials file {path} is not in the form of Docker's config.json: "
            '{"auths": {"registry.example": {"auth": "BASE64 of user:password"}}}.'
        ) from None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(FILE_BYTES_MAX)


def _registry_of(name: str) -> str:
    # Older entries are URLs.
    host = name.removeprefix("https://").removeprefix("http://").split("/")[0].lower()
    return "docker.io" if host in _HUB else host


def _entry(entry: dict[str, Any]) -> dict[str, str]:
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token)}
    if packed := entry.get("auth"):
        user, colon, password = base64.b64decode(str(packed), validate=True).decode().partition(":")
        if not colon:
            raise ValueError("no colon")
        return {"username": user, "password": password}
    return {"username": str(entry["username"]), "password": str(entry["password"])} if "username" in entry else {}


def _encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode()
