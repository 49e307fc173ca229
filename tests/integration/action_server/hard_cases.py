"""Hard cases of the shell table: what a command can do to the shell that it runs in, and to the way it is driven."""

from __future__ import annotations

from typing import Final

from tests.integration.action_server.steps import ALIVE, ANY, Step, like

__all__ = ["HARD"]

TTY: Final = {"tty": True}

DESCRIPTORS: Final[dict[str, list[Step]]] = {
    "stdout closed": [Step("echo a >&-", 1, like(b".*Bad file descriptor\n")), ALIVE],
    "stdout closed for the whole command": [Step("exec >&-; echo a", 1, ANY), ALIVE],
    "every output closed": [Step("exec >&- 2>&-; echo a", 1, b""), ALIVE],
    "stdin closed": [Step("exec <&-; read x", 1, ANY), Step("read -t 0.05 x", 142), ALIVE],
    "descriptors 60 to 62 are free": [
        Step("exec 60>&- 61>&- 62>&-"),
        Step("exec 60</dev/null 61>/dev/null; read x <&60; echo $? >&61"),
        Step("read x <&60", 1),
        ALIVE,
    ],
    "a descriptor stays open from command to command": [
        Step("exec 7>kept; echo one >&7"),
        Step("echo two >&7; exec 7>&-; cat kept", output=b"one\ntwo\n"),
        Step("echo three >&7", 1, like(b".*Bad file descriptor\n")),
    ],
    "a descriptor picked by bash": [
        Step("exec {fd}>picked; echo x >&$fd"),
        Step("(( fd >= 10 )) && exec {fd}>&- && cat picked", output=b"x\n"),
        ALIVE,
    ],
    "stdout is swapped and put back": [
        Step("exec 5>&1 1>away; echo hidden; exec 1>&5 5>&-; echo shown; cat away", output=b"shown\nhidden\n")
    ],
    "our descriptors are not the command's": [
        Step("for n in 147 148 149; do { true >&$n; } 2>/dev/null && echo $n; done", 1),
        Step("sh -c 'for n in 147 148 149; do [ -e /proc/self/fd/$n ] && echo $n; done'", 1),
    ],
    "writing to our descriptors' numbers": [Step("echo 1 >&148", 1, like(b".*Bad file descriptor\n")), ALIVE],
    "programs get three descriptors": [Step("ls /proc/self/fd | wc -l", output=b"4\n")],
    "output through tee and process substitution": [
        Step("exec 6>&1; echo a > >(tee copy >&6); wait $!; cat copy", output=b"a\na\n"),
        ALIVE,
    ],
    "reading /dev/tty without input": [Step("read -t 0.05 x </dev/tty", 142), ALIVE],
    "a here-string": [Step("read a b <<<'1 2'; echo $b", output=b"2\n")],
    "redirections in a bad order": [Step("echo a 2>&1 >/dev/null", output=b""), Step("cat /none >/dev/null 2>&1", 1)],
}

