from __future__ import annotations

from typing import Any

import pytest

from chronicled.cli.session import asked
from chronicled.events.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("network=open", "open"),
        ("user=1000", "1000"),
        ("user=1000:100", "1000:100"),
        ("memory_bytes=33554432", 33554432),
        ("cpus=1", 1.0),
        ("cpus=0.5", 0.5),
        ("read_only=true", True),
        ('network="open"', "open"),
        ('tmpfs={"/x": 4096}', {"/x": 4096}),
    ],
)
def test_a_value_is_json_or_the_text_that_it_is(text: str, value: Any) -> None:
    """What the field's type takes is found without quotes having to be typed."""
    assert asked([text]) == {text.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("memory_bytes=100", ">= 16777216"),
        ("processes_max=1", ">= 16"),
        ("memory_bytes=lots", "`int | null`"),
        ("cpus=0", "> 0"),
        ("volumes=[1]", "Expected `object`"),
        ("nonsense=1", "network"),
        ("network", "KEY=VALUE"),
    ],
)
def test_what_does_not_fit_says_why(text: str, why: str) -> None:
    """The error is that of the value as it was meant: a number that is too small is not called a text."""
    with pytest.raises(InvalidRequest, match="--sandbox") as raised:
        asked([text])
    assert why in raised.value.detail
