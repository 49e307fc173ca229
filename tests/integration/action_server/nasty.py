"""Commands that do not want to end, or leave something behind that does not: each by name."""

from __future__ import annotations

from typing import Final

__all__ = ["HOP", "NASTY"]


def python(code: str) -> str:
    """Return a command that runs Python code, which holds no single quotes."""
    return f"python3 -c '{code}'"


DOUBLE_FORK: Final = python(
    "import os,time\nif os.fork()==0:\n os.setsid()\n if os.fork()==0:\n  time.sleep(600)\n os._exit(0)\n"
    "time.sleep(600)"
)
RESPAWN: Final = python(
    "import os,signal\nwhile True:\n pid=os.fork()\n if pid==0:\n  signal.pause()\n os.waitpid(pid,0)"
)
HOP: Final = python(
    "import os,time\nend=time.time()+30\nwhile time.time()<end:\n if os.fork(): os._exit(0)\n time.sleep(0.001)"
)
"""A process that is another one each millisecond."""
HOP_APART: Final = python(
    "import os,time\nend=time.time()+30\nwhile time.time()<end:\n if os.fork(): os._exit(0)\n os.setsid()\n"
    " time.sleep(0.002)"
)
DEAF: Final = "import signal\n[signal.signal(n,signal.SIG_IGN) for n in (1,2,3,13,14,15,18)]\n"
PAIR: Final = python(
    DEAF + "import os,time\n"
    "def keep():\n"
    " while True:\n"
    "  pid=os.fork()\n"
    "  if pid==0:\n"
    "   os.setsid()\n"
    "   return keep() if os.getppid()==1 else time.sleep(600)\n"
    "  os.waitpid(pid,0)\n"
    "os.fork()\nkeep()"
)
TREE: Final = python("import os,time\nfor i in range(5): os.fork()\ntime.sleep(600)")
CHAIN: Final = python("import os,time\nfor i in range(60):\n if os.fork(): break\ntime.sleep(600)")
ORPHANS: Final = python(
    "import os,time\nfor i in range(40):\n if os.fork(): os._exit(0)\n os.setpgid(0,0)\ntime.sleep(600)"
)
THREADS: Final = python(
    DEAF + "import threading,time\n[threading.Thread(target=time.sleep,args=(600,)).start() for i in range(20)]\n"
    "time.sleep(600)"
)
ZOMBIES: Final = python("import os,time\n[os.fork() or os._exit(0) for i in range(60)]\ntime.sleep(600)")
TRACER: Final = python(
    "import ctypes,os,time\nlibc=ctypes.CDLL(None)\npid=os.fork()\n"
    "if pid==0:\n libc.ptrace(0,0,0,0)\n os.kill(os.getpid(),19)\n time.sleep(600)\n"
    "os.waitpid(pid,0)\ntime.sleep(600)"
)
PARENT_SAVER: Final = python(
    DEAF + "import ctypes,os,time\nctypes.CDLL(None).prctl(36,1,0,0,0)\nif os.fork()==0:\n"
    " if os.fork()==0:\n  os.setsid()\n  time.sleep(600)\n os._exit(0)\nwhile True: time.sleep(9)"
)
SIGNAL_EATER: Final = python("import signal,time\nsignal.pthread_sigmask(0,range(1,65))\nwhile True: time.sleep(9)")
RENAMED: Final = python(
    'import ctypes,os,time\nctypes.CDLL(None).prctl(15,b"(a) b) R 1",0,0,0)\nif os.fork()==0: os.setsid()\n'
    "time.sleep(600)"
)
CONTINUER: Final = python(
    "import os,signal,time\np=os.getpid()\nif os.fork()==0:\n os.setsid()\n end=time.time()+30\n"
    " while time.time()<end:\n  time.sleep(0.001)\n  try: os.kill(p,18)\n  except OSError: pass\ntime.sleep(600)"
)
SUICIDE_NOTE: Final = python(
    "import atexit,os,signal,time\nsignal.signal(15,lambda *a:[os.fork() for i in range(3)])\n"
    "signal.signal(2,lambda *a:[os.fork() for i in range(3)])\nwhile True: time.sleep(9)"
)
WATCHDOG: Final = python(
    "import os,select,signal,time\n"
    "def guard(n):\n"
    " r,w=os.pipe()\n"
    " if os.fork()==0:\n"
    "  os.close(w)\n  os.setsid()\n  signal.signal(2,1)\n  signal.signal(15,1)\n"
    "  os.read(r,1)\n"
    "  if n: guard(n-1)\n"
    "guard(50)\ntime.sleep(600)"
)

