"""The reconcile table, every row of it."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest

from chronicled.runtimes.worker import reconcile
from chronicled.runtimes.worker.reconcile import Generation, Journaled, Server, Verdict, judge

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")][:6]
    for line in (reconcile.__doc__ or "").splitlines()
    if re.match(r"\| (none|alive|over)", line)
]


def _matching(row: list[str]) -> list[tuple[Generation, Server, bool, Journaled, bool]]:
    generation, server, spooled, journal, head, _ = row
    flags = {"yes": [True], "no": [False]}
    return [
        (one, two, three, four, five)
        for one, two, three, four, five in itertools.product(
            get_args(Generation), get_args(Server), (True, False), get_args(Journaled), (True, False)
        )
        if one == generation
        and server in {two, "-", "any"}
        and three in flags.get(spooled, [True, False])
        and (journal in {four, "any"} or (journal == "noted" and four != "unsent"))
        and five in flags.get(head, [True, False])
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row))
def test_each_row_of_the_table_is_what_is_done(row: list[str]) -> None:
    """What the documented table says of the facts is the verdict."""
    cases = _matching(row)
    assert cases
    for case in cases:
        assert judge(*case) == row[5]


def test_the_table_decides_every_case_once() -> None:
    """No combination of facts is left out of the table, none is in two rows, and every verdict occurs."""
    decided = [case for row in ROWS for case in _matching(row)]
    everything = 3 * 3 * 2 * 3 * 2
    assert len(decided) == len(set(decided)) == everything
    assert {row[5] for row in ROWS} == set(get_args(Verdict))
