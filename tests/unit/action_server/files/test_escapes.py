"""Archives that want out: each is refused or stays inside, and what is outside keeps every byte, mode and time.

The negative control is an extractor without the rules: the same archives get out of it.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.action_server.files.acting import Actor

from chronicled.events.outcome import Outcome
from chronicled.runtimes.action_server.files import extraction
from chronicled.runtimes.action_server.files.archive_rules import DEPTH_MAX, ENTRIES_MAX

Entry = tuple[str, bytes, Any]
"""Name, type, and content or target."""


def file(name: str, content: bytes = b"evil") -> Entry:
    """Describe a file."""
    return (name, tarfile.REGTYPE, content)


def link(name: str, target: str) -> Entry:
    """Describe a symbolic link."""
    return (name, tarfile.SYMTYPE, target)


def hard(name: str, target: str) -> Entry:
    """Describe a hard link."""
    return (name, tarfile.LNKTYPE, target)


def folder(name: str) -> Entry:
    """Describe a folder."""
    return (name, tarfile.DIRTYPE, "")


def special(name: str, kind: bytes) -> Entry:
    """Describe a device or pipe."""
    return (name, kind, "")


def archive(*entries: Entry, mode: int = 0o644, form: int = tarfile.GNU_FORMAT, **pax: Any) -> bytes:
    """Return the archive; names go in as they are."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name, kind, more in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            info.pax_headers = dict(pax)
            content = more if isinstance(more, bytes) else b""
            info.linkname = "" if isinstance(more, bytes) else more
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


