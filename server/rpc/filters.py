"""Filters: `field = "value"` joined by AND, the subset of AIP-160 that the schema names. Devices' fields stand here."""

import re
from collections.abc import Collection
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
    values = parse_terms(text, FIELDS)
    return DeviceFilter(
        standing=named_value("standing", Standing, "STANDING_", values.get("standing")),
        license_number=values.get("license"),
        licensee=values.get("licensee"),
        finding=_finding(values.get("finding")),
        host_id=values.get("host"),
        kind=named_value("kind", DeviceKind, "DEVICE_KIND_", values.get("kind")),
    )


def parse_terms(text: str, fields: Collection[str]) -> dict[str, str]:
    """Read the terms of a filter: values by field, none for the empty filter.

    Within a value, a backslash stands before a quote or another backslash.

    Args:
        text: As it came.
        fields: What there is to filter by.

    Raises:
        InvalidArgumentError: It is no filter of this subset.
    """
    if len(text) > MAX_FILTER:
        raise refused_filter(f"at most {MAX_FILTER} characters")
    values: dict[str, str] = {}
    at = 0
    while text.strip():
        term = _TERM.match(text, at)
        if term is None:
            raise refused_filter(f'expected field = "value" at character {at + 1}')
        field = term["field"]
        if field not in fields:
            raise refused_filter(f"no field {field!r}; there are {', '.join(fields)}")
        if field in values:
            raise refused_filter(f"{field} stands twice")
        values[field] = _ESCAPED.sub(r"\1", term["value"])
        at = term.end()
        if at == len(text):
            break
        joint = _AND.match(text, at)
        if joint is None:
            raise refused_filter(f"expected AND at character {at + 1}")
        at = joint.end()
    return values


def named_value(field: str, kind: type[Named], prefix: str, value: str | None) -> Named | None:
    """Read an enumeration's value by its name, with or without its prefix; None stays None.

    Raises:
        InvalidArgumentError: It has no such name.
    """
    if value is None:
        return None
    try:
        return kind[value.removeprefix(prefix)]
    except KeyError:
        text = f"no {field} {value!r}; there are {', '.join(kind.__members__)}"
        raise refused_filter(text) from None


def refused_filter(message: str) -> InvalidArgumentError:
    """Return the error of a filter that cannot be used."""
    return InvalidArgumentError("filter", message)


def _finding(value: str | None) -> Reason | None:
    reason = named_value("finding", Reason, "REASON_", value)
    if reason is not None and not 100 < reason < 200:
        raise refused_filter(f"{reason.name} is no finding")
    return reason
