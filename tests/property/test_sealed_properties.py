"""Records over streams that are cut, joined, and written into by others: what is read was sent, in order."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from chronicled.events.errors import ProtocolError
from chronicled.runtimes.action_server.sealed import OPENING_BYTES, Epoch, OpeningFinder, RecordReader

TOKEN = "token"
EPOCHS = st.binary(min_size=16, max_size=16)


def read(reader: RecordReader, stream: bytes, cuts: list[int]) -> list[bytes]:
    """Feed the stream in pieces; return what was read until the end or the first error."""
    bodies: list[bytes] = []
    try:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            bodies += reader.feed(stream[start:end])
    except ProtocolError:
        pass
    return bodies


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    before=st.binary(max_size=200),
    epoch=EPOCHS,
    data=st.data(),
)
def test_records_come_out_as_they_went_in_however_the_stream_is_cut_into_pieces(
    bodies: list[bytes], before: bytes, epoch: bytes, data: st.DataObject
) -> None:
    """A worker that attaches amidst somebody else's records finds its own, each whole and in order."""
    sender = Epoch(TOKEN, epoch, to_server=False)
    older = Epoch(TOKEN, b"older epoch 1234", to_server=False)
    torn = older.record(b"x" * 100)[: data.draw(st.integers(0, 140))]
    stream = before + torn + b"".join(sender.record(body) for body in bodies)
    # It is fresh and random: nothing that was sent before it holds it.
    assume(not bodies or stream.find(epoch) == len(before + torn))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    assert read(RecordReader(TOKEN, epoch, from_worker=False), stream, cuts) == bodies


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=6),
    at=st.integers(0, 1000),
    change=st.sampled_from(["cut out", "put in", "alter", "twice", "swap"]),
    junk=st.binary(min_size=1, max_size=60),
)
def test_what_was_tampered_with_is_never_taken_for_something_else(
    bodies: list[bytes], at: int, change: str, junk: bytes
) -> None:
    """Bytes left out, put in, altered, repeated or exchanged: what is read is a beginning of what was sent."""
    epoch = Epoch(TOKEN, b"e" * 16, to_server=True)
    records = [epoch.record(body) for body in bodies]
    if change == "twice":
        records.insert(at % len(records), records[at % len(records)])
    elif change == "swap":
        first = at % len(records)
        records[0], records[first] = records[first], records[0]
    stream = b"".join(records)
    at %= len(stream)
    if change == "cut out":
        stream = stream[:at] + stream[at + len(junk) :]
    elif change == "put in":
        stream = stream[:at] + junk + stream[at:]
    elif change == "alter":
        stream = stream[:at] + bytes([stream[at] ^ (junk[0] or 1)]) + stream[at + 1 :]
    got = read(RecordReader(TOKEN, b"e" * 16, from_worker=True), stream, [])
    assert got == bodies[: len(got)]


@given(epoch=EPOCHS, before=st.binary(max_size=300), after=st.binary(max_size=100), data=st.data())
def test_an_opening_is_found_anywhere_and_once(epoch: bytes, before: bytes, after: bytes, data: st.DataObject) -> None:
    """Amidst whatever bytes, in whatever pieces, an opening is found, and found once, with what follows it."""
    opening = Epoch(TOKEN, epoch, to_server=True).opening()
    stream = before + opening + after
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    finder = OpeningFinder(TOKEN)
    found: list[bytes] = []
    rest = b""
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        met = finder.feed(stream[start:end])
        if met is not None:
            found.append(met[0])
            rest = met[1]
        elif found:
            rest += stream[start:end]
    assert (found, rest) == ([epoch], after)
    assert finder.feed(opening) is None


def test_nobody_opens_without_the_token() -> None:
    """An opening under another token, or with one bit changed, opens nothing."""
    finder = OpeningFinder(TOKEN)
    assert finder.feed(Epoch("other", b"e" * 16, to_server=True).opening()) is None
    opening = bytearray(Epoch(TOKEN, b"e" * 16, to_server=True).opening())
    for bit in range(OPENING_BYTES * 8):
        opening[bit // 8] ^= 1 << bit % 8
        assert finder.feed(bytes(opening)) is None
        opening[bit // 8] ^= 1 << bit % 8
    assert finder.feed(bytes(opening)) == (b"e" * 16, b"")


def test_the_worker_s_own_records_come_back_as_nothing() -> None:
    """Records sent one way are not taken the other way."""
    sent = Epoch(TOKEN, b"e" * 16, to_server=True).record(b"body")
    assert read(RecordReader(TOKEN, b"e" * 16, from_worker=False), sent, []) == []
