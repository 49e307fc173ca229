"""The tar format, read and written: ustar with the extensions of pax and GNU for long names and large numbers.

Not the standard library's: that one takes headers of any size into memory and keeps every member that it has seen, and
an archive comes from outside. This one holds one header at a time and refuses what it does not know by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

__all__ = ["BLOCK_BYTES", "END", "BrokenArchive", "Member", "header", "members", "padding", "shown"]

BLOCK_BYTES: Final = 512
END: Final = bytes(2 * BLOCK_BYTES)
EXTENSION_BYTES_MAX: Final = 64 << 10
"""Largest extended header or long name."""
_EXTENSIONS_MAX: Final = 8
"""Extended headers before one member."""
_EXTENSIONS: Final = frozenset({b"x", b"g", b"L", b"K"})
_PAX_KEYS: Final = frozenset({"path", "linkpath", "size", "mtime"})

MemberType = Literal["file", "directory", "symlink", "hard_link"]
_TYPES: Final[dict[bytes, MemberType]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard_link",
    b"2": "symlink",
    b"5": "directory",
}
_REFUSED: Final = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"D": "an incremental dump",
    b"M": "a part of a volume",
    b"V": "a volume",
}

Read = Callable[[int, int], bytes]
"""Returns so many bytes from an offset; fewer only at the archive's end."""


class BrokenArchive(Exception):
    """The archive is damaged, or holds what is not taken; the message names the member."""


class Member(NamedTuple):
    """One member of an archive."""

    name: bytes
    """As the archive has it: unchecked."""
    type: MemberType
    size: int = 0
    mode: int = 0o644
    mtime: int = 0
    target: bytes = b""
    """Of a link."""
    offset: int = 0
    """Where its content begins."""


def members(read: Read) -> Iterator[Member]:
    """Yield the members of an archive.

    Raises:
        BrokenArchive: it is damaged, lacks its end, or holds what is neither file, directory nor link.
    """
    offset = 0
    while True:
        extended: dict[str, bytes] = {}
        for _ in range(_EXTENSIONS_MAX + 1):
            block = _block(read, offset)
            if block is None:
                if extended:
                    raise BrokenArchive("it ends between an extended header and its member")
                return
            offset += BLOCK_BYTES
            word, size = block[156:157], _number(block[124:136], "size")
            if word not in _EXTENSIONS:
                break
            data = _extension(read, offset, size)
            offset += size + padding(size)
            _extend(extended, word, data)
        else:
            raise BrokenArchive(f"a member has more than {_EXTENSIONS_MAX} extended headers")
        member = _member(block, extended, offset)
        offset += member.size + padding(member.size)
        yield member


def _block(read: Read, offset: int) -> bytes | None:
    block = read(offset, BLOCK_BYTES)
    if len(block) < BLOCK_BYTES:
        raise BrokenArchive("it breaks off: its end mark is missing")
    if not any(block):
        return None
    told = _number(block[148:156], "checksum")
    # Some old programs summed signed bytes.
    plain = block[:148] + b" " * 8 + block[156:]
    if told not in {sum(plain), sum(each - 256 if each > 127 else each for each in plain)}:
        raise BrokenArchive(f"the header at byte {offset} is damaged, or this is no tar archive")
    return block


def _number(field: bytes, name: str) -> int:
    if field[0] & 0x80:
        # GNU: a binary number, its first bit set, the second its sign.
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise BrokenArchive(f"a header's {name} is no number") from None


def _extension(read: Read, offset: int, size: int) -> bytes:
    if not 0 <= size <= EXTENSION_BYTES_MAX:
        raise BrokenArchive(f"an extended header has {size} bytes; {EXTENSION_BYTES_MAX} are allowed")
    data = read(offset, size)
    if len(data) < size:
        raise BrokenArchive("it breaks off in an extended header")
    return data


def _extend(extended: dict[str, bytes], word: bytes, data: bytes) -> None:
    if word == b"L":
        extended["path"] = data.split(b"\0", 1)[0]
    elif word == b"K":
        extended["linkpath"] = data.split(b"\0", 1)[0]
    else:
        for key, value in _records(data):
            if key.startswith("GNU.sparse."):
                raise BrokenArchive("it holds a sparse file; only plain files, directories and links are taken")
            if key in _PAX_KEYS:
                if word == b"g":
                    raise BrokenArchive(f"a global header sets {key}, which stands for one member only")
                extended[key] = value