SHELL: Final[dict[str, list[Step]]] = {
    "strict mode": [
        Step("set -euo pipefail"),
        Step("echo $none", 1, like(b".*unbound variable\n"), restarted=True),
        ALIVE,
    ],
    "strict mode that is left again": [
        Step("set -euo pipefail"),
        Step("set +euo pipefail; false; echo $none", output=b"\n"),
    ],
    "pipefail and errexit in a pipeline": [Step("set -eo pipefail; false | true; echo no", 1, restarted=True), ALIVE],
    "errexit in a condition": [Step("set -e; if false; then :; fi; false || echo on; set +e", output=b"on\n"), ALIVE],
    "nounset beside our own lines": [Step("set -u"), Step("echo $PWD >/dev/null"), Step("set +u"), ALIVE],
    "a subshell's directory is its own": [
        Step("(cd /usr; pwd); pwd", output=like(rb"/usr\n(.*/home|/workspace)\n")),
        ALIVE,
    ],
    "a command substitution's exit": [
        Step("x=$(exit 5); echo $? $x", output=b"5\n"),
        Step("echo $(exit 3)$?", output=b"3\n"),
    ],
    "pushd and popd": [
        Step("pushd / >/dev/null; pushd /usr >/dev/null"),
        Step("popd", output=like(b"/ .*\n")),
        Step("pwd", output=b"/\n"),
    ],
    "PWD is a lie": [Step("cd /; PWD=/none"), Step("pwd -P", output=b"/\n"), ALIVE],
    "OLDPWD and a symbolic link": [
        Step("mkdir real; ln -s real link; cd link"),
        Step("pwd; pwd -P", output=like(rb".*/link\n.*/real\n")),
    ],
    "exit in a sourced script": [Step("echo 'echo in; exit 6' >s; . ./s; echo no", 6, b"in\n", restarted=True), ALIVE],
    "return in a sourced script": [Step("echo 'return 4; echo no' >s; . ./s", 4), ALIVE],
    "exit in a function": [Step("f() { exit 8; }; f; echo no", 8, restarted=True), ALIVE],
    "exit codes above 255": [
        Step("exit 256", 0, restarted=True),
        Step("(exit 257)", 1),
        Step("exit -1", 255, restarted=True),
    ],
    "exit with a word": [Step("exit x", 2, like(b".*"), restarted=True), ALIVE],
    "a function named like ours": [
        Step('printf() { echo fake; }; cd() { builtin cd "$@"; }'),
        ALIVE,
        Step("cd /usr; pwd", output=b"/usr\n"),
    ],
    "a function in the place of `builtin` costs the shell": [
        Step("builtin() { echo fake; }", None, ANY, restarted=True),
        ALIVE,
    ],
    "unset of functions and builtins": [Step("unset -f eval; enable -n echo; enable echo; unset -v PWD OLDPWD"), ALIVE],
    "readonly variables of the shell": [
        Step("readonly BASH_ENV=/none PS4=+ PS1=x IFS"),
        Step("sh -c 'echo a'", output=b"a\n"),
        ALIVE,
    ],
    "readonly PWD": [Step("readonly PWD; cd /; echo $?", -1, ANY), ALIVE],
    "PS4 with a command": [
        Step("PS4='$(echo T)'; set -x; echo a", output=like(b"T+ ?echo a\na\n")),
        Step("set +x", output=ANY),
        ALIVE,
    ],
    "a trace to a file": [
        Step("exec 9>trace; BASH_XTRACEFD=9; set -x; echo a; set +x", output=b"a\n"),
        Step("grep -c 'echo a' trace", output=b"1\n"),
    ],
    "BASH_ENV is for others": [
        Step("echo 'echo env' >e; export BASH_ENV=./e"),
        Step("bash -c 'echo a'", output=b"env\na\n"),
        ALIVE,
    ],
    "PROMPT_COMMAND that fails": [Step("PROMPT_COMMAND='false; exit_is_not_called'; PS0='$(echo x)'"), ALIVE, ALIVE],
    "PROMPT_COMMAND that exits": [Step("PROMPT_COMMAND='exit 3'", 3, ANY, restarted=True), ALIVE],
    "aliases are expanded at once": [
        Step("alias ll='echo L'\nll", output=b"L\n"),
        Step("unalias -a"),
        Step("ll", 127, ANY),
        ALIVE,
    ],
    "an alias of exit": [Step("unalias exit; false", 1), Step("exit 2", 2, ANY, restarted=True), ALIVE],
    "shift and set of arguments": [
        Step("set -- a b c; shift; echo $# $1", output=b"2 b\n"),
        Step("echo $# $*", output=b"2 b c\n"),
    ],
    "getopts keeps its place": [
        Step("set -- -a -b; getopts ab o; getopts ab o; echo $o $OPTIND", output=b"b 3\n"),
        ALIVE,
    ],
    "associative arrays and namerefs": [
        Step("declare -A m=([k]=v); declare -n r=m"),
        Step("echo ${r[k]} ${!m[@]}", output=b"v k\n"),
    ],
    "integers overflow as bash has it": [Step("echo $(( 9223372036854775807 + 1 ))", output=b"-9223372036854775808\n")],
    "a division by zero": [Step("echo $(( 1 / 0 )); echo no", 1, like(b".*division by 0.*")), ALIVE],
    "a recursion without end": [
        Step("FUNCNEST=50; f() { f; }; f; echo no", 1, like(b".*maximum function nesting level exceeded.*")),
        ALIVE,
    ],
    "ulimit lasts": [
        Step("ulimit -S -n 200; ulimit -n", output=b"200\n"),
        Step("ulimit -S -n", output=b"200\n"),
        ALIVE,
    ],
    "a limit of twenty files costs the shell, and is told": [Step("ulimit -n 20", 125, ANY, restarted=True), ALIVE],
    "a limit on the file's size": [Step("ulimit -f 1; head -c 5000 /dev/zero >big", -1, ANY), ALIVE],
    "nullglob and extglob": [
        Step("shopt -s nullglob extglob"),
        Step("echo *.none !(x)qqq", output=b"\n"),
        ALIVE,
    ],
    "a line of many commands": [Step(";".join(["true"] * 20000)), ALIVE],
    "a word of 100,000 bytes": [Step("echo " + "z" * 100_000 + " | wc -c", output=b"100001\n"), ALIVE],
    "an argument that is too long for a program": [
        Step("/bin/true " + "y" * 140_000, 126, like(b".*Argument list too long\n")),
        ALIVE,
    ],
    "an environment that is too long": [
        Step('for i in {1..40}; do export "V$i=$(printf %100000s)"; done'),
        Step("/bin/true", 126, like(b".*Argument list too long\n")),
        Step("unset ${!V*}; /bin/true"),
    ],
    "NUL in a substitution": [Step("x=$(printf 'a\\0b'); echo ${#x}", output=like(b".*2\n")), ALIVE],
    "invalid UTF-8": [
        Step("printf '\\377\\376\\n' | cat", output=b"\xff\xfe\n"),
        Step("x=$'\\xff'; echo \"$x\" >$'f\\xfe'; cat f*", output=b"\xff\n"),
        Step("mkdir $'d\\xff'; cd $'d\\xff'"),
        Step("cd ..; pwd", output=like(b"(.*/home|/workspace)\n")),
    ],
    "control characters in the command": [Step("echo $'\\001\\033[31m' a\tb\r", output=b"\x01\x1b[31m a b\r\n"), ALIVE],
    "a carriage return at the end of a line": [Step("echo a\r\necho b", output=b"a\r\nb\n")],
}

