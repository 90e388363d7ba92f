"""Records to protobuf and back: devices and landmarks. Attestations and verdicts are in convert.py.

What comes in is checked here, field by field; whatever passes can be stored.
"""

import ipaddress
import math
import re
from collections.abc import Collection
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import device_pb2, landmark_pb2

from server.rpc.convert import finding_to_proto, fix_to_proto, timestamp_to_proto
from server.rpc.errors import InvalidArgumentError
from server.store import DeviceRecord, LandmarkRecord
from verifier.errors import RecordNotSignedError
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.record import verify_record
from verifier.units import CountryCode, Domain, LandmarkId, Pdi

MAX_TEXT = 200
MAX_ENDPOINTS = 4
MAX_UNCERTAINTY_KM = 100.0
"""A landmark that is known no better than this bounds nothing worth a proof."""

_DEVICE_NAME = re.compile(r"devices/([0-9a-f]{16})")
_LANDMARK_NAME = re.compile(r"landmarks/([a-z0-9-]{1,63})")
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_ENDPOINT = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


def device_name(pdi: Pdi) -> str:
    """Return the resource name of a device."""
    return f"devices/{pdi.hex()}"


def pdi_from_name(name: str, field: str) -> Pdi:
    """Read a device's resource name; raises `InvalidArgumentError`."""
    match = _DEVICE_NAME.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(field, "a device is named devices/ and its PDI as 16 lower-case hex digits")
    return Pdi(bytes.fromhex(match[1]))


def device_to_proto(device: DeviceRecord) -> device_pb2.Device:
    """Write a device."""
    message = device_pb2.Device(
        name=device_name(device.pdi),
        kind=device_pb2.DeviceKind.Value(
            "DEVICE_KIND_UNSPECIFIED" if device.kind is None else f"DEVICE_KIND_{device.kind.name}"
        ),
        device_key_id=device.device_key_id or b"",
        license_number=device.license_number,
        licensee=device.licensee,
        licensed_region="" if device.region is None else str(device.region),
        standing=device_pb2.Standing.Value(
            "STANDING_UNSPECIFIED" if device.standing is None else f"STANDING_{device.standing.name}"
        ),
        findings=[finding_to_proto(stands.finding, stands.opened_at) for stands in device.findings],
        host_id=device.host_id,
        model=device.model,
        firmware=device.firmware,
        last_attestation=device.last_attestation or b"",
        change_number=device.change_number,
    )
    if device.last_report_at is not None:
        message.last_report_time.CopyFrom(timestamp_to_proto(device.last_report_at))
    if device.last_proof_at is not None:
        message.last_proof_time.CopyFrom(timestamp_to_proto(device.last_proof_at))
    if device.last_fix is not None:
        message.last_fix.CopyFrom(fix_to_proto(device.last_fix))
    return message


def landmark_id_from_name(name: str, field: str) -> LandmarkId:
    """Read a landmark's resource name; raises `InvalidArgumentError`."""
    match = _LANDMARK_NAME.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(field, "a landmark is named landmarks/ and 1 to 63 characters of [a-z0-9-]")
    return LandmarkId(match[1])


def landmark_to_proto(record: LandmarkRecord, domain: Domain) -> landmark_pb2.Landmark:
    """Write a landmark with its failure domain."""
    landmark = record.landmark
    message = landmark_pb2.Landmark(
        name=f"landmarks/{landmark.landmark_id}",
        public_key=landmark.public_key,
        operator=landmark.operator,
        hoster=landmark.hoster,
        latitude=landmark.position.latitude,
        longitude=landmark.position.longitude,
        uncertainty_km=landmark.uncertainty_km,
        survey_method=record.survey_method,
        virtual_machine=landmark.virtual_machine,
        endpoints=record.endpoints,
        revision=landmark.revision,
        revise_time=timestamp_to_proto(landmark.revised_at),
        domain=domain,
        country=landmark.country,
        operator_key=record.operator_key,
        operator_signature=record.operator_signature,
    )
    if landmark.valid_from is not None:
        message.valid_from.CopyFrom(timestamp_to_proto(landmark.valid_from))
    if landmark.valid_until is not None:
        message.valid_until.CopyFrom(timestamp_to_proto(landmark.valid_until))
    return message


