"""The time, and times as the store and revisions keep them: integer microseconds since 1970 UTC. Exact both ways."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


def micros(moment: datetime) -> int:
    """Return integer microseconds since 1970 UTC of an aware time."""
    return (moment - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    """Return the aware time of `micros`."""
    return EPOCH + value * MICROSECOND


def optional_micros(value: datetime | None) -> int | None:
    """Return `micros`, or None for None."""
    return None if value is None else micros(value)


def optional_moment(value: int | None) -> datetime | None:
    """Return `moment`, or None for None."""
    return None if value is None else moment(value)
