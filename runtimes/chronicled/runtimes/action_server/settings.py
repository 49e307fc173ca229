"""What an action server is told at its start, over a descriptor or in a file: nothing of it is in argv or environment.

The wire form is NUL-separated `name=value`, so that the reaper, which must stay small, can read it without a library.
"""

from __future__ import annotations

import os

__all__ = ["Settings", "decode", "encode"]


class Settings:
    """Settings of one generation, all as text except the environment, which may hold any bytes."""

    def __init__(self) -> None:
        self.generation = ""
        self.sandbox = ""
        self.token = ""
        self.socket_directory = ""
        self.working_directory = "/"
        self.boot_id = ""
        """Of the worker's machine, for sandboxes whose kernel tells none."""
        self.fault_point = ""
        self.egress_port = 0
        """Port of the loopback that leads to the worker's proxy; 0 for none."""
        self.transfers = "descriptors inband"
        """Ways of transfer that work between the worker and this sandbox, separated by spaces."""
        self.unclaimed_seconds_max = 900.0
        self.import_paths: list[str] = []
        """Folders that the bootstrap puts in front of `sys.path`."""
        self.executors: list[tuple[str, str, str]] = []
        """Executors of third parties: owner, release, `package.module:Class`."""
        self.unit_paths: list[str] = []
        """Folders that have the executors and all that they need; they come after everything of ours."""
        self.environment: dict[bytes, bytes] = {}
        """The environment of every shell, complete."""
        self.stdio: tuple[int, int] | None = None
        """Descriptors that bring and take the frames, where there is no socket; set by the bootstrap, never sent."""


_TEXT = (
    "generation",
    "sandbox",
    "token",
    "socket_directory",
    "working_directory",
    "boot_id",
    "fault_point",
    "transfers",
)


def encode(settings: Settings) -> bytes:
    """Return the wire form.

    Raises:
        ValueError: a value holds NUL.
    """
    records = [f"{name}={getattr(settings, name)}".encode(errors="surrogateescape") for name in _TEXT]
    if settings.egress_port:
        records.append(f"egress_port={settings.egress_port}".encode())
    records.append(f"unclaimed_seconds_max={settings.unclaimed_seconds_max}".encode())
    records += [b"import_path=" + os.fsencode(path) for path in settings.import_paths]
    records += [b"unit_path=" + os.fsencode(path) for path in settings.unit_paths]
    records += [("executor=" + "\t".join(each)).encode() for each in settings.executors]
    records += [b"environment=" + name + b"=" + value for name, value in settings.environment.items()]
    if any(b"\0" in record for record in records):
        raise ValueError("a setting of the action server holds a NUL character")
    return b"\0".join(records)


def decode(data: bytes) -> Settings:
    """Return what `encode` was given; records of an unknown name are left out (a newer worker may send more)."""
    settings = Settings()
    for record in data.split(b"\0"):
        name, _, value = record.partition(b"=")
        text = name.decode()
        if text in _TEXT:
            setattr(settings, text, value.decode(errors="surrogateescape"))
        elif text == "unclaimed_seconds_max":
            settings.unclaimed_seconds_max = float(value)
        elif text == "egress_port":
            settings.egress_port = int(value)
        elif text == "import_path":
            settings.import_paths.append(os.fsdecode(value))
        elif text == "unit_path":
            settings.unit_paths.append(os.fsdecode(value))
        elif text == "executor":
            owner, release, reference = value.decode().split("\t", 2)
            settings.executors.append((owner, release, reference))
        elif text == "environment":
            variable, _, content = value.partition(b"=")
            settings.environment[variable] = content
    return settings
