"""An imported session is over from its first event: for the fold, for the session list, and for the writer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.imports.conversations import CODEC, bring, events_of, run, write_files

from chronicled.events.errors import SessionClosed
from chronicled.events.ids import SystemIds
from chronicled.events.kinds.actions import Run
from chronicled.events.lanes import SessionFold
from chronicled.events.store import Append
from chronicled.events.worker_log import SessionKey
from chronicled.storage.imports.destination import Destination, open_destination
from chronicled.storage.projections.projections import open_projections


@pytest.fixture
async def to(tmp_path: Path) -> AsyncIterator[Destination]:
    """A data directory that nobody else uses."""
    async with open_destination(tmp_path) as destination:
        yield destination


async def test_the_fold_never_opens_its_actions(to: Destination, tmp_path: Path) -> None:
    """After each event, from the first on, nothing is open and nothing is left to do."""
    await bring(to, write_files(tmp_path / "c", [run(0), run(1)]))
    fold = SessionFold(SessionKey("default", "c"), CODEC.registry)
    for event in await events_of(to.store, "c"):
        fold.apply(event)
        assert fold.over
        assert not len(fold)
    assert fold.created is not None


async def test_its_runtime_is_what_keeps_them_closed(to: Destination, tmp_path: Path) -> None:
    """Negative control: under another runtime the same actions are open until their ends."""
    await bring(to, write_files(tmp_path / "c", [run(0), run(1)]))
    created, *others = await events_of(to.store, "c")
    fold = SessionFold(SessionKey("default", "c"), CODEC.registry)
    fold.extend(event for event in others if event.category != "observation")
    assert len(fold) == 2
    assert created.kind == "session_created"


async def test_the_projections_have_nothing_to_do_in_it(to: Destination, tmp_path: Path) -> None:
    """Folded from the log, it is in the list as closed, and not among what is unfinished."""
    await bring(to, write_files(tmp_path / "c", [run(0)]))
    async with open_projections(tmp_path / "projections.sqlite", to.store, CODEC) as projections:
        assert not projections.unfinished()
        rows, _ = await projections.page("default", 0, 10)
        assert [(row.session, row.runtime, row.closed) for row in rows] == [("c", "imported", True)]


async def test_the_writer_takes_no_action_for_it(to: Destination, tmp_path: Path) -> None:
    """A client's action for it is refused by the log itself."""
    await bring(to, write_files(tmp_path / "c", [run(0)]))
    draft = CODEC.draft(
        "action", "run", Run(command="true"), tenant="default", session="c", id=SystemIds().new(), source="client"
    )
    with pytest.raises(SessionClosed):
        await to.store.append(Append((draft,)))
