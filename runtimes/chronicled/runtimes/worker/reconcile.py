"""Reconcile: what has become of an open action, decided from what is known after a crash (design D5).

The facts, in the order in which they are asked for:

- `generation`: does the log hold a generation without its end, and does it live? The log holds its start before the
  first action is sent to it, and its end not before every action sent to it has its terminal observation.
- `server`: a live action server's own answer. It dedupes by action id for as long as it lives, so its word on "known
  or not" is final, and the journal is not needed.
- `spooled`: a result of the action stands in the generation's result spool. The server writes it before it sends it.
- `journal`: whether the action was (perhaps) sent to that generation; `untrusted` when the journal is missing, of
  another boot of the host, or damaged. It is written before the frame is sent: not in it means never sent.
- `head`: only the head of a lane is ever sent.

| generation | server  | spooled | journal   | head | verdict   | why                                                |
|------------|---------|---------|-----------|------|-----------|----------------------------------------------------|
| none       | -       | -       | any       | any  | never_ran | nothing is sent before a generation is in the log  |
| alive      | any     | any     | unsent    | any  | never_ran | never sent: its turn comes, whatever a server says |
| alive      | running | any     | noted     | any  | reattach  | it runs: wait for its result                       |
| alive      | done    | any     | noted     | any  | collect   | its result comes again until it is settled         |
| alive      | absent  | yes     | noted     | any  | collect   | it ended, whatever the server remembers            |
| alive      | absent  | no      | sent      | any  | resend    | the frame was never read, see below                |
| alive      | absent  | no      | untrusted | any  | never_ran | the live server's memory is proof enough           |
| over       | -       | any     | unsent    | any  | never_ran | never sent: a result of it would be a forgery      |
| over       | -       | yes     | noted     | any  | collect   | it ended before the generation did                 |
| over       | -       | no      | sent      | any  | lost      | perhaps it ran; the generation is proven dead      |
| over       | -       | no      | untrusted | yes  | unknown   | perhaps it was sent: nobody can know               |
| over       | -       | no      | untrusted | no   | never_ran | only heads are sent                                |

(`noted` is `sent` or `untrusted`.)

Why `resend` is safe: it was journaled, but the server does not know the id, so it never read the frame. It cannot read
it any more either: the handshake that the answer came over has closed every older connection unread. And were it to
come twice, the server dedupes by id.

An unreachable generation is neither alive nor over: nothing is decided until one of them is proven.

What never ran then meets the second question, whether the state that it was accepted for still exists: if a generation
(or its lane's shell) was lost after it was accepted it ends `rejected`, reason `state_lost`, unless it was submitted
with `on_state_loss: "run"`.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["Generation", "Journaled", "Server", "Verdict", "judge"]

Generation = Literal["none", "alive", "over"]
Server = Literal["running", "done", "absent"]
Journaled = Literal["sent", "unsent", "untrusted"]
Verdict = Literal["reattach", "collect", "resend", "never_ran", "lost", "unknown"]


def judge(generation: Generation, server: Server, spooled: bool, journal: Journaled, head: bool) -> Verdict:
    """Return what has become of an open action; see the table above. Total."""
    if generation == "none" or journal == "unsent":
        return "never_ran"
    if generation == "alive":
        if server == "running":
            return "reattach"
        if server == "done" or spooled:
            return "collect"
        return "resend" if journal == "sent" else "never_ran"
    if spooled:
        return "collect"
    if journal == "sent":
        return "lost"
    return "unknown" if head else "never_ran"
