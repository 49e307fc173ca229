"""The pytest plugin. It is loaded into everybody's pytest, so it imports nothing until it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_addoption", "pytest_collection_modifyitems"]

UNIT = "chronicled_unit"
EXAMPLES = "chronicled_examples"
KEEP = "chronicled_keep"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the same as settings of the configuration file."""
    group = parser.getgroup("chronicled", "conformance of units for chronicled")
    unit = "unit to be judged: name of its entry point, or package.module:Name"
    examples = "examples of its actions (chronicled.daemon.units.conformance.examples): package.module:NAME"
    group.addoption("--chronicled-unit", dest=UNIT, metavar="NAME", default=None, help=unit)
    group.addoption("--chronicled-examples", dest=EXAMPLES, metavar="NAME", default=None, help=examples)
    keep = "write lines of schema.lock and golden events that are missing; what is there stays as it is"
    group.addoption("--chronicled-keep", dest=KEEP, action="store_true", help=keep)
    parser.addini(UNIT, unit, default="")
    parser.addini(EXAMPLES, examples, default="")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[Any]) -> None:
    """Add the kit's tests behind those of the author, when a unit is named."""
    name = config.getoption(UNIT) or config.getini(UNIT)
    if name:
        from chronicled.daemon.units.conformance.collection import collect

        examples = str(config.getoption(EXAMPLES) or config.getini(EXAMPLES) or "")
        items.extend(collect(session, str(name), examples, keeping=bool(config.getoption(KEEP))))
