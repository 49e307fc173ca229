from __future__ import annotations

from typing import Any, NoReturn

import pytest

from chronicled.daemon import fail_stop
from chronicled.daemon.guarded_store import GuardedStore
from chronicled.events import faultpoint
from chronicled.events.errors import ConfigurationError, DataDirectoryBusy, StorageFull, StoreFailed
from chronicled.events.store import Append
from chronicled.storage.memory import MemoryStore


class Stopped(Exception):
    """Stands for the end of the process."""


def stop(error: BaseException) -> NoReturn:
    """End the test's process."""
    raise Stopped(str(error))


@pytest.mark.parametrize(("failure", "seen"), [(StoreFailed("EIO"), Stopped), (StorageFull("no room"), StorageFull)])
async def test_a_failed_write_stops_and_a_full_disk_does_not(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, seen: type[Exception]
) -> None:
    """After a failed write nobody is answered; a full disk is told to the caller, and to `readyz` for a while."""
    async with await MemoryStore.open() as store:

        async def fail(request: Append) -> Any:
            raise failure

        monkeypatch.setattr(store, "append", fail)
        guarded = GuardedStore(store, stop)
        assert not guarded.full
        with pytest.raises(seen):
            await guarded.append(Append(()))
        assert guarded.full == (seen is StorageFull)


def test_exit_codes_tell_usage_refusal_and_failure() -> None:
    """A supervisor can tell what a restart may cure."""
    assert fail_stop.exit_code(ConfigurationError("x")) == 2
    assert fail_stop.exit_code(DataDirectoryBusy("x")) == 4
    assert fail_stop.exit_code(StoreFailed("x")) == fail_stop.EXIT_FAILED == 70


@pytest.mark.parametrize("setting", ["", "nowhere:1", "before_append", "before_append:0", "before_append:x"])
def test_a_wrong_fault_point_arms_nothing(setting: str) -> None:
    """What does not name a point and a count is refused."""
    faultpoint.arm(None)
    with pytest.raises(ConfigurationError):
        fail_stop.arm_fault_point(setting)
    faultpoint.reached("before_append")
