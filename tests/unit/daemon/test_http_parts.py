from __future__ import annotations

import pytest

from chronicled.daemon.http.blob_routes import parse_range
from chronicled.daemon.http.percent import decode_percent
from chronicled.daemon.http.problem import document, response
from chronicled.daemon.http.server import split_target
from chronicled.daemon.metrics import Histogram
from chronicled.events.errors import InvalidRequest, NotFound, RangeNotSatisfiable, errors_by_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bytes=0-0", (0, 0)), ("bytes=0-", (0, 9)), ("bytes=5-100", (5, 9)), ("bytes=-3", (7, 9)), ("bytes=-30", (0, 9))],
)
def test_ranges_are_cut_to_the_size(text: str, expected: tuple[int, int]) -> None:
    """A range that begins inside is cut to what is there."""
    assert parse_range(text, 10) == expected


@pytest.mark.parametrize(
    "text", ["", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=1-2,3-4", "items=1-2", "bytes=+1-2"]
)
def test_malformed_ranges_are_ignored(text: str) -> None:
    """As HTTP asks, a range that is not understood counts as not sent."""
    assert parse_range(text, 10) is None


@pytest.mark.parametrize(("text", "size"), [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-0", 10), ("bytes=-5", 0)])
def test_ranges_beyond_the_end_are_not_satisfiable(text: str, size: int) -> None:
    """A range that begins beyond the end is refused."""
    with pytest.raises(RangeNotSatisfiable):
        parse_range(text, size)


def test_percent_encoding_is_undone_once() -> None:
    """What decodes to a percent sign or a slash stays one character of one segment."""
    assert decode_percent("a%2Fb%2525") == "a/b%25"


@pytest.mark.parametrize("text", ["%", "%2", "%zz", "%ff", "%C3%28", "\u00e4", "a%"])
def test_broken_percent_encoding_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidRequest):
        decode_percent(text)


def test_targets_are_split_in_every_form() -> None:
    """Origin and absolute form give path and query; other forms are nowhere."""
    assert split_target("/a/b?c=d?e") == ("/a/b", "c=d?e")
    assert split_target("http://host/a?b") == ("/a", "b")
    for target in ("*", "host:80", "http://host", "ftp://host/x", ""):
        with pytest.raises(NotFound):
            split_target(target)


def test_every_error_is_a_whole_problem() -> None:
    """Each class of the error tree gives every standard member, whatever its extra members are called."""
    for code, error in errors_by_code().items():
        made = error("what happened", status="hidden", code="hidden", type="hidden", position=3)
        members = document(made, "r1")
        assert members["code"] == code
        assert members["status"] == error.status
        assert members["type"] == f"urn:chronicled:problem:{code}"
        assert members["position"] == 3
        assert response(made, "r1").status == error.status


def test_a_problem_may_quote_what_is_no_unicode() -> None:
    """A lone surrogate in a message is shown as a question mark; it never breaks the answer."""
    body = response(InvalidRequest("a\udcffb"), "r1").body
    assert isinstance(body, bytes)
    assert b"a?b" in body


def test_histogram_counts_are_cumulative() -> None:
    """Buckets count everything up to their bound, as Prometheus reads them."""
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.add(value)
    assert list(histogram.lines("h")) == [
        'h_bucket{le="1"} 2',
        'h_bucket{le="2"} 3',
        'h_bucket{le="+Inf"} 4',
        "h_sum 12.000000",
        "h_count 4",
    ]
