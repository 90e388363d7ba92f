"""Country groups of export control, such as A:5 or D:5: dated, sourced lists that an operator can replace.

Each row says how sure it is. A `low` row is a placeholder, and `notes` says so wherever the list is shown.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from verifier.errors import UsageError
from verifier.place.borders import CRIMEA
from verifier.place.regions import Countries
from verifier.units import CountryCode

COLUMNS = ("group", "iso2", "as_of", "source", "sureness")
_SURENESS = ("high", "medium", "low")
_ALWAYS_PROHIBITED = frozenset({CountryCode("HK"), CountryCode("MO"), CRIMEA})  # docs/protocol.md PL7
_PROHIBITED_GROUPS = ("D:5", "E:1", "E:2")


@dataclass(frozen=True, slots=True)
class CountryGroup:
    """One list.

    Attributes:
        name: Such as A:5.
        members: Its countries.
        as_of: The dates that its rows carry, oldest first.
        sources: Where they are from.
        unsure: Members whose row is not `high`, each with how sure it is.
    """

    name: str
    members: frozenset[CountryCode]
    as_of: tuple[str, ...]
    sources: tuple[str, ...]
    unsure: tuple[tuple[CountryCode, str], ...]


@dataclass(frozen=True, slots=True)
class CountryGroups:
    """All lists of one version."""

    version: str
    groups: Mapping[str, CountryGroup]

    @property
    def members(self) -> dict[str, frozenset[CountryCode]]:
        """Members by the group's name."""
        return {name: group.members for name, group in self.groups.items()}

    def prohibited(self) -> Countries:
        """Return the prohibited destinations (docs/protocol.md PL7).

        Raises:
            UsageError: A group that they are made of is missing: to prohibit less must not happen silently.
        """
        if missing := [name for name in _PROHIBITED_GROUPS if name not in self.groups]:
            raise UsageError(f"the list of country groups has no group {missing[0]}, which is prohibited")
        return Countries(_ALWAYS_PROHIBITED.union(*(self.groups[name].members for name in _PROHIBITED_GROUPS)))

    def notes(self) -> tuple[str, ...]:
        """Say for each list that is not wholly sure what is not, one sentence each."""
        sentences = []
        for group in self.groups.values():
            for sureness in ("medium", "low"):
                codes = sorted(code for code, how in group.unsure if how == sureness)
                if codes:
                    advice = ": a placeholder, to be replaced by the operator" if sureness == "low" else ""
                    sentences.append(f"{group.name}: {', '.join(codes)} of {sureness} sureness{advice}")
        return tuple(sentences)


def parse_groups(data: bytes, version: str) -> CountryGroups:
    """Read a CSV of country groups, in UTF-8 with a header: group, iso2, as_of, source, sureness.

    Raises:
        UsageError: It has other columns, or a row lacks a value.
    """
    try:
        rows = csv.DictReader(io.StringIO(data.decode()))
        if rows.fieldnames is None or not set(COLUMNS) <= set(rows.fieldnames):
            raise UsageError(f"country groups need the columns {', '.join(COLUMNS)}")
        listed: dict[str, list[dict[str, str]]] = {}
        for number, row in enumerate(rows, start=1):
            if missing := [name for name in COLUMNS if not row[name]]:
                raise UsageError(f"row {number} of the country groups has no {missing[0]}")
            if row["sureness"] not in _SURENESS:
                raise UsageError(f"row {number} of the country groups: sureness {row['sureness']!r}")
            listed.setdefault(row["group"], []).append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError("country groups are not CSV in UTF-8") from error
    return CountryGroups(version, MappingProxyType({name: _group(name, rows) for name, rows in listed.items()}))


def _group(name: str, rows: list[dict[str, str]]) -> CountryGroup:
    return CountryGroup(
        name=name,
        members=frozenset(CountryCode(row["iso2"]) for row in rows),
        as_of=tuple(sorted({row["as_of"] for row in rows})),
        sources=tuple(sorted({row["source"] for row in rows})),
        unsure=tuple((CountryCode(row["iso2"]), row["sureness"]) for row in rows if row["sureness"] != "high"),
    )
