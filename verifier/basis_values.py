"""The values of a basis as JSON, exact both ways (basis.py). What is read is checked for its form, never believed."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from verifier.continuity import DeviceState, SignedCounters
from verifier.errors import BasisError
from verifier.evidence.spdm import Counters
from verifier.license import BoardSwap, License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.travel import SeenPlace
from verifier.setting import Setting
from verifier.units import CountryCode, Domain, LandmarkId, Pdi

Plain = Mapping[str, Any]
"""A JSON object."""

PDI_BYTES: Final = 8
HASH_BYTES: Final = 32
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LARGEST: Final = 1 << 62


def text_of(plain: object) -> str:
    """Write JSON text: no spaces, characters as they are."""
    return _ENCODER.encode(plain)


def micros(moment: datetime) -> int:
    """Write an aware time."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: object) -> datetime:
    """Read a time."""
    return _EPOCH + timedelta(microseconds=whole(value))


def duration(value: object) -> timedelta:
    """Read a duration."""
    return timedelta(microseconds=whole(value))


def duration_us(value: timedelta) -> int:
    """Write a duration."""
    return value // _MICROSECOND


def text(value: object) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise BasisError(f"{value!r} is no text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BasisError(f"{value!r} holds half a character") from error
    return value


def whole(value: object) -> int:
    """Read a whole number. None that is written is as large as its bound, so that sums of them stay small too."""
    if type(value) is not int or abs(value) > _LARGEST:
        raise BasisError(f"{value!r} is no whole number in range")
    return value


def counter(value: object) -> int:
    """Read a device's counter, which has 64 bits."""
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise BasisError(f"{value!r} is no counter")
    return value


def number(value: object) -> float:
    """Read a number; a whole one stays whole, since it was written so."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BasisError(f"{value!r} is no number")
    return value


def flag(value: object) -> bool:
    """Read a truth value."""
    if not isinstance(value, bool):
        raise BasisError(f"{value!r} is neither true nor false")
    return value


def octets(value: object, size: int) -> bytes:
    """Read bytes of one size from hex."""
    data = bytes.fromhex(text(value))
    if len(data) != size:
        raise BasisError(f"{value!r} is not {size} bytes")
    return data


def setting_plain(setting: Setting) -> Plain:
    """Write a setting."""
    within = setting.audited_within
    return {
        "materials": [[kind, digest.hex()] for kind, digest in setting.materials],
        "borders_version": setting.borders_version,
        "prohibited_version": setting.prohibited_version,
        "tolerated_domains": setting.tolerated_domains,
        "border_margin_km": setting.border_margin_km,
        "audited_within_us": None if within is None else duration_us(within),
        "standing_for_us": duration_us(setting.standing_for),
        "operator": setting.operator,
    }


def setting_of(plain: Plain) -> Setting:
    """Read a setting."""
    within = plain["audited_within_us"]
    return Setting(
        materials=tuple((text(kind), octets(digest, HASH_BYTES)) for kind, digest in plain["materials"]),
        borders_version=text(plain["borders_version"]),
        prohibited_version=text(plain["prohibited_version"]),
        tolerated_domains=whole(plain["tolerated_domains"]),
        border_margin_km=number(plain["border_margin_km"]),
        audited_within=None if within is None else duration(within),
        standing_for=duration(plain["standing_for_us"]),
        operator=text(plain["operator"]),
    )


@lru_cache(maxsize=4_096)
def license_text(held: License) -> str:
    """Write a license's terms, with number and revision."""
    return text_of(
        {
            "number": held.number,
            "revision": held.revision,
            "licensee": held.licensee,
            "state": held.state.name,
            "valid_from": micros(held.valid_from),
            "valid_until": micros(held.valid_until),
            "presence": held.presence.name,
            "assurance": held.assurance.name,
            "tolerated_domains": held.tolerated_domains,
            "cadence_us": duration_us(held.cadence),
            "grace_us": duration_us(held.grace),
            "surprises_per_day": held.surprises_per_day,
        }
    )


def license_of(plain: Plain) -> License:
    """Read a license's terms."""
    tolerated = plain["tolerated_domains"]
    return License(
        number=text(plain["number"]),
        licensee=text(plain["licensee"]),
        valid_from=moment(plain["valid_from"]),
        valid_until=moment(plain["valid_until"]),
        presence=Presence[plain["presence"]],
        cadence=duration(plain["cadence_us"]),
        grace=duration(plain["grace_us"]),
        revision=whole(plain["revision"]),
        state=LicenseState[plain["state"]],
        tolerated_domains=None if tolerated is None else whole(tolerated),
        assurance=Assurance[plain["assurance"]],
        surprises_per_day=whole(plain["surprises_per_day"]),
    )


def swap_plain(swap: BoardSwap | None) -> Plain | None:
    """Write a change of board."""
    return None if swap is None else {"switches": _hex(swap.switches), "until": micros(swap.until)}


def swap_of(plain: Plain | None) -> BoardSwap | None:
    """Read a change of board."""
    return None if plain is None else BoardSwap(_pdis(plain["switches"]), moment(plain["until"]))


def state_plain(state: DeviceState) -> Plain:
    """Write a last accepted state."""
    highest, place = state.highest, state.place
    return {
        "counters": None
        if highest is None
        else {
            "boot": highest.counters.boot,
            "attestation": highest.counters.attestation,
            "issued_at": micros(highest.issued_at),
            "received_at": micros(highest.received_at),
        },
        "board": _hex(state.board),
        "unseated": state.unseated,
        "place": None
        if place is None
        else {
            "issued_at": micros(place.issued_at),
            "received_at": micros(place.received_at),
            "discs": [[position.latitude, position.longitude, radius] for position, radius in place.discs],
        },
    }


def state_of(plain: Plain) -> DeviceState:
    """Read a last accepted state."""
    highest, place = plain["counters"], plain["place"]
    return DeviceState(
        None
        if highest is None
        else SignedCounters(
            Counters(counter(highest["boot"]), counter(highest["attestation"])),
            moment(highest["issued_at"]),
            moment(highest["received_at"]),
        ),
        _pdis(plain["board"]),
        flag(plain["unseated"]),
        None if place is None else _place_of(place),
    )


def _place_of(plain: Plain) -> SeenPlace:
    discs = tuple((Position(number(a), number(b)), number(radius)) for a, b, radius in plain["discs"])
    if not discs:
        raise BasisError("a place without a disc")
    return SeenPlace(moment(plain["issued_at"]), moment(plain["received_at"]), discs)


def landmark_plain(landmark: Landmark, ranged_by: Iterable[tuple[Domain, datetime]]) -> Plain:
    """Write a landmark's record, with these of its witnesses."""
    return {
        "landmark_id": landmark.landmark_id,
        "public_key": landmark.public_key.hex(),
        "operator": landmark.operator,
        "hoster": landmark.hoster,
        "latitude": landmark.position.latitude,
        "longitude": landmark.position.longitude,
        "uncertainty_km": landmark.uncertainty_km,
        "virtual_machine": landmark.virtual_machine,
        "country": landmark.country,
        "revision": landmark.revision,
        "revised_at": micros(landmark.revised_at),
        "valid_from": None if landmark.valid_from is None else micros(landmark.valid_from),
        "valid_until": None if landmark.valid_until is None else micros(landmark.valid_until),
        "ranged_by": [[name, micros(when)] for name, when in ranged_by],
        "distrusted": landmark.distrusted,
        "signed": landmark.signed,
    }


def landmark_of(plain: Plain) -> Landmark:
    """Read a landmark's record."""
    valid_from, valid_until = plain["valid_from"], plain["valid_until"]
    return Landmark(
        landmark_id=LandmarkId(text(plain["landmark_id"])),
        public_key=octets(plain["public_key"], HASH_BYTES),
        operator=text(plain["operator"]),
        hoster=text(plain["hoster"]),
        position=Position(number(plain["latitude"]), number(plain["longitude"])),
        uncertainty_km=number(plain["uncertainty_km"]),
        virtual_machine=flag(plain["virtual_machine"]),
        country=CountryCode(text(plain["country"])),
        revision=whole(plain["revision"]),
        revised_at=moment(plain["revised_at"]),
        valid_from=None if valid_from is None else moment(valid_from),
        valid_until=None if valid_until is None else moment(valid_until),
        ranged_by=tuple((Domain(text(name)), moment(when)) for name, when in plain["ranged_by"]),
        distrusted=text(plain["distrusted"]),
        signed=flag(plain["signed"]),
    )


def _hex(pdis: Iterable[Pdi]) -> list[str]:
    return sorted(pdi.hex() for pdi in pdis)


def _pdis(plain: Iterable[object]) -> frozenset[Pdi]:
    return frozenset(Pdi(octets(pdi, PDI_BYTES)) for pdi in plain)
