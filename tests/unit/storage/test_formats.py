"""Formats of what stands beside the log: numbered, brought on step by step, newer and unknown ones refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from chronicled.daemon.instance import load_instance
from chronicled.daemon.stores import STORES, store_status
from chronicled.events.errors import LogCorrupt, SchemaTooNew, SecretsUnavailable
from chronicled.runtimes.worker.journal import MAGIC, Journal
from chronicled.storage.disk import SystemDisk
from chronicled.storage.formats import FORMATS_NAME, FormatStep, bring_formats, read_formats
from chronicled.storage.seal import Seal

FIRST = FormatStep(1, "as it began")


def write(directory: Path, **formats: int) -> None:
    """Write numbers down as some version did."""
    (directory / FORMATS_NAME).write_bytes(msgspec.json.encode({"formats": formats}))


def refuse_files(path: Path) -> None:
    """Leave a mark that a step was taken."""
    with (path / "taken").open("a") as stream:
        stream.write("x")


def test_numbers_are_dense_from_one() -> None:
    """The newest number of a store is how many steps it has."""
    for steps in STORES.values():
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))


def test_a_directory_from_before_the_file_is_of_format_one(tmp_path: Path) -> None:
    """The first start writes the numbers down, for its owner alone; the next one writes nothing."""
    assert bring_formats(tmp_path, STORES) == ()
    assert read_formats(tmp_path) == {store: len(steps) for store, steps in STORES.items()}
    written = (tmp_path / FORMATS_NAME).stat()
    assert written.st_mode & 0o777 == 0o600
    assert bring_formats(tmp_path, STORES) == ()
    assert (tmp_path / FORMATS_NAME).stat().st_mtime_ns == written.st_mtime_ns
    assert {status.current for status in store_status(tmp_path)} == {1}


@pytest.mark.parametrize(("formats", "said"), [({"spool": 2}, "'spool'.*format 2.*knows 1"), ({"moon": 1}, "'moon'")])
def test_a_newer_or_unknown_store_is_refused_by_name(tmp_path: Path, formats: dict[str, int], said: str) -> None:
    """What a newer version wrote is named, and nothing is changed."""
    write(tmp_path, **formats)
    before = (tmp_path / FORMATS_NAME).read_bytes()
    with pytest.raises(SchemaTooNew, match=said):
        bring_formats(tmp_path, STORES)
    assert (tmp_path / FORMATS_NAME).read_bytes() == before
    assert os.listdir(tmp_path) == [FORMATS_NAME]
    assert any(status.current > status.newest for status in store_status(tmp_path))


def test_what_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    """A damaged file is an error and not a directory from before it."""
    (tmp_path / FORMATS_NAME).write_bytes(b'{"formats":')
    with pytest.raises(LogCorrupt, match=FORMATS_NAME):
        bring_formats(tmp_path, STORES)


def test_a_step_that_was_ended_is_taken_again_and_a_finished_one_is_not(tmp_path: Path) -> None:
    """Numbers follow their steps one by one; a dry run takes none."""

    def fail(_path: Path) -> None:
        raise OSError("the disk is gone")

    broken = {"spool": (FIRST, FormatStep(2, "marks", refuse_files), FormatStep(3, "more", fail)), "blobs": (FIRST,)}
    whole = {**broken, "spool": (*broken["spool"][:2], FormatStep(3, "more", refuse_files))}
    assert bring_formats(tmp_path, whole, dry_run=True) == ("spool: marks", "spool: more")
    assert os.listdir(tmp_path) == []
    with pytest.raises(OSError, match="gone"):
        bring_formats(tmp_path, broken)
    assert read_formats(tmp_path) == {"spool": 2, "blobs": 1}
    assert bring_formats(tmp_path, whole) == ("spool: more",)
    assert read_formats(tmp_path) == {"spool": 3, "blobs": 1}
    assert (tmp_path / "taken").read_text() == "xx"


def test_files_that_a_newer_version_wrote_are_named(tmp_path: Path) -> None:
    """Identity, dispatch journal and sealed records say their own version too: none is taken for damaged."""
    identity = {"format": 2, "instance": "01900000-0000-7000-8000-000000000000", "request_key": "A" * 43 + "="}
    (tmp_path / "instance.json").write_bytes(msgspec.json.encode(identity))
    (tmp_path / "instance.json").chmod(0o600)
    with pytest.raises(SchemaTooNew, match="format 2"):
        load_instance(str(tmp_path), fresh=False)
    (tmp_path / "dispatch").write_bytes(MAGIC[:-1] + bytes([MAGIC[-1] + 1]) + b"boot".ljust(36, b"\0") + bytes(45))
    before = (tmp_path / "dispatch").read_bytes()
    with pytest.raises(SchemaTooNew, match=r"journal .* version 2"):
        Journal(str(tmp_path), "boot", SystemDisk())
    assert (tmp_path / "dispatch").read_bytes() == before
    with pytest.raises(SecretsUnavailable, match="sealed in form 2"):
        Seal(str(tmp_path), None, SystemDisk()).open(b"chronicled sealed 2\n" + bytes(40), "secrets/t/s/record")
