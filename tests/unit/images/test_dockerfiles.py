"""What is told of a Dockerfile before the engine sees it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from chronicled.events.errors import ImageBuildFailed, ImageNotAllowed, InvalidRequest
from chronicled.runtimes.docker.images_context import dockerfile_of
from chronicled.runtimes.docker.images_dockerfile import read_dockerfile, read_triggers
from chronicled.runtimes.docker.images_reference import parse_reference
from chronicled.runtimes.docker.images_registries import Registries

BEGIN = "FROM a\n"
IMAGES = {
    "FROM a": ["a"],
    "from\ta:1 as x": ["a:1"],
    "\ufeff  FROM --platform=linux/amd64 r.example/a@sha256:1 AS x\nFROM X\nCOPY --from=x /y /z": [
        "r.example/a@sha256:1"
    ],
    "FROM scratch\nCOPY --from=evil.example/x / /": ["evil.example/x"],
    "FROM a\nCOPY --chown=1 --from=0 x y": ["a"],
    "FROM a\nCOPY --from=later x y\nFROM b AS later": ["a", "later", "b"],
    "FROM a\nONBUILD COPY --from=b x y": ["a", "b"],
    "FROM a\nONBUILD ONBUILD copy --from=b x y": ["a", "b"],
    "FR\\\nOM a": ["a"],
    "FR\\\n# said in between\n\nOM a": ["a"],
    "FROM a\nRUN x \\\n  FROM b": ["a"],
    "FROM a\n# FROM b\n#FROM c": ["a"],
    "FROM a\r\nFROM b\r\n": ["a", "b"],
    # With this escape, or in some versions, the second line begins anew.
    "FROM a\nRUN dir C:\\\nFROM b": ["a"],
    "# escape=`\nFROM a\nRUN x `\nRUN dir C:\\\nFROM b": ["a", "b"],
    "FROM a\nRUN dir C:\\\\\nFROM b": ["a", "b"],
    "ARG V=1\nARG I=a:$V\nFROM ${I}\nFROM ${NO:-b}\nFROM ${V:+c}": ["a:1", "b", "c"],
    "ARG A\nFROM r.example/${A}": ["r.example/given"],
    "ARG A=own\nFROM $A": ["given"],
    "FROM a\nARG A=x": ["a"],
    'ARG Q="quoted"\nFROM $Q': ["quoted"],
}
UNTOLD = (
    "FROM 'a'",
    "FROM a\\b",
    "FROM $$A",
    "FROM ${A:-${B}}",
    "FROM ${A%b}",
    'ARG Q="a b"\nFROM $Q',
    "ARG Q='$A'\nFROM $Q",
    "FROM a\nCOPY --from=$A x y",
    'FROM a\nADD ["http://x", "/\\ud800"]',
    'FROM a\nCOPY --fr"o"m=b x y',
    "FROM a\nCOPY --fr\\om=b x y",
    "ARG B=$C\nARG C='x y'\nFROM $C",
)
FETCHED = (
    "http://x/y /z",
    "--chown=1:1 https://x/y /z",
    '["http://x", "/z"]',
    '["\\u0068ttp://x", "/z"]',
    "a http://x b /z",
    '"http"://x /z',
    "h\\ttp://x /z",
    "$URL /z",
    "${URL} /z",
    "ht$REST /z",
    "http://$HOST /z",
    "\\\n  http://x /z",
)
LOCAL = ("x.tar.gz /z", "./$NAME /z", "app-$VERSION.jar /z", '["a b", "/z"]', "httpd.conf /z", "x /http://z")


@pytest.mark.parametrize("text", IMAGES)
def test_images_are_told(text: str) -> None:
    """Every image that a Dockerfile begins or copies from is found, and no stage of its own is taken for one."""
    assert list(read_dockerfile(text, {"A": "given"}).images) == IMAGES[text]


@pytest.mark.parametrize("text", UNTOLD)
def test_what_cannot_be_told_is_refused(text: str) -> None:
    """A name in quotes, escapes or unknown substitutions is refused, and not guessed."""
    with pytest.raises(ImageBuildFailed, match=r"cannot be told|write it plainly"):
        read_dockerfile(text, {})


@pytest.mark.parametrize("rest", FETCHED)
def test_what_the_engine_would_fetch_is_told(rest: str) -> None:
    """A source of ADD that is an address, or may become one, is found however it is written."""
    for word in ("ADD", "add", "ONBUILD ADD"):
        assert read_dockerfile(f"{BEGIN}{word} {rest}", {}).fetched
    assert read_triggers([f"ADD {rest}"]).fetched


@pytest.mark.parametrize("rest", LOCAL)
def test_files_of_the_context_are_no_addresses(rest: str) -> None:
    """What can only be a file of the context passes, and COPY never fetches."""
    assert not read_dockerfile(f"{BEGIN}ADD {rest}", {}).fetched
    assert not read_dockerfile(f"{BEGIN}COPY http://x /z", {}).fetched


def test_many_words_end() -> None:
    """A Dockerfile of a megabyte that nests as deep as it can is read all the same."""
    assert read_dockerfile(f"{BEGIN}{'ONBUILD ' * 100_000}ADD http://x y", {}).fetched
    assert not read_dockerfile(f"{BEGIN}ADD {'[' * 500_000}", {}).fetched
    assert read_dockerfile(BEGIN + "RUN x\\\n" * 100_000, {}).images == ("a",)


# -- contexts ----------------------------------------------------------------------------------------------------------


def context(directory: Path, *entries: tuple[str, str], mode: str = "w", **pax: str) -> str:
    """Write an archive of files, and of symbolic links where the content begins with an arrow; return its path."""
    path = directory / "context"
    opened: Any = tarfile.open
    with opened(path, mode, format=tarfile.PAX_FORMAT, pax_headers=pax) as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if content.startswith("->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, content[2:]
                archive.addfile(entry)
                continue
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return str(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_the_dockerfile_is_found(tmp_path: Path, mode: str) -> None:
    """It is found by its path however that is spelt, and by the engine's other spelling, in every compression."""
    packed = context(tmp_path, ("x", "1"), ("./sub/../sub/D", "FROM a"), mode=mode, comment="made by git")
    assert dockerfile_of(packed, "sub/D") == "FROM a"
    assert dockerfile_of(packed, "./sub/D") == "FROM a"
    assert dockerfile_of(context(tmp_path, ("dockerfile", "FROM b"), mode=mode), "Dockerfile") == "FROM b"
    both = context(tmp_path, ("dockerfile", "FROM b"), ("Dockerfile", "FROM c"), mode=mode)
    assert dockerfile_of(both, "Dockerfile") == "FROM c"


