"""Carriers appear whole, once, and are what their name says."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.unit.carrier.conftest import FOREIGN, Build, FakeBase

from chronicled.runtimes.action_server import frames
from chronicled.runtimes.carrier import (
    CarrierCorrupt,
    CarrierFailed,
    carrier,
    carrier_archive,
    carriers,
    ensure_carrier,
    verify,
)
from chronicled.runtimes.carrier.cache import UNUSED_SECONDS, cache_directory
from chronicled.runtimes.carrier.closure import Sources, closure
from chronicled.runtimes.carrier.place import STALE_SECONDS

ENSURE = """
import sys
from chronicled.runtimes.carrier import ensure_carrier
print(ensure_carrier(sys.argv[1], sys.argv[2], cache=sys.argv[3]).path)
"""


def change_source(monkeypatch: pytest.MonkeyPatch, comment: bytes) -> None:
    """Let the action server's sources be others from now on."""
    changed: Sources = dict(closure())
    name = "chronicled/runtimes/action_server/server.py"
    changed[name] += b"\n# " + comment + b"\n"
    monkeypatch.setattr(carrier, "closure", lambda: changed)


def test_a_carrier_is_named_by_its_content_and_says_what_it_is(build: Build) -> None:
    """The folder's name is the digest; the manifest tells architecture, versions and the frames that it speaks."""
    made = build()
    assert Path(made.path).name == f"sha256-{made.digest}-{FOREIGN}"
    assert verify(made.path) == made.digest
    manifest = msgspec.json.decode(Path(made.path, "manifest.json").read_bytes())
    assert manifest["packages"] == {"python": "1"}
    assert (manifest["protocol"], manifest["protocol_min"]) == (frames.PROTOCOL, frames.PROTOCOL_MIN)
    assert (manifest["architecture"], manifest["digest"]) == (FOREIGN, made.digest)
    assert os.listdir(Path(made.path, "run")) == []


def test_nothing_in_a_carrier_can_be_written_to(build: Build) -> None:
    """Every file and folder is readable to all and writable to nobody."""
    for folder, _, names in os.walk(build().path):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            mode = os.lstat(path).st_mode
            assert stat.S_ISLNK(mode) or mode & 0o777 in (0o444, 0o555), path


def test_the_same_sources_give_the_same_carrier(build: Build, base: FakeBase) -> None:
    """A build from nothing, elsewhere and under another umask, has the same digest; asked again, nothing is made."""
    first = build()
    former = os.umask(0o077)
    try:
        second = build("elsewhere", layers="other-cache")
    finally:
        os.umask(former)
    assert (base.made, first.digest) == (2, second.digest)
    assert b"".join(carrier_archive(first.path)) == b"".join(carrier_archive(second.path))
    before = os.stat(first.path)
    assert build() == first
    after = os.stat(first.path)
    assert (base.made, after.st_ino, after.st_ctime_ns) == (2, before.st_ino, before.st_ctime_ns)
    assert carriers(Path(first.path).parent) == [first]


def worked() -> float:
    """Return the seconds of processors that this process and its children have taken: others' work is not in them."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def test_a_changed_source_gives_another_carrier_at_once(
    build: Build, base: FakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one takes two seconds of work at most and fetches nothing, and the old one is left for who uses it."""
    first = build()
    change_source(monkeypatch, b"another")
    begun = worked()
    second = build()
    assert worked() - begun < 2.0
    assert second.digest != first.digest
    assert base.made == 1
    assert verify(first.path) == first.digest


def test_fresh_packages_give_another_carrier(build: Build, base: FakeBase) -> None:
    """`fresh` fetches the packages again; without it what was fetched once is kept."""
    first = build()
    base.version = "2"
    assert build() == first
    second = build(fresh=True)
    assert second.digest != first.digest
    assert build() == second


def test_a_build_that_fails_leaves_nothing(build: Build, base: FakeBase, tmp_path: Path) -> None:
    """Neither the directory nor the cache holds anything half done, and the next build succeeds."""
    base.failure = CarrierFailed("the network is away")
    with pytest.raises(CarrierFailed, match="the network is away"):
        build()
    assert [name for name in os.listdir(tmp_path / "cache") if not name.endswith(".lock")] == []
    assert not (tmp_path / "carriers").exists()
    base.failure = None
    assert verify(build().path)


def test_a_build_that_was_killed_leaves_no_carrier(build: Build, tmp_path: Path) -> None:
    """What a killed build left has not the name of a carrier, and is removed once it is old."""
    left = tmp_path / "carriers/.work-killed"
    (left / "bin").mkdir(parents=True)
    (left / "bin").chmod(0o555)
    made = build()
    assert carriers(tmp_path / "carriers") == [made]
    old = time.time() - STALE_SECONDS - 60
    os.utime(left, (old, old))
    build(fresh=True)
    (tmp_path / "carriers" / Path(made.path).name).rename(tmp_path / "gone")
    build()
    assert os.listdir(tmp_path / "carriers") == [Path(made.path).name]


