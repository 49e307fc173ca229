"""What is brought into sandboxes: the distributions that a unit names with all that they require, and nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from chronicled.events.errors import UnitBroken
from chronicled.runtimes.carrier.place import remove_tree
from chronicled.runtimes.carrier.recipe import ARCHITECTURES
from chronicled.runtimes.delivery.delivery import Delivery, UnitParcel
from chronicled.runtimes.delivery.target import Target, carried_target, own_target
from chronicled.runtimes.delivery.tree import place_tree

SITE = "site-packages"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions, in front of all others."""
    folder = tmp_path / SITE
    folder.mkdir()
    prepend: Callable[[str], None] = getattr(monkeypatch, "syspath_prepend")  # noqa: B009 - it has no types
    prepend(str(folder))
    return folder


def install(
    site: Path, name: str, files: dict[str, str], requires: tuple[str, ...] = (), *, listed: bool = True
) -> None:
    """Put a distribution there, as pip would."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}")
    for path, text in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    record = [f"{info.name}/METADATA,,", f"{info.name}/RECORD,,", *(f"{path},," for path in files)]
    if listed:
        (info / "RECORD").write_text("\n".join(record) + "\n")


def parcel(*distributions: str, module: str = "alpha_unit") -> UnitParcel:
    """Return what a unit with one executor wants."""
    return UnitParcel("alpha", (f"{module}.executor:Executor",), distributions)


def contents(*distributions: str, target: Target | None = None, module: str = "alpha_unit") -> set[str]:
    """Return the paths that are brought."""
    found = Delivery("", [parcel(*distributions, module=module)]).contents(target or own_target())
    return {path for path in found if not path.split("/")[0].endswith(".dist-info")}


ALPHA = {"alpha_unit/__init__.py": "", "alpha_unit/executor.py": "", "alpha_unit/data/words.txt": "w"}


def test_a_distribution_comes_with_all_that_it_requires_and_nothing_else(site: Path) -> None:
    """Requirements are followed by their markers and extras; chronicled and msgspec are there already; others stay."""
    install(site, "alpha-unit", ALPHA, ("chronicled", "msgspec", "middle[more]; python_version >= '3'"))
    install(site, "middle", {"middle.py": ""}, ("last; extra == 'more'", "never; sys_platform == 'win32'"))
    install(site, "last", {"last/__init__.py": "", "last/__pycache__/x.pyc": "", "../../bin/last": ""})
    install(site, "bystander", {"bystander.py": ""})
    assert contents("alpha-unit") == {*ALPHA, "middle.py", "last/__init__.py"}


def test_an_editable_distribution_comes_from_its_project(site: Path, tmp_path: Path) -> None:
    """Through its path file, the packages of it alone: not what stands beside them, nor another project's."""
    project = tmp_path / "project"
    for path in ("src/alpha_unit/executor.py", "src/other/__init__.py", "tests/test_it.py", "setup.py"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("")
    (project / "src/alpha_unit/__init__.py").touch()
    install(site, "alpha-unit", {"_alpha.pth": f"{project / 'src'}\n"})
    assert contents("alpha-unit") == {"alpha_unit/__init__.py", "alpha_unit/executor.py"}


def test_an_editable_distribution_with_a_finder_comes_from_where_that_points(site: Path, tmp_path: Path) -> None:
    """As setuptools does it: a mapping in a module, which is read and not run."""
    package = tmp_path / "flat" / "alpha_unit"
    package.mkdir(parents=True)
    (package / "executor.py").touch()
    finder = f"raise SystemExit\nMAPPING: dict[str, str] = {{'alpha_unit': {str(package)!r}}}\n"
    install(site, "alpha-unit", {"__editable___alpha_finder.py": finder, "__editable__.alpha.pth": "import nothing\n"})
    assert contents("alpha-unit") == {"alpha_unit/executor.py"}


def test_a_module_that_belongs_to_no_distribution_comes_alone(site: Path) -> None:
    """What was put on the path by hand is brought as it is."""
    (site / "loose_unit").mkdir()
    (site / "loose_unit" / "executor.py").touch()
    (site / "loose_unit" / "__init__.py").touch()
    assert contents(module="loose_unit") == {"loose_unit/__init__.py", "loose_unit/executor.py"}


def test_what_an_author_keeps_beside_the_code_stays_at_home(site: Path) -> None:
    """A project's folder may hold `.env` and its like: no file with a dot in front comes into a sandbox."""
    (site / "alpha_unit" / ".git").mkdir(parents=True)
    for name in ("__init__.py", "data.txt", ".env", ".git/config"):
        (site / "alpha_unit" / name).write_text("")
    assert contents() == {"alpha_unit/__init__.py", "alpha_unit/data.txt"}


def test_what_is_not_installed_is_named_with_who_wants_it(site: Path) -> None:
    """A requirement that is missing is refused by name, and the advice is there."""
    install(site, "alpha-unit", ALPHA, ("not-there-at-all>=2",))
    with pytest.raises(UnitBroken, match=r"not-there-at-all, which alpha-unit requires,.*install it beside chronicled"):
        contents("alpha-unit")


def test_what_does_not_say_its_files_is_refused(site: Path) -> None:
    """Without a record nobody knows what belongs to a distribution: never the whole folder instead."""
    install(site, "alpha-unit", ALPHA, listed=False)
    with pytest.raises(UnitBroken, match=r"alpha-unit 1\.0 .* does not say which files it has"):
        contents("alpha-unit")


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("fast.cpython-311-x86_64-linux-gnu.so", True),
        ("fast.cpython-312-x86_64-linux-gnu.so", False),
        ("fast.cpython-311-aarch64-linux-gnu.so", False),
        ("fast.cpython-311-x86_64-linux-musl.so", False),
        ("fast.pyd", False),
        ("fast.py", True),
    ],
)
def test_compiled_parts_must_be_for_the_interpreter_of_sandboxes(site: Path, name: str, fits: bool) -> None:
    """What it cannot load is refused by its distribution's name, with what to do."""
    install(site, "alpha-unit", ALPHA, ("fast",))
    install(site, "fast", {name: ""})
    target = carried_target(next(each for each in ARCHITECTURES.values() if each.machine == "x86_64"))
    if fits:
        assert name in contents("alpha-unit", target=target)
        return
    with pytest.raises(UnitBroken, match=rf"needs fast 1\.0, whose part {name} is compiled for another interpreter"):
        contents("alpha-unit", target=target)