def _records(data: bytes) -> Iterator[tuple[str, bytes]]:
    while data:
        digits, _, rest = data.partition(b" ")
        try:
            length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        except ValueError:
            length = 0
        record = data[:length]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if length <= len(digits) + 1 or len(record) < length or not equals or not value.endswith(b"\n") or not rest:
            raise BrokenArchive("an extended header is damaged")
        yield key.decode(errors="replace"), value[:-1]
        data = data[length:]


def _member(block: bytes, extended: dict[str, bytes], offset: int) -> Member:
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0", 1)[0]):
        name = prefix + b"/" + name
    name = extended.get("path", name)
    word = block[156:157]
    kind = _TYPES.get(word)
    if kind is None:
        what = _REFUSED.get(word, f"of an unknown type {word!r}")
        raise BrokenArchive(f"{shown(name)} is {what}; only files, directories and links are taken")
    if kind == "file" and word == b"\0" and name.endswith(b"/"):
        kind = "directory"  # as it was before there was a type for them
    size = _extended_number(extended, "size", _number(block[124:136], "size"))
    if size < 0:
        raise BrokenArchive(f"{shown(name)} has a negative size")
    return Member(
        name=name,
        type=kind,
        # What is no file may tell a size, of which nothing follows.
        size=size if kind == "file" else 0,
        mode=_number(block[100:108], "mode") & 0o7777,
        mtime=_extended_number(extended, "mtime", _number(block[136:148], "time")),
        target=extended.get("linkpath", block[157:257].split(b"\0", 1)[0]),
        offset=offset,
    )


def _extended_number(extended: dict[str, bytes], key: str, otherwise: int) -> int:
    text = extended.get(key)
    if text is None:
        return otherwise
    try:
        whole = text.split(b".", 1)[0] if key == "mtime" else text
        if len(whole) > 20:
            raise ValueError
        return int(whole)
    except ValueError:
        raise BrokenArchive(f"an extended header's {key} is no number") from None


def header(member: Member) -> bytes:
    """Return the blocks that stand before a member's content."""
    records: list[bytes] = []
    name, target = member.name, member.target
    if len(name) > 100:
        records.append(_record(b"path", name))
    if len(target) > 100:
        records.append(_record(b"linkpath", target))
    if member.size >= 1 << 33:
        records.append(_record(b"size", b"%d" % member.size))
    if not 0 <= member.mtime < 1 << 33:
        records.append(_record(b"mtime", b"%d" % member.mtime))
    data = b"".join(records)
    if not data:
        return _ustar(member, _WORDS[member.type])
    # Names that are not UTF-8 go out as they are; what reads them takes bytes for bytes.
    data = (_record(b"hdrcharset", b"BINARY") if not _is_utf8(data) else b"") + data
    extension = Member(b"././@PaxHeader", "file", len(data), 0o644)
    return _ustar(extension, b"x") + data + bytes(padding(len(data))) + _ustar(member, _WORDS[member.type])


_WORDS: Final[dict[MemberType, bytes]] = {"file": b"0", "hard_link": b"1", "symlink": b"2", "directory": b"5"}


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    # Its own length may take one digit more.
    length = len(body) + len(str(length))
    return b"%d" % length + body


def _ustar(member: Member, word: bytes) -> bytes:
    size, mtime = min(member.size, (1 << 33) - 1), max(0, min(member.mtime, (1 << 33) - 1))
    block = b"".join(
        (
            member.name[:100].ljust(100, b"\0"),
            b"%07o\0" % member.mode,
            b"%07o\0" % 0,
            b"%07o\0" % 0,
            b"%011o\0" % size,
            b"%011o\0" % mtime,
            b" " * 8,
            word,
            member.target[:100].ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(247),
        )
    )
    block = block.ljust(BLOCK_BYTES, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padding(size: int) -> int:
    """Return how many bytes fill up the last block of a content."""
    return -size % BLOCK_BYTES


def shown(name: bytes) -> str:
    """Return a member's name for a message."""
    return ascii(name[:200].decode(errors="replace"))
