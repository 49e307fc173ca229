"""Changes to what a session keeps secret: from one record to the next, without effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from chronicled.events.errors import SecretNotFound, SecretRefused
from chronicled.events.secret_forms import check_value
from chronicled.storage.secrets import SecretRecord

__all__ = ["Secret", "with_secrets", "without_secret"]

SECRETS_MAX: Final = 64
"""Most names of one session."""
VALUES_MAX: Final = 256
"""Most values of one session, with those that were replaced by later ones."""
RECORD_BYTES_MAX: Final = 1 << 20


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as a client gives it; its representation hides the value."""

    name: str
    value: str
    variable: str | None
    """The environment variable that holds it; None for no variable."""

    def __repr__(self) -> str:
        return f"<Secret {self.name}>"


def with_secrets(
    record: SecretRecord, secrets: Sequence[Secret], variables: Mapping[str, str | None] | None = None
) -> SecretRecord:
    """Return the record with these secrets and plain variables (None: taken away) added.

    Raises:
        SecretRefused: a value cannot be told from other text, or the session has too many.
    """
    values = {name: list(known) for name, known in record.values.items()}
    environment = dict(record.variables)
    bound = dict(record.bound)
    for name, value in (variables or {}).items():
        environment[name] = value
        bound.pop(name, None)
    for secret in secrets:
        check_value(secret.name, secret.value)
        known = values.setdefault(secret.name, [])
        if secret.value in known:
            known.remove(secret.value)
        known.append(secret.value)
        for variable in [variable for variable, name in bound.items() if name == secret.name]:
            if variable != secret.variable:
                environment[variable] = None
                del bound[variable]
        if secret.variable is not None:
            environment[secret.variable] = secret.value
            bound[secret.variable] = secret.name
    changed = SecretRecord(values=values, variables=environment, bound=bound)
    if len(values) > SECRETS_MAX or sum(map(len, values.values())) > VALUES_MAX:
        raise SecretRefused(f"A session has at most {SECRETS_MAX} secrets and {VALUES_MAX} values of them.")
    if len(msgspec.json.encode(changed)) > RECORD_BYTES_MAX:
        raise SecretRefused(f"The secrets and variables of a session have at most {RECORD_BYTES_MAX} bytes.")
    return changed


def without_secret(record: SecretRecord, name: str) -> tuple[SecretRecord, list[str]]:
    """Return the record with the secret taken out of the variables, and those variables; its values stay secret.

    Raises:
        SecretNotFound: there is none of that name.
    """
    if name not in record.values:
        raise SecretNotFound(f"The session has no secret {name!r}.")
    gone = sorted(variable for variable, bound in record.bound.items() if bound == name)
    variables: dict[str, str | None] = {**record.variables, **dict.fromkeys(gone)}
    bound = {variable: each for variable, each in record.bound.items() if each != name}
    return SecretRecord(values=record.values, variables=variables, bound=bound), gone
