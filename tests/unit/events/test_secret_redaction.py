"""Redaction: every shape of every value goes, the rest stays, however the bytes come."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from tests.unit.events.secret_shapes import shapes

from chronicled.events.codec import Codec
from chronicled.events.errors import InvalidPayload, SecretRefused, SecretsUnavailable
from chronicled.events.kinds.actions import Run
from chronicled.events.redaction import Redaction
from chronicled.events.registry import builtin_registry
from chronicled.events.secret_forms import check_value
from chronicled.events.secret_redaction import SecretRedaction

VALUE = "kT9#vQ2/xL7+mZ4w"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nq83kfDJwl0Zt5RyPm\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def redaction() -> SecretRedaction:
    """Redaction of a session with a password and a key of several lines."""
    made = SecretRedaction()
    made.register("default", "s", {"KEY": [VALUE], "PEM": [PEM]})
    return made


def _streamed(redaction: SecretRedaction, data: bytes, size: int, session: str = "s") -> bytes:
    stream = redaction.stream("default", session)
    return b"".join(stream.feed(data[at : at + size]) for at in range(0, len(data), size)) + stream.finish()


@pytest.mark.parametrize("shape", list(shapes(VALUE)))
def test_every_shape_is_found(redaction: SecretRedaction, shape: str) -> None:
    """Each shape of a value is replaced in a stream, whole or byte by byte, and what stands around it stays."""
    data = b"before: " + shapes(VALUE)[shape] + b" :after\n"
    once = _streamed(redaction, data, len(data))
    assert b"<secret:KEY>" in once
    assert once.startswith(b"before: ")
    assert once.endswith(b" :after\n")
    assert shapes(VALUE)[shape] not in once
    assert _streamed(redaction, data, 1) == once


@pytest.mark.parametrize("shape", list(shapes(VALUE)))
def test_without_redaction_every_shape_shows(shape: str) -> None:
    """The negative control: in a session without secrets every shape passes, so the test above can see it."""
    redaction = SecretRedaction()
    data = b"before: " + shapes(VALUE)[shape] + b" :after\n"
    assert _streamed(redaction, data, 7) == data


def test_lines_of_a_value_are_found_alone(redaction: SecretRedaction) -> None:
    """A line of a value of several lines is replaced where it stands alone, the armour of a key is not."""
    assert redaction.text("default", "s", "x q83kfDJwl0Zt5RyPm y") == "x <secret:PEM> y"
    assert redaction.text("default", "s", "-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_characters_that_were_replaced_do_not_hide_a_value() -> None:
    """A value that is no ASCII is found when its other characters were garbled, in another encoding or as U+FFFD."""
    redaction = SecretRedaction()
    redaction.register("default", "s", {"WORD": ["schlüsselbund-für-später"]})
    for garbled in ("schl\ufffdsselbund-f\ufffdr-sp\ufffdter".encode(), "schlüsselbund-für-später".encode("latin-1")):
        assert _streamed(redaction, b"[" + garbled + b"]", 3) == b"[<secret:WORD>]"


@pytest.mark.parametrize("letter", "abefnrtv")
def test_backslashes_of_a_value_are_told_from_those_of_escapes(letter: str) -> None:
    """A value with a backslash before a letter and a character that is escaped is found in JSON, once and twice."""
    value = f"q7#Lw2\\{letter}\x80"
    redaction = SecretRedaction()
    redaction.register("default", "s", {"KEY": [value]})
    for shape in ("json", "json_unicode", "json_in_json", "json_points"):
        data = b"~" + shapes(value)[shape] + b"~"
        assert b"<secret:KEY>" in (once := _streamed(redaction, data, len(data))), shape
        assert _streamed(redaction, data, 1) == once, shape


def test_only_what_may_be_a_value_is_held_back(redaction: SecretRedaction) -> None:
    """A stream gives out at once all that cannot be the beginning of a value, and the rest with `finish`."""
    stream = redaction.stream("default", "s")
    assert stream.feed(b"Continue? [y/n] ") == b"Continue? [y/n] "
    assert stream.feed(b"= kT9#v") == b"= "
    assert stream.feed(b"Q!") == b"kT9#vQ!"
    assert stream.feed(b"kT9") == b""
    assert stream.finish() == b"kT9"


def test_lengths_can_be_kept(redaction: SecretRedaction) -> None:
    """With `keep_length` offsets stay true: every byte of a value is covered, none is added."""
    stream = redaction.stream("default", "s", keep_length=True)
    data = b"a " + VALUE.encode() + b" z"
    assert stream.feed(data) + stream.finish() == b"a " + b"*" * len(VALUE) + b" z"


def test_payloads_are_redacted_in_keys_lists_and_numbers(redaction: SecretRedaction) -> None:
    """A value goes from every string, key and long number of a payload, also where JSON's escapes cut it."""
    redaction.register("default", "n", {"KEY": [VALUE], "PIN": ["40718293655"]})
    payload = {VALUE: [VALUE, {"deep": f"a{VALUE}b"}], "n": 40718293655, "ok": 12345678901, "none": None}
    text = json.dumps(payload).replace("/", "\\u002f").encode()
    changed = json.loads(redaction.payload("default", "n", text))
    assert changed == {
        "<secret:KEY>": ["<secret:KEY>", {"deep": "a<secret:KEY>b"}],
        "n": "<secret:PIN>",
        "ok": 12345678901,
        "none": None,
    }


