"""What a forked child of the lane reaper does to become a shell or a program. Standard library only.

A child of a fork has one thread, and everything in it ends in `execve` or `_exit`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import termios

__all__ = [
    "CONTROL_DESCRIPTOR",
    "OUTPUT_DESCRIPTOR",
    "PATH_DEFAULT",
    "STATUS_DESCRIPTOR",
    "TTY_DESCRIPTOR",
    "Failure",
    "become_program",
    "become_shell",
    "decode_program",
    "encode_program",
]

CONTROL_DESCRIPTOR = 0
TTY_DESCRIPTOR = 147
STATUS_DESCRIPTOR = 148
OUTPUT_DESCRIPTOR = 149
"""Numbers in the shell: its own input is the control pipe. The others are out of the way of bash, which takes 10 and
up, 63 and down (process substitution), 255 and down, and of what scripts like to use (`exec 200>lock`)."""
PATH_DEFAULT = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for when the environment has no PATH."""
_FREE_DESCRIPTOR = 300
_DEFAULTED = (
    "SIGPIPE",
    "SIGINT",
    "SIGQUIT",
    "SIGTERM",
    "SIGHUP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGCHLD",
    "SIGXFSZ",
)


class Failure(Exception):
    """Raised in the child when it cannot become the program: `place` is `directory`, `program` or `interpreter`."""

    def __init__(self, place: str, number: int) -> None:
        super().__init__(place, number)
        self.place = place
        self.number = number


def encode_program(directory: bytes, arguments: list[bytes], environment: dict[bytes, bytes]) -> bytes:
    """Return directory, arguments and environment as one string of NUL-separated parts.

    Raises:
        ValueError: one of them holds NUL.
    """
    parts = [directory, b"%d" % len(arguments), *arguments]
    parts += [name + b"=" + value for name, value in environment.items()]
    if any(b"\0" in part for part in parts):
        raise ValueError("a part of the program's start holds NUL")
    return b"\0".join(parts)


def decode_program(data: bytes) -> tuple[bytes, list[bytes], dict[bytes, bytes]]:
    """Return what `encode_program` was given."""
    directory, count, *rest = data.split(b"\0")
    arguments, variables = rest[: int(count)], rest[int(count) :]
    environment: dict[bytes, bytes] = {}
    for variable in variables:
        name, _, value = variable.partition(b"=")
        environment[name] = value
    return directory, arguments, environment


def become_shell(directory: bytes, program: bytes, descriptors: list[int], environment: dict[bytes, bytes]) -> None:
    """Become an interactive bash with a session of its own; `descriptors` are terminal, output, control and status.

    Where a kernel knows the terminal, but has no `/dev/tty` (gVisor), bash finds it as its standard error, until the
    first line that it is sent; else it would have no job control.
    """
    os.setsid()
    fcntl.ioctl(descriptors[0], termios.TIOCSCTTY, 0)
    tty, output, control, status = descriptors
    null = os.open("/dev/null", os.O_RDWR)
    _place(
        {
            CONTROL_DESCRIPTOR: control,
            1: null,
            2: null if _opens("/dev/tty") else tty,
            TTY_DESCRIPTOR: tty,
            STATUS_DESCRIPTOR: status,
            OUTPUT_DESCRIPTOR: output,
        }
    )
    # Where it cannot be there is no shell: what was meant for that place must not happen in another.
    os.chdir(directory)
    _take_signals()
    os.execve(program, [program, b"--noprofile", b"--norc", b"--noediting", b"-i"], environment)


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def become_program(data: bytes, tty: int, output: int) -> None:
    """Become a program: the terminal's foreground, its input the terminal, its output and errors where `output` leads.

    Raises:
        Failure: it cannot.
    """
    directory, arguments, environment = decode_program(data)
    take_foreground(tty, os.getpid())
    _place({0: tty, 1: output, 2: output})
    try:
        os.chdir(directory)
    except OSError as problem:
        raise Failure("directory", problem.errno or errno.ENOENT) from None
    failure = Failure("program", errno.ENOENT)
    for path in _paths(arguments[0], environment.get(b"PATH", PATH_DEFAULT)):
        try:
            _take_signals()
            os.execve(path, arguments, environment)
        except OSError as problem:
            number = problem.errno or errno.ENOENT
            # Like a shell: what is there but cannot be run is told rather than what is not there.
            if number not in (errno.ENOENT, errno.ENOTDIR):
                failure = Failure("program", number)
            elif os.path.exists(path):
                failure = Failure("interpreter", number)
            if number not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                break
    raise failure


def take_foreground(tty: int, pid: int) -> None:
    """Give a child a process group of its own and make that the terminal's foreground; parent and child both do it."""
    try:
        os.setpgid(pid, pid)
        os.tcsetpgrp(tty, pid)
    except OSError:
        # The other of the two was first and the program is running, or is over.
        pass


def _paths(name: bytes, search: bytes) -> list[bytes]:
    if not name or b"/" in name:
        return [name] if name else []
    return [os.path.join(folder or b".", name) for folder in search.split(b":")]


def _place(places: dict[int, int]) -> None:
    """Put descriptors where they are to be, and close all others."""
    # First out of the way of the numbers that they are to get.
    copies = {target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _FREE_DESCRIPTOR) for target, source in places.items()}
    for target, source in copies.items():
        os.dup2(source, target)
    kept = sorted(places)
    for number, following in zip(kept, [*kept[1:], _FREE_DESCRIPTOR], strict=True):
        os.closerange(number + 1, following)


def _take_signals() -> None:
    for name in _DEFAULTED:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
