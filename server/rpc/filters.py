"""Filters over devices: `field = "value"` joined by AND, the subset of AIP-160 that licensing.proto names."""

import re
from enum import IntEnum
from typing import TypeVar

from server.rpc.errors import InvalidArgumentError
from server.store import DeviceFilter
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.verdict import Standing

FIELDS = ("standing", "license", "licensee", "finding", "host", "kind")
MAX_FILTER = 1_000

_TERM = re.compile(r'\s*(?P<field>[A-Za-z_]+)\s*=\s*"(?P<value>(?:[^"\\]|\\["\\])*)"\s*')
_AND = re.compile(r"AND(?=\s)")
_ESCAPED = re.compile(r'\\(["\\])')

Named = TypeVar("Named", bound=IntEnum)


def parse_filter(text: str) -> DeviceFilter:
    """Read a filter; the empty one chooses everything.

    Within a value, a backslash stands before a quote or another backslash. Values of standing, finding and kind are the
    enumerations' names, with or without their prefix.

    Raises:
        InvalidArgumentError: It is no filter of this subset.
    """
    if len(text) > MAX_FILTER:
        raise _refused(f"at most {MAX_FILTER} characters")
    values = _terms(text) if text.strip() else {}
    return DeviceFilter(
        standing=_named(Standing, "STANDING_", values.get("standing")),
        license_number=values.get("license"),
        licensee=values.get("licensee"),
        finding=_finding(values.get("finding")),
        host_id=values.get("host"),
        kind=_named(DeviceKind, "DEVICE_KIND_", values.get("kind")),
    )


def _terms(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    at = 0
    while True:
        term = _TERM.match(text, at)
        if term is None:
            raise _refused(f'expected field = "value" at character {at + 1}')
        field = term["field"]
        if field not in FIELDS:
            raise _refused(f"no field {field!r}; there are {', '.join(FIELDS)}")
        if field in values:
            raise _refused(f"{field} stands twice")
        values[field] = _ESCAPED.sub(r"\1", term["value"])
        at = term.end()
        if at == len(text):
            return values
        joint = _AND.match(text, at)
        if joint is None:
            raise _refused(f"expected AND at character {at + 1}")
        at = joint.end()


def _named(kind: type[Named], prefix: str, value: str | None) -> Named | None:
    if value is None:
        return None
    try:
        return kind[value.removeprefix(prefix)]
    except KeyError:
        raise _refused(f"no value {value!r}; there are {', '.join(kind.__members__)}") from None


def _finding(value: str | None) -> Reason | None:
    reason = _named(Reason, "REASON_", value)
    if reason is not None and not 100 < reason < 200:
        raise _refused(f"{reason.name} is no finding")
    return reason


def _refused(message: str) -> InvalidArgumentError:
    return InvalidArgumentError("filter", message)
