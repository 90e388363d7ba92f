"""`trigpoint-landmark record`: what it writes is what the operator signed, read here by hand (LA8, C2, C3)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import cbor2
import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from typer.testing import CliRunner, Result

from landmark.errors import LandmarkError
from landmark.keys import LandmarkKey, create_key, load_key
from landmark.main import app

LABEL = b"trigpoint-landmark-v1\0"
GOOD = {
    "id": "sg-1",
    "operator": "Opérateur",
    "hoster": "Hoster",
    "latitude": "-1.29",
    "longitude": "103.85",
    "survey-method": "GNSS",
    "country": "SG",
    "endpoint": "192.0.2.1:7400",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_key(tmp_path / "landmark.key")
    create_key(tmp_path / "operator.key")
    return tmp_path


def record(folder: Path, *more: str, **changes: str) -> Result:
    options = GOOD | {"key": str(folder / "landmark.key"), "operator-key": str(folder / "operator.key")} | changes
    given = [part for option, value in options.items() for part in (f"--{option}", value)]
    return CliRunner().invoke(app, ["record", *given, *more])


def written(result: Result) -> dict[str, Any]:
    assert (result.exit_code, result.stderr) == (0, "")
    (entry,) = json.loads(result.stdout)
    assert isinstance(entry, dict)
    return entry


def read(entry: dict[str, Any], operator: LandmarkKey, label: bytes = LABEL) -> dict[int, Any]:
    """Return what was signed, after every check of C2 and C3."""
    message = bytes.fromhex(entry["operator_signature"])
    tagged = cbor2.loads(message)
    assert tagged.tag == 18
    protected, unprotected, payload, signature = tagged.value
    assert protected == cbor2.dumps({1: -19, 4: hashlib.sha256(operator.public_key).digest()}, canonical=True)
    assert unprotected == {}
    structure = cbor2.dumps(["Signature1", protected, label, payload], canonical=True)
    VerifyKey(operator.public_key).verify(structure, signature)
    content: dict[int, Any] = cbor2.loads(payload)
    assert cbor2.dumps(content, canonical=True) == payload
    assert cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]), canonical=True) == message
    return content


def test_a_record_holds_what_was_signed(folder: Path) -> None:
    more = ("--endpoint", "[2001:db8::1]:7400", "--virtual-machine")
    validity = {"valid-from": "2026-01-01", "valid-until": "2026-12-31T12:00:00+08:00"}
    entry = written(record(folder, *more, **validity, **{"uncertainty-km": "0.5"}))
    landmark, operator = (load_key(folder / f"{name}.key") for name in ("landmark", "operator"))
    assert read(entry, operator) == {
        1: "sg-1",
        2: landmark.public_key,
        3: "Opérateur",
        4: "Hoster",
        5: -12_900_000,
        6: 1_038_500_000,
        7: 500,
        8: "GNSS",
        9: True,
        10: "SG",
        11: 1_767_225_600,
        12: 1_798_689_600,
    }
    assert entry.pop("operator_signature")
    assert entry == {
        "id": "sg-1",
        "public_key": landmark.public_key.hex(),
        "operator": "Opérateur",
        "hoster": "Hoster",
        "latitude": -1.29,
        "longitude": 103.85,
        "uncertainty_km": 0.5,
        "survey_method": "GNSS",
        "virtual_machine": True,
        "endpoints": ["192.0.2.1:7400", "[2001:db8::1]:7400"],
        "country": "SG",
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2026-12-31T04:00:00Z",
        "operator_key": operator.public_key.hex(),
    }


def test_what_is_not_given_is_not_signed(folder: Path) -> None:
    entry = written(record(folder))
    content = read(entry, load_key(folder / "operator.key"))
    assert set(content) == set(range(1, 11))
    assert (content[7], content[9]) == (1000, False)
    assert entry["valid_from"] is entry["valid_until"] is None
    # The same words give the same record.
    assert written(record(folder)) == entry


def test_the_signature_is_for_records_alone(folder: Path) -> None:
    entry = written(record(folder))
    for label in (b"trigpoint-receipt-v1\0", b"trigpoint-ticket-v1\0", b"trigpoint-prover-v1\0", b""):
        with pytest.raises(BadSignatureError):
            read(entry, load_key(folder / "operator.key"), label)


@pytest.mark.parametrize(
    ("latitude", "units", "kilometers", "meters"),
    [
        ("1.00000004", 10_000_000, "0.0001", 1),
        ("1.00000006", 10_000_001, "0.07", 70),
        ("-89.99999999", -900_000_000, "0.0701", 71),
        ("0.1", 1_000_000, "100", 100_000),
        ("-0.00000001", 0, "0", 0),
    ],
)
def test_positions_are_rounded_to_the_nearest_and_uncertainty_upwards(
    folder: Path, latitude: str, units: int, kilometers: str, meters: int
) -> None:
    entry = written(record(folder, latitude=latitude, longitude=latitude, **{"uncertainty-km": kilometers}))
    content = read(entry, load_key(folder / "operator.key"))
    assert (content[5], content[6], content[7]) == (units, units, meters)
    assert (entry["latitude"], entry["longitude"], entry["uncertainty_km"]) == (units / 1e7, units / 1e7, meters / 1e3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "SG"}, "id: must be 1 to 63 of a-z, 0-9 and -"),
        ({"id": ""}, "id: must be 1 to 63 of a-z, 0-9 and -"),
        ({"id": "sg\n"}, "id: must be 1 to 63 of a-z, 0-9 and -"),
        ({"operator": ""}, "operator: is empty"),
        ({"operator": " One"}, "operator: printable"),
        ({"hoster": "a\nb"}, "hoster: printable"),
        ({"hoster": "x" * 201}, "hoster: has more than 200 characters"),
        ({"survey-method": ""}, "survey_method"),
        ({"latitude": "90.0000001"}, "latitude: must be 90 or less"),
        ({"latitude": "nan"}, "latitude: is not a finite number"),
        ({"longitude": "-180.1"}, "longitude: must be -180 or more"),
        ({"longitude": "inf"}, "longitude: is not a finite number"),
        ({"uncertainty-km": "-0.1"}, "uncertainty_km: must be 0 or more"),
        ({"uncertainty-km": "100.1"}, "uncertainty_km: must be 100 or less"),
        ({"country": "my"}, "country: is no ISO 3166-1 alpha-2 code, upper case, as SG"),
        ({"country": "Sg"}, "country: is no ISO"),
        ({"country": "SGP"}, "country: is no ISO"),
        ({"endpoint": "192.0.2.1"}, "endpoints.0: write"),
        ({"endpoint": "192.0.2.1:0"}, "endpoints.0: write"),
        ({"endpoint": "192.0.2.1:65536"}, "endpoints.0: write"),
        ({"endpoint": "2001:db8::1:7400"}, "endpoints.0: write"),
        ({"valid-from": "soon"}, "valid_from: 'soon': not a date"),
        ({"valid-from": "2026-02-30"}, "valid_from: '2026-02-30': not a date"),
        ({"valid-from": "2026-01-01T00:00:00"}, "valid_from: '2026-01-01T00:00:00': write the zone"),
        ({"valid-from": "2026-01-01T00:00:00.5Z"}, "valid_from: a signed time is in whole seconds"),
        ({"valid-from": "1969-12-31"}, "valid_from: a signed time is in whole seconds since 1970"),
        ({"valid-until": "9999-12-31"}, "valid_until: '9999-12-31': not a date"),
        ({"valid-from": "2026-01-02", "valid-until": "2026-01-01"}, "record: valid_until must be after"),
    ],
)
def test_what_the_registry_would_not_take_is_not_signed(folder: Path, changes: dict[str, str], said: str) -> None:
    result = record(folder, **changes)
    assert result.stdout == ""
    assert isinstance(result.exception, LandmarkError)
    assert said in str(result.exception)


def test_more_endpoints_than_a_record_takes(folder: Path) -> None:
    more = [part for port in range(7401, 7405) for part in ("--endpoint", f"192.0.2.1:{port}")]
    assert str(record(folder, *more).exception) == "endpoints: 4 at most"


def test_every_wrong_field_is_named_at_once(folder: Path) -> None:
    result = record(folder, id="SG", latitude="91", country="X")
    assert [line.partition(":")[0] for line in str(result.exception).splitlines()] == ["id", "latitude", "country"]


def test_a_file_is_made_and_never_overwritten(folder: Path) -> None:
    result = record(folder, "--out", str(folder / "sg-1.json"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert json.loads((folder / "sg-1.json").read_text()) == [written(record(folder))]
    key = (folder / "operator.key").read_bytes()
    for name, said in (("operator.key", "exists"), ("absent/file", "No such file")):
        refused = record(folder, "--out", str(folder / name))
        assert isinstance(refused.exception, LandmarkError)
        assert said in str(refused.exception)
    assert (folder / "operator.key").read_bytes() == key


def test_both_keys_are_needed(folder: Path) -> None:
    for option in ("key", "operator-key"):
        result = record(folder, **{option: str(folder / "absent.key")})
        assert isinstance(result.exception, LandmarkError)
        assert result.stdout == ""