OUT = "../outside"
SPARSE: dict[str, Any] = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 60)}
XATTR: dict[str, Any] = {"SCHILY.xattr.user.x": "y"}
REFUSED: dict[str, Callable[[Path], bytes]] = {
    # Names.
    "dot-dot": lambda _: archive(file("../outside/x")),
    "dot-dot-deep": lambda _: archive(file("a/b/../../../outside/x")),
    "dot-dot-end": lambda _: archive(folder("a/..")),
    "dot-dot-alone": lambda _: archive(folder("..")),
    "dot-dot-long": lambda _: archive(file("x/" * 60 + "../" * 61 + "outside/x")),
    "dot-dot-inside": lambda _: archive(file("a/../b")),
    "absolute": lambda out: archive(file(f"{out}/x")),
    "absolute-slashes": lambda out: archive(file(f"//{out}/x")),
    "absolute-root": lambda _: archive(folder("/")),
    "absolute-pax": lambda out: archive(file("x"), form=tarfile.PAX_FORMAT, path=f"{out}/x"),
    "dot-dot-pax": lambda _: archive(file("x"), form=tarfile.PAX_FORMAT, path="../outside/x"),
    "dot-file": lambda _: archive(file(".")),
    "empty-name": lambda _: archive(file("")),
    "slash-file": lambda _: archive(file("./")),
    "deep": lambda _: archive(file("d/" * (DEPTH_MAX + 1) + "x")),
    "long-part": lambda _: archive(file("x" * 256)),
    "long-path": lambda _: archive(file("/".join(["x" * 200] * 25))),
    "nul-pax": lambda _: archive(file("x"), form=tarfile.PAX_FORMAT, path="a\0b"),
    # Links.
    "link-absolute": lambda out: archive(link("l", str(out))),
    "link-up": lambda _: archive(link("l", OUT)),
    "link-up-up": lambda _: archive(folder("a"), link("a/l", "../../outside")),
    "link-sly": lambda _: archive(folder("a"), link("a/l", "b/../../../outside")),
    "link-parent": lambda _: archive(link("l", "..")),
    "link-empty": lambda _: archive(link("l", "")),
    "link-chain": lambda _: archive(folder("a/b"), link("a/b/up", "../.."), link("l", "a/b/up/../outside")),
    "link-dot-dot-behind-name": lambda _: archive(link("l", "a/..")),
    "link-long": lambda _: archive(link("l", "a/" * 2100)),
    "link-pax": lambda _: archive(link("l", "x"), form=tarfile.PAX_FORMAT, linkpath=OUT),
    "link-then-file": lambda _: archive(link("l", "d"), file("l/x")),
    "link-then-folder": lambda _: archive(link("l", "d"), folder("l/x/y")),
    "link-then-link": lambda _: archive(link("l", "d"), link("l/m", "x")),
    "link-then-hard": lambda _: archive(link("l", "d"), hard("l/m", "x")),
    "link-dot-then-file": lambda _: archive(link("l", "."), file("./l//x")),
    # Hard links.
    "hard-absolute": lambda out: archive(hard("h", f"{out}/secret")),
    "hard-up": lambda _: archive(hard("h", "../outside/secret")),
    "hard-root": lambda _: archive(hard("h", ".")),
    "hard-pax": lambda _: archive(hard("h", "x"), form=tarfile.PAX_FORMAT, linkpath="../outside/secret"),
    # What is no file.
    "character-device": lambda _: archive(special("n", tarfile.CHRTYPE)),
    "block-device": lambda _: archive(special("n", tarfile.BLKTYPE)),
    "pipe": lambda _: archive(special("n", tarfile.FIFOTYPE)),
    "unknown-type": lambda _: archive(special("n", b"Z")),
    "sparse-gnu": lambda _: archive(special("n", tarfile.GNUTYPE_SPARSE)),
    "sparse-pax": lambda _: archive(file("n"), form=tarfile.PAX_FORMAT, **SPARSE),
    # Numbers.
    "huge-size": lambda _: archive(file("n"), form=tarfile.PAX_FORMAT, size=str(1 << 62)),
    "negative-size": lambda _: archive(file("n"), form=tarfile.PAX_FORMAT, size="-512"),
    "no-number": lambda _: archive(file("n"), form=tarfile.PAX_FORMAT, size="9" * 400),
    "huge-header": lambda _: archive(file("n"), form=tarfile.PAX_FORMAT, comment="x" * (1 << 20)),
    "huge-name": lambda _: archive(file("n" * (1 << 17))),
    "bomb-size": lambda _: archive(file("n"))[:124] + b"77777777777\0" + archive(file("n"))[136:],
    "many-headers": lambda _: b"".join(_extended() for _ in range(50)) + archive(file("n")),
    "global-path": lambda _: _extended(b"g") + archive(file("n")),
    "many-entries": lambda _: _many(),
    "evil-last": lambda _: archive(file("good"), folder("fine"), file("../outside/x")),
}
STAYS: dict[str, Callable[[Path], bytes]] = {
    # Taken, but what it asks for beyond a file or folder inside is not given.
    "set-id": lambda _: archive(file("f"), mode=0o7777),
    "set-id-folder": lambda _: archive(folder("f"), mode=0o7777),
    "dots": lambda _: archive(file("./a/./b"), folder("./"), folder(".")),
    "slashes": lambda _: archive(file("a//b///c")),
    "link-inside": lambda _: archive(folder("a"), link("a/l", "../b"), file("b")),
    "link-replaced": lambda _: archive(link("l", "d"), file("l")),
    "twice": lambda _: archive(file("f", b"1"), file("f", b"2")),
    "hard-inside": lambda _: archive(file("f"), hard("h", "f")),
    "hard-itself": lambda _: archive(file("f"), hard("f", "f")),
    "owner": lambda _: archive(file("f"), form=tarfile.PAX_FORMAT, uid="0", **XATTR),
    "old-time": lambda _: archive(file("f"), form=tarfile.PAX_FORMAT, mtime="-99999999999999"),
    "far-time": lambda _: archive(file("f"), form=tarfile.PAX_FORMAT, mtime="9" * 20),
    "backslashes": lambda _: archive(file("..\\outside\\x"), file("C:\\x")),
    "odd-names": lambda _: archive(file("..."), file(" .. "), file("..x"), file("-rf"), file("new\nline")),
}