PLAIN: Final[dict[str, str]] = {
    "sleep": "sleep 600",
    "loop of bash": "while :; do :; done",
    "background job": "sleep 600 & sleep 600",
    "nohup": "nohup sleep 600 >/dev/null 2>&1 & wait",
    "disown": "sleep 600 & disown -a; sleep 600",
    "setsid": "setsid sleep 600 & sleep 600",
    "setsid with fork": "setsid -f sleep 600; sleep 600",
    "clean environment": "env -i setsid sleep 600 & sleep 600",
    "double fork": "(sleep 600 & (sleep 600 &)); sleep 600",
    "double fork with setsid": DOUBLE_FORK,
    "detached and silent": "(setsid nohup env -i sleep 600 </dev/null >/dev/null 2>&1 &) ; sleep 600",
    "trap of everything": "trap '' HUP INT QUIT TERM TSTP; while :; do sleep 1; done",
    "trap that goes on": "trap 'echo no' INT TERM; while :; do sleep 600; done",
    "child that ignores": "sh -c \"trap '' HUP INT TERM; while :; do sleep 1; done\"",
    "child that catches": "python3 -c 'import signal,time\n"
    "for n in (1,2,15): signal.signal(n,lambda *a:None)\nwhile 1: time.sleep(9)'",
    "grandchildren that ignore": "sh -c \"trap '' TERM INT; "
    'sh -c \'sh -c \\"sleep 600\\" & sleep 600\' & wait; sleep 600"',
    "stopped child": "sh -c 'kill -STOP $$; sleep 600' & sleep 600",
    "stopped detached child": "setsid sh -c 'kill -STOP $$' & sleep 600",
    "stopped shell": "kill -STOP $$",
    "stopped lane reaper": "kill -STOP $PPID; sleep 600",
    "lane reaper stopped again and again": 'r=$PPID; setsid sh -c "while :; do kill -STOP $r; done" & sleep 600',
    "stopped reaper": "set -- $(cat /proc/$PPID/stat); kill -STOP $4; sleep 600",
    "stopped reaper, killed lane reaper": "set -- $(cat /proc/$PPID/stat); kill -STOP $4; sleep 600 &"
    " kill -9 $PPID; sleep 600",
    "killed lane reaper": "setsid sleep 600 & kill -9 $PPID; sleep 600",
    "pipeline": "yes | grep -v y | cat",
    "output without end": "yes",
    "reads for ever": "cat",
    "reads the terminal raw": "stty raw -isig -echo; cat",
    "coproc": "coproc sleep 600; sleep 600",
    "respawning child": f"{RESPAWN} & {RESPAWN} & sleep 600",
    "hopping pid": f"setsid {HOP} & sleep 600",
    "fork storm": "storm() { for i in 1 2 3 4 5 6 7 8 9 10; do sleep 600 & done; }; "
    "for j in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (storm) & done; wait; sleep 600",
    "subshell tower": "(((((((sleep 600; echo) & sleep 600) & sleep 600) & sleep 600)))); sleep 600",
    "exec that ignores": "trap '' INT TERM; exec sleep 600",
    "parent that dies early": "sh -c '(sleep 600; sleep 600) & exit'; sleep 600",
    "xargs": "seq 20 | xargs -P 20 -I{} sleep 60{}",
    "daemon of its own": "python3 -c 'import os,signal,time\nos.fork() and os._exit(0)\nos.setsid()\n"
    "[signal.signal(n,signal.SIG_IGN) for n in (1,2,3,15)]\nos.fork()\nos.fork()\ntime.sleep(600)'; sleep 600",
}

