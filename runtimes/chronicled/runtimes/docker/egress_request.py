"""The head of a request to the proxy: read strictly, since what two readers take differently is a way around."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from chronicled.runtimes.docker.egress_address import BadHost, normal_host

__all__ = ["HEAD_BYTES_MAX", "BadRequest", "ProxyRequest", "parse_head"]

HEAD_BYTES_MAX: Final = 32 << 10
FIELDS_MAX: Final = 100
_LINE: Final = re.compile(rb"([A-Z]{1,32}) ([!-~]{1,16384}) HTTP/1\.([01])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@/?#]+)(?::([0-9]{1,5}))?")
_OURS: Final = frozenset(
    {b"host", b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive", b"te", b"upgrade", b"trailer"}
)


class BadRequest(ValueError):
    """Raised for what is no request that the proxy takes; the text says why, for whoever sent it."""


class ProxyRequest(msgspec.Struct, frozen=True):
    """What a client of the proxy wants."""

    tunnel: bool
    """CONNECT: bytes both ways; else one plain HTTP request."""
    host: str
    """In its normal form."""
    port: int
    head: bytes = b""
    """Head of the plain request as the server gets it."""
    body_bytes: int | None = 0
    """How many bytes of body follow; None: as chunks."""


def parse_head(data: bytes) -> ProxyRequest:
    """Return what the head (up to and with its empty line) asks for.

    Raises:
        BadRequest: it is malformed, of another form than a proxy takes, or could be read in two ways.
    """
    lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _LINE.fullmatch(lines[0])
    if match is None:
        raise BadRequest("The first line is no request.")
    if len(lines) > FIELDS_MAX + 1:
        raise BadRequest(f"There are more than {FIELDS_MAX} header fields.")
    fields: list[tuple[bytes, bytes]] = []
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise BadRequest("A header field is malformed.")
        fields.append((field[1], field[2]))
    method, target = match[1], match[2].decode("ascii")
    if method == b"CONNECT":
        host, port = _authority(target, None)
        return ProxyRequest(True, host, port)
    return _plain(method, target, fields)


def _plain(method: bytes, target: str, fields: list[tuple[bytes, bytes]]) -> ProxyRequest:
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() != "http":
        raise BadRequest("This is a proxy: it takes CONNECT host:port and http:// URLs.")
    end = min((at for at in (rest.find(mark) for mark in "/?") if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:] or "/"
    if path.startswith("?"):
        path = "/" + path
    host, port = _authority(authority, 80)
    dropped = set(_OURS)
    for name, value in fields:
        if name.lower() == b"connection":
            dropped.update(part.strip().lower() for part in value.split(b","))
    kept = [(name, value) for name, value in fields if name.lower() not in dropped]
    # The target decides, not what the client says beside it.
    shown = authority.encode("ascii")
    head = b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (method, path.encode("ascii"), shown)
    head += b"".join(b"%s: %s\r\n" % field for field in kept) + b"Connection: close\r\n\r\n"
    return ProxyRequest(False, host, port, head, _body_bytes(fields, dropped))


def _body_bytes(fields: list[tuple[bytes, bytes]], dropped: set[bytes]) -> int | None:
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if dropped & {b"content-length", b"transfer-encoding"}:
        raise BadRequest("Connection names what says how long the body is.")
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadRequest("The length of the body could be read in two ways.")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
        raise BadRequest("The length of the body could be read in two ways.")
    return int(lengths[0])


def _authority(text: str, port: int | None) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(text)
    if match is None or (match[2] is None and port is None):
        raise BadRequest("Host and port are not given as HOST:PORT.")
    number = port if match[2] is None else int(match[2])
    assert number is not None
    if not 1 <= number <= 65535:
        raise BadRequest("There is no such port.")
    try:
        return normal_host(match[1]), number
    except BadHost:
        raise BadRequest("The host is neither a name of ASCII letters nor an address in its normal form.") from None
