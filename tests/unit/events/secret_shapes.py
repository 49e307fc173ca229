"""The shapes in which tools show a value, made with the tools' own functions."""

from __future__ import annotations

import base64
import json
import shlex
import textwrap
import urllib.parse
from xml.sax.saxutils import quoteattr

__all__ = ["shapes"]


def shapes(value: str) -> dict[str, bytes]:
    """Return the value in every shape that redaction promises to find, by name."""
    raw = value.encode()
    found = {
        "raw": raw,
        "json": json.dumps(value)[1:-1].encode(),
        "json_unicode": json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        "json_in_json": json.dumps(json.dumps(value))[1:-1].encode(),
        "json_points": "".join(f"\\u{unit:04x}" for unit in _units(value)).encode(),
        "percent": urllib.parse.quote(value, safe="").encode(),
        "percent_lower": "".join(f"%{byte:02x}" for byte in raw).encode(),
        "percent_path": urllib.parse.quote(value).encode(),
        "form": urllib.parse.quote_plus(value).encode(),
        "hex": raw.hex().encode(),
        "hex_upper": raw.hex().upper().encode(),
        "hex_dump": raw.hex(" ").encode(),
        "hex_escapes": "".join(f"\\x{byte:02x}" for byte in raw).encode(),
        "octal_escapes": "".join(f"\\{byte:03o}" for byte in raw).encode(),
        "shell_quoted": shlex.quote(value).encode(),
        "backslashed": "".join(each if each.isalnum() or each == "\n" else "\\" + each for each in value).encode(),
        "utf_16": value.encode("utf-16-le"),
        "utf_16_big": value.encode("utf-16-be"),
        "xml": quoteattr(value)[1:-1].encode(),
        "entities": "".join(f"&#{ord(each)};" for each in value).encode(),
    }
    for offset in range(3):
        text = b"abc"[:offset] + raw
        for name, encode in (("base64", base64.b64encode), ("base64_url", base64.urlsafe_b64encode)):
            encoded = encode(text)
            found[f"{name}_{offset}"] = encoded
            found[f"{name}_bare_{offset}"] = encoded.rstrip(b"=")
        found[f"base64_wrapped_{offset}"] = "\n".join(textwrap.wrap(base64.b64encode(text).decode(), 76)).encode()
        found[f"base64_narrow_{offset}"] = "\r\n  ".join(textwrap.wrap(base64.b64encode(text).decode(), 5)).encode()
    return found


def _units(value: str) -> list[int]:
    data = value.encode("utf-16-be")
    return [data[at] << 8 | data[at + 1] for at in range(0, len(data), 2)]