def test_keys_stay_apart(redaction: SecretRedaction) -> None:
    """Two keys that become the same keep their entries."""
    payload = json.dumps({VALUE: 1, VALUE.encode().hex(): 2}).encode()
    assert json.loads(redaction.payload("default", "s", payload)) == {"<secret:KEY>": 1, "<secret:KEY>#2": 2}


def test_what_holds_no_value_is_the_same_object(redaction: SecretRedaction) -> None:
    """A payload without a value passes byte for byte, and one of a session without secrets is not even read."""
    payload = b'{ "a" : "kT9#vQ2/xL7", "b":[1.50]}'
    assert redaction.payload("default", "s", payload) is payload
    assert redaction.payload("default", "other", b"not json") == b"not json"


def test_a_blocked_session_publishes_nothing(redaction: SecretRedaction) -> None:
    """Where the secrets cannot be read, everything of that session raises, and other sessions go on."""
    stream = redaction.stream("default", "s")
    redaction.block("default", "s", "The secrets of session 's' cannot be read.")
    attempts: tuple[Callable[[], object], ...] = (
        lambda: redaction.payload("default", "s", b"{}"),
        lambda: redaction.text("default", "s", ""),
        lambda: redaction.active("default", "s"),
        lambda: stream.feed(b"x"),
        stream.finish,
    )
    for attempt in attempts:
        with pytest.raises(SecretsUnavailable):
            attempt()
    assert redaction.payload("default", "other", b"{}") == b"{}"


def test_a_stream_learns_of_later_values() -> None:
    """A value that is registered while a command runs is replaced from then on."""
    redaction = SecretRedaction()
    stream = redaction.stream("default", "s")
    assert stream.feed(b"one\n") == b"one\n"
    redaction.register("default", "s", {"KEY": [VALUE]})
    assert stream.feed(VALUE.encode() + b"\n") == b"<secret:KEY>\n"


@pytest.mark.parametrize(
    "value",
    ["q7w!", "aaaaaaaaaaaaaaaa", "ab ab ab ab ab", "  - + - ++ x", "a\0bcdefghijklm", "x" * 40_000, "db_password"],
)
def test_values_that_cannot_be_told_apart_are_refused(value: str) -> None:
    """A value that is too short, monotonous, too long, holds NUL or is its name is refused, untold."""
    with pytest.raises(SecretRefused) as refusal:
        check_value("DB_PASSWORD", value)
    assert value not in refusal.value.detail


def test_a_name_where_it_does_not_fit_is_refused(redaction: SecretRedaction) -> None:
    """A value in a place whose schema has no room for its name is refused, so that no event becomes unreadable."""
    redaction.register("default", "s", {"KEY": ["abcdefgh_ijklmnop"]})
    codec = Codec(builtin_registry(), None, redaction)
    spec = codec.registry.current("action", "run")
    with pytest.raises(InvalidPayload) as refusal:
        codec.encode("default", "s", spec, spec.payload(command="true", environment={"abcdefgh_ijklmnop": "1"}))
    assert "abcdefgh_ijklmnop" not in refusal.value.detail


def test_holders_hide_their_values(redaction: SecretRedaction) -> None:
    """What a traceback or a debugger prints of the holders shows no value."""
    shown = repr(redaction.matcher("default", "s")) + repr(redaction) + repr(redaction.stream("default", "s"))
    assert VALUE not in shown


def test_the_seam_is_kept(redaction: SecretRedaction) -> None:
    """It is a `Redaction`, and an event's payload passes it on its way into the log."""
    seam: Redaction = redaction
    codec = Codec(builtin_registry(), None, seam)
    spec = codec.registry.current("action", "run")
    data = codec.encode("default", "s", spec, spec.payload(command=f"curl -u me:{VALUE} x"))
    assert msgspec.json.decode(data, type=Run).command == "curl -u me:<secret:KEY> x"


def test_what_a_cut_leaves_of_a_value_goes_too(redaction: SecretRedaction) -> None:
    """Where a text was cut, the rest of a value at the cut is replaced; where nothing is missing, it stays."""
    for cut in range(4, len(VALUE) - 3):
        before, behind = f"a {VALUE[:cut]}".encode(), f"{VALUE[cut:]} z".encode()
        assert redaction.fragment("default", "s", before, head=False, tail=True) == b"a <secret:KEY>"
        assert redaction.fragment("default", "s", behind, head=True, tail=False) == b"<secret:KEY> z"
        assert redaction.fragment("default", "s", before, head=True, tail=False) == before
        assert redaction.fragment("default", "s", behind, head=False, tail=True) == behind
    assert redaction.fragment("default", "other", VALUE.encode(), head=True, tail=True) == VALUE.encode()


def test_logs_show_no_value_of_any_session(redaction: SecretRedaction) -> None:
    """A text that may be of any session is redacted with the values of all."""
    redaction.register("default", "n", {"PIN": ["40718293655"]})
    assert redaction.everywhere(f"{VALUE!r} 40718293655 x") == "'<secret:KEY>' <secret:PIN> x"
