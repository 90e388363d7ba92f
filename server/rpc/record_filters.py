"""Filters over records and revisions: the AIP-160 subset that records.proto names."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from trigpoint.v1 import records_pb2

from server.records.values import RecordKind
from server.rpc.errors import InvalidArgumentError
from server.rpc.filters import named_value, parse_terms, refused_filter
from server.rpc.record_reading import read_time
from server.store.record_types import LANDMARK, RecordFilter, RevisionFilter
from verifier.license import LicenseState

_RECORD_FIELDS = ("license", "licensee", "site", "party", "shipment", "state", "jurisdiction")
_TIME_FIELDS: Mapping[RecordKind, tuple[str, ...]] = {
    RecordKind.LICENSE: ("expires_before",),
    RecordKind.SHIPMENT: ("ends_after",),
    RecordKind.WINDOW: ("ends_after",),
}
_REVISION_FIELDS = ("kind", "by")
_LANDMARK_NAME = "LANDMARK"
_KIND_PREFIX = "RECORD_KIND_"


def read_kind(number: int, field: str) -> RecordKind:
    """Read a kind of records that must be set; raises `InvalidArgumentError`."""
    try:
        return RecordKind(number)
    except ValueError as error:
        raise InvalidArgumentError(field, "says which records; it is not set") from error


def parse_record_filter(text: str, kind: RecordKind) -> RecordFilter:
    """Read a filter over records of one kind; raises `InvalidArgumentError`."""
    values = parse_terms(text, (*_RECORD_FIELDS, *_TIME_FIELDS.get(kind, ())))
    return RecordFilter(
        kind=kind,
        license_number=values.get("license"),
        licensee=values.get("licensee"),
        site_id=values.get("site"),
        party_id=values.get("party"),
        shipment_id=values.get("shipment"),
        state=named_value("state", LicenseState, "LICENSE_STATE_", values.get("state")),
        jurisdiction=values.get("jurisdiction"),
        expires_before=_when("expires_before", values),
        ends_after=_when("ends_after", values),
    )


def parse_revision_filter(request: records_pb2.ListRevisionsRequest) -> RevisionFilter:
    """Read which revisions are asked for; raises `InvalidArgumentError`."""
    values = parse_terms(request.filter, _REVISION_FIELDS)
    return RevisionFilter(
        name=request.name or None,
        after=read_time(request, "after", "") if request.HasField("after") else None,
        before=read_time(request, "before", "") if request.HasField("before") else None,
        kind=_revision_kind(values.get("kind")),
        by=values.get("by"),
    )


def _revision_kind(value: str | None) -> RecordKind | Literal[7] | None:
    if value is not None and value.removeprefix(_KIND_PREFIX) == _LANDMARK_NAME:
        return LANDMARK
    return named_value("kind", RecordKind, _KIND_PREFIX, value)


def _when(field: str, values: Mapping[str, str]) -> datetime | None:
    """Read an RFC 3339 time (§5.6)."""
    text = values.get(field)
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text.upper())
        if "T" in text.upper() and when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise refused_filter(f"{field} is a time with its zone (RFC 3339), such as 2026-07-01T00:00:00Z")