SHELL: Final[dict[str, str]] = {
    "trap of EXIT that sleeps": "trap 'sleep 600' EXIT; sleep 600",
    "trap of EXIT that starts more": "trap '(setsid sleep 600 &); sleep 600' EXIT; exit",
    "trap of INT that starts more": "trap '(setsid nohup sleep 600 &)' INT; sleep 600",
    "trap of TERM that starts more": "sh -c \"trap '(setsid sleep 600 &)' TERM; trap '' INT;"
    ' while :; do sleep 1; done"',
    "trap of CHLD that starts more": "trap 'sleep 600 &' CHLD; set -m; sleep 600 & sleep 600",
    "trap of DEBUG that sleeps": "(trap 'sleep 600' DEBUG; :; :)",
    "trap of ERR without end": "(trap 'while :; do sleep 1; done' ERR; false)",
    "until loop of failures": "until false; do sleep 600; done",
    "loop of builtins that ignores": "trap '' INT TERM; while :; do :; done",
    "loop of short programs": "while :; do /bin/true; done",
    "loop of short programs that ignores": "trap '' INT TERM; while :; do /bin/true; done",
    "function that calls itself": "f() { sleep 0.01; f; }; f",
    "a command after a caught interrupt": python(
        "import signal,time\nsignal.signal(2,lambda *a:exit(0))\ntime.sleep(600)"
    )
    + "; sleep 600; sleep 600; sleep 600; sleep 600",
    "nested shells that ignore": "bash -c \"trap '' INT TERM HUP; bash -c 'sleep 600; sleep 600'; sleep 600\"",
    "interactive shell inside": "bash -i -c 'set -m; sleep 600 & sleep 600'",
    "login shell that reads for ever": "bash --noprofile --norc",
    "exec into a deaf program": "exec " + SIGNAL_EATER,
    "exec of another shell": "exec bash -c 'trap \"\" INT TERM; while :; do sleep 1; done'",
    "process substitution without end": "cat <(sleep 600) >(sleep 600)",
    "command substitution without end": "x=$(sleep 600); sleep 600",
    "command substitution that detaches": "x=$( (setsid sleep 600 &) ; sleep 600)",
    "here-document of a sleeper": "cat <<X\n$(sleep 600)\nX",
    "coprocess that ignores": "coproc { trap '' INT TERM; while :; do sleep 1; done; }; sleep 600",
    "wait for everything": "for i in 1 2 3; do sleep 600 & done; wait",
    "read of a pipe that nobody writes": "mkfifo n1; cat n1",
    "write to a pipe that nobody reads": "mkfifo n2; echo x >n2",
    "flock that nobody leaves": "(flock 9; sleep 600) 9>lock & sleep 0.1; flock lock true",
    "select without answer": "select x in a b; do :; done",
    "read with an endless retry": "while :; do read -t 1 x; done",
    "suspended by itself": "suspend -f; sleep 600",
    "suspended child in the foreground": "sleep 600 & kill -STOP $!; fg; sleep 600",
    "all of its group stopped": "(sleep 600 & sleep 600 & kill -STOP 0); sleep 600",
    "kill of its own children in a loop": "while :; do sleep 600 & kill -9 $!; wait; done 2>/dev/null",
    "renice and ionice": "nice -n 19 sh -c 'sleep 600; sleep 600'",
    "ulimit of processes": "ulimit -u 4000; sleep 600 & sleep 600",
    "closed descriptors": "exec 0<&- 1>&- 2>&-; sleep 600",
    "deep subshells": "( ( ( ( ( (sleep 600; echo); echo); echo); echo); echo); echo)",
    "two hundred jobs": "for i in {1..200}; do sleep 600 & done; wait",
    "two hundred detached jobs": "for i in {1..200}; do (setsid sleep 600 &); done; sleep 600",
    "stopped and detached jobs": "for i in {1..20}; do (setsid sh -c 'kill -STOP $$; sleep 600' &); done; sleep 600",
    "output to everywhere": "yes | tee /dev/null | tee /dev/tty",
    "a cd into what goes away": "mkdir away; cd away; rmdir ../away; sleep 600",
}

