"""The tar format: what others write is read, what is written others read, and what is broken is told."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronicled.runtimes.action_server.files.tar import END, BrokenArchive, Member, header, members, padding

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def parsed(data: bytes) -> list[Member]:
    """Return the members of an archive."""
    return list(members(lambda offset, size: data[offset : offset + size]))


def first(data: bytes) -> Member:
    """Return the first member of an archive, whatever follows it."""
    return next(members(lambda offset, size: data[offset : offset + size]))


def written(*entries: tuple[Member, bytes]) -> bytes:
    """Return an archive as the project writes it."""
    parts = [header(member) + content + bytes(padding(len(content))) for member, content in entries]
    return b"".join(parts) + END


PARTS = st.text(st.sampled_from("abü-_. \u65e5"), min_size=1, max_size=60).filter(lambda part: part not in {".", ".."})
NAMES = st.lists(PARTS, min_size=1, max_size=6).map("/".join)
ENTRIES = st.lists(
    st.tuples(NAMES, st.binary(max_size=2000), st.integers(0, 0o777), st.integers(0, 1 << 34)), max_size=6
)


@settings(max_examples=200, deadline=None)
@given(entries=ENTRIES)
def test_what_is_written_others_read(entries: list[tuple[str, bytes, int, int]]) -> None:
    """Names of any length, contents, modes and times are the same to another reader."""
    data = written(
        *((Member(name.encode(), "file", len(content), mode, mtime), content) for name, content, mode, mtime in entries)
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found: list[Any] = []
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            found.append((info.name, file.read(), info.mode, int(info.mtime)))
    assert found == entries


@settings(max_examples=200, deadline=None)
@given(entries=ENTRIES, form=st.sampled_from(FORMATS))
def test_what_others_write_is_read(entries: list[tuple[str, bytes, int, int]], form: int) -> None:
    """Archives of all three formats are read to the same names, contents, modes and times."""
    target = io.BytesIO()
    kept: list[tuple[str, bytes, int, int]] = []
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for name, content, mode, mtime in entries:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), mode, mtime
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:
                continue  # ustar cannot hold it
            kept.append((name, content, mode, mtime))
    data = target.getvalue()
    found = [
        (member.name.decode(), data[member.offset : member.offset + member.size], member.mode, member.mtime)
        for member in parsed(data)
    ]
    assert found == kept


def test_every_type_and_long_links_survive() -> None:
    """Folders, links and hard links keep type and target, short or long, in every format."""
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=form) as tar:
            for kind, target_name in (
                (tarfile.DIRTYPE, ""),
                (tarfile.SYMTYPE, "t" * 180),
                (tarfile.LNKTYPE, "u/" * 70 + "x"),
            ):
                info = tarfile.TarInfo("n" * 130)
                info.type, info.linkname = kind, target_name
                tar.addfile(info)
        found = [(member.type, member.target.decode()) for member in parsed(target.getvalue())]
        assert found == [("directory", ""), ("symlink", "t" * 180), ("hard_link", "u/" * 70 + "x")]
    data = written((Member(b"l", "symlink", 0, 0o777, 0, b"t" * 180), b""), (Member(b"\xff\xfe" * 60, "file"), b""))
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as tar:
        one, second = tar.getmembers()
        assert (one.linkname, second.name.encode(errors="surrogateescape")) == ("t" * 180, b"\xff\xfe" * 60)


def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    """The tar of the system reads names of every length, and lists them as they are."""
    program = shutil.which("tar")
    assert program, "tar is needed here: install it"
    names = ["short", "d" * 90 + "/" + "e" * 90, "ünï" * 50]
    data = written(*((Member(name.encode(), "file", 3), b"abc") for name in names))
    (tmp_path / "a.tar").write_bytes(data)
    shown = subprocess.run(
        [program, "-tf", tmp_path / "a.tar", "--quoting-style=literal"], capture_output=True, check=True
    )
    assert shown.stdout.decode().split("\n")[:-1] == names
    subprocess.run([program, "-xf", tmp_path / "a.tar", "-C", tmp_path], check=True)
    assert all((tmp_path / name).read_bytes() == b"abc" for name in names)


def test_large_numbers_are_read_in_every_form() -> None:
    """A size over 8 GiB is told by pax and by GNU's binary numbers; both are read, and ours is written as pax."""
    size = 1 << 35
    ours = header(Member(b"x", "file", size))
    assert first(ours).size == size
    info = tarfile.TarInfo("x")
    info.size = size
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = info.tobuf(form)
        assert first(data).size == size


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_never_does_harm(data: st.DataObject) -> None:
    """Any flipped byte and any cut end in members that were told, or in an error by name; never in another error."""
    whole = bytearray(
        written((Member(b"a/b" * 50, "file", 700, 0o600, 5), b"x" * 700), (Member(b"d/", "directory"), b""))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(whole)))
    try:
        found = parsed(bytes(whole[:end]))
    except BrokenArchive:
        return
    assert all(member.size >= 0 and member.offset >= 512 for member in found)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "breaks off"),
        (b"x" * 512, "checksum"),
        (written((Member(b"a", "file", 5), b"12345"))[:1024], "breaks off"),
        (b"\x1f\x8b" + bytes(1000), "no tar archive"),
    ],
)
def test_what_is_no_archive_is_told(data: bytes, word: str) -> None:
    """Nothing, noise, a cut archive and a compressed one are each refused."""
    with pytest.raises(BrokenArchive, match=word):
        parsed(data)
