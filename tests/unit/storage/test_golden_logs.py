"""Logs that earlier code wrote open, verify and decode with the code of today."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.golden.logs import golden_logs, missing

from chronicled.events import Append, Codec, Opaque, builtin_registry
from chronicled.events.kinds.actions import Run
from chronicled.migrations.builtin import builtin_chain
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.verification import verify_file


def test_every_kind_is_in_a_golden_log() -> None:
    """What is written today is in a log that every later version must read; `make lock` writes it."""
    assert missing() == set()


@pytest.mark.parametrize("golden", golden_logs(), ids=lambda path: path.stem)
async def test_a_golden_log_opens_verifies_and_decodes_whole(golden: Path, tmp_path: Path) -> None:
    """Each event of an earlier version's log is typed, and a new one can be appended behind it."""
    path = tmp_path / LOG_NAME
    shutil.copyfile(golden, path)
    assert not verify_file(path).problems
    registry = builtin_registry()
    codec = Codec(registry, builtin_chain())
    async with await SqliteStore.open(path) as store:
        page = await store.read(0, 1000)
        assert page.at_end
        opaque = [event.kind for event in page.events if isinstance(codec.decode(event), Opaque)]
        assert opaque == []
        head = store.head
        draft = codec.draft(
            "action", "run", Run(command="true"),
            tenant="default", session="golden", id="01900000-0000-7000-8000-0000000f0000",
        )  # fmt: skip
        assert (await store.append(Append((draft,)))).events[0].position == head + 1
    assert not verify_file(path).problems
