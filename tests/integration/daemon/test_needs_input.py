"""A command that waits for the keyboard says so in the log and in its status, from the sandbox to the caller."""

from __future__ import annotations

from typing import Any

from tests.integration.daemon.process import DaemonProcess, until

from chronicled.client import connect

ACTIONS = "/v1/sessions/s/actions"
WAIT = {"Prefer": "wait=20"}


async def progress(daemon: DaemonProcess, id: str) -> list[dict[str, Any]]:
    """Return the payloads of the action's progress events."""
    page = (await daemon.get("/v1/sessions/s/events?kind=progress")).json
    return [event["payload"] for event in page["events"] if event["cause"] == id]


async def until_it_waits(daemon: DaemonProcess, id: str) -> None:
    """Return once the status says that the action waits for input."""

    async def waits() -> bool:
        return (await daemon.get(f"{ACTIONS}/{id}")).json.get("needs_input") is True

    await until(waits)


async def test_each_waiting_period_is_told_once_with_its_prompt(daemon: DaemonProcess, session: str) -> None:
    """One progress event a period, which shows the prompt; what is typed ends it; the end of the action clears all."""
    command = 'read -r -p "name? " a; read -r -p "colour? " b; sleep 0.5; echo "$a $b"'
    answer = await daemon.post(ACTIONS, {"kind": "run", "payload": {"command": command, "tty": True}})
    id = answer.json["action"]["id"]
    await until_it_waits(daemon, id)
    for word in ("anna\n", "blue\n"):
        assert (await daemon.post(f"{ACTIONS}/{id}/input", {"data": word})).status == 202
        assert (await daemon.get(f"{ACTIONS}/{id}")).json["needs_input"] is False
        if word == "anna\n":
            await until_it_waits(daemon, id)
    async with daemon.client.get(f"{ACTIONS}/{id}/output") as response:
        assert (await response.read()).endswith(b"anna blue\n")
    shown = (await daemon.get(f"{ACTIONS}/{id}")).json
    assert shown["status"] == "ok"
    assert "needs_input" not in shown
    told = [each for each in await progress(daemon, id) if each.get("needs_input")]
    assert [each["output"] for each in told] == ["name? ", "colour? "]


async def test_waiting_outlives_a_crash_of_the_daemon(daemon: DaemonProcess, session: str) -> None:
    """The status is folded from the log: after a crash it still says that the command waits, and input reaches it."""
    answer = await daemon.post(ACTIONS, {"kind": "run", "payload": {"command": 'read -r a; echo "<$a>"'}})
    id = answer.json["action"]["id"]
    await until_it_waits(daemon, id)
    await daemon.kill()
    await daemon.start()
    await until_it_waits(daemon, id)

    async def typed() -> bool:
        return (await daemon.post(f"{ACTIONS}/{id}/input", {"data": "x\n"})).status == 202

    await until(typed)

    async def ended() -> bool:
        return bool((await daemon.get(f"{ACTIONS}/{id}")).json["status"] == "ok")

    await until(ended)
    assert (await daemon.get(f"{ACTIONS}/{id}")).json["observation"]["payload"]["output"] == "<x>\n"


async def test_a_program_runs_without_a_shell_through_the_api(daemon: DaemonProcess, session: str) -> None:
    """`argv` passes whole to the program, and exactly one of `command` and `argv` must be given."""
    arguments = ["printf", "%s|", "$HOME", "a b", "*", "", "é\n"]
    answer = await daemon.post(ACTIONS, {"kind": "run", "payload": {"argv": arguments}}, headers=WAIT)
    assert answer.json["observation"]["payload"]["output"] == "$HOME|a b|*||é\n|"
    bad: list[dict[str, Any]] = [{}, {"command": "true", "argv": ["true"]}, {"argv": []}]
    for payload in bad:
        assert (await daemon.post(ACTIONS, {"kind": "run", "payload": payload})).status == 400


async def test_the_client_runs_lists_without_a_shell(daemon: DaemonProcess, session: str) -> None:
    """A list is a program and its arguments; a string stays the shell's."""
    async with connect(str(daemon.socket)) as client:
        opened = await client.session("s")
        assert (await opened.run(["echo", "$HOME", "a  b"])).output == "$HOME a  b\n"
        assert (await opened.run("echo a  b")).output == "a b\n"