def _extended(word: bytes = b"x") -> bytes:
    """Return an extended header that names a path, for the next member or all that follow."""
    info = tarfile.TarInfo("x")
    info.type, body = word, b"11 path=a/\n".ljust(512, b"\0")
    info.size = 11
    return info.tobuf(tarfile.USTAR_FORMAT) + body


def _many() -> bytes:
    """Return an archive with one entry too many."""
    one = tarfile.TarInfo("n").tobuf()
    return one * (ENTRIES_MAX + 1) + bytes(1024)


class Ground:
    """A root to extract below, and beside it what must not change."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "root"
        self.root.mkdir()
        self.outside = directory / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(b"secret")
        (self.outside / "inner").mkdir(0o711)
        self.before = self.snapshot()

    def snapshot(self) -> list[tuple[Any, ...]]:
        """Return all that can be told of what is outside."""
        found: list[tuple[Any, ...]] = []
        for path in sorted([self.outside, *self.outside.rglob("*")]):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found.append((str(path), status.st_mode, status.st_nlink, status.st_mtime_ns, status.st_uid, content))
        return found

    def check(self) -> None:
        """Fail if anything outside has changed, or anything inside is what it must not be."""
        assert self.snapshot() == self.before
        assert sorted(os.listdir(self.root.parent)) == ["outside", "root"]
        for path in self.root.rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode), path
            assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX), path
            if stat.S_ISLNK(mode):
                assert path.resolve().is_relative_to(self.root), path
            assert ".chronicled" not in path.name


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """An empty root."""
    return Ground(tmp_path)


@pytest.mark.parametrize("name", REFUSED)
async def test_an_archive_that_wants_out_is_refused_whole(ground: Ground, name: str) -> None:
    """It fails by name, nothing of it is written inside either, and nothing outside has changed."""
    ended = await Actor(ground.root).upload(REFUSED[name](ground.outside))
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "archive_refused"), ended
    assert os.listdir(ground.root) == []
    ground.check()


@pytest.mark.parametrize("name", STAYS)
async def test_an_odd_archive_stays_inside(ground: Ground, name: str) -> None:
    """It is taken, without the bits, owners and times that it should not have."""
    ended = await Actor(ground.root).upload(STAYS[name](ground.outside))
    assert ended.outcome is Outcome.OK, ended
    assert os.listdir(ground.root)
    ground.check()


@pytest.mark.parametrize(
    ("traps", "entry"),
    [
        ({"d": "../outside"}, file("d/x")),
        ({"d": "../outside"}, folder("d/x")),
        ({"d": "../outside"}, link("d/l", "x")),
        ({"d": "../outside"}, hard("d/h", "f")),
        ({"d": "../outside"}, hard("h", "d/secret")),
        ({"d": "../outside"}, folder("d")),
        ({"d": "../outside/inner"}, folder("d/")),
        ({"a/d": "../../outside"}, file("a/d/inner/x")),
        ({"d": "."}, file("d/x")),
        ({"in/sub/k": "x", "d": "in"}, file("d/sub/x")),
    ],
)
async def test_a_link_that_waits_is_in_the_way(ground: Ground, traps: dict[str, str], entry: Entry) -> None:
    """A link that stands where a folder should be stops the upload there; nothing is written through it."""
    (ground.root / "f").write_bytes(b"mine")
    for name, target in traps.items():
        (ground.root / name).parent.mkdir(exist_ok=True, parents=True)
        (ground.root / name).symlink_to(target)
    ended = await Actor(ground.root).upload(archive(file("before"), entry, file("after")))
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "not_a_directory"), ended
    assert (ended.fields["stopped_at"], ended.fields["entries"]) == (entry[0].strip("/"), 1)
    assert ((ground.root / "before").exists(), (ground.root / "after").exists()) == (True, False)
    assert ground.snapshot() == ground.before


@pytest.mark.parametrize("entry", [folder("d/x"), file("d/x"), file("a/d/x/y")])
async def test_a_link_that_came_meanwhile_is_in_the_way(
    ground: Ground, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was not there when it was looked for, and is a link when it is to be made, is not gone through."""

    def not_yet(root: int, path: bytes) -> int:
        raise FileNotFoundError(path)

    monkeypatch.setattr(extraction, "opener", lambda: not_yet)
    (ground.root / "a").mkdir()
    for name in ("d", "a/d"):
        (ground.root / name).symlink_to(ground.outside)
    ended = await Actor(ground.root).upload(archive(entry))
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "not_a_directory"), ended
    assert ground.snapshot() == ground.before