@pytest.mark.parametrize(
    "entries",
    [
        [("Dockerfile", "FROM a"), ("./Dockerfile", "FROM b")],
        [("Dockerfile", "->other"), ("other", "FROM b")],
        [("Dockerfile", "FROM a"), ("here", "->."), ("here/Dockerfile", "FROM b")],
        [("sub/Dockerfile", "FROM a")],
        [("Dockerfile", "x" * (1 << 20) + "x")],
    ],
)
def test_a_context_that_may_mean_another_is_refused(tmp_path: Path, entries: list[tuple[str, str]]) -> None:
    """Two Dockerfiles, one that is a link, entries below links, a missing or endless one: nothing of it is built."""
    with pytest.raises(ImageBuildFailed):
        dockerfile_of(context(tmp_path, *entries), "Dockerfile")


def test_links_above_renamed_entries_and_no_archives_are_refused(tmp_path: Path) -> None:
    """A link on the Dockerfile's way, headers that rename what follows, and other bytes are refused."""
    with pytest.raises(ImageBuildFailed, match="below a link"):
        dockerfile_of(context(tmp_path, ("real/D", "FROM a"), ("sub", "->real")), "sub/D")
    with pytest.raises(ImageBuildFailed, match="renamed"):
        dockerfile_of(context(tmp_path, ("Dockerfile", "FROM a"), path="x"), "Dockerfile")
    (tmp_path / "other").write_bytes(b"no archive" * 1000)
    with pytest.raises(ImageBuildFailed, match="no tar archive"):
        dockerfile_of(str(tmp_path / "other"), "Dockerfile")


# -- registries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "allowed", "refused"),
    [
        ("docker.io", "debian", "ghcr.io/debian"),
        ("docker.io/library", "debian:12", "somebody/debian"),
        ("index.docker.io/team", "team/app", "teammate/app"),
        ("R.example:5000", "r.example:5000/a/b", "r.example/a/b"),
        ("r.example/a/b", "r.example/a/b:1", "r.example/a/bc"),
        ("localhost", "localhost/a", "localhost:5000/a"),
        ("r.example/a", "r.example/a@sha256:" + "0" * 64, "evil.example/r.example/a"),
    ],
)
def test_places_allow_what_lies_in_them(place: str, allowed: str, refused: str) -> None:
    """A registry allows all of its images, a path what is at and below it, and nothing else that looks alike."""
    registries = Registries([place])
    registries.check(parse_reference(allowed))
    with pytest.raises(ImageNotAllowed, match=r"images\.registries"):
        registries.check(parse_reference(refused))
    Registries().check(parse_reference(refused))


@pytest.mark.parametrize(
    "place", ["", "registry", "r.example/", "r.example/UPPER", "https://r.example", "r.example/a:1"]
)
def test_what_is_no_place_is_refused(place: str) -> None:
    """A mistyped place is refused when it is configured, since it would allow nothing, or something else."""
    with pytest.raises(InvalidRequest, match="no place of images"):
        Registries([place])
