"""Print the lock of the built-in kinds, the shipped lines first; `make lock` writes it to `schema.lock`."""

from __future__ import annotations

import sys

from chronicled.events.registry import builtin_registry
from chronicled.migrations.lock import lock_of, locked, problems, render

if __name__ == "__main__":
    lock = lock_of(builtin_registry())
    changed = [line for line in problems(builtin_registry(), locked()) if "schema has changed" in line]
    if changed:
        sys.exit("\n".join(changed))
    sys.stdout.write(render({**locked(), **lock}))
