"""The docker runtime's part of the composition root: engine, images, carrier, network policies, put together."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from chronicled.daemon.configuration import Configuration
from chronicled.events.clock import Clock
from chronicled.events.errors import ConfigurationError, InvalidRequest
from chronicled.events.sandbox import SandboxRequest
from chronicled.runtimes.docker import engine_tls
from chronicled.runtimes.docker.engine import Engine, address
from chronicled.runtimes.news import News

if TYPE_CHECKING:
    from chronicled.runtimes.delivery.delivery import Delivery
    from chronicled.runtimes.docker.images import Images
    from chronicled.runtimes.docker.runtime import DockerRuntime

__all__ = ["engine_is_here", "instance_label", "open_containers"]

MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")
LEDGER_NAME = "images.json"
CARRIERS_NAME = "carriers"


def engine_is_here(settings: Configuration, environment: Mapping[str, str] | None = None) -> bool:
    """Return whether the engine that the settings name may be there, or may come. No wait.

    A socket that is missing is a plain no; but once there were containers, the log may know of some, and their engine
    may only be late: at a boot, or while it is restarted.

    Raises:
        ConfigurationError: its address cannot be used.
    """
    if os.path.isdir(os.path.join(settings.data.directory, CARRIERS_NAME)):
        return True
    where = address(settings.docker.host, os.environ if environment is None else environment)
    return not where.startswith("unix://") or os.path.exists(where.removeprefix("unix://"))


def instance_label(instance: str, directory: str) -> str:
    """Return by what this instance's containers are known: a copy of the data directory, or another host, has another.

    Args:
        instance: Id in the data directory.
        directory: The data directory.
    """
    machine = ""
    for path in MACHINE_ID_FILES:
        try:
            machine = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        break
    place = "\0".join((instance, machine, os.path.realpath(directory)))
    return hashlib.sha256(place.encode(errors="surrogateescape")).hexdigest()[:32]


async def open_containers(
    settings: Configuration,
    stack: AsyncExitStack,
    clock: Clock,
    news: News,
    *,
    instance: str,
    worker: str,
    delivery: Delivery | None = None,
) -> tuple[DockerRuntime, Images]:
    """Return the docker runtime and its images. The engine is not asked anything yet: it may come and go.

    Args:
        settings: The configuration.
        stack: Closes what is opened here.
        clock: Time.
        news: Takes what is to be told of sandboxes when nobody asks, e.g. what their network policy denied.
        instance: Id in the data directory.
        worker: Name of the worker.
        delivery: Units of third parties, to be brought into every sandbox.

    Raises:
        ConfigurationError: the engine's address, a network policy, or what sandboxes get by default, cannot be used.
    """
    # Imported when there is an engine: a daemon without one does not pay for its client.
    from chronicled.runtimes.docker.carriage import CarrierDirectory, CarrierVolume
    from chronicled.runtimes.docker.egress import open_egress
    from chronicled.runtimes.docker.images import open_images
    from chronicled.runtimes.docker.network import network_policies
    from chronicled.runtimes.docker.runtime import DockerRuntime

    _check_images(settings)
    data = settings.data.directory
    engine = Engine(settings.docker.host, settings.docker.tls_directory)
    images = await stack.enter_async_context(
        open_images(engine.client, settings.images, clock, os.path.join(data, LEDGER_NAME))
    )
    # Once more at the very end: whoever cleans up behind the runtime opens it again.
    stack.push_async_callback(engine.aclose)
    egress = await stack.enter_async_context(open_egress())
    label = instance_label(instance, data)
    carriers = CarrierDirectory(os.path.join(data, CARRIERS_NAME), delivery)
    runtime = DockerRuntime(
        settings.docker,
        instance=label,
        networks=network_policies(settings.network, label, engine.client, egress, news),
        worker=worker,
        carrier=CarrierVolume(carriers) if settings.docker.carrier == "volume" else carriers,
        images=images,
        engine=engine,
        delivery=delivery,
        protected=_protected(settings, os.environ),
    )
    _check_defaults(settings, runtime)
    return runtime, images


def _check_images(settings: Configuration) -> None:
    from chronicled.runtimes.docker.images_reference import is_reference
    from chronicled.runtimes.docker.images_registries import Registries

    named = [("docker.image", settings.docker.image or None)]
    named += [("images.prefetch", image) for image in settings.images.prefetch]
    named += [("runtime.warm", warm.image) for warm in settings.runtime.warm if warm.runtime == "docker"]
    for name, image in named:
        if image is not None and not is_reference(image):
            raise ConfigurationError(f"{name}: {image!r} is no name of an image.")
    try:
        Registries(settings.images.registries)
    except InvalidRequest as error:
        raise ConfigurationError(f"images.registries: {error.detail}") from None


def _check_defaults(settings: Configuration, runtime: DockerRuntime) -> None:
    """Refuse now what every session that leaves it to the configuration would be refused for."""
    for reason in runtime.refuses(SandboxRequest(), settings.docker.image or "any"):
        if reason.partition(":")[0] in {"network", "isolation", "user", "read_only", "ulimits"}:
            raise ConfigurationError(f"docker.{reason}.")


def _protected(settings: Configuration, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return what no sandbox may see, whatever is allowed: the daemon's own, and what proves who it is."""
    paths = (
        settings.data.directory,
        settings.data.runtime_directory,
        os.path.dirname(settings.http.socket),
        settings.http.token_file,
        settings.images.credentials_file,
        engine_tls.files_of(settings.docker.tls_directory, environment),
        environment.get("DOCKER_CERT_PATH"),
        environment.get("CREDENTIALS_DIRECTORY"),
    )
    return tuple(os.path.abspath(path) for path in paths if path)
