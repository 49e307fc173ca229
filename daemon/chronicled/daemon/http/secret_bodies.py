"""Bodies that hold secrets, and what is told of secrets: never a value."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from chronicled.events.kinds.runnable import VariableName

__all__ = [
    "EnvironmentBody",
    "EnvironmentView",
    "SecretBody",
    "SecretList",
    "SecretName",
    "SecretSpec",
    "SecretText",
    "SecretView",
    "Secrets",
]

SecretText = Annotated[str, Meta(min_length=1, max_length=32_768)]
SecretName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Plain = Annotated[str, Meta(max_length=32_768, pattern=r"^[^\x00]*$")]


class Hidden(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of bodies that hold secrets: what a traceback prints of them shows none."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class SecretSpec(Hidden, frozen=True, kw_only=True):
    """A secret of a session that is created."""

    name: SecretName
    """Stands wherever the value would."""
    value: SecretText
    variable: VariableName | UnsetType | None = UNSET
    """The environment variable that holds it; its name if left out, none if null."""


class SecretBody(Hidden, frozen=True, kw_only=True):
    """The value of a secret."""

    value: SecretText
    variable: VariableName | UnsetType | None = UNSET
    """The environment variable that holds it; its name if left out, none if null."""


class EnvironmentBody(Hidden, frozen=True, kw_only=True):
    """Variables to be set; those that are not named stay as they are."""

    variables: Annotated[dict[VariableName, Plain | None], Meta(max_length=256)] = {}
    """Plain ones, which events show; null takes one away."""
    secrets: Annotated[dict[SecretName, SecretText], Meta(max_length=64)] = {}
    """Those whose values are kept secret under their names."""


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """A secret: everything but its value."""

    name: str
    variables: list[str]
    """The environment variables that hold it."""


class SecretList(msgspec.Struct, frozen=True, kw_only=True):
    """The secrets of a session."""

    secrets: list[SecretView]


class EnvironmentView(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed."""

    variables: list[str]
    secrets: list[str]


Secrets = (
    Annotated[dict[SecretName, SecretText], Meta(max_length=64)] | Annotated[list[SecretSpec], Meta(max_length=64)]
)
"""By name, each in the variable of that name; or one by one."""
