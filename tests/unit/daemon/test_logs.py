"""What the daemon says of itself holds no secret, whatever was given to be logged."""

from __future__ import annotations

import json
import subprocess
import sys

VALUE = "kT9#bQ2vLw7pZx4mHd8s"
SCRIPT = f"""
import logging, structlog
from chronicled.daemon.configuration import LogSettings
from chronicled.daemon.logs import configure_logs, redact_logs
from chronicled.events.secret_redaction import SecretRedaction

class Strange:
    def __repr__(self):
        return "strange {VALUE}"

redaction = SecretRedaction()
redaction.register("default", "s", {{"KEY": ["{VALUE}"]}})
configure_logs(LogSettings(form=FORM))
if REDACT:
    redact_logs(redaction.everywhere)
log = structlog.get_logger("x")
log.info("said {VALUE}", text="a {VALUE}", number=7, none=None, flag=True)
log.warning("deep", payload={{"host": "{VALUE}.example", "{VALUE}": [["{VALUE}"], ("{VALUE}",)]}}, odd=Strange())
log.info("bytes", data=b"{VALUE}", members={{"{VALUE}"}})
try:
    raise ValueError("wrong: {VALUE}")
except ValueError:
    log.exception("failed")
    logging.getLogger("aiohttp").exception("failed too: %s", "{VALUE}")
"""


def said(form: str, *, redact: bool = True) -> str:
    """Return what a daemon's log gets of lines that hold a secret everywhere."""
    script = SCRIPT.replace("FORM", repr(form)).replace("REDACT", repr(redact))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stderr


def test_no_line_holds_a_secret() -> None:
    """In texts, lists, mappings and their names, objects, tracebacks, and lines of the standard library's logging."""
    for form in ("json", "console"):
        text = said(form)
        assert VALUE not in text
        assert text.count("<secret:KEY>") >= 11, text
    lines = [json.loads(line) for line in said("json").splitlines() if line.startswith("{")]
    assert (lines[0]["number"], lines[0]["none"], lines[0]["flag"]) == (7, None, True)
    assert lines[1]["payload"]["<secret:KEY>"] == [["<secret:KEY>"], ["<secret:KEY>"]]


def test_without_redaction_they_hold_it() -> None:
    """The negative control: the same lines show the value in as many places."""
    assert said("json", redact=False).count(VALUE) >= 11
