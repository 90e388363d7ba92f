"""Free text as one segment of a path, as SPIFFE IDs and resource names hold it.

Letters, digits, `.` and `-` stand for themselves, every other byte is `_` and two hex digits. A text has one spelling.
"""

import re

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_ESCAPE = re.compile(rb"_([0-9a-f]{2})")


def escape(text: str) -> str:
    """Write any text as one segment."""
    escaped = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in text.encode())
    return escaped.replace(".", "_2e") if escaped.strip(".") == "" else escaped  # SPIFFE ID §2.2 forbids `.` and `..`


def unescape(segment: str) -> str:
    """Read a segment; raises `ValueError` when it is not the one spelling of a text."""
    try:
        text = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), segment.encode()).decode()
    except UnicodeDecodeError:
        raise ValueError("a path segment is not UTF-8") from None
    if escape(text) != segment:
        raise ValueError("a path segment is not spelled as it must be")
    return text
