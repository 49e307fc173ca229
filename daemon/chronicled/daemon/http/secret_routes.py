"""Secrets and environment of a session: registered and set here, never given back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from chronicled.daemon.http.call import Call, json_response
from chronicled.daemon.http.parameters import submitter
from chronicled.daemon.http.route import Answer, Handler, Route
from chronicled.daemon.http.secret_bodies import (
    EnvironmentBody,
    EnvironmentView,
    SecretBody,
    SecretList,
    SecretName,
    SecretSpec,
    SecretView,
)
from chronicled.daemon.registration import Registration
from chronicled.daemon.secret_changes import Secret
from chronicled.events.errors import (
    ChronicledError,
    InvalidName,
    InvalidRequest,
    SecretNotFound,
    SecretRefused,
    SecretsUnavailable,
    SessionClosed,
    SessionNotFound,
    StorageFull,
)
from chronicled.events.secret_forms import check_value
from chronicled.events.secret_redaction import SecretRedaction

__all__ = ["SecretRoutes", "secrets_of", "without"]


class SecretRoutes:
    """The routes of secrets and environment.

    Args:
        registration: Changes both.
    """

    def __init__(self, registration: Registration) -> None:
        self._registration = registration
        self._secret_body = msgspec.json.Decoder(SecretBody)
        self._environment_body = msgspec.json.Decoder(EnvironmentBody)

    def routes(self) -> tuple[Route, ...]:
        """Return the rows of the route table."""
        secrets = "/v1/sessions/{session}/secrets"
        json = "application/json"
        shown = {json: (SecretView,)}
        return (
            _row(
                "GET",
                secrets,
                "list_secrets",
                "List a session's secrets, without values",
                self.list,
                {200: Answer("The names.", {json: (SecretList,)})},
            ),
            _row(
                "PUT",
                secrets + "/{name}",
                "put_secret",
                "Register a secret, or another value for it",
                self.put,
                {
                    200: Answer("The secret had a value before; that one stays secret too.", shown),
                    201: Answer("The secret was registered.", shown),
                },
                body=SecretBody,
                problems=(SecretRefused, SessionClosed),
            ),
            _row(
                "DELETE",
                secrets + "/{name}",
                "delete_secret",
                "Take a secret out of the environment",
                self.delete,
                {200: Answer("No variable holds it any more; its values stay secret.", shown)},
                problems=(SecretNotFound, SessionClosed),
            ),
            _row(
                "PUT",
                "/v1/sessions/{session}/environment",
                "set_environment",
                "Set environment variables",
                self.set_environment,
                {200: Answer("Commands that begin from now on see them.", {json: (EnvironmentView,)})},
                body=EnvironmentBody,
                problems=(SecretRefused, SessionClosed),
            ),
        )

    async def list(self, call: Call) -> web.Response:
        """List secrets."""
        names = await self._registration.names(submitter(call), call.path["session"])
        views = [SecretView(name=name, variables=variables) for name, variables in names.items()]
        return json_response(SecretList(secrets=views))

    async def put(self, call: Call) -> web.Response:
        """Register a secret."""
        body = await call.body(self._secret_body)
        secret = self._secret(call.path["name"], body.value, body.variable)
        new = await self._registration.put_secret(submitter(call), call.path["session"], secret)
        return await self._shown(call, 201 if new else 200)

    async def delete(self, call: Call) -> web.Response:
        """Take a secret out of the environment."""
        await self._registration.delete_secret(submitter(call), call.path["session"], call.path["name"])
        return await self._shown(call, 200)

    async def set_environment(self, call: Call) -> web.Response:
        """Set variables."""
        body = await call.body(self._environment_body)
        if both := sorted(body.variables.keys() & body.secrets.keys()):
            raise InvalidRequest(f"{both[0]} is both plain and a secret.", member="variables")
        _check_variables(body.variables)
        secrets = secrets_of(body.secrets)
        await self._registration.set_environment(submitter(call), call.path["session"], body.variables, secrets)
        return json_response(EnvironmentView(variables=sorted(body.variables), secrets=sorted(body.secrets)))

    async def _shown(self, call: Call, status: int) -> web.Response:
        name = call.path["name"]
        variables = await self._registration.variables_of(submitter(call), call.path["session"], name)
        return json_response(SecretView(name=name, variables=variables), status)

    def _secret(self, name: str, value: str, variable: str | UnsetType | None) -> Secret:
        try:
            msgspec.convert(name, SecretName)
        except msgspec.ValidationError:
            raise InvalidName("A secret's name is a letter or _, then letters, digits and _; 128 at most.") from None
        return Secret(name=name, value=value, variable=name if variable is UNSET else variable)


def secrets_of(given: Mapping[str, str] | list[SecretSpec]) -> list[Secret]:
    """Return the secrets of a body, in one of the two forms that it may give them.

    Raises:
        InvalidRequest: two have the same name or variable.
    """
    if isinstance(given, Mapping):
        return [Secret(name=name, value=value, variable=name) for name, value in given.items()]
    secrets = [
        Secret(name=each.name, value=each.value, variable=each.name if each.variable is UNSET else each.variable)
        for each in given
    ]
    variables = [secret.variable for secret in secrets if secret.variable is not None]
    if len({secret.name for secret in secrets}) < len(secrets) or len(set(variables)) < len(variables):
        raise InvalidRequest("Two secrets have the same name or variable.", member="secrets")
    return secrets


def without(secrets: Sequence[Secret], text: str) -> str:
    """Return the text without the values of secrets that are not registered yet, or never will be."""
    values: dict[str, list[str]] = {}
    for secret in secrets:
        with contextlib.suppress(SecretRefused):
            check_value(secret.name, secret.value)
            values[secret.name] = [secret.value]
    redaction = SecretRedaction()
    redaction.register("", "", values)
    return redaction.text("", "", text)


def _check_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is not None and "\0" in value:
            raise InvalidRequest(f"The variable {name} cannot hold a NUL character.", member="variables")


def _row(
    method: str,
    path: str,
    name: str,
    summary: str,
    handler: Handler,
    answers: dict[int, Answer],
    *,
    body: Any = None,
    problems: tuple[type[ChronicledError], ...] = (),
) -> Route:
    return Route(
        method=method,
        path=path,
        name=name,
        summary=summary,
        handler=handler,
        answers=answers,
        body=body,
        problems=(SessionNotFound, InvalidName, SecretsUnavailable, StorageFull, *problems),
        writes=method != "GET",
    )
