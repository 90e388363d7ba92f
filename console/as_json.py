"""Messages as JSON values with stable field names: snake_case, bytes as hex, times in RFC 3339, enums without prefix.

A field that is not set is null; an enum value that this program does not know is its number.
"""

import math
from collections.abc import Callable
from datetime import UTC
from typing import TypeVar

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import device_pb2, landmark_pb2, licensing_pb2, place_pb2, reason_pb2

from console.plain import plain
from console.text import instant

E = TypeVar("E", bound=int)
Json = dict[str, object]


def enum_name(name: Callable[[E], str], value: E, prefix: str) -> str:
    """Return an enum value's name without its prefix; its number when it is unknown here."""
    try:
        return name(value).removeprefix(prefix)
    except ValueError:
        return str(int(value))


def set_enum_name(name: Callable[[E], str], value: E, prefix: str) -> str | None:
    """Return an enum value's name without its prefix; None for the value that means not set."""
    return enum_name(name, value, prefix) if value else None


def standing_name(standing: device_pb2.Standing.ValueType) -> str:
    """Return `COMPLIANT` and so on."""
    return enum_name(device_pb2.Standing.Name, standing, "STANDING_")


def reason_name(reason: reason_pb2.Reason.ValueType) -> str:
    """Return `OUTSIDE_LICENSED_REGION` and so on."""
    return enum_name(reason_pb2.Reason.Name, reason, "REASON_")


def severity_name(severity: device_pb2.Severity.ValueType) -> str:
    """Return `NOTICE`, `WARNING` or `VIOLATION`."""
    return enum_name(device_pb2.Severity.Name, severity, "SEVERITY_")


def kind_name(kind: device_pb2.DeviceKind.ValueType) -> str:
    """Return `GPU`, `SWITCH` or `UNSPECIFIED`."""
    return enum_name(device_pb2.DeviceKind.Name, kind, "DEVICE_KIND_")


def answer_name(answer: place_pb2.PlaceAnswer.ValueType) -> str:
    """Return `PROVEN`, `INDICATED`, `REFUTED` or `UNPROVEN`."""
    return enum_name(place_pb2.PlaceAnswer.Name, answer, "PLACE_ANSWER_")


def pdi_of(device_name: str) -> str:
    """Return the PDI in `devices/{pdi}`."""
    return device_name.removeprefix("devices/")


def device(message: device_pb2.Device) -> Json:
    """Return a device."""
    return {
        "pdi": pdi_of(message.name),
        "kind": set_enum_name(device_pb2.DeviceKind.Name, message.kind, "DEVICE_KIND_"),
        "device_key_id": message.device_key_id.hex() or None,
        "license_number": message.license_number or None,
        "licensee": message.licensee or None,
        "licensed_region": message.licensed_region or None,
        # A switch is a witness and has no standing.
        "standing": set_enum_name(device_pb2.Standing.Name, message.standing, "STANDING_"),
        "findings": [finding(entry) for entry in message.findings],
        "host_id": message.host_id or None,
        "model": message.model or None,
        "firmware": message.firmware or None,
        "last_report_time": time_of(message, "last_report_time"),
        "last_proof_time": time_of(message, "last_proof_time"),
        "last_fix": fix(message.last_fix) if message.HasField("last_fix") else None,
        "last_attestation": message.last_attestation.hex() or None,
        "change_number": message.change_number,
    }


def finding(message: device_pb2.Finding) -> Json:
    """Return a finding."""
    return {
        "reason": reason_name(message.reason),
        "severity": severity_name(message.severity),
        "detail": message.detail,
        "open_time": time_of(message, "open_time"),
    }


def fix(message: place_pb2.Fix) -> Json:
    """Return a fix with its discs."""
    return {
        "ranged_by": message.ranged_by.hex() or None,
        "assurance": set_enum_name(place_pb2.Assurance.Name, message.assurance, "ASSURANCE_"),
        "in_licensed_region": _set_answer(message.in_licensed_region),
        "outside_prohibited": _set_answer(message.outside_prohibited),
        "discs": [disc(entry) for entry in message.discs],
        "tolerated_domains": message.tolerated_domains,
        "least_violations": message.least_violations,
        "border_margin_km": message.border_margin_km,
        "borders_version": message.borders_version or None,
        "prohibited_version": message.prohibited_version or None,
        "explanation": message.explanation or None,
        "demonstration": message.demonstration,
    }


def disc(message: place_pb2.Disc) -> Json:
    """Return a landmark's disc."""
    return {
        "landmark_id": message.landmark_id,
        "domain": message.domain or None,
        "rtt_ns": message.rtt_ns,
        "radius_km": finite(message.radius_km),
        "licensed_region_km": finite(message.licensed_region_km),
        "prohibited_km": finite(message.prohibited_km),
        "excludes_licensed_region": message.excludes_licensed_region,
        "within_licensed_region": message.within_licensed_region,
        "excludes_prohibited": message.excludes_prohibited,
        "within_prohibited": message.within_prohibited,
    }


def landmark(message: landmark_pb2.Landmark) -> Json:
    """Return a landmark; `landmark import` takes it back."""
    return {
        "name": message.name,
        "public_key": message.public_key.hex(),
        "operator": message.operator,
        "hoster": message.hoster,
        "latitude": message.latitude,
        "longitude": message.longitude,
        "uncertainty_km": message.uncertainty_km,
        "survey_method": message.survey_method or None,
        "virtual_machine": message.virtual_machine,
        "endpoints": list(message.endpoints),
        "revision": message.revision,
        "revise_time": time_of(message, "revise_time"),
        "valid_from": time_of(message, "valid_from"),
        "valid_until": time_of(message, "valid_until"),
        "domain": message.domain or None,
        "country": message.country or None,
        "operator_key": message.operator_key.hex() or None,
        "operator_signature": message.operator_signature.hex() or None,
    }


def deployment_import(message: licensing_pb2.ImportDeploymentsResponse) -> Json:
    """Return what an import did."""
    return {
        "row_count": message.row_count,
        "created_count": message.created_count,
        "updated_count": message.updated_count,
        "unchanged_count": message.unchanged_count,
        "error_count": message.error_count,
        "errors": [
            {"row": entry.row, "field": entry.field or None, "value": entry.value, "message": entry.message}
            for entry in message.errors
        ],
        "validate_only": message.validate_only,
        "change": plain(message.change) if message.HasField("change") else None,
        "warnings": [plain(entry) for entry in message.warnings],
    }


def landmark_import(message: landmark_pb2.ImportLandmarksResponse, *, validate_only: bool) -> Json:
    """Return what an import did."""
    return {
        "created_count": message.created_count,
        "updated_count": message.updated_count,
        "unchanged_count": message.unchanged_count,
        "validate_only": validate_only,
        "change": plain(message.change) if message.HasField("change") else None,
    }


def _set_answer(answer: place_pb2.PlaceAnswer.ValueType) -> str | None:
    return answer_name(answer) if answer else None


def finite(value: float) -> float | None:
    """Return the number, or None for what JSON has no number for: no such distance."""
    return value if math.isfinite(value) else None


def time_of(message: Message, name: str) -> str | None:
    """Return a time field in RFC 3339, UTC; None when it is not set."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return instant(stamp).astimezone(UTC).isoformat().replace("+00:00", "Z")
