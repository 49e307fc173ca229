"""Configuration: a TOML file, then the environment, then flags; one frozen struct comes out.

Every setting has its unit in its name. A key that is not known is an error, wherever it stands.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast

import msgspec

from chronicled.daemon import locations
from chronicled.events.errors import ConfigurationError
from chronicled.events.limits import BODY_BYTES_MAX, DOWNLOAD_BYTES_MAX, OUTPUT_BYTES_MAX, UPLOAD_BYTES_MAX
from chronicled.runtimes.docker.images_settings import ImageSettings
from chronicled.runtimes.docker.network_settings import NetworkSettings
from chronicled.runtimes.docker.settings import DockerSettings
from chronicled.runtimes.worker.settings import WarmSettings

__all__ = [
    "Configuration",
    "DataSettings",
    "HttpSettings",
    "LimitSettings",
    "LogSettings",
    "RuntimeSettings",
    "UnitSettings",
    "load",
]

ENVIRONMENT_PREFIX: Final = "CHRONICLED_"
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

Seconds = Annotated[float, msgspec.Meta(gt=0, le=604_800)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, msgspec.Meta(ge=1024, le=1 << 40)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section."""


class DataSettings(Section, frozen=True, kw_only=True):
    """Where the log lives."""

    directory: str = ""
    """Log, blobs, outputs, journals; empty is the XDG state directory."""
    runtime_directory: str = ""
    """Sockets of sandboxes; empty is the XDG runtime directory, or DIRECTORY/run when data or socket are elsewhere."""
    store: Literal["sqlite", "memory"] = "sqlite"
    """`memory` forgets everything at the end: for trials and tests."""


class HttpSettings(Section, frozen=True, kw_only=True):
    """Where the API listens, and who may call it."""

    socket: str = ""
    """Path of the Unix socket; empty is `chronicled.sock` in the XDG runtime directory."""
    address: str | None = None
    """HOST:PORT to listen on too; loopback only, and every request needs the bearer token."""
    token_file: str | None = None
    """File (0600) of the bearer token for `address`; none is `http.token` in the data directory, made if missing."""
    allowed_uids: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    """Users who may call over the Unix socket beside the daemon's own and root; it is open to all who reach it then,
    and whoever is not named is refused."""


class LimitSettings(Section, frozen=True, kw_only=True):
    """Bounds of everything that a caller can make grow."""

    body_bytes_max: Bytes = BODY_BYTES_MAX
    body_seconds_max: Seconds = 30.0
    """How long a request's body may take to arrive."""
    header_bytes_max: Bytes = 16_384
    """Longest request line and longest header field."""
    connections_max: Count = 1024
    idle_seconds_max: Seconds = 300.0
    """A connection without a request is closed after so long."""
    waits_max: Count = 512
    """Requests that may wait for an action's end (`Prefer: wait`) at one time."""
    wait_seconds_max: Seconds = 300.0
    """Longest wait that a request gets, whatever it asks for."""
    subscribers_max: Count = 256
    """Event streams and followed outputs open at one time."""
    write_seconds_max: Seconds = 60.0
    """A subscriber that takes nothing for so long is dropped."""
    actions_per_request_max: Count = 256
    drain_seconds: Seconds = 8.0
    """How long open requests may take after SIGTERM."""
    output_bytes_max: Bytes = OUTPUT_BYTES_MAX
    """Most output kept of one action."""
    download_bytes_max: Bytes = DOWNLOAD_BYTES_MAX
    """Largest file or archive that is downloaded."""
    upload_bytes_max: Bytes = UPLOAD_BYTES_MAX
    """Largest file or archive that is uploaded."""
    uploads_max: Count = 16
    """Uploads that may arrive at one time."""
    upload_seconds_max: Seconds = 3600.0
    """How long an upload may take to arrive."""
    exports_max: Count = 8
    """Sessions that may be taken out (`/export`) at one time."""


