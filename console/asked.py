"""What people write on the command line, read: times, spans, names of records."""

import re
from datetime import UTC, date, datetime, time, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from console.exits import CommandError, ExitCode

_SPAN = re.compile(r"(\d{1,9})\s*(s|min|h|d)")
_UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PDI = re.compile(r"(?:devices/|deployments/)?(?:0x)?([0-9a-f]{16})", re.IGNORECASE)
_WHICH = re.compile(r"(?:deployments/)?((?:key-[0-9a-f]{64})|(?:board-[0-9a-f]{16}))", re.IGNORECASE)
_PLAIN = re.compile(r"[A-Za-z0-9.-]+")


def span(text: str, option: str) -> Duration:
    """Read `90s`, `30min`, `24h` or `7d`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise _unusable(f"{option} must be a span such as 90s, 30min, 24h or 7d, not {text!r}")
    found = Duration()
    found.FromSeconds(int(match[1]) * _UNITS[match[2]])
    return found


def moment(text: str, option: str, *, end_of_day: bool = False) -> Timestamp:
    """Read an RFC 3339 time with its zone, or a date: its first instant, or with `end_of_day` the one after it."""
    found = Timestamp()
    try:
        if _DATE.fullmatch(text):
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            found.FromDatetime(day + timedelta(days=int(end_of_day)))
            return found
        found.FromDatetime(_zoned(datetime.fromisoformat(text)))
    except (ValueError, OverflowError) as error:
        message = (
            f"{option} must be a date (2026-07-01) or a time with its zone (2026-07-01T08:00:00+08:00), not {text!r}"
        )
        raise _unusable(message) from error
    return found


def _zoned(when: datetime) -> datetime:
    if when.tzinfo is None:
        raise ValueError("it has no zone")
    return when


def license_of(number: str) -> str:
    """Return the name of a license, of which its number or the name itself is given.

    In a name every byte of the number but letters, digits, `.` and `-` is `_` and two hex digits.
    """
    if re.fullmatch(r"licenses/[A-Za-z0-9._-]+", number):
        return number
    escaped = "".join(chr(b) if _PLAIN.fullmatch(chr(b)) else f"_{b:02x}" for b in number.encode())
    if not escaped:
        raise _unusable("a license is named by its number")
    return "licenses/" + (escaped.replace(".", "_2e") if not escaped.strip(".") else escaped)


def number_of(name: str) -> str:
    """Return the number of the license that a name is of, or under."""
    segment = name.removeprefix("licenses/").partition("/")[0]
    return re.sub(rb"_([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), segment.encode()).decode()


def site_of(text: str) -> str:
    """Read LICENSE/SITE, or the name of a site."""
    if text.startswith("licenses/") and "/sites/" in text:
        return text
    number, _, site = text.rpartition("/")
    if not number or not site:
        raise _unusable(f"a site is named LICENSE/SITE, as D1234567/frankfurt-1, not {text!r}")
    return f"{license_of(number)}/sites/{site}"


def deployment_of(text: str) -> str:
    """Read which devices a deployment names: a PDI, key-..., board-..."""
    if match := _PDI.fullmatch(text.strip()):
        return f"deployments/{match[1].lower()}"
    if match := _WHICH.fullmatch(text.strip()):
        return f"deployments/{match[1].lower()}"
    raise _unusable(f"a deployment is named by a PDI (16 hex digits), key-KEYID or board-PDI, not {text!r}")


def numbered(text: str, collection: str) -> str:
    """Read the number of a change or case, or its name."""
    number = text.removeprefix(f"{collection}/")
    if not number.isascii() or not number.isdecimal():
        raise _unusable(f"{text!r} is not a number of {collection}")
    return f"{collection}/{number}"


def quoted(value: str) -> str:
    """Return a filter's value between quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def joined(*terms: tuple[str, str], extra: str = "") -> str:
    """Return a filter of the terms that have a value, and what was given besides."""
    parts = [f"{field} = {quoted(value)}" for field, value in terms if value]
    return " AND ".join([*parts, *([extra] if extra.strip() else [])])


def _unusable(message: str) -> CommandError:
    return CommandError(ExitCode.UNUSABLE, message)