def landmark_from_proto(
    message: landmark_pb2.Landmark, field: str, countries: Collection[str], now: datetime
) -> LandmarkRecord:
    """Check and read a landmark that is to be imported; output-only fields are ignored.

    Args:
        message: As it came.
        field: Its path in the request, for errors.
        countries: Codes that have a shape.
        now: Stands in for the revision's time, which is the store's.

    Raises:
        InvalidArgumentError: A field cannot be used.
    """
    landmark_id = landmark_id_from_name(message.name, f"{field}.name")
    if len(message.public_key) != 32:
        raise InvalidArgumentError(f"{field}.public_key", "a raw Ed25519 public key has 32 bytes")
    for name in ("operator", "hoster"):
        # An unnamed operator would be a domain of its own.
        _check_text(getattr(message, name), f"{field}.{name}", least=1)
    _check_text(message.survey_method, f"{field}.survey_method", least=0)
    _check_number(message.latitude, 90.0, f"{field}.latitude")
    _check_number(message.longitude, 180.0, f"{field}.longitude")
    if not 0.0 <= message.uncertainty_km <= MAX_UNCERTAINTY_KM:
        raise InvalidArgumentError(f"{field}.uncertainty_km", f"from 0 to {MAX_UNCERTAINTY_KM:g} kilometers")
    if message.country not in countries:
        raise InvalidArgumentError(
            f"{field}.country", "no country of this code is known; ISO 3166-1 alpha-2, upper case"
        )
    if not 1 <= len(message.endpoints) <= MAX_ENDPOINTS:
        raise InvalidArgumentError(f"{field}.endpoints", f"1 to {MAX_ENDPOINTS} endpoints")
    for index, endpoint in enumerate(message.endpoints):
        _check_endpoint(endpoint, f"{field}.endpoints[{index}]")
    valid_from = _moment(message.valid_from, f"{field}.valid_from") if message.HasField("valid_from") else None
    valid_until = _moment(message.valid_until, f"{field}.valid_until") if message.HasField("valid_until") else None
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise InvalidArgumentError(f"{field}.valid_until", "must be after valid_from")
    landmark = Landmark(
        landmark_id=landmark_id,
        public_key=message.public_key,
        operator=message.operator,
        hoster=message.hoster,
        position=Position(message.latitude, message.longitude),
        uncertainty_km=message.uncertainty_km,
        virtual_machine=message.virtual_machine,
        country=CountryCode(message.country),
        revision=0,
        revised_at=now,
        valid_from=valid_from,
        valid_until=valid_until,
        signed=bool(message.operator_signature),
    )
    record = LandmarkRecord(
        landmark, message.survey_method, tuple(message.endpoints), message.operator_key, message.operator_signature
    )
    _check_signature(record, field)
    return record


def _check_signature(record: LandmarkRecord, field: str) -> None:
    """Check that the operator signed every field, or nothing (docs/protocol.md LA8)."""
    if not record.operator_signature:
        if record.operator_key:
            raise InvalidArgumentError(f"{field}.operator_key", "a record without a signature has no operator key")
        return
    try:
        verify_record(record.landmark, record.survey_method, record.operator_key, record.operator_signature)
    except RecordNotSignedError as error:
        raise InvalidArgumentError(f"{field}.{error.field}", error.message) from error


def _check_text(text: str, field: str, *, least: int) -> None:
    if not least <= len(text) <= MAX_TEXT or not text.isprintable() or text != text.strip():
        raise InvalidArgumentError(field, f"{least} to {MAX_TEXT} printable characters without blanks at the ends")


def _check_number(value: float, bound: float, field: str) -> None:
    if not math.isfinite(value) or abs(value) > bound:
        raise InvalidArgumentError(field, f"degrees from -{bound:g} to {bound:g}")


def _check_endpoint(endpoint: str, field: str) -> None:
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or not 1 <= int(match["port"]) <= 65_535 or not _is_host(match["host"], match["v6"]):
        raise InvalidArgumentError(field, "host:port or [IPv6 address]:port, port 1 to 65535")


def _is_host(host: str | None, v6: str | None) -> bool:
    try:
        if v6 is not None:
            ipaddress.IPv6Address(v6)
            return True
        if host is not None and re.fullmatch(r"[0-9.]+", host):
            ipaddress.IPv4Address(host)
            return True
    except ValueError:
        return False
    return host is not None and _HOST.fullmatch(host) is not None


def _moment(stamp: Timestamp, field: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgumentError(field, "not a time of the years 1 to 9999") from error
