"""Engines whose containers have other users than the host: user namespaces of root's engine, and a rootless engine.

They take an account with a range of subordinate ids, which this machine need not have: theirs stands in files of their
own, put over those of the system in a mount namespace of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.engine.own import OwnEngine

__all__ = ["ACCOUNT", "FIRST_SUBORDINATE", "RemappedEngine", "RootlessEngine", "as_account"]

ACCOUNT: Final = "chronicled-test"
FIRST_SUBORDINATE: Final = 1_000_000
_UID: Final = 4242
_COVER: Final = (
    "for name in passwd group subuid subgid; do"
    ' touch /etc/$name; mount --bind "$DIRECTORY/etc/$name" /etc/$name || exit 1; done; exec "$@"'
)


def _covered(directory: Path, arguments: Sequence[str]) -> list[str]:
    """Return the words that start a program in namespaces where the account is known."""
    etc = directory / "etc"
    etc.mkdir(exist_ok=True)
    account = {"passwd": f"{ACCOUNT}:x:{_UID}:{_UID}::{directory}/home:/bin/sh\n", "group": f"{ACCOUNT}:x:{_UID}:\n"}
    for name, line in account.items():
        (etc / name).write_text(Path("/etc", name).read_text() + line)
    for name in ("subuid", "subgid"):
        (etc / name).write_text(f"{ACCOUNT}:{FIRST_SUBORDINATE}:65536\n")
    namespaces = ["unshare", "--net", "--mount", "--propagation=private"]
    return [*namespaces, "env", f"DIRECTORY={directory}", "sh", "-c", _COVER, "sh", *arguments]


def as_account(
    directory: Path, places: Mapping[str, str], words: Sequence[str], further: Sequence[str] = ()
) -> list[str]:
    """Return the words that start a program as the account, which has nothing but folders of its own.

    Args:
        directory: Below it the folders are made.
        places: Variables that name a folder.
        words: The program.
        further: Folders besides.
    """
    for name in (*places.values(), *further):
        (directory / name).mkdir(mode=0o700, exist_ok=True)
        os.chown(directory / name, _UID, _UID)
    directory.chmod(0o777)
    variables = [f"{name}={directory / place}" for name, place in places.items()]
    user = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", "--inh-caps=-all", "env", "-i"]
    return _covered(directory, [*user, f"PATH={os.environ['PATH']}", *variables, *words])


class RemappedEngine(OwnEngine):
    """An engine of root's that gives containers a user namespace; configure `userns-remap` with the account."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the words that start it."""
        # Containers must reach what is mounted from below it.
        self.directory.chmod(0o711)
        return _covered(self.directory, ["dockerd", *arguments])


class RootlessEngine(OwnEngine):
    """An engine that runs as an ordinary user, in that user's own namespaces."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the words that start it, as that user."""
        (self.directory / "daemon.json").chmod(0o644)
        # Without a network of its own: it has the empty namespace, and no right over it.
        kit = [
            "rootlesskit",
            f"--state-dir={self.directory}/runtime/kit",
            "--net=host",
            "--copy-up=/etc",
            "--copy-up=/run",
        ]
        forget = 'rm -f /run/docker /run/containerd /run/xtables.lock; exec "$@"'
        engine = ["dockerd", *arguments, "--iptables=false", "--bridge=none"]
        words = [*kit, "--propagation=rslave", "sh", "-c", forget, "sh", *engine]
        return as_account(self.directory, {"HOME": "home", "XDG_RUNTIME_DIR": "runtime"}, words, ("data", "exec"))

    @staticmethod
    def missing() -> list[str]:
        """Return the programs that it takes and that are not here."""
        return [name for name in ("rootlesskit", "newuidmap", "setpriv") if shutil.which(name) is None]
