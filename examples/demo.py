"""The main job, for real: a daemon in a fresh directory, a small project, a `kill -9` in the middle, and the proof.

Run it with `make demo`. It uses the command line as a person would, and plain HTTP over the Unix socket for the proof
at the end, without any library of ours. It exits with 1 at the first thing that is not as promised.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
READY_SECONDS_MAX = 10.0
SESSION = "demo"

BROKEN = "def total(prices):\n    return sum(prices) - 1\n"
FIXED = "def total(prices):\n    return sum(prices)\n"
TEST = """\
import unittest
from shop import total

class Total(unittest.TestCase):
    def test_total_is_the_sum(self):
        self.assertEqual(total([1, 2, 3]), 6)
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's Unix socket, with the standard library alone."""

    def __init__(self, path: str) -> None:
        super().__init__("chronicled", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


def alive(argument: str) -> list[str]:
    """Return the ids of processes that have the argument in their command line."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
        except OSError:
            continue  # it ended meanwhile
    return found


class Demo:
    """One run of the demo in its own directory."""

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.socket = str(directory / "chronicled.sock")
        self.log = directory / "daemon.log"
        self.counter = directory / "counter"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.begin = time.monotonic()
        self.first_start = 0.0

    def say(self, text: str) -> None:
        """Print a line with the time since the beginning."""
        print(f"{time.monotonic() - self.begin:6.2f}s  {text}", flush=True)

    def expect(self, holds: bool, promise: str) -> None:
        """Say that a promise holds, or end the demo."""
        if not holds:
            self.say(f"BROKEN: {promise}")
            print(self.log.read_text()[-4000:], file=sys.stderr)
            raise SystemExit(1)
        self.say(f"  ✓ {promise}")

    def start(self) -> float:
        """Start a daemon and return the seconds until it was ready."""
        begin = time.monotonic()
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [BIN / "chronicled", "serve", "--data", self.data, "--socket", self.socket],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while time.monotonic() - begin < READY_SECONDS_MAX:
            try:
                if self.http("GET", "/readyz")[0] == 200:
                    return time.monotonic() - begin
            except OSError:
                if self.daemon.poll() is not None:
                    break
            time.sleep(0.01)
        self.expect(False, f"the daemon is ready within {READY_SECONDS_MAX} s")
        raise AssertionError

    def http(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send one plain HTTP request; return the status and the decoded answer."""
        connection = UnixConnection(self.socket)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if b"json" in answer.headers["Content-Type"].encode() else content
        finally:
            connection.close()

    def chronicled(self, *arguments: str, show: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line against the daemon."""
        done = subprocess.run(
            [BIN / "chronicled", *arguments, "--socket", self.socket], capture_output=True, text=True, timeout=60
        )
        if show:
            for line in (done.stdout + done.stderr).splitlines()[:6]:
                self.say(f"  │ {line[:110]}")
        return done

    def run(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a shell line in the demo's session."""
        self.say(f"$ {command if len(command) < 90 else command[:87] + '...'}")
        done = subprocess.run(
            [BIN / "chronicled", "run", "--socket", self.socket, "--session", SESSION, *options, "--", command],
            capture_output=True,
            text=True,
            timeout=60,
        )
        lines = (done.stdout + done.stderr).splitlines()
        for line in lines[-4:]:
            self.say(f"  │ {line[:110]}")
        return done

    def write(self, path: str, content: str) -> None:
        """Write a file in the session with a `write` action."""
        self.say(f"write {path}")
        payload = json.dumps({"path": path, "content": content})
        done = self.chronicled("submit", "--session", SESSION, "--wait", "write", payload, show=False)
        self.expect(done.returncode == 0, f"{path} is written")

    def submit(self, command: str, lane: str = "main") -> str:
        """Submit a command over plain HTTP without waiting; return the action's id."""
        body = {"kind": "run", "payload": {"command": command}, "lane": lane}
        status, answer = self.http("POST", f"/v1/sessions/{SESSION}/actions", body)
        self.expect(status == 202, "the action is accepted: it is on disk before the answer leaves")
        return str(answer["action"]["id"])

    def ending(self, action: str) -> dict[str, Any]:
        """Wait for an action's end and return its payload."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            _, answer = self.http("GET", f"/v1/sessions/{SESSION}/actions/{action}")
            if "observation" in answer:
                return dict(answer["observation"]["payload"])
            time.sleep(0.05)
        self.expect(False, f"action {action} ends")
        raise AssertionError

    def job(self) -> None:
        """Do a small real job: a project with a bug, its failing test, the fix, the test again."""
        self.say("— a small job —")
        self.run("mkdir -p shop && cd shop && pwd")
        self.write("shop.py", BROKEN)
        self.write("test_shop.py", TEST)
        failed = self.run("python3 -m unittest -q 2>&1")
        self.expect(failed.returncode == 1, "the failing test ends with the command's own exit code, 1")
        self.write("shop.py", FIXED)
        passed = self.run("python3 -m unittest -q 2>&1")
        self.expect(passed.returncode == 0, "after the fix it ends with 0, in the same shell and directory")
        long = self.run("for i in $(seq 20000); do echo line $i; done")
        self.expect(long.stdout.splitlines()[-1:] == ["line 20000"], "20,000 lines stream through, the last one too")
        late = self.run("echo begin; (setsid sleep 61.5 &); sleep 61.5", "--timeout", "1")
        self.expect(late.returncode == 124, "a command over its deadline ends with 124")
        self.expect(not alive("61.5"), "and nothing of it lives on, not even what had left its process group")
        self.say("$ sleep 60   (to be cancelled)")
        action = self.submit("echo $$; sleep 60")
        cancelled = self.chronicled("cancel", "--session", SESSION, action)
        self.expect(cancelled.stdout.strip() == "cancelled", "a cancelled command says so")

    def crash(self) -> list[str]:
        """Kill the daemon in the middle of a command; return the ids of the actions that it had accepted."""
        self.say("— kill -9 in the middle —")
        accepted = [
            self.submit(f"echo begun >> {self.counter}; for i in 1 2 3 4; do echo tick $i; sleep 0.5; done"),
            self.submit(f"echo queued >> {self.counter}"),
            self.submit(f"echo side >> {self.counter}", lane="side"),
        ]
        end = time.monotonic() + 10
        while not (self.counter.exists() and "begun" in self.counter.read_text()) and time.monotonic() < end:
            time.sleep(0.02)
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.say("the daemon is dead; the command in its sandbox runs on")
        seconds = self.start()
        # Beside the first start, so that a busy machine is not taken for a broken promise.
        self.expect(
            seconds < max(2.0, 2 * self.first_start), f"a new daemon on the same data is ready in {seconds:.2f} s"
        )
        return accepted

    def check(self, accepted: list[str]) -> None:
        """Re-read everything over plain HTTP and compare it with what stands on disk."""
        self.say("— the proof —")
        endings = [self.ending(action) for action in accepted]
        self.expect(
            [end["outcome"] for end in endings] == ["ok", "ok", "ok"], "every accepted action has its end, and it is ok"
        )
        self.expect(
            endings[0]["output"] == "tick 1\ntick 2\ntick 3\ntick 4\n", "the output across the crash is whole, in order"
        )
        lines = sorted(self.counter.read_text().split())
        self.expect(lines == ["begun", "queued", "side"], f"each command ran once and only once: {lines}")
        events: list[dict[str, Any]] = []
        after: int | str = 0
        while True:
            _, page = self.http("GET", f"/v1/sessions/{SESSION}/events?after={after}&limit=20")
            events += page["events"]
            after = page["next"]
            if page["at_end"]:
                break
        sequences = [event["sequence"] for event in events]
        self.expect(sequences == list(range(len(events))), f"the session's {len(events)} events have no gap")
        runnable = [event["id"] for event in events if event["category"] == "action"]
        ends = [event["cause"] for event in events if "outcome" in event["payload"]]
        self.expect(sorted(runnable) == sorted(ends), f"{len(runnable)} actions, each with exactly one end")
        verified = subprocess.run(
            [BIN / "chronicled", "audit", "verify", "--data", self.data], capture_output=True, text=True, timeout=60
        )
        self.say(f"  │ {verified.stdout.strip()[:110]}")
        self.expect(verified.returncode == 0, "every digest, leaf and sequence of the log verifies")

    def stop(self) -> None:
        """Close the session and end the daemon in order."""
        self.http("DELETE", f"/v1/sessions/{SESSION}")
        assert self.daemon is not None
        self.daemon.terminate()
        self.expect(self.daemon.wait(15) == 0, "SIGTERM drains the daemon, which ends with 0")


def main() -> None:
    """Run the demo."""
    directory = Path(tempfile.mkdtemp(prefix="chronicled-demo-"))
    os.environ.pop("CHRONICLED_SOCKET", None)
    demo = Demo(directory)
    print(f"chronicled, demonstrated in {directory}", flush=True)
    try:
        demo.say("$ chronicled serve &")
        demo.first_start = demo.start()
        demo.say(f"  ready in {demo.first_start:.2f} s")
        demo.chronicled("session", "create", SESSION)
        demo.job()
        accepted = demo.crash()
        demo.check(accepted)
        demo.stop()
    finally:
        if demo.daemon is not None and demo.daemon.poll() is None:
            demo.daemon.kill()
            demo.daemon.wait()
    shutil.rmtree(directory, ignore_errors=True)
    demo.say("Nothing was lost, nothing ran twice, and the record can prove it.")


if __name__ == "__main__":
    main()
