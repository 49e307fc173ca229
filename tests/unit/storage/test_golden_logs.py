"""Logs that earlier code wrote open, verify and decode with the code of today."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.golden.logs import golden_log

from chronicled.events import Append, Codec, Opaque, builtin_registry
from chronicled.events.kinds.actions import Run
from chronicled.migrations.builtin import builtin_chain
from chronicled.storage.log_schema import LOG_STEPS
from chronicled.storage.sqlite import LOG_NAME, SqliteStore
from chronicled.storage.verification import verify_file


@pytest.mark.parametrize("step", range(1, len(LOG_STEPS) + 1))
async def test_a_golden_log_opens_verifies_and_decodes_whole(step: int, tmp_path: Path) -> None:
    """Each event of each kind that a released schema step holds is typed, and a new one can be appended behind it."""
    path = tmp_path / LOG_NAME
    shutil.copyfile(golden_log(step), path)
    assert not verify_file(path).problems
    registry = builtin_registry()
    codec = Codec(registry, builtin_chain())
    async with await SqliteStore.open(path) as store:
        page = await store.read(0, 1000)
        assert page.at_end
        assert {(event.category, event.kind) for event in page.events} >= {(s.category, s.kind) for s in registry}
        opaque = [event.kind for event in page.events if isinstance(codec.decode(event), Opaque)]
        assert opaque == []
        head = store.head
        draft = codec.draft(
            "action", "run", Run(command="true"),
            tenant="default", session="golden", id="01900000-0000-7000-8000-0000000f0000",
        )  # fmt: skip
        assert (await store.append(Append((draft,)))).events[0].position == head + 1
    assert not verify_file(path).problems