JOBS: Final[dict[str, list[Step]]] = {
    "trap EXIT in a subshell": [Step("(trap 'echo bye' EXIT; exit 3)", 3, b"bye\n"), ALIVE],
    "trap RETURN and functions": [Step("f() { trap 'echo r; trap - RETURN' RETURN; :; }; f", output=b"r\n"), ALIVE],
    "trap DEBUG with functrace": [Step("set -T; trap 'n=$((n+1))' DEBUG"), Step("trap - DEBUG; (( n > 0 ))"), ALIVE],
    "trap ERR that exits": [Step("trap 'exit 9' ERR"), Step("false", 9, restarted=True), ALIVE],
    "trap INT": [Step("trap 'echo int' INT; kill -INT $$", output=b"int\n"), ALIVE],
    "trap CHLD": [Step("trap 'c=1' CHLD; sh -c :; echo $c; trap - CHLD", output=b"1\n"), ALIVE],
    "a trap that is left behind": [Step("trap 'echo never' USR1"), Step("kill -USR1 $$", output=b"never\n"), ALIVE],
    "disown and the pipe": [Step("sleep 40 & disown; echo out", output=like(b".*out\n")), Step("jobs"), ALIVE],
    "a background job that holds the pipe": [Step("(sleep 40; echo late) & echo out", output=like(b".*out\n")), ALIVE],
    "a coprocess is read to its end": [
        Step("coproc { read x; echo $x; echo two; read x; }; echo one >&${COPROC[1]}", output=ANY),
        Step("read a <&${COPROC[0]}; read b <&${COPROC[0]}; echo $a $b", output=b"one two\n"),
        ALIVE,
    ],
    "two coprocesses": [Step("coproc A { cat; }; coproc B { cat; }", 0, ANY), Step("kill %1 %2; wait", -1, ANY), ALIVE],
    "fg without jobs": [Step("fg", 1, like(b".*no such job\n|.*current: no such job\n")), ALIVE],
    "a stopped job is continued": [
        Step("sh -c 'kill -STOP $$; echo on'", 147, ANY),
        Step("fg", 0, like(b".*on\n")),
        ALIVE,
    ],
    "job control is off": [Step("set +m; sleep 0.05 & wait; set -m", output=ANY), ALIVE],
    "wait -n": [Step("(exit 4) & wait -n", 4, ANY), ALIVE],
    "killed by its own group": [Step("sh -c 'kill -9 0'", 137, ANY), ALIVE],
    "SIGPIPE is a pipeline's own": [Step("yes | head -1; echo ${PIPESTATUS[0]}", output=b"y\n141\n"), ALIVE],
    "nohup": [Step("nohup sh -c 'echo kept' 2>/dev/null", output=b"kept\n"), ALIVE],
    "setsid": [Step("setsid -w sh -c 'echo led; exit 3'", 3, b"led\n"), ALIVE],
    "timeout": [Step("timeout 0.1 sleep 40", 124), Step("timeout -s KILL 0.1 sleep 40", 137, ANY), ALIVE],
    "timeout in the foreground": [Step("timeout --foreground 0.1 cat", 124), ALIVE],
    "script": [Step("script -qec 'echo typed; exit 5' /dev/null", 5, like(b"typed\r?\n")), ALIVE],
    "a terminal left raw by a script": [Step("stty raw; stty -a >/dev/null"), Step("read -t 0.05 x", 142), ALIVE],
    "a terminal left without signals": [
        Step("stty -isig -icanon min 0 time 0"),
        Step("stty -a | grep -c -- -isig", 1, b"0\n"),
        ALIVE,
    ],
    "a terminal that is stopped": [Step("stty ixon; printf x >/dev/tty", 0, ANY), ALIVE],
    "the shell's own SIGSTOP is no end": [
        Step(
            "(until [ -e on ]; do sleep 0.05; kill -CONT $$; done) & kill -STOP $$; >on; echo on",
            output=like(b".*on\n"),
        ),
        ALIVE,
    ],
    "every process of the group": [Step("trap '' TERM; kill -TERM 0; trap - TERM"), ALIVE],
    "forks up to a limit": [
        Step("for i in {1..150}; do sleep 5 & done >/dev/null 2>&1; jobs -p | wc -l", output=ANY),
        Step("kill $(jobs -p); wait", -1, ANY),
        ALIVE,
    ],
    "a loop that reads a loop": [
        Step(
            "seq 3 | while read x; do seq $x | while read y; do echo $x$y; done; done",
            output=b"11\n21\n22\n31\n32\n33\n",
        )
    ],
}

