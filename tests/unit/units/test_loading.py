"""Units are found by their entry points, and by nothing else than what was asked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chronicled.daemon.units.loading import entry_points, load_unit, load_units, packages_of
from chronicled.events.errors import UnitBroken

UNIT = """
from chronicled.events import Payload, action
from chronicled.migrations.chain import Upcaster
from chronicled.migrations.unit import Unit
from {package}_steps import up

class Note(Payload, frozen=True, kw_only=True):
    text: str = ""

kinds = (action("{name}.note", Note), action("{name}.note", Note, version=2))
UNIT = Unit(name="{name}", kinds=kinds, upcasters=(Upcaster("action", "{name}.note", 1, up),))
"""


def installed(place: Path, distribution: str, entry: str, name: str) -> None:
    """Install a distribution with a unit there, as pip would leave it."""
    package = distribution.replace("-", "_")
    (place / package).mkdir(parents=True)
    (place / package / "__init__.py").write_text(UNIT.format(package=package, name=name))
    (place / f"{package}_steps.py").write_text("def up(payload):\n    return payload\n")
    metadata = place / f"{package}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(f"[chronicled.units]\n{entry} = {package}:UNIT\n")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_a_unit_is_loaded_by_its_name_or_by_its_place(place: Path) -> None:
    """Both ways lead to the same unit of the same release; its code is in its package and in those of its steps."""
    installed(place, "loading-one", "lone", "lone")
    for asked in ("lone", "loading_one:UNIT"):
        found = load_unit(asked)
        assert (found.unit.name, found.release, found.distributions) == ("lone", "loading-one 1.2", ("loading-one",))
        assert packages_of(found) == {"loading_one", "loading_one_steps"}


def test_what_is_installed_and_not_asked_for_is_not_imported(place: Path) -> None:
    """It is listed by what its distribution says of it; loading another one leaves it alone."""
    installed(place, "loading-two", "ltwo", "ltwo")
    installed(place, "loading-three", "lthree", "lthree")
    assert {"ltwo", "lthree"} <= {point.name for point in entry_points()}
    assert [each.asked for each in load_units(["ltwo"]).loaded] == ["ltwo"]
    assert "loading_two" in sys.modules
    assert "loading_three" not in sys.modules


def test_an_entry_point_bears_the_name_of_its_unit(place: Path) -> None:
    """Else the configuration would say one thing, and kinds and logs another."""
    installed(place, "loading-four", "lfour", "other")
    with pytest.raises(UnitBroken, match="'lfour' leads to a unit that is called 'other': name them alike"):
        load_unit("lfour")
    assert load_unit("loading_four:UNIT").unit.name == "other"


def test_a_name_that_two_distributions_have_is_not_guessed(place: Path) -> None:
    """Which of them it is depends on the path: both are named, and one can be asked for by its place."""
    installed(place, "loading-five", "lfive", "lfive")
    installed(place, "loading-six", "lfive", "lfive")
    with pytest.raises(UnitBroken, match=r"in several distributions \(loading-five, loading-six\)"):
        load_unit("lfive")
    assert load_unit("loading_six:UNIT").release == "loading-six 1.2"


def test_a_broken_unit_leaves_those_before_it_as_they_are(place: Path) -> None:
    """All that are broken are told at once; with `skip_broken` the others are there, in their order."""
    installed(place, "loading-seven", "lseven", "lseven")
    installed(place, "loading-eight", "leight", "lseven")
    asked = ["lseven", "loading_eight:UNIT", "lnobody"]
    with pytest.raises(UnitBroken, match=r"another unit has the same name.*There is no unit 'lnobody'"):
        load_units(asked)
    found = load_units(asked, skip_broken=True)
    assert [each.asked for each in found.loaded] == ["lseven"]
    assert [each.asked for each in found.broken] == ["loading_eight:UNIT", "lnobody"]
