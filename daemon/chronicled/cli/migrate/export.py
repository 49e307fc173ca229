"""`chronicled migrate export`: one session in another system's format, beside a running daemon or without one."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronicled.cli import printing
from chronicled.cli.exit_code import OK
from chronicled.cli.units import add_units, chosen_units
from chronicled.events.errors import InvalidRequest

if TYPE_CHECKING:
    from chronicled.migrations.formats.chronicle import Tally, Writer

__all__ = ["configure"]

FORMATS: Final = {
    "jsonl": ("events", "with-blobs"),
    "cloudevents": ("lines", "batch"),
    "atif": ("trajectory",),
    "openhands": ("trajectory",),
    "asciicast": ("v3", "v2"),
}
"""The variants of each format; the first is the default."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("session", metavar="SESSION", help="the session")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    variants = "; ".join(f"{name}: {', '.join(variants)}" for name, variants in FORMATS.items())
    parser.add_argument("--variant", metavar="NAME", help=f"which form, by default the first ({variants})")
    parser.add_argument("--tenant", metavar="NAME", default="default", help="the session's tenant")
    parser.add_argument("--lane", metavar="NAME", help="asciicast: only this lane (default: all, side by side)")
    parser.add_argument("--idle-limit", metavar="SECONDS", type=float, help="asciicast: longest silence when played")
    parser.add_argument("--after", metavar="N", type=int, default=0, help="only events behind this position")
    parser.add_argument("--output", metavar="FILE", help="where to write it (default: standard output)")
    add_units(parser)
    parser.add_argument("--data", metavar="DIR", help="the daemon's data directory (default: the XDG state directory)")
    parser.add_argument("--json", action="store_true", help="sum up as JSON, on standard error")
    parser.set_defaults(execute=export)


def export(options: argparse.Namespace) -> int:
    """Write the export to the file or standard output, and sum up on standard error."""
    from chronicled.daemon.core_dumps import forbid_core_dumps
    from chronicled.daemon.locations import data_directory
    from chronicled.daemon.stores import STORES
    from chronicled.events.ids import check_name
    from chronicled.events.rule_redaction import RuleRedaction
    from chronicled.migrations.formats.chronicle import Tally
    from chronicled.migrations.vocabulary import vocabulary
    from chronicled.storage.exports.log_chronicle import LogChronicle
    from chronicled.storage.exports.target import batches, write_file
    from chronicled.storage.formats import bring_formats

    if options.after < 0:
        raise InvalidRequest("--after is a position: 0 or more.")
    write = _writer(options)
    units = chosen_units(options, strict=True)
    words = vocabulary(units)
    rules = RuleRedaction(rule for unit in units for rule in unit.redaction)
    forbid_core_dumps()
    data = Path(options.data or data_directory(os.environ))
    session = check_name(options.session, "session")
    tenant = check_name(options.tenant, "tenant")
    bring_formats(data, STORES, dry_run=True)  # refuses what a newer version keeps beside the log
    with LogChronicle(data, tenant, session, words.registry, words.chain, options.after, rules) as chronicle:
        tally = Tally(options.format, session, chronicle.head)
        pieces = write(chronicle, tally)
        if options.output is None:
            for batch in batches(pieces):
                sys.stdout.buffer.write(batch)
            sys.stdout.buffer.flush()
        else:
            write_file(Path(options.output), pieces, lambda size: printing.progress(f"{size} bytes"))
    _sum_up(tally, options)
    return OK


def _writer(options: argparse.Namespace) -> Writer:
    variant = options.variant or FORMATS[options.format][0]
    if variant not in FORMATS[options.format]:
        known = ", ".join(FORMATS[options.format])
        raise InvalidRequest(f"{options.format} has no variant {variant!r}; it has {known}.")
    from chronicled.migrations.formats import atif, cloud_events, json_lines, openhands_v0
    from chronicled.migrations.formats.asciicast import asciicast

    if options.idle_limit is not None and not 0 < options.idle_limit < math.inf:
        raise InvalidRequest("--idle-limit is a number of seconds above 0.")
    if options.format == "asciicast":
        return asciicast(int(variant[1:]), lane=options.lane, idle_seconds=options.idle_limit)
    for name, value in (("--lane", options.lane), ("--idle-limit", options.idle_limit)):
        if value is not None:
            raise InvalidRequest(f"{name} is for asciicast; {options.format} always has the whole session.")
    writers: dict[tuple[str, str], Writer] = {
        ("atif", "trajectory"): atif.write,
        ("openhands", "trajectory"): openhands_v0.write,
        ("jsonl", "events"): json_lines.write,
        ("jsonl", "with-blobs"): json_lines.write_with_blobs,
        ("cloudevents", "lines"): cloud_events.write_lines,
        ("cloudevents", "batch"): cloud_events.write_batch,
    }
    return writers[options.format, variant]


def _sum_up(tally: Tally, options: argparse.Namespace) -> None:
    import msgspec

    if options.json:
        sys.stderr.write(msgspec.json.encode(tally).decode() + "\n")
        return
    for text in _remarks(tally):
        sys.stderr.write(f"chronicled: {text}\n")
    where = "" if options.output is None else f" to {options.output}"
    printing.note(f"{tally.events} events up to position {tally.head}: {tally.written} records{where}")


def _remarks(tally: Tally) -> Iterator[str]:
    if tally.opaque:
        yield f"{tally.opaque} events cannot be read here and were exported as they are stored"
    if tally.erased:
        yield f"{tally.erased} events were erased: their payload is gone"
    if tally.redacted:
        yield f"in {tally.redacted} events a secret was replaced that was registered after they had been stored"
    if tally.running:
        yield f"{tally.running} actions had not ended yet"
    if tally.missing_blobs:
        yield f"{tally.missing_blobs} blobs are not there any more: what stands of them in their events was exported"
    if tally.left_out:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(tally.left_out.items()))
        yield f"{tally.format} has no place for {sum(tally.left_out.values())} events: {kinds}"
