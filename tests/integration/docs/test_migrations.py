"""docs/migrations.md is true: its files and blocks, one after another, on a log that an older version left."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.golden.logs import LOGS
from tests.integration.docs import page

DOCUMENT = page.text_of("docs/migrations.md")
BLOCK = re.compile(
    r"(?:`(?P<file>[^`\n]+\.py)`:\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_every_block_of_the_migrations_page_runs_as_written(tmp_path: Path) -> None:
    """What is read, the lock, a change without a version that is found, and the change done right."""
    data = tmp_path / "state" / "chronicled"
    data.mkdir(parents=True, mode=0o700)
    shutil.copyfile(LOGS / "step-1.sqlite", data / "log.sqlite")
    parts: list[str] = ["mkdir acme_note"]
    for number, found in enumerate(BLOCK.finditer(DOCUMENT)):
        if found["file"] is None:
            assert found["language"] == "sh", found[0]
            parts.append(found["text"])
            continue
        (tmp_path / f"block-{number}").write_text(found["text"])
        parts.append(f"cp {tmp_path}/block-{number} {found['file']}")
        if "former.Note" in found["text"]:
            # Negative control: the new struct in the old version's place.
            spoilt = found["text"].replace('action("acme.note", former.Note), ', "").replace(", version=2)", "),")
            spoilt = re.sub(r"    (up|down)casters=\(.*?\n    \),\n", "", spoilt, flags=re.DOTALL)
            (tmp_path / "spoilt").write_text(spoilt)
            parts.append(f"cp {tmp_path}/spoilt {found['file']}")
            parts.append("! chronicled migrate lock --unit acme_note:UNIT --check")
            parts.append(f"cp {tmp_path}/block-{number} {found['file']}")
    done = page.run("\n".join(parts), tmp_path, environment=page.newcomer(tmp_path, PYTHONPATH=str(tmp_path)))
    for said in (
        "every payload can be read",
        "migrated to 2 on reading",
        "act run",
        "acme_note: action acme.note 1 is locked now",
        "action acme.note 1: its schema has changed",
        "acme_note: action acme.note 2 is locked now",
    ):
        assert said in done.stdout, f"{said!r} is missing in:\n{done.stdout}"
