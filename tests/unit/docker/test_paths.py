from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from chronicled.events.errors import SandboxStartFailed
from chronicled.events.sandbox import Volume
from chronicled.runtimes.docker import paths


def refused(source: Path | str, allowed: list[Path], own: list[Path] | None = None) -> str:
    """Return why the path is refused, empty when it is not."""
    try:
        paths.resolve(str(source), [str(path) for path in allowed], paths.protected_paths(map(str, own or [])))
    except SandboxStartFailed as error:
        return error.detail
    return ""


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """A directory that may be mounted."""
    (tmp_path / "allowed" / "inner").mkdir(parents=True)
    (tmp_path / "allowed" / "file").write_text("")
    (tmp_path / "outside").mkdir()
    return tmp_path / "allowed"


def test_what_is_allowed_and_what_is_below_it_resolves(allowed: Path) -> None:
    """An allowed directory, what is below it and a regular file resolve to themselves."""
    for path in (allowed, allowed / "inner", allowed / "file"):
        assert refused(path, [allowed]) == ""


@pytest.mark.parametrize(
    "escape",
    [
        "../outside",
        "inner/../../outside",
        "link",
        "inner/link",
        "chain",
        "absolute",
        "absent",
        "pipe",
        "socket",
        "null",
    ],
)
def test_no_way_leads_out(allowed: Path, escape: str) -> None:
    """Neither `..` nor links, nor chains of them, lead out of what is allowed; what is no file is no volume."""
    (allowed / "link").symlink_to("../outside")
    (allowed / "inner" / "link").symlink_to("../../outside")
    (allowed / "chain").symlink_to("link")
    (allowed / "absolute").symlink_to("/etc")
    (allowed / "null").symlink_to("/dev/null")
    os.mkfifo(allowed / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(allowed / "socket"))
        assert refused(allowed / escape, [allowed])


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/proc",
        "/proc/1",
        "/sys",
        "/sys/fs",
        "/dev",
        "/dev/shm",
        "/etc",
        "/etc/../etc",
        "/run",
        "/var/run",
        "/boot",
        "//etc",
        "/usr/../etc",
        "/var",
        "/proc/self/root",
        "/proc/self/cwd/../../etc",
    ],
)
def test_the_system_is_never_mounted(source: str) -> None:
    """The system's own directories are refused even where the configuration allows everything."""
    assert refused(source, [Path("/")])


def test_what_is_protected_is_refused_around_at_and_below(tmp_path: Path) -> None:
    """The data directory is refused itself, with what is in it, what holds it, and under another name."""
    data = tmp_path / "home" / "data"
    (data / "blobs").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(data)
    for source in (data, data / "blobs", tmp_path / "home", tmp_path, tmp_path / "alias", tmp_path / "alias" / "blobs"):
        assert refused(source, [tmp_path], [data])
    (tmp_path / "home" / "other").mkdir()
    assert refused(tmp_path / "home" / "other", [tmp_path], [data]) == ""


def test_another_name_of_a_protected_inode_is_refused(allowed: Path, tmp_path: Path) -> None:
    """A directory is judged by its inode too, so that a bind mount of it elsewhere is the same directory."""
    status = (tmp_path / "outside").stat()
    guarded = [paths.HostPath("/nowhere/else", ((allowed / "inner").stat().st_dev, (allowed / "inner").stat().st_ino))]
    assert status.st_ino
    with pytest.raises(SandboxStartFailed):
        paths.resolve(str(allowed / "inner"), [str(allowed)], guarded)
    (allowed / "inner" / "deep").mkdir()
    with pytest.raises(SandboxStartFailed):
        paths.resolve(str(allowed / "inner" / "deep"), [str(allowed)], guarded)


@pytest.mark.parametrize(
    ("source", "is_listed"),
    [
        ("/srv/data", True),
        ("/srv/data/inner", True),
        ("/srv/data/../data/x", True),
        ("cache", True),
        ("/srv", False),
        ("/srv/database", False),
        ("/srv/data/../other", False),
        ("/srv/data/../../etc", False),
        ("cache2", False),
        ("../cache", False),
        ("cache/..", False),
        ("", False),
    ],
)
def test_the_allow_list_is_judged_before_the_disk(source: str, is_listed: bool) -> None:
    """What is not on the allow-list is refused by name without any look at the disk."""
    volume = Volume(source=source, target="/mnt")
    assert (paths.unlisted([volume], ["/srv/data", "cache"]) == []) is is_listed


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/.chronicled",
        "/.chronicled/run",
        "/proc",
        "/proc/sys",
        "/sys",
        "/dev",
        "/dev/shm",
        "/workspace",
        "/a/../b",
        "/a/",
        "//a",
        "/a//b",
        "/./a",
    ],
)
def test_nothing_covers_what_is_ours(target: str) -> None:
    """Nothing is mounted over the carrier, the kernel's file systems or the workspace, nor at a path in disguise."""
    assert paths.misplaced([target], [])
    assert paths.misplaced([], [target])


def test_a_place_is_given_once() -> None:
    """Two mounts at one place are refused; below the workspace there is room."""
    assert paths.misplaced(["/a"], ["/a"])
    assert paths.misplaced(["/a", "/workspace/data"], ["/b"]) == []
