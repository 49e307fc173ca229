"""The recipe of the carrier: which packages, why, and what of them is left out."""

from __future__ import annotations

from typing import Final, NamedTuple

from chronicled.runtimes.carrier.failure import CarrierFailed

__all__ = [
    "APPLETS",
    "ARCHITECTURES",
    "LIBRARIES",
    "MOUNT_PATH",
    "PACKAGES",
    "PRUNED",
    "PYTHON",
    "SUITE",
    "Architecture",
    "architecture_of",
]

MOUNT_PATH: Final = "/.chronicled"
"""Where every sandbox has it: the loader's path stands in the interpreter's file, so it cannot be elsewhere."""
SUITE: Final = "bookworm"
"""Debian's, whose packages are taken."""
PYTHON: Final = "python3.11"

PACKAGES: Final = {
    "python3.11-minimal": "the interpreter's executable",
    "libpython3.11-minimal": "the part of the standard library that it cannot start without",
    "libpython3.11-stdlib": "the rest of it: asyncio, and what a Python cell may import",
    "libc6": "loader and C library, so that the image's need not fit, or be there at all",
    "libgcc-s1": "what the C library loads to end a thread",
    "zlib1g": "zlib, of which the executable is linked",
    "libexpat1": "XML, of which the executable is linked",
    "libssl3": "ssl and hashlib, for Python cells in images without Python",
    "libffi8": "ctypes: the reapers call prctl",
    "libbz2-1.0": "bz2 and with it tarfile, shutil",
    "liblzma5": "lzma, the same",
    "libuuid1": "uuid",
    "libcrypt1": "crypt",
    "bash-static": "the shell of images that have none",
    "busybox-static": "utilities of images that have no shell and no utilities",
}
"""Package by why it is there."""

LIBRARIES: Final = ("libgcc_s.so.1",)
"""Loaded by name at run time, so that no file says that it needs them."""

APPLETS: Final = """
    [ ash awk base64 basename cat chmod chown clear cmp cp cut date dd df diff dirname du echo egrep env expr
    false fgrep find fold grep groups gunzip gzip head hexdump hostname id kill less link ln logname ls md5sum
    mkdir mkfifo mknod mktemp more mv nl nproc od paste patch pidof printf ps pwd readlink realpath rev rm rmdir
    sed seq sh sha1sum sha256sum sha512sum sleep sort stat strings stty sync tac tail tar tee test time timeout
    top touch tr true truncate tty uname uniq unlink unzip uptime vi wc wget which whoami xargs xxd yes
"""
"""Busybox's names in the folder that is lent to images without any utility."""

PRUNED: Final = (
    # Neither of use without a terminal or a display, nor for what runs in a sandbox.
    "__pycache__ config-3.11* distutils ensurepip idlelib lib2to3 pydoc_data test tkinter turtle.py turtledemo",
    "unittest/test ctypes/test curses sqlite3 venv dbm LICENSE.txt EXTERNALLY-MANAGED sitecustomize.py",
    # Their libraries are not carried.
    "lib-dynload/_curses* lib-dynload/_dbm* lib-dynload/_gdbm* lib-dynload/_sqlite3* lib-dynload/_tkinter*",
    "lib-dynload/nis* lib-dynload/readline*",
    # The interpreter's own tests.
    "lib-dynload/*test* lib-dynload/xxlimited*",
)
"""Patterns below the standard library."""


class Architecture(NamedTuple):
    """What differs between processors."""

    name: str
    """As Debian, the engine and OCI call it."""
    machine: str
    """As the kernel does."""
    loader: str
    wheels: tuple[str, ...]
    """Platform tags under which a wheel of it may be published."""


ARCHITECTURES: Final = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "amd64",
            "x86_64",
            "ld-linux-x86-64.so.2",
            ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
        ),
        Architecture(
            "arm64",
            "aarch64",
            "ld-linux-aarch64.so.1",
            ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        ),
    )
}


def architecture_of(name: str) -> Architecture:
    """Return an architecture by Debian's name or the kernel's.

    Raises:
        CarrierFailed: there is no recipe for it.
    """
    for architecture in ARCHITECTURES.values():
        if name in (architecture.name, architecture.machine):
            return architecture
    raise CarrierFailed(f"There is no carrier for {name!r}: {' and '.join(ARCHITECTURES)} are known.")
