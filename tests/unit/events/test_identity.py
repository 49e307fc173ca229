"""Ids, names, cursors, time, canonical requests, the error tree."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronicled.events import Cursor, errors
from chronicled.events.clock import SystemClock, format_time, parse_time
from chronicled.events.codec import canonical_request
from chronicled.events.errors import ChronicledError, CursorGone, InvalidCursor, InvalidName, InvalidRequest
from chronicled.events.ids import SystemIds, check_kind, check_name, id_bytes, id_of_key, id_text, normal_id
from chronicled.events.kinds.actions import Run


class StoppedClock(SystemClock):
    """A clock that stands still."""

    def now_us(self) -> int:
        """Return the same time for ever."""
        return 1_700_000_000_000_000


def test_new_ids_are_version_7_and_strictly_rising_even_when_time_stands_still() -> None:
    """Ids made by one process sort in the order they were made."""
    ids = SystemIds(StoppedClock())
    made = [ids.new() for _ in range(5000)]
    assert made == sorted(set(made))
    assert {uuid.UUID(text).version for text in made} == {7}
    assert {uuid.UUID(text).variant for text in made} == {uuid.RFC_4122}


@given(st.binary(min_size=16, max_size=16))
def test_id_text_round_trips(raw: bytes) -> None:
    """Sixteen bytes and their canonical text are one and the same."""
    assert id_bytes(id_text(raw)) == raw
    assert id_text(raw) == str(uuid.UUID(bytes=raw))
    assert normal_id(id_text(raw).upper()) == id_text(raw)


@pytest.mark.parametrize("text", ["", "x", "123", "../../etc", "0" * 33, "g" * 32])
def test_an_id_that_is_no_uuid_is_refused(text: str) -> None:
    """Rubbish in place of an id is bad input."""
    with pytest.raises(InvalidRequest):
        normal_id(text)


def test_an_idempotency_key_maps_to_the_same_id_for_ever() -> None:
    """The mapping is part of the stored format: this vector never changes."""
    assert id_of_key("default", "s", "key", 0) == "044bce8a-8a73-55e8-8bb6-fa57eb6cfe11"
    assert len({id_of_key(t, s, k, i) for t in "ab" for s in "ab" for k in "ab" for i in (0, 1)}) == 16


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "ü", "x" * 129, "a\n", "a\x00", "%2e"])
def test_names_that_could_be_paths_or_markup_are_refused(name: str) -> None:
    """A name is letters, digits, dot, underscore and dash, and nothing else."""
    with pytest.raises(InvalidName):
        check_name(name)


def test_kinds_are_lower_case_words_dotted_for_an_owner() -> None:
    """`run` and `acme.probe` are kinds; `Run`, `.x` and `a..b` are not."""
    assert check_kind("acme.probe_2") == "acme.probe_2"
    for kind in ("Run", ".x", "a..b", "a.", "", "a-b", "x" * 129):
        with pytest.raises(InvalidName):
            check_kind(kind)


def test_a_cursor_of_another_incarnation_is_refused_never_misread() -> None:
    """410 for another incarnation, 400 beyond the head, and both forms are read."""
    assert Cursor.parse("7").resolve("inc", 9) == 7
    assert Cursor.parse("7@inc").resolve("inc", 9) == 7
    assert str(Cursor.parse("7@inc")) == "7@inc"
    with pytest.raises(CursorGone):
        Cursor.parse("7@old").resolve("inc", 9)
    with pytest.raises(InvalidCursor):
        Cursor.parse("10").resolve("inc", 9)


@given(st.text(max_size=30))
def test_any_text_is_a_cursor_or_an_invalid_cursor(text: str) -> None:
    """Parsing is total, and what is read is written back the same."""
    try:
        assert str(Cursor.parse(text)) == text
    except InvalidCursor:
        assert re.fullmatch(r"\d{1,18}", text, re.ASCII) is None or text.startswith("0")


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_time_round_trips_with_all_its_digits(microseconds: int) -> None:
    """Formatting and parsing lose nothing, and text order is time order."""
    assert parse_time(format_time(microseconds)) == microseconds
    assert format_time(microseconds) < format_time(microseconds + 1)


def test_canonical_requests_tell_a_retry_from_another_request() -> None:
    """Defaults spelled out make no difference; any field, the lane, the session and the key do."""
    run = Run(command="x")
    base = canonical_request(b"k", "s", "run", 1, run, "main", None)
    assert base == canonical_request(b"k", "s", "run", 1, Run(command="x", tty=False), "main", None)
    others = [
        canonical_request(b"q", "s", "run", 1, run, "main", None),
        canonical_request(b"k", "z", "run", 1, run, "main", None),
        canonical_request(b"k", "s", "run", 1, Run(command="y"), "main", None),
        canonical_request(b"k", "s", "run", 1, run, "side", None),
        canonical_request(b"k", "s", "run", 1, run, "main", 4),
    ]
    assert len({base, *others}) == 6


def test_every_error_has_a_code_of_its_own_and_stands_in_the_drawing() -> None:
    """Codes are unique, statuses are HTTP's, and the drawn tree names each class and nothing else."""
    by_code = errors.errors_by_code()
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ChronicledError)
    }
    # Another module (a third party's, a test's) may add its own below one of these.
    assert {error for error in by_code.values() if error.__module__.startswith(f"{errors.__name__}.")} == classes
    assert all(400 <= error.status <= 599 for error in classes)
    drawing = (errors.__doc__ or "").split("ChronicledError\n", 1)[1]
    assert {error.__name__ for error in classes} == {*re.findall(r"─ (\w+)", drawing), "ChronicledError"}
    for match in re.finditer(r"─ (\w+) +(\d{3})", drawing):
        assert getattr(errors, match[1]).status == int(match[2])


def test_there_is_no_pickle_and_no_pydantic_in_the_code() -> None:
    """Stored state is never revived as code (D20)."""
    root = Path(__file__).parents[3]
    for part in ("daemon", "events", "storage", "runtimes", "migrations"):
        for path in (root / part).rglob("*.py"):
            assert not re.search(r"^\s*(import|from) (pickle|pydantic|sqlalchemy)\b", path.read_text(), re.MULTILINE), (
                path
            )
