"""Text for terminals: what others wrote made harmless, times told as people tell them."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """Return the text with control characters replaced: host ids and file values must not steer a terminal."""
    return "".join(character if character.isprintable() else REPLACEMENT for character in text)


def instant(stamp: Timestamp) -> datetime:
    """Return a protobuf time as an aware datetime in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def absolute(moment: datetime) -> str:
    """Return a moment as `2026-11-24 10:24:18 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def age(moment: datetime, now: datetime) -> str:
    """Return how long ago a moment is, in whole units: `42 s`, `7 min`, `3 h`, `12 d`. The future is `0 s`."""
    seconds = max(int((now - moment).total_seconds()), 0)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def plural(count: int, noun: str, many: str = "") -> str:
    """Return `1 device`, `1,234 devices`. `many` is the plural where it takes more than an s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