class RuntimeSettings(Section, frozen=True, kw_only=True):
    """Where sandboxes come from."""

    default: str = "process"
    """Runtime of a session that names none."""
    offered: tuple[str, ...] = ("process", "docker")
    """Runtimes that sessions may name; `docker` is left out where its engine's socket does not exist at the start and
    there was never a container. A unit's own runtimes bear its name (`acme.box`)."""
    warm: tuple[WarmSettings, ...] = ()
    """Sandboxes kept waiting: `[{image = "debian:12", count = 2}]`; a session that asks for no more takes one."""
    starts_max: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    """Most sandboxes that start side by side; more wait."""
    start_seconds: Seconds = 30.0
    """How long a sandbox may take to report in; the time that its image takes to come does not count."""
    sweep_seconds: Seconds = 60.0
    """How often what the runtimes hold is compared with what the log knows, and what is ours and unknown is removed."""
    unclaimed_seconds: Seconds = 900.0
    """How long a sandbox lives on without a daemon; time that it stands still does not count."""
    unreachable_seconds: Seconds = 60.0
    """How long a live sandbox may stay away while an action waits for it, before it is ended."""
    proof_seconds: Seconds = 600.0
    """How long the death of a sandbox that cannot be reached is sought, before its actions end `unknown`."""
    allow_unisolated: bool = False
    """Serve on TCP although a runtime does not keep sandboxes from the daemon's files and sockets."""
    command_seconds_default: Seconds = 1800.0
    """Command deadline of an action that names none."""


class UnitSettings(Section, frozen=True, kw_only=True):
    """What of third parties is loaded. Nothing is that does not stand here."""

    load: tuple[str, ...] = ()
    """Names of entry points in group `chronicled.units`, or `package.module:Name`."""
    skip_broken: bool = False
    """Start without units that are broken, and end their actions `error`; otherwise the daemon does not start."""
    policy_seconds: Seconds = 5.0
    """How long a policy may take for an action; then it is rejected."""
    stuck_seconds: Seconds = 10.0
    """How long a step, a rule or a policy may hold up the whole daemon; then it is ended, and not called again."""


class LogSettings(Section, frozen=True, kw_only=True):
    """What the daemon says of itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    form: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal and `json` elsewhere."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a daemon, paths filled in."""

    data: DataSettings = DataSettings()
    http: HttpSettings = HttpSettings()
    limits: LimitSettings = LimitSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    docker: DockerSettings = DockerSettings()
    images: ImageSettings = ImageSettings()
    network: NetworkSettings = NetworkSettings()
    units: UnitSettings = UnitSettings()
    log: LogSettings = LogSettings()


Layer = dict[str, dict[str, Any]]


