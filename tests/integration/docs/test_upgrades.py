"""docs/upgrades.md is true: its blocks run as they stand, one after another, on what an older version left."""

from __future__ import annotations

from pathlib import Path

from tests.golden.databases import golden_databases, unpack
from tests.integration.docs import page

DOCUMENT = page.text_of("docs/upgrades.md")


def test_every_block_of_the_upgrades_page_runs_as_written(tmp_path: Path) -> None:
    """Status, a dry run, the migration, a rewrite and its verification work word by word."""
    data = tmp_path / "state" / "chronicled"
    data.mkdir(parents=True, mode=0o700)
    unpack(golden_databases()[0], data / "log.sqlite")
    done = page.run("\n".join(page.blocks(DOCUMENT, "sh")), tmp_path)
    for said in (
        "step 1 of",
        "would be applied: log: ",
        "applied: log: ",
        "ok: 8301 events in ",
        "ok: 8301 events verify",
    ):
        assert said in done.stdout, f"{said!r} is missing in:\n{done.stdout}"
    assert (data / "log.sqlite.before-step-2").exists()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["chronicled", "chronicled-new"]
