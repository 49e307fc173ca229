"""Requests to the proxy, bodies and TLS greetings: read strictly, in pieces of any size, whatever comes."""

from __future__ import annotations

import ssl
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chronicled.runtimes.docker.egress_body import BodyEnd
from chronicled.runtimes.docker.egress_hello import HELLO_BYTES_MAX, Greeting, GreetingReader, read_greeting
from chronicled.runtimes.docker.egress_request import BadRequest, ProxyRequest, parse_head


def client_hello(name: str | None) -> bytes:
    """Return what Python's TLS says first."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    connection = context.wrap_bio(coming, going, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return going.read()


def in_records(hello: bytes, size: int) -> bytes:
    """Return the same message in TLS records of at most so many bytes."""
    message = hello[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_the_name_in_a_greeting_is_read() -> None:
    """The server name of a real TLS client is found, in one record or in many, and never before it is all there."""
    hello = client_hello("Some.Example")
    assert read_greeting(hello) == "some.example"
    assert read_greeting(client_hello(None)) is Greeting.NAMELESS
    for size in (1, 7, 100):
        cut = in_records(hello, size)
        assert read_greeting(cut) == "some.example"
        assert {read_greeting(cut[:end]) for end in range(len(cut) - 1)} == {Greeting.UNFINISHED}


@given(st.data())
def test_pieces_are_read_as_the_whole(data: st.DataObject) -> None:
    """However a greeting is cut on its way, it is taken for the same."""
    hello = in_records(client_hello("some.example"), data.draw(st.sampled_from([1, 50, 5000])))
    hello = data.draw(st.sampled_from([hello, hello[:-1], hello + b"more", b"\x16\x03\x01\x00\x00", b"GET / HTTP/1.1"]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(hello)), max_size=8)))
    reader = GreetingReader()
    said: str | Greeting = Greeting.UNFINISHED
    for start, end in zip([0, *cuts], [*cuts, len(hello)], strict=True):
        said = reader.feed(hello[start:end])
    assert said == read_greeting(hello)


def test_a_greeting_in_drops_costs_each_drop_once() -> None:
    """60,000 bytes in records of one byte, one byte at a time, cost no more than a moment of the worker's time."""
    announced = b"\x01" + (60_000).to_bytes(3, "big") + b"\x03\x03" + bytes(9_990)
    drops = b"".join(b"\x16\x03\x01\x00\x01" + bytes((each,)) for each in announced)
    reader = GreetingReader()
    began = time.process_time()
    for at in range(len(drops)):
        assert reader.feed(drops[at : at + 1]) is Greeting.UNFINISHED
    assert time.process_time() - began < 2.0
    assert reader.feed(b"\x16" * HELLO_BYTES_MAX) is Greeting.BROKEN


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01", b"\x16\x02"])
def test_other_greetings_are_let_be(data: bytes) -> None:
    """What is not TLS is not held back."""
    assert read_greeting(data) is Greeting.OTHER


def test_a_second_name_breaks_a_greeting() -> None:
    """A greeting with two names, of which proxy and server could take different ones, is not TLS."""
    hello = client_hello("aa.example")
    entry = b"\x00" + len(b"aa.example").to_bytes(2, "big") + b"aa.example"
    assert entry in hello
    doubled = entry + entry
    at = hello.index(entry)
    # List and extension lengths stand in front of the entry.
    grown = bytearray(hello[:at] + doubled + hello[at + len(entry) :])
    for offset in (at - 2, at - 4):
        grown[offset : offset + 2] = (int.from_bytes(grown[offset : offset + 2], "big") + len(entry)).to_bytes(2, "big")
    grown[3:5] = (len(grown) - 5).to_bytes(2, "big")
    grown[6:9] = (len(grown) - 9).to_bytes(3, "big")
    assert read_greeting(bytes(grown)) is Greeting.BROKEN


@given(st.binary(max_size=300))
@example(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
def test_any_bytes_get_an_answer(data: bytes) -> None:
    """No bytes make the reader of greetings fail, and none but TLS has a name."""
    for start in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c\x03\x03"):
        found = read_greeting(start + data)
        if not (start + data).startswith(b"\x16"):
            assert found in {Greeting.OTHER, Greeting.UNFINISHED}
        assert isinstance(found, str | Greeting)


def plain(target: str = "http://a.example/x", *fields: str) -> ProxyRequest:
    """Return what a request says."""
    return parse_head("\r\n".join((f"GET {target} HTTP/1.1", *fields, "", "")).encode("latin-1"))


def test_a_plain_request_is_made_the_servers_own() -> None:
    """The target decides over host and path; what is between client and proxy does not go on."""
    found = plain(
        "http://A.example:8080?q=1", "Host: evil.example", "Proxy-Authorization: secret", "Connection: x-own",
        "X-Own: 1", "Accept: *", "Upgrade: h2c",
    )  # fmt: skip
    assert (found.tunnel, found.host, found.port, found.body_bytes) == (False, "a.example", 8080, 0)
    assert found.head == b"GET /?q=1 HTTP/1.1\r\nHost: A.example:8080\r\nAccept: *\r\nConnection: close\r\n\r\n"
    tunnel = parse_head(b"CONNECT [::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (tunnel.tunnel, tunnel.host, tunnel.port) == (True, "::1", 443)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET https://a.example/ HTTP/1.1\r\n\r\n",
        b"GET ftp://a.example/ HTTP/1.1\r\n\r\n",
        b"GET http://u:p@a.example/ HTTP/1.1\r\n\r\n",
        b"GET http://a.example:0/ HTTP/1.1\r\n\r\n",
        b"GET http://a.example:99999/ HTTP/1.1\r\n\r\n",
        b"GET http://127.1/ HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"CONNECT a.example HTTP/1.1\r\n\r\n",
        b"CONNECT a.example:443/x HTTP/1.1\r\n\r\n",
        b"CONNECT 2130706433:443 HTTP/1.1\r\n\r\n",
        b"CONNECT a.example:443 HTTP/2.0\r\n\r\n",
        b"GET  http://a.example/ HTTP/1.1\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nBad Name: x\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nX: a\r\n folded\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET http://a.example/ HTTP/1.1\r\nX: a\x00\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST http://a.example/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    """Requests that proxy and server could take differently are nobody's."""
    with pytest.raises(BadRequest):
        parse_head(head)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.integers(1, 9), st.binary(max_size=20))
def test_a_chunked_body_ends_where_it_ends(chunks: list[bytes], size: int, after: bytes) -> None:
    """However the bytes are cut, exactly the chunked body goes on, and what follows it does not."""
    body = b"".join(b"%x;x=y\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: z\r\n\r\n"
    data, end, passed = body + after, BodyEnd(None), 0
    for at in range(0, len(data), size):
        passed += end.take(data[at : at + size])
        if end.over:
            break
    assert end.over
    assert passed == len(body)


@pytest.mark.parametrize("data", [b"x\r\n", b"-1\r\n", b"1\na\r\n", b"1\r\nab\r\n", b"1" * 5000, b"0x1\r\n"])
def test_a_malformed_chunk_ends_the_request(data: bytes) -> None:
    """Chunks that readers could take differently are refused."""
    with pytest.raises(BadRequest):
        BodyEnd(None).take(data)
