"""`chronicled plugins`: what third parties add, and what would become of it at the daemon's next start."""

from __future__ import annotations

import argparse
from typing import Literal

import msgspec

from chronicled.cli import printing
from chronicled.cli.exit_code import ACTION_FAILED, OK

__all__ = ["configure"]


class Plugin(msgspec.Struct, frozen=True, kw_only=True):
    """One unit."""

    name: str
    state: Literal["loaded", "installed", "broken"]
    """`loaded`: the configuration names it and it is right; `installed`: it is there, and not named."""
    reference: str = ""
    release: str = ""
    """Distribution and version."""
    kinds: tuple[str, ...] = ()
    """Each with its current version, e.g. `acme.probe 2`."""
    executors: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    policy: str = ""
    reason: str = ""
    """Why it is broken, and what to do."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--config", metavar="FILE", help="the daemon's configuration (default: as `serve` finds it)")
    parser.add_argument("--all", action="store_true", help="judge those too that the configuration does not name")
    parser.add_argument("--json", action="store_true", help="print JSON, one unit a line")
    parser.set_defaults(execute=show_plugins)


def show_plugins(options: argparse.Namespace) -> int:
    """Show them; exit code 1 when one that is named, or judged, is broken.

    Nothing of a unit that is only installed is imported, unless `--all` asks for it.
    """
    from chronicled.daemon.configuration import load

    settings = load(options.config)
    found = _asked(settings.units.load)
    named = {plugin.name for plugin in found} | {plugin.reference for plugin in found}
    found += [plugin for plugin in _installed(judge=options.all) if plugin.name not in named]
    if options.json:
        for plugin in found:
            printing.json_line(plugin)
    elif not found:
        printing.line("no units are installed (entry point group chronicled.units)")
    else:
        printing.table([("NAME", "STATE", "RELEASE", "KINDS"), *(_row(plugin) for plugin in found)])
        for plugin in found:
            if plugin.reason:
                printing.line(f"{plugin.name}: {plugin.reason}")
    return ACTION_FAILED if any(plugin.state == "broken" for plugin in found) else OK


def _asked(names: tuple[str, ...]) -> list[Plugin]:
    """Return the units that the configuration names, judged as the daemon judges them: each beside those before it."""
    from chronicled.daemon.units.loading import load_units
    from chronicled.daemon.units.parts import judge_delivery

    units = load_units(names, skip_broken=True, judge=judge_delivery)
    plugins = {each.asked: _loaded(each.asked, each) for each in units.loaded}
    plugins |= {each.asked: Plugin(name=each.asked, state="broken", reason=each.reason) for each in units.broken}
    return [plugins[name] for name in dict.fromkeys(names)]


def _installed(*, judge: bool) -> list[Plugin]:
    from chronicled.daemon.units.loading import entry_points, load_unit
    from chronicled.daemon.units.parts import judge_delivery
    from chronicled.events.errors import UnitBroken

    found: list[Plugin] = []
    for point in entry_points():
        release = "" if point.dist is None else f"{point.dist.metadata['Name']} {point.dist.version}"
        plugin = Plugin(name=point.name, state="installed", reference=point.value, release=release)
        if judge:
            try:
                unit = load_unit(point.name)
                judge_delivery(unit)
                plugin = msgspec.structs.replace(_loaded(point.name, unit), state="installed")
            except UnitBroken as error:
                plugin = msgspec.structs.replace(plugin, state="broken", reason=error.detail)
        found.append(plugin)
    return found


def _loaded(name: str, loaded: object) -> Plugin:
    from chronicled.daemon.units.loading import Loaded

    assert isinstance(loaded, Loaded)
    unit = loaded.unit
    versions: dict[str, int] = {}
    for spec in unit.kinds:
        versions[spec.kind] = max(spec.version, versions.get(spec.kind, 0))
    return Plugin(
        name=name,
        state="loaded",
        reference=loaded.reference,
        release=loaded.release,
        kinds=tuple(f"{kind} {version}" for kind, version in sorted(versions.items())),
        executors=unit.executors,
        runtimes=tuple(unit.runtimes),
        policy=unit.policy,
    )


def _row(plugin: Plugin) -> tuple[str, ...]:
    return (plugin.name, plugin.state, plugin.release or plugin.reference, ", ".join(plugin.kinds))
