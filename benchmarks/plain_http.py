"""The least HTTP client that can measure: one blocking connection over a Unix socket, standard library only."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

__all__ = ["Connection"]

SECONDS_MAX = 120.0


class Connection(http.client.HTTPConnection):
    """A connection that is kept and used again. Not for several threads."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS_MAX)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS_MAX)
        self.sock.connect(self._path)

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Send one request; return the answer's JSON, or its text where it is none.

        Raises:
            RuntimeError: the answer is no success.
        """
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        self.request(method, path, data, headers)
        answer = self.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        return json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text.decode()

    def run(self, session: str, command: str, **payload: object) -> Any:
        """Run a command, wait for its end, and return the observation's event.

        Raises:
            RuntimeError: it did not end in time.
        """
        body = {"kind": "run", "payload": {"command": command, **payload}}
        answer = self.call("POST", f"/v1/sessions/{session}/actions", body, Prefer="wait=60")
        if "observation" not in answer:
            raise RuntimeError(f"{command!r} did not end in time: {answer}")
        return answer["observation"]
