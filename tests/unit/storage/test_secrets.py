"""The secret store: sealed, private, bound to its place, and whole or as before after any failure."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from chronicled.events.errors import SecretsUnavailable, StorageFull, StoreFailed
from chronicled.events.worker_log import SessionKey
from chronicled.storage.disk import SystemDisk
from chronicled.storage.seal import Seal
from chronicled.storage.secrets import SecretRecord, SecretStore

KEY = SessionKey("default", "s")
VALUE = "hT7%kq2/Zp+9wLm4"
RECORD = SecretRecord(values={"TOKEN": [VALUE]}, variables={"TOKEN": VALUE}, bound={"TOKEN": "TOKEN"})


class FullDisk(SystemDisk):
    """A disk whose writes or renames fail with an error of one's choice."""

    def __init__(self, code: int, step: str) -> None:
        self.code, self.step = code, step

    def write(self, descriptor: int, data: bytes) -> None:
        """Write half, then fail."""
        if self.step == "write":
            super().write(descriptor, data[: len(data) // 2])
            raise OSError(self.code, os.strerror(self.code))
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Fail to sync."""
        if self.step == "sync":
            raise OSError(self.code, os.strerror(self.code))

    def replace(self, source: str, target: str) -> None:
        """Fail to rename."""
        if self.step == "replace":
            raise OSError(self.code, os.strerror(self.code))
        super().replace(source, target)


def opened(root: Path, credentials: Path | None = None) -> SecretStore:
    """Return a store over the directory."""
    disk = SystemDisk()
    return SecretStore(
        str(root / "secrets"), Seal(str(root), None if credentials is None else str(credentials), disk), disk
    )


def test_a_record_comes_back_and_is_not_readable_on_the_disk(tmp_path: Path) -> None:
    """What was saved is loaded by the next start; files are private and hold no value in clear."""
    opened(tmp_path).save(KEY, RECORD)
    records, broken = opened(tmp_path).load()
    assert (records, broken) == ({KEY: RECORD}, {})
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert path.is_dir() or VALUE.encode() not in path.read_bytes()


def test_the_service_managers_credential_is_the_key(tmp_path: Path) -> None:
    """With a credential no key file is made, and without it nothing opens any more."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "chronicled.key").write_bytes(os.urandom(40))
    data = tmp_path / "data"
    data.mkdir()
    opened(data, credentials).save(KEY, RECORD)
    assert not (data / "secrets.key").exists()
    assert opened(data, credentials).load()[0] == {KEY: RECORD}
    records, broken = opened(data).load()
    assert records == {}
    assert "key" in broken[KEY]


def test_an_open_or_short_key_is_refused(tmp_path: Path) -> None:
    """A key that others may read, or that is too short, seals nothing."""
    for content, mode in ((os.urandom(32), 0o644), (b"short", 0o600)):
        (tmp_path / "secrets.key").write_bytes(content)
        (tmp_path / "secrets.key").chmod(mode)
        with pytest.raises(SecretsUnavailable):
            opened(tmp_path).save(KEY, RECORD)


def test_a_sealed_file_opens_at_its_own_place_alone(tmp_path: Path) -> None:
    """A record that was moved to another session, or changed by a bit, is not opened; other sessions are."""
    store = opened(tmp_path)
    store.save(KEY, RECORD)
    store.save(SessionKey("default", "whole"), RECORD)
    folder = tmp_path / "secrets" / "default"
    shutil.copytree(folder / "s", folder / "moved")
    spoiled = bytearray((folder / "s" / "record").read_bytes())
    spoiled[-1] ^= 1
    (folder / "s" / "record").write_bytes(spoiled)
    records, broken = opened(tmp_path).load()
    assert set(records) == {SessionKey("default", "whole")}
    assert set(broken) == {KEY, SessionKey("default", "moved")}
    assert all(VALUE not in reason for reason in broken.values())


def test_originals_are_told_apart_by_what_the_log_says(tmp_path: Path) -> None:
    """An original is found by its event and redacted payload together, and is gone once forgotten."""
    store = opened(tmp_path)
    store.keep_original(KEY, "id-1", b"redacted", b"original " + VALUE.encode())
    assert store.original(KEY, "id-1", b"redacted") == b"original " + VALUE.encode()
    assert store.original(KEY, "id-1", b"another") is None
    assert store.original(KEY, "id-2", b"redacted") is None
    assert store.originals(KEY) == {"id-1"}
    store.forget_originals(KEY, "id-1")
    store.forget_originals(KEY, "id-1")
    assert store.original(KEY, "id-1", b"redacted") is None


def test_destruction_leaves_nothing(tmp_path: Path) -> None:
    """After `destroy` no file of the session is left; it may be called again."""
    store = opened(tmp_path)
    store.save(KEY, RECORD)
    store.keep_original(KEY, "id-1", b"redacted", b"original")
    store.destroy(KEY)
    store.destroy(KEY)
    assert not (tmp_path / "secrets" / "default" / "s").exists()
    assert opened(tmp_path).load() == ({}, {})


@pytest.mark.parametrize("step", ["write", "sync", "replace"])
@pytest.mark.parametrize(("code", "raised"), [(errno.ENOSPC, StorageFull), (errno.EIO, StoreFailed)])
def test_a_failed_write_leaves_the_record_as_it_was(
    tmp_path: Path, step: str, code: int, raised: type[Exception]
) -> None:
    """Whatever step of a write fails, the record from before is still whole, and the error says what failed."""
    opened(tmp_path).save(KEY, RECORD)
    failing = FullDisk(code, step)
    store = SecretStore(str(tmp_path / "secrets"), Seal(str(tmp_path), None, failing), failing)
    with pytest.raises(raised):
        store.save(KEY, SecretRecord(values={"OTHER": ["mN3xvb8-Xc+1rJd6"]}))
    assert opened(tmp_path).load() == ({KEY: RECORD}, {})


def test_holders_hide_their_values() -> None:
    """What a traceback prints of a record or a seal shows no value."""
    assert VALUE not in repr(RECORD) + repr([RECORD]) + repr(Seal("/nowhere", None, SystemDisk()))
