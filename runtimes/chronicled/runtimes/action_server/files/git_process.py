"""Running the sandbox's git such that nothing of a repository's own runs with it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from chronicled.runtimes.action_server.files.failure import FileFailure
from chronicled.runtimes.action_server.files.work import Work

__all__ = ["Completed", "Git", "find_git"]

_STDERR_BYTES_MAX: Final = 16 << 10
_FILTERS_MAX: Final = 256
_CHUNK_BYTES: Final = 64 << 10
_NOWHERE: Final = b"/.chronicled-nowhere"
_ENVIRONMENT: Final = {
    b"GIT_ALLOW_PROTOCOL": b"none",
    b"GIT_ASKPASS": b"",
    b"GIT_ATTR_NOSYSTEM": b"1",
    b"GIT_CONFIG_NOSYSTEM": b"1",
    b"GIT_NO_LAZY_FETCH": b"1",
    b"GIT_NO_REPLACE_OBJECTS": b"1",
    b"GIT_OPTIONAL_LOCKS": b"0",
    b"GIT_PAGER": b"cat",
    b"GIT_TERMINAL_PROMPT": b"0",
    b"HOME": _NOWHERE,
    b"LC_ALL": b"C",
    b"SSH_ASKPASS": b"",
    b"XDG_CONFIG_HOME": _NOWHERE,
}
"""What comes in place of the sandbox's own: no settings but the repository's, no network, no questions."""
_SETTINGS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.askPass=",
    "core.gitProxy=",
    "core.pager=cat",
    "core.quotePath=true",
    "core.sshCommand=false",
    "core.untrackedCache=false",
    "color.ui=never",
    "credential.helper=",
    "diff.external=",
    "diff.ignoreSubmodules=dirty",
    "diff.orderFile=/dev/null",
    "gc.auto=0",
    "log.showSignature=false",
    "maintenance.auto=false",
    "protocol.allow=never",
    "safe.bareRepository=explicit",
    "safe.directory=*",
    "submodule.recurse=false",
)
"""What is set over a repository's settings. Those that name programs of their own (filters) are found and set empty."""
_TRUST: Final = b"[safe]\n\tdirectory = *\n\tbareRepository = explicit\n"
"""For versions that do not take this from the command line: who owns the files does not matter when nothing runs."""


class Completed(NamedTuple):
    """How a run of git ended."""

    code: int
    output: bytes
    error: str
    cut: bool
    """There was more output than was asked for; git was ended then."""


def find_git(environment: dict[bytes, bytes]) -> bytes | None:
    """Return the path of the sandbox's git, if it has one."""
    for directory in environment.get(b"PATH", b"").split(b":"):
        path = os.path.join(directory, b"git")
        # A relative entry would run what stands in the folder that is asked about.
        if directory.startswith(b"/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


class Git:
    """Git in one folder.

    Args:
        program: Path of git.
        directory: Where it runs.
        work: The action's work; its end ends git.
    """

    def __init__(self, program: bytes, directory: str, work: Work) -> None:
        self.directory = directory
        self.filters: list[str] = []
        """Names of the filters that the repository sets, and that do not run."""
        self._program = program
        self._work = work
        self._settings: list[str] = list(_SETTINGS)

    def disarm(self) -> None:
        """Find the programs that the repository's settings name for filtering contents, and set them to nothing.

        Raises:
            FileFailure: there are too many, or one cannot be set.
        """
        listed = self.run(["config", "--null", "--name-only", "--list"], 4 << 20)
        if listed.code or listed.cut:
            raise FileFailure("unsafe_repository", f"the repository's settings cannot be read: {listed.error}")
        names = {name for name in listed.output.split(b"\0") if name.lower().startswith(b"filter.")}
        drivers = sorted({name[: name.rindex(b".")] for name in names if name.count(b".") > 1})
        if len(drivers) > _FILTERS_MAX:
            raise FileFailure("unsafe_repository", f"the repository sets more than {_FILTERS_MAX} filters")
        for driver in drivers:
            name = os.fsdecode(driver)
            if b"=" in driver:
                # Git would take it for the name of another setting.
                raise FileFailure("unsafe_repository", f"the repository sets a filter with = in its name: {name!a}")
            self.filters.append(name.removeprefix("filter."))
            self._settings += (f"{name}.clean=", f"{name}.smudge=", f"{name}.process=", f"{name}.required=false")

    def run(self, arguments: Sequence[str], bytes_max: int) -> Completed:
        """Run git and return what it printed, at most `bytes_max` of it.

        Raises:
            Stopped: the action is to end; git has ended.
            OSError: git cannot be run.
        """
        self._work.check()
        command: list[str | bytes] = [self._program, "--no-pager", "--no-optional-locks", "--literal-pathspecs"]
        for setting in self._settings:
            command += ("-c", setting)
        with self._process([*command, *arguments]) as process, self._work.at_stop(lambda: _kill(process)):
            completed = _collect(process, bytes_max)
        self._work.check()
        return completed

    def text(self, arguments: Sequence[str]) -> str | None:
        """Return the one line that git printed, None where it failed. Raises as `run`."""
        completed = self.run(arguments, 64 << 10)
        return None if completed.code else os.fsdecode(completed.output.removesuffix(b"\n"))

    @contextlib.contextmanager
    def _process(self, command: Sequence[str | bytes]) -> Generator[subprocess.Popen[bytes]]:
        trust = os.memfd_create("git-trust")
        try:
            os.write(trust, _TRUST)
            own = {name: value for name, value in self._work.environment.items() if not name.startswith(b"GIT_")}
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**own, **_ENVIRONMENT, b"GIT_CONFIG_GLOBAL": b"/proc/self/fd/%d" % trust},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(trust,),
                start_new_session=True,
            )
        finally:
            os.close(trust)
        try:
            yield process
        finally:
            _kill(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Not reaped yet, so the number still is the group's.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _collect(process: subprocess.Popen[bytes], bytes_max: int) -> Completed:
    assert process.stdout is not None
    assert process.stderr is not None
    output, error = process.stdout.fileno(), process.stderr.fileno()
    taken = {output: bytearray(), error: bytearray()}
    poll, cut = select.poll(), False
    for descriptor in taken:
        poll.register(descriptor, select.POLLIN)
    left = set(taken)
    while left and not cut:
        for descriptor, _ in poll.poll():
            data = os.read(descriptor, _CHUNK_BYTES)
            if not data:
                poll.unregister(descriptor)
                left.discard(descriptor)
            elif descriptor == output or len(taken[error]) < _STDERR_BYTES_MAX:
                taken[descriptor] += data
        cut = len(taken[output]) > bytes_max
    if cut:
        _kill(process)
    code = process.wait()
    message = " ".join(taken[error][:_STDERR_BYTES_MAX].decode(errors="replace").split())
    return Completed(0 if cut else code, bytes(taken[output][:bytes_max]), message[:1000], cut)
