"""What a session's client does with secrets and environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from chronicled.client.transport import Transport

__all__ = ["SecretKeeping"]


class SecretKeeping:
    """The methods of a session that are about secrets. Values go to the daemon and never come back."""

    _transport: Transport
    _path: str

    async def put_secret(self, name: str, value: str, **options: str | None) -> None:
        """Keep a value out of everything that is stored and shown from now on: its name stands in its place.

        Commands that begin later have it in a variable. A value that the secret had before stays secret too.

        Args:
            name: Letters, digits and `_`.
            value: At least 8 characters that can be told from other text.
            options: `variable`: the variable that holds it, None for none; without it, that of the secret's name.

        Raises:
            SecretRefused: the value cannot be told from other text.
            SessionClosed: the session is closed.
            TypeError: there is no such option.
        """
        if unknown := options.keys() - {"variable"}:
            raise TypeError(f"put_secret() has no option {sorted(unknown)[0]!r}")
        await self._transport.request("PUT", self._secret(name), {"value": value, **options})

    async def delete_secret(self, name: str) -> None:
        """Take a secret out of the environment; its values stay secret until the session is over.

        Raises:
            SecretNotFound: there is none of that name.
        """
        await self._transport.request("DELETE", self._secret(name))

    async def secrets(self) -> dict[str, list[str]]:
        """Return the names of the secrets, each with the variables that hold it."""
        answer = msgspec.json.decode(await self._transport.request("GET", f"{self._path}/secrets"))
        return {secret["name"]: secret["variables"] for secret in answer["secrets"]}

    async def set_environment(
        self, variables: Mapping[str, str | None] | None = None, *, secrets: Mapping[str, str] | None = None
    ) -> None:
        """Set environment variables for commands that begin from now on, in shells that run and in those to come.

        Args:
            variables: Plain ones, which events show; None takes one away.
            secrets: Those whose values are kept secret under their names.

        Raises:
            SecretRefused: a value cannot be told from other text; nothing was set.
            SessionClosed: the session is closed.
        """
        body: dict[str, Any] = {"variables": dict(variables or {}), "secrets": dict(secrets or {})}
        await self._transport.request("PUT", f"{self._path}/environment", body)

    def _secret(self, name: str) -> str:
        return f"{self._path}/secrets/{quote(name, safe='')}"