@pytest.mark.parametrize("trap", ["link", "hard link", "pipe", "file"])
async def test_what_has_the_name_is_replaced_and_not_written_through(ground: Ground, trap: str) -> None:
    """A link, a hard link to something outside, a pipe: the name is the new file's, what was behind it is as before."""
    name = ground.root / "f"
    if trap == "link":
        name.symlink_to("../outside/secret")
    elif trap == "hard link":
        name.hardlink_to(ground.outside / "secret")
        ground.before = ground.snapshot()
    elif trap == "pipe":
        os.mkfifo(name)
    else:
        name.write_bytes(b"old")
    ended = await Actor(ground.root).upload(archive(file("f", b"new"), link("g", "f"), file("g", b"newer")))
    assert (ended.outcome, name.read_bytes(), name.is_symlink()) == (Outcome.OK, b"new", False)
    assert (ground.root / "g").read_bytes() == b"newer"
    assert (ground.outside / "secret").read_bytes() == b"secret"
    assert [each[:2] for each in ground.snapshot()] == [each[:2] for each in ground.before]


async def test_a_link_that_waits_is_not_linked_to(ground: Ground) -> None:
    """A hard link to what is a link in the folder is refused: it would bring a link to the outside under a new name."""
    (ground.root / "waits").symlink_to("../outside/secret")
    ended = await Actor(ground.root).upload(archive(hard("x", "waits")))
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "not_regular"), ended
    assert sorted(path.name for path in ground.root.iterdir()) == ["waits"]


async def test_an_archive_that_changes_meanwhile_is_judged_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked and is another when it is written goes no way that the check would have closed."""
    data = archive(link("d", "inside."), file("d/x"))
    innocent = archive(folder("d"), file("d/x"))
    descriptor = os.memfd_create("content")
    os.write(descriptor, innocent)
    extract: Any = vars(extraction)["_Extraction"]
    run = extract.run

    def swapped(self: Any) -> None:
        os.pwrite(descriptor, data, 0)
        run(self)

    monkeypatch.setattr(extract, "run", swapped)
    (ground.root / "inside.").mkdir()
    try:
        ended = await Actor(ground.root).act(
            "upload", attached=descriptor, path=".", form="tree", content="0" * 64, content_bytes=len(innocent)
        )
    finally:
        os.close(descriptor)
    assert (ended.outcome, ended.reason) == (Outcome.FAILED, "archive_refused"), ended
    assert list((ground.root / "inside.").iterdir()) == []


def naive(data: bytes, root: Path) -> None:
    """Extract as many do: join, make the folder, open, write; links as they come."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            path = os.path.join(root, info.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if info.issym():
                os.symlink(info.linkname, path)
            elif content := tar.extractfile(info):
                Path(path).write_bytes(content.read())


@pytest.mark.parametrize("name", ["dot-dot", "dot-dot-deep", "absolute", "link-then-file", "evil-last"])
def test_a_naive_extractor_lets_them_out(ground: Ground, name: str) -> None:
    """The negative control: the archives are dangerous, for an extractor without the rules writes outside."""
    data = REFUSED[name](ground.outside)
    if name == "link-then-file":
        data = archive(link("l", OUT), file("l/x"))
    naive(data, ground.root)
    assert ground.snapshot() != ground.before


def test_there_are_sixty_of_them() -> None:
    """The suite keeps its size."""
    assert len(REFUSED) + len(STAYS) >= 60