def test_layers_that_nobody_uses_are_forgotten(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache does not grow for ever: what was last used a month ago goes when another layer is made, and only that."""
    build()
    old = next((tmp_path / "cache").glob("code-*"))
    last = time.time() - UNUSED_SECONDS - 60
    os.utime(old, (last, last))
    change_source(monkeypatch, b"another")
    build()
    assert not old.exists()
    assert len(list((tmp_path / "cache").glob("code-*"))) == 1
    assert len(list((tmp_path / "cache").glob("base-*/"))) == 1


def test_many_may_build_at_once(build: Build, base: FakeBase, tmp_path: Path) -> None:
    """Threads and processes that want the same carrier all get it whole; the packages are fetched once."""
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(build) for _ in range(4)]
        paths = {each.result().path for each in waiting}
    assert (len(paths), base.made) == (1, 1)
    command = [sys.executable, "-c", ENSURE, str(tmp_path / "shared"), FOREIGN, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(printed) == 1
    found = printed.pop()
    assert f"sha256-{verify(found)}-{FOREIGN}" == Path(found).name
    assert os.listdir(tmp_path / "shared") == [Path(found).name]


def rewrite(path: Path) -> None:
    """Change one byte."""
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(b"#" + data[1:])
    path.chmod(0o444)


def relink(path: Path) -> None:
    """Let a link point elsewhere."""
    path.unlink()
    path.symlink_to("/bin/ls")


TAMPERING: dict[str, Callable[[Path], object]] = {
    "a changed file": lambda root: rewrite(root / "lib/os.py"),
    "a changed mode": lambda root: (root / "lib/os.py").chmod(0o644),
    "a writable folder": lambda root: (root / "lib").chmod(0o755),
    "another file": lambda root: (root / "lib/more.py").write_text(""),
    "a missing file": lambda root: (root / "lib/os.py").unlink(),
    "a renamed file": lambda root: (root / "lib/os.py").rename(root / "lib/so.py"),
    "another link": lambda root: relink(root / "lib/applets/ls"),
    "something in run": lambda root: (root / "run/worker.sock").write_text(""),
    "another manifest": lambda root: rewrite_manifest(root, b'"1"', b'"2"'),
    "a broken manifest": lambda root: rewrite_manifest(root, b"{", b"["),
    "another name": lambda root: root.rename(root.with_name(root.name.replace("sha256-", "sha256-0"))),
}


def rewrite_manifest(root: Path, old: bytes, new: bytes) -> None:
    """Change what the manifest says."""
    path = root / "manifest.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(old, new))
    path.chmod(0o444)


@pytest.mark.parametrize("change", TAMPERING)
def test_whatever_is_changed_is_found(build: Build, change: str) -> None:
    """A carrier with any byte, name or mode changed does not verify."""
    root = Path(build().path)
    for folder in (root, root / "lib", root / "lib/applets", root / "run"):
        folder.chmod(0o755)
    if change not in ("a writable folder", "another name"):
        TAMPERING[change](root)
    for folder in (root / "lib/applets", root / "run", root / "lib", root):
        folder.chmod(0o555)
    if change in ("a writable folder", "another name"):
        TAMPERING[change](root)
    moved = next(root.parent.glob("sha256-*"))
    with pytest.raises(CarrierCorrupt):
        verify(moved)


def test_a_damaged_carrier_is_replaced(build: Build, tmp_path: Path) -> None:
    """A process that finds a carrier damaged makes it again before anybody gets it."""
    made = build()
    victim = Path(made.path, "lib/os.py")
    victim.parent.chmod(0o755)
    victim.unlink()
    command = [sys.executable, "-c", ENSURE, str(tmp_path / "carriers"), FOREIGN, str(tmp_path / "cache")]
    subprocess.run(command, check=True, timeout=60)
    assert verify(made.path) == made.digest


def test_a_damaged_cache_is_made_again(build: Build, base: FakeBase, tmp_path: Path) -> None:
    """A carrier is checked against what the layers should hold, and layers that do not are thrown away."""
    made = build()
    rewrite(next((tmp_path / "cache").glob("base-*/tree")) / "lib/os.py")
    again = build("elsewhere")
    assert (again.digest, base.made) == (made.digest, 2)
    assert verify(again.path) == made.digest


def test_the_archive_holds_the_carrier_and_nothing_of_this_machine(build: Build, tmp_path: Path) -> None:
    """Extracted anywhere it verifies under its name; owner, times and links of this machine are not in it."""
    made = build()
    target = tmp_path / "volume" / Path(made.path).name
    with tarfile.open(fileobj=io.BytesIO(b"".join(carrier_archive(made.path)))) as archive:
        members = archive.getmembers()
        archive.extractall(target, filter="fully_trusted")
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", 0)}
    assert not [member.name for member in members if member.islnk()]
    assert verify(target) == made.digest


def test_layers_are_where_caches_are(tmp_path: Path) -> None:
    """Systemd's directory goes before the user's; a service without a home keeps them beside its carriers."""
    otherwise = tmp_path / "carriers/layers"
    unit = {"CACHE_DIRECTORY": f"{tmp_path}/unit:{tmp_path}/other", "HOME": str(tmp_path)}
    assert cache_directory(unit, otherwise) == tmp_path / "unit/carrier"
    chosen = {"XDG_CACHE_HOME": f"{tmp_path}/xdg", "HOME": str(tmp_path)}
    assert cache_directory(chosen, otherwise) == tmp_path / "xdg/chronicled/carrier"
    assert cache_directory({"HOME": str(tmp_path)}, otherwise) == tmp_path / ".cache/chronicled/carrier"
    assert cache_directory({}, otherwise) == otherwise
    assert cache_directory({"HOME": ""}, otherwise) == otherwise


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    """What cannot be made is said, with what can."""
    with pytest.raises(CarrierFailed, match=r"'riscv64'.*amd64 and arm64"):
        ensure_carrier(tmp_path, "riscv64")


def test_what_is_missing_on_this_machine_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs that it needs, making a carrier fails with their name and what to do."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CarrierFailed, match="needs patchelf, which is not there: install patchelf"):
        ensure_carrier(tmp_path / "carriers", FOREIGN, cache=tmp_path / "cache")


def test_a_directory_that_cannot_be_written_is_said(build: Build, tmp_path: Path) -> None:
    """An error of the disk becomes one of the error tree, with the path."""
    (tmp_path / "carriers").write_text("a file")
    with pytest.raises(CarrierFailed, match="carriers"):
        build()
