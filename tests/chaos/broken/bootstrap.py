"""Start of an action server that forgets: put into a copy of the carrier in place of the bootstrap, which it calls."""

from __future__ import annotations

import os
import sys
from typing import Any

PACKAGE_DEPTH = 4


def main() -> None:
    """Break the server, then start it as the product does."""
    own = os.path.abspath(__file__)
    sys.path = [path for path in sys.path if path != os.path.dirname(own)]
    sys.path.append(own.rsplit("/", PACKAGE_DEPTH)[0])

    import importlib

    from chronicled.runtimes.action_server import frames
    from chronicled.runtimes.action_server.server import ActionServer

    broken: Any = ActionServer
    take = broken._take

    def forgetful(server: ActionServer, frame: frames.ToServer, *rest: Any) -> None:
        if isinstance(frame, frames.Query):
            server.post(frames.Status(running=[], done=[]))
        else:
            take(server, frame, *rest)

    def know_nothing(*_: object) -> bool:
        return False

    broken._take = forgetful
    broken._answer_known = know_nothing
    importlib.import_module("chronicled.runtimes.action_server.whole_bootstrap").main()


if __name__ == "__main__":
    main()
