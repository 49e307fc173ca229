"""Secrets in containers: variables for commands, nothing for whoever looks at the container from outside."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tests.engine.fixture import DEBIAN, Engine
from tests.integration.daemon.conftest import Launch
from tests.integration.daemon.process import files_below

VALUE, OTHER = "hT7%kq2/Zp+9wLm4", "mN3xvb8-Xc+1rJd6"


async def test_nobody_outside_sees_what_a_container_was_given(launch: Launch, engine: Engine) -> None:
    """Commands have the values, from the start and later; `inspect`, arguments and files of the host show none."""
    daemon = await launch()
    body = {"session": "s", "runtime": "docker", "image": DEBIAN, "secrets": {"TOKEN": VALUE}}
    assert (await daemon.post("/v1/sessions", body)).status == 201

    async def run(command: str) -> Any:
        action = {"kind": "run", "payload": {"command": command}}
        answer = await daemon.post("/v1/sessions/s/actions", action, headers={"Prefer": "wait=60"})
        assert answer.status == 200, answer
        return answer.json["observation"]["payload"]["output"]

    assert await run("echo $TOKEN; printf %s $TOKEN | rev") == "<secret:TOKEN>\n" + VALUE[::-1]
    change = {"secrets": {"LATER": OTHER}}
    assert (await daemon.call("PUT", "/v1/sessions/s/environment", json=change)).status == 200
    assert await run("echo $LATER; printf %s $LATER | rev") == "<secret:LATER>\n" + OTHER[::-1]
    first = "tr '\\0' '\\n' < /proc/1/environ | rev; tr '\\0' ' ' < /proc/1/cmdline | rev"
    seen = await run(first)  # backwards, so that redaction does not cover up what is there
    assert "/bin:" in seen[::-1]
    told = [seen[::-1], engine("inspect", *_containers(daemon.data, engine)), _arguments()]
    # The spool holds clear text by its purpose.
    told += [data.decode(errors="replace") for _, data in files_below(daemon.directory, {"spool"})]
    for value in (VALUE, OTHER):
        assert not [text for text in told if value in text]


def _containers(data: Path, engine: Engine) -> list[str]:
    sandboxes = {path.name for path in (data / "sandboxes").iterdir()}
    listed = engine("ps", "-a", "--format", '{{.ID}} {{.Label "chronicled.sandbox"}}').splitlines()
    found = [line.split()[0] for line in listed if line.split()[-1] in sandboxes]
    assert found
    return found


def _arguments() -> str:
    return subprocess.run(["ps", "axww", "-o", "args"], check=True, capture_output=True, text=True).stdout