def test_a_tree_is_named_by_its_content_and_closed(tmp_path: Path) -> None:
    """The same files give the same folder, others another; nobody writes in it; what was changed is made again."""
    first = place_tree(tmp_path, {"a/b.py": b"x = 1\n", "a/c.txt": b"c"})
    assert place_tree(tmp_path, {"a/c.txt": b"c", "a/b.py": b"x = 1\n"}) == first
    assert place_tree(tmp_path, {"a/b.py": b"x = 2\n"}) != first
    assert list((first / "a" / "__pycache__").iterdir())
    for path, _, names in os.walk(first):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o555
        assert {stat.S_IMODE((Path(path) / name).stat().st_mode) for name in names} <= {0o444}
    (first / "a" / "c.txt").chmod(0o644)
    (first / "a" / "c.txt").write_bytes(b"changed")
    assert place_tree(tmp_path, {"a/b.py": b"x = 1\n", "a/c.txt": b"c"}) == first
    assert (first / "a" / "c.txt").read_bytes() == b"c"


def test_the_tree_of_sandboxes_has_ours_apart_from_the_units(site: Path, tmp_path: Path) -> None:
    """Our modules come first on the path of a sandbox, in a folder that units have no part in."""
    install(site, "alpha-unit", ALPHA | {"msgspec/__init__.py": "evil = True\n"})
    tree = Delivery(str(tmp_path / "trees"), [parcel("alpha-unit")]).tree()
    assert sorted(os.listdir(tree.site))[0:2] == ["chronicled", "msgspec"]
    assert "evil" not in (Path(tree.site) / "msgspec" / "__init__.py").read_text()
    assert (Path(tree.units) / "alpha_unit" / "data" / "words.txt").read_text() == "w"
    assert not list(Path(tree.site).rglob("aiohttp*"))


def test_a_tree_that_was_taken_away_is_made_again(site: Path, tmp_path: Path) -> None:
    """The next sandbox of a daemon that runs for long starts all the same."""
    install(site, "alpha-unit", ALPHA)
    delivery = Delivery(str(tmp_path / "trees"), [parcel("alpha-unit")])
    first = delivery.tree()
    remove_tree(Path(first.site).parent)
    assert not Path(first.site).exists()
    assert delivery.tree() == first
    assert Path(first.site).is_dir()
