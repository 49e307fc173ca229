"""The shell table: what commands must end as, in any sandbox. Played against a worker of any runtime.

A case says by itself what it needs: `needs(case)` is the programs and places that its commands name, so that an image
with nothing but the carried bash plays those that need nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tests.integration.action_server.hard_cases import HARD
from tests.integration.action_server.steps import ALIVE, ANY, Step, like

from chronicled.events.outcome import Effects, Outcome
from chronicled.runtimes.testing import FrameWorker

__all__ = ["CASES", "PLACES", "PROGRAMS", "needs", "play"]

BYTES = bytes(range(256))

PLAIN: Final[dict[str, list[Step]]] = {
    "nothing at all": [Step(""), Step("   "), Step("# a remark"), ALIVE],
    "success and failure": [Step("true"), Step("false", 1), Step("(exit 255)", 255)],
    "both outputs in order": [Step("echo a; echo b >&2; echo c", output=b"a\nb\nc\n")],
    "no newline at the end": [Step("printf abc", output=b"abc")],
    "carriage returns stay": [Step("printf 'a\\r\\nb\\n'", output=b"a\r\nb\n")],
    "unknown command": [Step("no_such_thing_here", 127, like(b".*not found.*")), ALIVE],
    "child killed by a signal": [Step("sh -c 'kill -9 $$'", 137, ANY), ALIVE],
    "the status of the command before": [
        Step("(exit 9)", 9),
        Step("echo $?", output=b"9\n"),
        Step("echo $?", output=b"0\n"),
    ],
    "directory lasts": [
        Step("cd /usr"),
        Step("pwd", output=b"/usr\n"),
        Step("cd - >/dev/null; cd /; pwd", output=b"/\n"),
    ],
    "directory goes away": [Step("mkdir gone; cd gone; rmdir $PWD"), ALIVE],
    "variables last": [Step("v=1; export w=2"), Step("echo $v; sh -c 'echo $w'", output=b"1\n2\n")],
    "functions last": [Step('f() { echo "f:$1"; }'), Step("f x", output=b"f:x\n")],
    "aliases last": [Step("alias hello='echo hi'"), Step("hello", output=b"hi\n")],
    "options last": [Step("set -o pipefail"), Step("false | true", 1)],
    "umask lasts": [Step("umask 077"), Step("umask", output=b"0077\n")],
    "arrays last": [Step("a=(x 'y z')"), Step('echo "${a[1]}"', output=b"y z\n")],
    "several lines": [Step("echo 1\necho 2\n\nfor i in 3 4; do\n  echo $i\ndone\n", output=b"1\n2\n3\n4\n")],
    "line continuation": [Step("echo a \\\n b", output=b"a b\n")],
    "trailing backslash": [Step("echo a\\", output=like(b"a.*")), ALIVE],
    "single quotes": [Step("echo 'it'\\''s'", output=b"it's\n"), Step('echo "\'"', output=b"'\n")],
    "heredoc": [Step("cat <<'X'\n$HOME 'q' \"\nX", output=b"$HOME 'q' \"\n")],
    "heredoc with expansion": [Step("v=1; cat <<X\n<$v>\nX\necho end", output=b"<1>\nend\n")],
    "heredoc without end": [Step("cat <<X\nhello", output=like(b".*hello\n")), ALIVE],
    "unclosed single quote": [Step("echo 'a", 2, like(b".*unexpected EOF.*")), ALIVE],
    "unclosed double quote": [Step('echo "a', 2, like(b".*unexpected EOF.*")), ALIVE],
    "unclosed substitution": [Step("echo $(ls", -1, ANY), ALIVE],
    "unclosed brace": [Step("{ echo a", 2, ANY), ALIVE],
    "syntax error": [Step("echo a; )", 2, like(b".*syntax error.*")), ALIVE],
    "if without fi": [Step("if true; then", 2, ANY), ALIVE],
    "syntax error after a good line": [Step("echo first\nfor", 2, like(b"first\n.*")), ALIVE],
    "beyond ASCII": [Step("echo 'grüße 日本 🙂'", output="grüße 日本 🙂\n".encode())],
    "history is off": [Step("echo '!!' \"!x\"", output=b"!! !x\n"), Step("history", output=b"")],
    "binary output": [Step("printf '%b' \"$(printf '\\\\0%03o' $(seq 0 255))\"", output=BYTES)],
    "NUL in output": [Step("head -c 5 /dev/zero", output=b"\0" * 5)],
    "many lines": [Step("seq 100000", output="".join(f"{n}\n" for n in range(1, 100001)).encode())],
    "output larger than the pipe": [Step("head -c 5000000 /dev/zero | tr '\\0' x", output=b"x" * 5_000_000)],
    "a command of a megabyte": [Step("cat <<X | wc -c\n" + "y" * 1_000_000 + "\nX", output=b"1000001\n")],
    "pipes and process substitution": [Step("cat <(echo a) <(echo b) | tac", output=b"b\na\n")],
    "a pager does not wait": [
        Step("test -t 1", 1),
        Step("echo $PAGER $TERM $GIT_TERMINAL_PROMPT", output=b"cat dumb 0\n"),
    ],
    "PS1 is the user's": [Step("PS1='$ '; PS2=x; PS0=y"), ALIVE],
    "PROMPT_COMMAND": [Step("PROMPT_COMMAND='echo noise'"), ALIVE],
    "set -x traces the command alone": [
        Step("set -x; echo a", output=like(rb"\++ echo a\na\n")),
        Step("echo b", output=like(rb"\++ echo b\nb\n")),
    ],
    "set -v": [Step("set -v", output=ANY), Step("echo a", output=like(b".*a\n"))],
    "set -u without PWD": [Step("set -u; unset PWD"), ALIVE],
    "set -f and noclobber": [Step("set -fC; echo *", output=b"*\n"), ALIVE],
    "IFS of digits": [Step("IFS=0123456789"), Step("(exit 101)", 101), ALIVE],
    "trap DEBUG": [Step("trap 'echo t' DEBUG"), Step("echo a", output=like(b".*a\n"))],
    "trap ERR": [Step("trap 'echo err' ERR"), Step("false", 1, like(b".*err\n"))],
    "trap EXIT": [Step("trap 'echo bye' EXIT"), Step("exit 4", 4, like(b".*bye\n"), restarted=True), ALIVE],
    "aliases of our own words": [Step("alias eval=false printf=false builtin=false"), ALIVE],
    "a function named printf": [Step("printf() { echo fake; }"), ALIVE],
    "a disabled printf costs the shell": [Step("enable -n printf", 125, ANY, restarted=True), ALIVE],
    "exit": [Step("v=1; echo hi; exit 3", 3, b"hi\n", restarted=True), Step("echo [$v]", output=b"[]\n")],
    "exit 0": [Step("exit", 0, b"", restarted=True), ALIVE],
    "exit in a condition": [Step("false || exit 4", 4, b"", restarted=True), ALIVE],
    "exit in a subshell": [Step("(exit 3); echo $?", output=b"3\n")],
    "exec": [Step("exec echo replaced", 0, b"replaced\n", restarted=True), ALIVE],
    "exec of a failure": [Step("exec sh -c 'exit 6'", 6, restarted=True), ALIVE],
    "exec of nothing": [Step("exec no_such_thing_here", 127, ANY), ALIVE],
    "killed shell": [Step("kill -9 $$", None, restarted=True), ALIVE],
    "a shell that is asked to terminate does not": [Step("kill -TERM $$"), ALIVE],
    "set -e": [Step("set -e; false; echo no", 1, restarted=True), ALIVE],
    "errexit outside lasts": [Step("set -e"), Step("true"), Step("false", 1, restarted=True), ALIVE],
    "return outside a function": [Step("return 3", -1, ANY), ALIVE],
    "directory after a new shell": [
        Step("cd /usr"),
        Step("exit", 0, ANY, restarted=True),
        Step("pwd", output=b"/usr\n"),
    ],
    "exec of a redirection lasts for one command": [Step("exec >/dev/null 2>&1; echo hidden"), ALIVE],
    "closing our descriptors does nothing": [Step("exec 147>&- 148>&- 149>&-"), ALIVE],
    "closing every descriptor costs the shell": [Step('for n in {3..255}; do eval "exec $n>&-"; done', -1, ANY), ALIVE],
    "background job": [
        Step("sleep 30 & echo $!", output=like(rb".*\d+\n")),
        Step("jobs", output=like(b".*sleep 30.*")),
        Step("kill %1"),
    ],
    "background subshell holds the pipe": [Step("(sleep 30; echo x) & disown", output=ANY), ALIVE],
    "an ended job is not told amidst output": [
        Step("/bin/true & wait", output=ANY),
        Step("/bin/true; echo a", output=b"a\n"),
    ],
    "wait": [Step("(exit 5) & wait $!", 5, ANY)],
    "coproc": [Step("coproc cat; echo hi >&${COPROC[1]}; read l <&${COPROC[0]}; echo $l", output=like(b".*hi\n"))],
    "coproc is left running": [
        Step("coproc sleep 30; exec 9<>/dev/null 200>/dev/null", output=ANY),
        Step("kill %1; wait", output=ANY, code=-1),
        ALIVE,
        ALIVE,
    ],
    "losing a descriptor of ours is told by the command that did it": [
        Step("exec 10>&- 11>&- 12>&- 13>&-", 125, ANY, restarted=True),
        ALIVE,
    ],
    "no input": [Step("cat </dev/null"), Step("test -t 0", 0)],
    "unread input is no command": [Step("true"), ALIVE],
    "stty raw": [
        Step("stty raw -echo; stty -a | grep -c -- '-icanon'", output=b"1\n"),
        Step("stty -a | grep -c -- '-icanon'", 1, b"0\n"),
    ],
    "terminal for output": [
        Step("test -t 1 && tty >/dev/null && echo a", output=b"a\n", options={"tty": True}),
        Step("test -t 1", 1),
    ],
    "terminal, much output": [
        Step("seq 20000", output="".join(f"{n}\n" for n in range(1, 20001)).encode(), options={"tty": True})
    ],
    "terminal, exit": [Step("echo a; exit 2", 2, like(b"a\n.*"), restarted=True, options={"tty": True}), ALIVE],
    "written to the terminal without asking": [Step("echo a >/dev/tty", output=ANY), ALIVE],
    "environment for one command": [
        Step("echo $A; sh -c 'echo $B'", output=b"1\nx'y z\n", options={"environment": {"A": "1", "B": "x'y z"}}),
        Step("echo [$A][$B]", output=b"[][]\n"),
    ],
    "session environment": [Step("echo $FROM_SESSION", output=b"yes\n")],
    "working directory": [
        Step("pwd", output=b"/usr\n", options={"working_directory": "/usr"}),
        Step("pwd", output=b"/usr\n"),
    ],
    "CDPATH": [Step("CDPATH=/; cd /usr"), Step("pwd", output=b"/usr/bin\n", options={"working_directory": "bin"})],
    "readonly variables": [Step("readonly R=1"), Step("R=2", 1, like(b".*readonly.*")), ALIVE],
    "stopped command": [Step("sh -c 'kill -STOP $$'", 147, ANY), Step("kill -9 %1; wait", output=ANY), ALIVE],
    "nothing of the daemon's environment": [
        Step("env | grep -c FAULT_POINT", 1, b"0\n"),
        Step("echo $HOME", output=like(b"(.*/home|/workspace)\n")),
    ],
    "mischief with the parser": [Step("shopt -s extglob; alias '{'=echo", output=ANY), ALIVE],
    "posix mode": [Step("set -o posix"), Step("echo a", output=b"a\n"), Step(". /none", 1, ANY), ALIVE],
}
CASES: Final[dict[str, list[Step]]] = {**PLAIN, **HARD}
"""All of them, by name."""

PLACES: Final = ("/usr", "/tmp", "/dev/tty", "/dev/fd", "/proc")
PROGRAMS: Final = (
    "awk bash cat chmod cut env expr find git grep head id kill ln ls mkdir mkfifo mv nice nl nohup perl ps python3 rm"
    " rmdir screen script sed seq setpriv setsid sh sleep sort stdbuf stty tac tail tee timeout tmux touch tput tr true"
    " tty uniq wc xargs yes"
)
_GNU: Final = frozenset({"setsid", "timeout", "timeout in the foreground"})
"""Cases that hold for the programs of GNU and util-linux, not for those of busybox."""
_BUILTINS: Final = frozenset({"kill", "true"})


def needs(case: str) -> frozenset[str]:
    """Return the programs and places outside bash that a case names.

    `hints` is what the process runtime adds to the environment, `gnu` that the programs are not those of busybox.
    """
    text = "\n".join(f"{step.command}\n{step.options.get('working_directory', '')}" for step in CASES[case])
    found = {name for name in set(PROGRAMS.split()) - _BUILTINS if re.search(rf"(?<![\w.$-]){name}(?![\w=.-])", text)}
    found |= {f"/bin/{name}" for name in _BUILTINS if f"/bin/{name}" in text}
    found |= {place for place in PLACES if place in text}
    if any(word in text for word in ("$PAGER", "$TERM", "FROM_SESSION", "$HOME")):
        found.add("hints")
    if "<(" in text or ">(" in text:
        found.add("/dev/fd")
    if case in _GNU:
        found.add("gnu")
    return frozenset(found)


async def play(worker: FrameWorker, case: str, lane: str = "main") -> None:
    """Run a case's commands one after another in a fresh lane; fail where one ends otherwise than it must."""
    steps: Sequence[Step] = CASES[case]
    for step in steps:
        result, output = await worker.run(step.command, lane=lane, **step.options)
        told = (step.command[:80], result, output[-300:])
        if isinstance(step.output, bytes):
            assert output == step.output, told
        else:
            assert step.output.fullmatch(output), told
        if step.code is None:
            assert (result.outcome, result.fields["signal"]) == (Outcome.KILLED, 9), told
            assert result.effects is Effects.POSSIBLE
        elif step.code >= 0:
            assert result.fields["exit_code"] == step.code, told
            assert result.outcome is (Outcome.OK if step.code == 0 else Outcome.FAILED)
            assert result.effects is Effects.COMPLETE
            assert result.fields["terminal_restarted"] is step.restarted, told
        assert result.output_bytes == len(output)
        assert result.state_lost == result.fields["terminal_restarted"]