TERMINAL: Final[dict[str, list[Step]]] = {
    "terminal, binary and colours": [
        Step("printf '\\033[31mred\\033[0m\\r\\n\\377\\000x'", output=b"\x1b[31mred\x1b[0m\r\n\xff\x00x", options=TTY),
        Step("echo $TERM; tput colors 2>/dev/null || echo 256", output=b"xterm-256color\n256\n", options=TTY),
        Step("echo $TERM", output=b"dumb\n"),
    ],
    "terminal, its size": [Step("stty size", output=b"50 200\n", options=TTY), ALIVE],
    "terminal, a term of its own": [
        Step("echo $TERM", output=b"vt100\n", options={"tty": True, "environment": {"TERM": "vt100"}})
    ],
    "terminal, errors and output in order": [Step("echo a; echo b >&2; echo c", output=b"a\nb\nc\n", options=TTY)],
    "terminal, killed shell": [
        Step("echo before; kill -9 $$", None, like(b"before\n.*"), restarted=True, options=TTY),
        ALIVE,
    ],
    "terminal, our own mark in the output": [
        Step("printf '\\033]7777;%039d\\a' 5", output=b"\x1b]7777;" + b"0" * 38 + b"5\x07", options=TTY),
        ALIVE,
    ],
    "terminal, half a mark at the end": [Step("printf '\\033]7777;0'", output=b"\x1b]7777;0", options=TTY), ALIVE],
    "terminal, translated output": [
        Step("stty opost onlcr; echo a", output=b"a\r\n", options=TTY),
        Step("echo a", output=b"a\n", options=TTY),
    ],
    "terminal, stopped output": [Step("echo a; stty ixon olcuc", output=ANY, options=TTY), ALIVE],
    "terminal, a background job prints on": [
        Step("(until [ -e go ]; do sleep 0.05; done; echo late) & echo now", output=like(b".*now\n"), options=TTY),
        Step(">go; wait", output=ANY),
        ALIVE,
    ],
    "terminal, a megabyte of bytes": [
        Step("head -c 1000000 /dev/zero | tr '\\0' '\\377'", output=b"\xff" * 1_000_000, options=TTY)
    ],
}

HARD: Final[dict[str, list[Step]]] = {**DESCRIPTORS, **SHELL, **JOBS, **TERMINAL}
"""All of them, by name."""
