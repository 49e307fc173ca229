"""The query of an export names what can be written."""

from __future__ import annotations

from typing import get_args, get_type_hints

from chronicled.daemon.http.export_routes import ExportQuery
from chronicled.migrations.formats.choice import FORMATS

HINTS = get_type_hints(ExportQuery)


def test_the_query_admits_what_can_be_written_and_nothing_else() -> None:
    """The route, and so the API's description, has the formats and variants that there is a writer for."""
    (variants,) = (each for each in get_args(HINTS["variant"]) if each is not type(None))
    assert set(get_args(HINTS["format"])) == set(FORMATS)
    assert set(get_args(variants)) == {variant for each in FORMATS.values() for variant in each}