def load(
    file: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Configuration:
    """Return the configuration from file, environment and flags, in that order of rising priority.

    Args:
        file: A TOML file that must exist; None reads the one in the XDG configuration directory, if there is one.
        environment: `CHRONICLED_SECTION__KEY` variables; lists are comma-separated. None is the process's own. One that
            names a section and has a single underscore behind it is an error too.
        flags: Values by `section.key`; None values are left out.

    Raises:
        ConfigurationError: a key is unknown (names the nearest known one), or a value does not fit; says where.
    """
    environment = os.environ if environment is None else environment
    merged: Layer = {}
    for layer in (_from_file(file, environment), _from_environment(environment), _from_flags(flags or {})):
        for section, values in layer.items():
            merged.setdefault(section, {}).update(values)
    return _complete(msgspec.convert(merged, Configuration), environment)


def _from_file(file: str | None, environment: Mapping[str, str]) -> Layer:
    path = file or locations.configuration_file(environment)
    try:
        with open(path, "rb") as stream:
            document = tomllib.load(stream)
    except FileNotFoundError:
        if file is None:
            return {}
        raise ConfigurationError(f"There is no file {path}.", source=path) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.", source=path) from None
    except RecursionError:
        raise ConfigurationError(f"{path} cannot be read: it is nested too deep.", source=path) from None
    layer: Layer = {}
    for section, table in document.items():
        if not isinstance(table, dict) or section not in _sections():
            raise _unknown(section, path)
        values = cast("dict[str, Any]", table)
        for key, value in values.items():
            _put(layer, section, key, value, path, strict=True)
        layer.setdefault(section, {})
    return layer


def _from_environment(environment: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        section, two, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if not two:
            _refuse_one_underscore(name, section)
            continue
        _put(layer, section, key, _listed(f"{section}.{key}", text), f"environment variable {name}", strict=False)
    return layer


def _listed(name: str, value: Any) -> Any:
    """Return a text as the list that it stands for, where the setting is one; lists and tables may be JSON too."""
    kind = _types().get(name)
    if isinstance(value, str) and value[:1] in ("[", "{") and kind is not str:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(value.encode())
    if isinstance(value, str) and kind is not None and getattr(kind, "__origin__", None) is tuple:
        return [part for part in re.split(r"[,\s]+", value) if part]
    return value


def _refuse_one_underscore(name: str, rest: str) -> None:
    # Not everything with our prefix is a setting (CHRONICLED_SOCKET is the client's), but what names a section is meant
    # as one.
    section, _, key = rest.partition("_")
    if section in _sections():
        raise ConfigurationError(
            f"The environment variable {name} is not a setting: between section and key stand two underscores, "
            f"as in {ENVIRONMENT_PREFIX}{section.upper()}__{key.upper() or 'KEY'}.",
            source=name,
        )


def _from_flags(flags: Mapping[str, Any]) -> Layer:
    layer: Layer = {}
    for name, value in flags.items():
        if value is not None:
            section, _, key = name.partition(".")
            _put(layer, section, key, _listed(name, value), "the command line", strict=False)
    return layer


def _put(layer: Layer, section: str, key: str, value: Any, source: str, *, strict: bool) -> None:
    name = f"{section}.{key}"
    kind = _types().get(name)
    if kind is None:
        raise _unknown(name, source)
    try:
        layer.setdefault(section, {})[key] = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{name} in {source}: {error}.", key=name, source=source) from None


def _sections() -> frozenset[str]:
    return frozenset(section.name for section in msgspec.structs.fields(Configuration))


def _types() -> dict[str, Any]:
    return {
        f"{section.name}.{field.name}": field.type
        for section in msgspec.structs.fields(Configuration)
        for field in msgspec.structs.fields(section.type)
    }


def _unknown(name: str, source: str) -> ConfigurationError:
    nearest = difflib.get_close_matches(name, _types(), n=1, cutoff=0.0)[0]
    return ConfigurationError(
        f"{source} sets {name!r}, which is not a setting; the nearest one is {nearest!r}.",
        key=name,
        source=source,
        nearest=nearest,
    )


def _complete(configuration: Configuration, environment: Mapping[str, str]) -> Configuration:
    data, http = configuration.data, configuration.http
    directory = os.path.abspath(data.directory or locations.data_directory(environment))
    shared = locations.runtime_directory(environment)
    socket = os.path.abspath(http.socket or os.path.join(shared, "chronicled.sock"))
    # Two daemons must never sweep one directory of sandboxes, so only the daemon on all defaults gets the shared one.
    own = bool(data.directory or http.socket)
    runtime = os.path.abspath(data.runtime_directory or (os.path.join(directory, "run") if own else shared))
    if http.address is not None:
        _check_address(http.address)
    return msgspec.structs.replace(
        configuration,
        data=msgspec.structs.replace(data, directory=directory, runtime_directory=runtime),
        http=msgspec.structs.replace(http, socket=socket),
    )


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"http.address is HOST:PORT, not {address!r}.", key="http.address")
    if host.strip("[]") not in LOOPBACK:
        raise ConfigurationError(
            f"http.address must be loopback for now ({', '.join(LOOPBACK)}), not {host!r}: there is no TLS yet.",
            key="http.address",
        )