PROCESSES: Final[dict[str, str]] = {
    "fork tree": TREE,
    "fork chain": CHAIN,
    "orphan chain": ORPHANS + "; sleep 600",
    "threads that ignore": THREADS,
    "zombies": ZOMBIES,
    "a tracer and its stopped child": TRACER,
    "a subreaper of its own": PARENT_SAVER,
    "every signal blocked": SIGNAL_EATER,
    "a name like a line of stat": RENAMED,
    "a pair that starts each other again": f"{PAIR} & sleep 600",
    "a pid that hops through sessions": f"{HOP_APART} & sleep 600",
    "three hopping pids": f"{HOP} & {HOP} & {HOP_APART} & sleep 600",
    "a child that wakes the stopped": CONTINUER,
    "forks on being asked to end": SUICIDE_NOTE,
    "a chain of watchdogs": WATCHDOG,
    "vfork-like exec storm": 'sh -c \'exec sh -c "exec sh -c \\"sleep 600; sleep 600\\""\'',
    "exec that never rests": "printf '#!/bin/sh\\nsleep 0.01\\nexec ./again\\n' >again; chmod +x again; ./again",
    "detached exec that never rests": "printf '#!/bin/sh\\nsleep 0.01\\nexec ./again\\n' >again; chmod +x again;"
    " setsid ./again & sleep 600",
    "a script that starts itself": "printf '#!/bin/sh\\n(sleep 0.05; ./self) &\\nexit\\n' >self; chmod +x self;"
    " ./self; sleep 600",
    "daemon with a closed everything": python(
        "import os,time\nos.fork() and os._exit(0)\nos.setsid()\nos.fork() and os._exit(0)\n"
        "os.closerange(0,256)\nos.umask(0)\ntime.sleep(600)"
    )
    + "; sleep 600",
    "alarm that starts again": python(
        "import os,signal,time\ndef again(*a):\n os.fork()\n signal.alarm(1)\n"
        "signal.signal(14,again)\nsignal.setitimer(0,0.3)\nsignal.signal(2,1)\nwhile True: time.sleep(9)"
    ),
    "reads /dev/tty for ever": "sh -c 'cat </dev/tty'",
    "background job that reads the terminal": "cat & sleep 600",
    "background job that writes the terminal": "stty tostop; (while :; do echo x >/dev/tty; sleep 0.05; done) &"
    " sleep 600",
    "terminal stolen by another group": "setsid -c sh -c 'sleep 600' & sleep 600",
    "script on a terminal of its own": "script -qec 'trap \"\" INT TERM HUP; while :; do sleep 1; done' /dev/null",
    "timeout within timeout": "timeout 600 timeout 600 sh -c \"trap '' TERM INT; while :; do sleep 1; done\"",
    "nohup of a tree": "nohup sh -c 'sleep 600 & sleep 600 & wait' >/dev/null 2>&1 & wait",
    "xargs in the background": "(seq 30 | xargs -P 30 -I{} sh -c 'trap \"\" TERM; sleep 60{}' &) ; sleep 600",
    "find that executes": "find / -xdev -exec sleep 600 \\; ",
    "make-like children": "sh -c 'for i in 1 2 3 4; do (for j in 1 2 3 4; do (sleep 600) & done; wait) & done; wait'",
    "sockets between them": python(
        DEAF + "import os,socket\na,b=socket.socketpair()\nif os.fork()==0: os.setsid()\nwhile True:\n a.recv(1)"
    ),
}

NASTY: Final[dict[str, str]] = {**PLAIN, **SHELL, **PROCESSES}
"""All of them."""
