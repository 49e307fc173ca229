"""Programs that want a keyboard, and commands that only look as if they did."""

from __future__ import annotations

from typing import Final

__all__ = ["KEYBOARDS", "ON_DEBIAN", "QUIET", "WAIT_IN_ANY_CASE"]

GIT: Final = (
    "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b;"
    ' d=$(mktemp -d); cd "$d"; git init -q .;'
)

DEBCONF: Final = (
    'd=$(mktemp -d); cd "$d"; export DEBCONF_SYSTEMRC=$d/own;'
    " printf 'Config: c\\nTemplates: t\\n\\nName: c\\nDriver: File\\nFilename: %s/c\\n\\nName: t\\nDriver: File\\n"
    'Filename: %s/t\\n\' "$d" "$d" >own;'
    " printf 'Template: t/q\\nType: string\\nDescription: sure?\\n' >q.templates;"
    " printf '#!/bin/sh\\n. /usr/share/debconf/confmodule\\ndb_input critical t/q\\ndb_go\\n' >q.config;"
    " chmod +x q.config;"
    " DEBIAN_FRONTEND=readline /usr/share/debconf/frontend ./q.config"
)
"""A question of debconf, with a database of its own: nobody need be root for it."""

WAIT_IN_ANY_CASE: Final[dict[str, str]] = {
    "cat": "cat",
    "read": "read -r x",
    "read -s": "read -r -s -p 'secret: ' x",
    "select": "select x in a b; do :; done",
    "while read": "while read -r x; do :; done",
    "a child of sh": "sh -c 'read x'",
    "a pipeline": "cat | cat",
    "a reader that comes late": "sleep 0.5; cat",
    "another reader than the leader": "(sleep 600 </dev/null & cat; wait)",
    "/dev/tty": "cat </dev/tty >/dev/null",
}
"""Builtins and programs that are everywhere."""

KEYBOARDS: Final[dict[str, str]] = {
    **WAIT_IN_ANY_CASE,
    "python3": "python3",
    "python3 input": "python3 -c 'input()'",
    "python3 getpass": "python3 -c 'import getpass; getpass.getpass()'",
    "python3 asyncio": "python3 -c 'import asyncio,sys\nasync def main():\n reader=asyncio.StreamReader()\n"
    " loop=asyncio.get_running_loop()\n"
    " await loop.connect_read_pipe(lambda:asyncio.StreamReaderProtocol(reader),sys.stdin)\n"
    " await reader.readline()\nasyncio.run(main())'",
    "perl": "perl -e '<STDIN>'",
    "vi": "vi -u NONE file",
    "vim": "vim -u NONE file",
    "nano": "nano file",
    "less": "seq 500 >long; less long",
    "more": "seq 500 >long; more long",
    "man": "man -P less bash",
    "top": "top",
    "ed": "ed",
    "bc": "bc -q",
    "gdb": "gdb -q",
    "node": "node",
    "node data": "node -e 'process.stdin.on(\"data\",()=>{})'",
    "sqlite3": "sqlite3",
    "ssh-keygen": "rm -f key; ssh-keygen -f key",
    "ssh to a host that asks": "ssh -o BatchMode=no -p 9 user@127.0.0.1",
    "passwd": "passwd",
    "su": "su nobody",
    "whiptail": "whiptail --yesno sure 8 40",
    "dialog": "dialog --yesno sure 8 40",
    "debconf": "dpkg-reconfigure -f readline debconf",
    "debconf question": DEBCONF,
    "git commit": GIT + " EDITOR=vi git commit --allow-empty",
    "git rebase -i": GIT + " git commit -q --allow-empty -m 1; git -c core.editor=vi rebase -i --root",
    "git add -p": GIT + " echo 1 >f; git add f; echo 2 >f; git add -p",
    "script": "script -q /dev/null",
    "ftp": "ftp",
    "telnet": "telnet",
    "mysql-like": "read -r -s -p 'Enter password: ' p; echo",
    "rm -i": "touch f; rm -i f",
    "cp -i": "touch f g; cp -i f g",
    "xargs -p": "echo a | xargs -p echo",
    "tee": "tee copy",
    "sort": "sort",
    "dd": "dd of=/dev/null",
}
"""Each ends by itself or waits; a program that is not installed ends with 127."""

ON_DEBIAN: Final = frozenset(
    {
        *WAIT_IN_ANY_CASE,
        *(
            "python3",
            "python3 input",
            "python3 getpass",
            "python3 asyncio",
            "perl",
            "vi",
            "nano",
            "less",
            "more",
            "top",
        ),
        *("ed", "bc", "sqlite3", "su", "whiptail", "debconf question", "git commit", "git rebase -i", "git add -p"),
        *("script", "mysql-like", "rm -i", "cp -i", "xargs -p", "tee", "sort", "dd"),
    }
)
"""Those that wait in a terminal for certain, where Debian's programs are: over twenty."""

QUIET: Final[dict[str, str]] = {
    "sleep": "sleep 2.5",
    "sleep in a pipeline": "sleep 2.5 | cat",
    "cat of a pipe": "mkfifo q1; (sleep 2.5; echo >q1) & cat q1",
    "read of a file": "mkfifo q2; (sleep 2.5; echo >q2) & read -r x <q2",
    "a job that would read": "cat & sleep 2.5; kill %1; wait",
    "a job that prints": "(while sleep 0.3; do echo x; done) & sleep 2.5; kill %1",
    "wait": "sleep 2.5 & wait",
    "a busy loop": "while [ $SECONDS -lt 3 ]; do :; done",
    "a substitution": "x=$(sleep 2.5)",
    "python3 that sleeps": "python3 -c 'import time; time.sleep(2.5)'",
    "python3 on a socket": "python3 -c 'import socket; a,b=socket.socketpair(); a.settimeout(2.5);"
    " a.recv(1)' 2>/dev/null",
    "python3 asyncio without the keyboard": "python3 -c 'import asyncio; asyncio.run(asyncio.sleep(2.5))'",
    "select with a timeout": "python3 -c 'import select; select.select([],[],[],2.5)'",
    "timeout": "timeout 2.5 sleep 9",
    "a question without a reader": "printf 'sure? '; sleep 2.5",
}
"""None of them waits for anybody to type."""
