"""What a shell may complete."""

from __future__ import annotations

from typing import Any

import pytest

from chronicled.cli import COMMANDS, completion
from chronicled.cli.completion import completions


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ([""], ["run", "session"], []),
        (["se"], sorted(COMMANDS), []),
        (["session", ""], ["actions", "close", "create"], ["run"]),
        (["session", "create", "--i"], ["--image", "--idle"], ["--follow"]),
        (["migrate", "export", "--format", ""], ["atif", "asciicast"], []),
        (["run", "--session", ""], ["one", "two"], ["id-1"]),
        (["session", "show", ""], ["one", "two"], []),
        (["output", "--session", "one", ""], ["id-1"], ["one"]),
        (["cancel", "--json", "--session", "one", ""], ["id-1"], []),
        (["input", "--session", "one", "id-1", ""], [], ["id-1"]),
        (["cancel", ""], [], ["id-1"]),
        (["nonsense", ""], [], ["run"]),
        (["session", "nonsense", ""], [], ["show"]),
        (["files", "put", "--session", "one", ""], [], ["one"]),
    ],
)
def test_what_fits_is_offered(
    monkeypatch: pytest.MonkeyPatch, line: list[str], some: list[str], others: list[str]
) -> None:
    """Commands, verbs, options, choices, sessions and open actions, each in its place and in no other."""

    async def asked(session: str | None, *, ids: bool) -> list[str]:
        if not ids:
            return ["one", "two"]
        return ["id-1"] if session == "one" else []

    monkeypatch.setattr(completion, "_asked", asked)
    found = completions(line)
    assert set(some) <= set(found)
    assert not set(others) & set(found)


def test_without_a_daemon_nothing_is_offered_and_nothing_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Tab on a machine without a daemon is quiet."""
    monkeypatch.setenv("CHRONICLED_SOCKET", str(tmp_path / "none"))
    assert completions(["session", "show", ""]) == []
