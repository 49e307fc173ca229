"""Registration: secrets and environment variables of a session that is there already, as clients change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from chronicled.daemon.secret_changes import Secret, with_secrets, without_secret
from chronicled.daemon.submission import Submitter
from chronicled.daemon.vault import Vault
from chronicled.events.codec import Codec
from chronicled.events.envelope import LIFECYCLE, Draft
from chronicled.events.errors import SecretNotFound, SessionClosed, SessionNotFound
from chronicled.events.ids import IdSource, check_name
from chronicled.events.kinds.lifecycle import EnvironmentChanged, SecretRegistered
from chronicled.events.store import Append, EventStore
from chronicled.events.worker_log import SessionKey
from chronicled.storage.secrets import SecretRecord

__all__ = ["Registration"]


class Registration:
    """Changes what a session keeps secret and what its shells are given; each change is in the log, without values.

    Every method may raise `InvalidName`, `SessionNotFound`, `SessionClosed`, `SecretRefused`, `SecretsUnavailable`,
    `StorageFull`; then nothing has changed.

    Args:
        vault: Keeps the values.
        store: The log.
        codec: Encodes the events.
        ids: Their ids.
    """

    def __init__(self, vault: Vault, store: EventStore, codec: Codec, ids: IdSource) -> None:
        self._vault = vault
        self._store = store
        self._codec = codec
        self._ids = ids

    async def put_secret(self, by: Submitter, session: str, secret: Secret) -> bool:
        """Register a value under a name, new or in place of an earlier one, which stays secret; tell if it is new.

        When this returns, everything that is published of the session is redacted with it.
        """
        key = await self._key(by, session)
        return await self._vault.apart(lambda: self._put(by, key, secret))

    async def _put(self, by: Submitter, key: SessionKey, secret: Secret) -> bool:
        async with self._vault.hold(key):
            before = self._vault.record(key)
            record = with_secrets(before, [secret])
            # Told again if it was known: a crash may have come between what is sealed and the log.
            payload = SecretRegistered(name=secret.name, variable=secret.variable)
            await self._append(by, key, record, [("secret_registered", payload)])
            return secret.name not in before.values

    async def delete_secret(self, by: Submitter, session: str, name: str) -> None:
        """Take the secret out of the shells' environment; its values stay secret until the session is over.

        Raises:
            SecretNotFound: there is none of that name.
        """
        key = await self._key(by, session)
        await self._vault.apart(lambda: self._delete(by, key, name))

    async def _delete(self, by: Submitter, key: SessionKey, name: str) -> None:
        async with self._vault.hold(key):
            record, gone = without_secret(self._vault.record(key), name)
            if gone:
                await self._append(by, key, record, [("environment_changed", EnvironmentChanged(removed=gone))])

    async def set_environment(
        self, by: Submitter, session: str, variables: Mapping[str, str | None], secrets: Sequence[Secret]
    ) -> None:
        """Set variables (None: take away) in shells that run and in those to come, some of them as secrets."""
        key = await self._key(by, session)
        await self._vault.apart(lambda: self._set(by, key, variables, secrets))

    async def _set(
        self, by: Submitter, key: SessionKey, variables: Mapping[str, str | None], secrets: Sequence[Secret]
    ) -> None:
        async with self._vault.hold(key):
            before = self._vault.record(key)
            record = with_secrets(before, secrets, variables)
            payloads: list[tuple[str, msgspec.Struct]] = [
                ("secret_registered", SecretRegistered(name=secret.name, variable=secret.variable))
                for secret in secrets
            ]
            changed = EnvironmentChanged(
                variables={name: value for name, value in variables.items() if value is not None},
                secrets={secret.variable: secret.name for secret in secrets if secret.variable is not None},
                removed=sorted(name for name, value in variables.items() if value is None),
            )
            await self._append(by, key, record, [*payloads, ("environment_changed", changed)])

    async def names(self, by: Submitter, session: str) -> Mapping[str, list[str]]:
        """Return the names of the session's secrets, each with the variables that hold it."""
        record = self._vault.record(await self._key(by, session))
        return {
            name: sorted(variable for variable, bound in record.bound.items() if bound == name)
            for name in sorted(record.values)
        }

    async def variables_of(self, by: Submitter, session: str, name: str) -> list[str]:
        """Return the variables that hold the secret.

        Raises:
            SecretNotFound: there is none of that name.
        """
        names = await self.names(by, session)
        if name not in names:
            raise SecretNotFound(f"The session has no secret {name[:256]!r}.")
        return names[name]

    async def _key(self, by: Submitter, session: str) -> SessionKey:
        check_name(session, "session name")
        if await self._store.last(by.tenant, session) is None:
            raise SessionNotFound(f"There is no session {session!r}.")
        return SessionKey(by.tenant, session)

    async def _append(
        self, by: Submitter, key: SessionKey, record: SecretRecord, payloads: Sequence[tuple[str, msgspec.Struct]]
    ) -> None:
        if self._vault.over(key):
            # Nobody would destroy the value again, and nothing is left to keep it from.
            raise SessionClosed(f"Session {key.session!r} is closed, and nothing of it runs any more.")
        await self._vault.append(
            key, record, lambda: Append(tuple(self._draft(by, key, kind, payload) for kind, payload in payloads))
        )

    def _draft(self, by: Submitter, key: SessionKey, kind: str, payload: msgspec.Struct) -> Draft:
        return self._codec.draft(
            LIFECYCLE,
            kind,
            payload,
            tenant=key.tenant,
            session=key.session,
            id=self._ids.new(),
            source="client",
            actor=by.actor,
            traceparent=by.traceparent,
        )
