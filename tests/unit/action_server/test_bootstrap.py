"""How an action server is told its settings where there are no descriptors for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chronicled.runtimes.action_server import bootstrap

READ = """
import os, sys
from chronicled.runtimes.action_server import bootstrap
settings = bootstrap.read_announced(0)
frames_in, frames_out = bootstrap.take_stdio()
os.write(frames_out, b"settings %d %d\\n" % (len(settings), settings.count(b"s")))
print("printed by mistake", flush=True)
os.write(frames_out, b"input %r null %r\\n" % (os.read(frames_in, 100), os.read(0, 100)))
"""


def read(data: bytes) -> subprocess.CompletedProcess[bytes]:
    """Have settings read from this standard input."""
    return subprocess.run([sys.executable, "-c", READ], input=data, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize("size", [0, 1, 100_000, 1 << 20])
def test_settings_on_standard_input_are_read_to_their_last_byte_and_no_further(size: int) -> None:
    """What follows the settings is left to the frames, and what is printed by mistake does not get among them."""
    done = read(size.to_bytes(4, "big") + b"s" * size + b"frames")
    assert done.stdout == b"settings %d %d\ninput b'frames' null b''\n" % (size, size)
    assert done.stderr == b"printed by mistake\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", b"ended before"),
        (b"\0\0\1", b"ended before"),
        (b"\0\0\0\5four", b"ended before"),
        (b"GET / HTTP/1.1\r\n", b"this is not a worker"),
    ],
)
def test_what_is_no_settings_ends_the_start_with_a_sentence(data: bytes, words: bytes) -> None:
    """Neither a cut stream nor a stranger makes a server without settings, or one that reads for ever."""
    done = read(data)
    assert done.returncode == 1
    assert words in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_options_are_what_the_module_says() -> None:
    """The words on the command line are part of the interface between worker and carrier."""
    assert (bootstrap.SETTINGS_OPTION, bootstrap.STDIO_OPTION) == ("--settings", "--stdio")


BEGIN = """
import ctypes, os, sys
from chronicled.runtimes.action_server import kernel, reaper, settings
# In the place of what forks the server: it gets from its parent what is asked for here.
reaper.Reaper.run = lambda self: 40 + ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
if sys.argv[1:]:
    kernel.forbid_inspection = lambda: None
reaper.main(settings.Settings(), *os.pipe())
"""
DUMPABLE = 41


@pytest.mark.parametrize("control", [False, True], ids=["reaper", "negative control"])
def test_nobody_of_the_same_user_looks_into_the_server(control: bool) -> None:
    """The reaper, and so all that it forks, gives its memory and descriptors to no process without special rights."""
    done = subprocess.run([sys.executable, "-c", BEGIN, *["without"] * control], timeout=30, check=False)
    assert (done.returncode == DUMPABLE) is control
    assert control or done.returncode == DUMPABLE - 1
