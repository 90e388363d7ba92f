"""Properties of the parsers that have none beside their other tests: each is total, and reads back what was written."""

import csv
import io
import json
import string
from contextlib import suppress
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_stubs import datagrams, framing
from landmark import datagrams as landmark_datagrams
from tests.vectors.builder import OID_COMPOSITE, OID_TCB_INFO, Device, composite, der, spki, tcb_info
from verifier.errors import ChainConstraintViolatedError, UsageError
from verifier.evidence.chain import DeviceKind, TrustRoots
from verifier.evidence.dice import parse_composite_device_id, parse_tcb_info
from verifier.evidence.measurements import ReferenceValues
from verifier.place.groups import COLUMNS, parse_groups
from verifier.place.regions import AnyOf, Atlas, Polygon, polygon_of

DEVICE_SPKI = spki(Device().label)
DIGEST = st.binary(min_size=48, max_size=48)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def value_of(extension: x509.ExtensionType) -> bytes:
    assert isinstance(extension, x509.UnrecognizedExtension)
    assert extension.oid in {OID_COMPOSITE, OID_TCB_INFO}
    return extension.value


# dice


@settings(deadline=None, max_examples=60)
@given(DIGEST)
def test_firmware_id_is_read_back(fwid: bytes) -> None:
    assert parse_composite_device_id(value_of(composite(fwid, DEVICE_SPKI)), DEVICE_SPKI) == fwid
    assert parse_tcb_info(value_of(tcb_info(fwid))) == fwid


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=260), st.sampled_from([0x30, 0x02, 0x04, 0xA6]))
def test_dice_is_total(data: bytes, tag: int) -> None:
    for value in (data, der(tag, data) if len(data) < 256 else data):
        with pytest.raises(ChainConstraintViolatedError):
            parse_composite_device_id(value, DEVICE_SPKI)
        with suppress(ChainConstraintViolatedError):  # a long run of luck would be a DiceTcbInfo
            assert len(parse_tcb_info(value)) == 48


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_flipped_bit_of_the_binding_is_refused_or_another_firmware(data: st.DataObject) -> None:
    fwid = Device().fwid
    honest = value_of(composite(fwid, DEVICE_SPKI))
    at, bit = data.draw(st.integers(0, len(honest) - 1)), data.draw(st.integers(0, 7))
    bent = honest[:at] + bytes([honest[at] ^ 1 << bit]) + honest[at + 1 :]
    try:
        read = parse_composite_device_id(bent, DEVICE_SPKI)
    except ChainConstraintViolatedError:
        return
    assert read != fwid
    assert at >= len(honest) - len(fwid)


# what the operator gives


def document(entries: list[dict[str, Any]]) -> bytes:
    return json.dumps({"schema": "trigpoint-reference-values/1", "vendor": "v", "firmware": entries}).encode()


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.integers(1, 255), st.lists(DIGEST, min_size=1, max_size=3), max_size=5), DIGEST, st.booleans()
)
def test_reference_values_are_read_back(blocks: dict[int, list[bytes]], fwid: bytes, ranging: bool) -> None:  # noqa: FBT001
    measurements = {str(index): [d.hex() for d in digests] for index, digests in blocks.items()}
    entry = {"name": "n", "kind": "switch", "fwid": fwid.hex(), "ranging": ranging, "measurements": measurements}
    values = ReferenceValues.parse([document([entry])])
    found = values.find(DeviceKind.SWITCH, fwid)
    assert found is not None
    assert (found.name, found.ranges, found.fwid) == ("n", ranging, fwid)
    assert dict(found.measurements) == {index: frozenset(digests) for index, digests in blocks.items()}
    assert values.find(DeviceKind.GPU, fwid) is None


ENTRY = {"name": "n", "kind": "gpu", "fwid": "ab" * 48, "ranging": True, "measurements": {"1": ["cd" * 48]}}


@settings(deadline=None, max_examples=120)
@given(JSON, st.sampled_from([None, *ENTRY]), st.binary(max_size=60))
def test_reference_values_are_total(value: object, key: str | None, junk: bytes) -> None:
    bent = document([{**ENTRY, key: value}]) if key else json.dumps(value).encode()
    for data in (bent, junk):
        with suppress(UsageError):
            ReferenceValues.parse([data])


SQUARE = {"type": "MultiPolygon", "coordinates": [[[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]]}
FEATURE = {"type": "Feature", "properties": {"iso1A2": "XA"}, "geometry": SQUARE}


@settings(deadline=None, max_examples=150)
@given(JSON, st.sampled_from(["", "features", "feature", "geometry", "properties", "coordinates", "iso1A2"]))
def test_atlas_is_total(value: object, where: str) -> None:
    feature: dict[str, Any] = dict(FEATURE)
    if where in feature:
        feature[where] = value
    elif where == "coordinates":
        feature["geometry"] = {**SQUARE, "coordinates": value}
    elif where == "iso1A2":
        feature["properties"] = {"iso1A2": value}
    collection: Any = {"features": [value if where == "feature" else feature]}
    if where == "features":
        collection["features"] = value
    with suppress(UsageError):
        assert Atlas.parse(json.dumps(value if where == "" else collection).encode(), "bent").country_codes


HEADER = ",".join(COLUMNS).encode() + b"\n"
CODES = st.text(string.ascii_uppercase, min_size=2, max_size=2)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.sampled_from(["D:5", "E:1", "E:2", "A:1", "B"]), CODES), max_size=8))
@example([("D:5", "AA"), ("E:2", "AB"), ("E:1", "AA"), ("B", "AC")])
def test_prohibited_countries_are_those_of_three_groups(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    full = [(group, code, "2026-01-01", "source", "high") for group, code in rows]
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *full])
    named = {code for group, code in rows if group in {"D:5", "E:1", "E:2"}}
    groups = parse_groups(text.getvalue().encode(), "v")
    if {"D:5", "E:1", "E:2"} <= {group for group, _ in rows}:
        assert groups.prohibited().codes == named | {"HK", "MO", "UA-43"}
    else:
        with pytest.raises(UsageError):
            groups.prohibited()
    assert {(group, code) for group, members in groups.members.items() for code in members} == set(rows)


@settings(deadline=None, max_examples=120)
@given(st.binary(max_size=60), st.sampled_from([b"", HEADER, HEADER + b"D:5,", HEADER + b"D:5,CN,x,y,"]))
def test_country_groups_are_total(data: bytes, head: bytes) -> None:
    with suppress(UsageError):
        assert "HK" in parse_groups(head + data, "v").prohibited().codes


POINTS = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(POINTS, min_size=3, max_size=6), min_size=1, max_size=3), st.booleans())
def test_polygons_are_read_back(rings: list[list[tuple[float, float]]], multi: bool) -> None:  # noqa: FBT001
    closed: Any = [[list(point) for point in (*ring, ring[0])] for ring in rings]
    geometry: dict[str, Any] = {"type": "Polygon", "coordinates": closed}
    if multi:
        geometry = {"type": "MultiPolygon", "coordinates": [[ring] for ring in closed]}
    expected = tuple(tuple(ring) for ring in rings)
    try:
        polygon = polygon_of("x", json.loads(json.dumps(geometry)))
    except UsageError:
        steps = (abs(b[0] - a[0]) for ring in rings for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))
        assert max(steps) > 180
        return
    parts = [Polygon("x", (ring,)) for ring in expected]
    assert polygon == (AnyOf(tuple(parts)) if multi and len(parts) > 1 else Polygon("x", expected))


@settings(deadline=None, max_examples=150)
@given(
    JSON, st.sampled_from(["", "type", "coordinates", "ring", "point"]), st.sampled_from(["Polygon", "MultiPolygon"])
)
def test_polygons_are_total(value: object, where: str, kind: str) -> None:
    ring: Any = [[0, 0], [1, 0], [1, 1], [0, 0]]
    if where == "point":
        ring[1] = value
    rings = [value if where == "ring" else ring]
    geometry: Any = {"type": kind, "coordinates": rings if kind == "Polygon" else [rings]}
    if where in geometry:
        geometry[where] = value
    with suppress(UsageError):
        assert str(polygon_of("x", value if where == "" else geometry))


PEMS = [x509.load_der_x509_certificate(d).public_bytes(Encoding.PEM) for d in Device().chain()[2:]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(PEMS), min_size=1, max_size=4), st.sampled_from([b"", b"# a comment\n", b"\n\n"]))
def test_roots_are_read_back(pems: list[bytes], between: bytes) -> None:
    ders = {x509.load_pem_x509_certificate(p).public_bytes(Encoding.DER) for p in pems}
    assert TrustRoots.parse([between.join(pems)]).certificates == ders
    assert TrustRoots.parse(pems).certificates == ders


@settings(deadline=None, max_examples=120)
@given(st.binary(max_size=80), st.integers(0, len(PEMS[0])), st.integers(0, len(PEMS[0])))
def test_roots_are_total(junk: bytes, start: int, end: int) -> None:
    for pem in (junk, PEMS[0][:start] + junk + PEMS[0][end:]):
        with suppress(UsageError):
            assert TrustRoots.parse([pem]).certificates


# firmware_stubs/


TAG = st.binary(min_size=16, max_size=16)
HASH = st.binary(min_size=32, max_size=32)
U16 = st.integers(0, 0xFFFF)
LANDMARKS_DATAGRAMS = (
    st.builds(landmark_datagrams.Nonce, TAG, TAG, HASH, st.binary(min_size=24, max_size=24))
    | st.builds(landmark_datagrams.Round, TAG, U16, TAG)
    | st.builds(landmark_datagrams.Stop, TAG, U16)
    | st.builds(landmark_datagrams.ReceiptDatagram, TAG, st.binary(max_size=landmark_datagrams.MAX_RECEIPT_BYTES))
    | st.builds(landmark_datagrams.Refused, TAG, U16)
)


@settings(deadline=None, max_examples=100)
@given(LANDMARKS_DATAGRAMS)
def test_device_reads_what_a_landmark_writes(sent: Any) -> None:
    """Two writers of one layout: every field of one is that of the other, in its order."""
    read = datagrams.parse(sent.encode())
    assert read is not None
    assert [getattr(read, f) for f in read.__slots__] == [getattr(sent, f) for f in sent.__slots__]


@settings(deadline=None, max_examples=60)
@given(TAG, HASH, HASH, st.binary(min_size=24, max_size=24), U16, st.binary(max_size=datagrams.TICKET_MAX_BYTES))
def test_landmark_reads_what_a_device_writes(
    tag: bytes, nonce: bytes, secret: bytes, cookie: bytes, index: int, ticket: bytes
) -> None:
    parse = landmark_datagrams.parse_datagram
    assert parse(datagrams.hello(tag, secret)) == landmark_datagrams.Hello(tag, secret)
    commit = datagrams.commit(datagrams.Nonce(tag, tag, nonce, cookie), secret, ticket)
    assert parse(commit) == landmark_datagrams.Commit(tag, nonce, cookie, secret, ticket)
    assert parse(datagrams.answer(tag, index, tag)) == landmark_datagrams.Answer(tag, index, tag)
    assert parse(datagrams.reveal(tag, secret)) == landmark_datagrams.Reveal(tag, secret)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 255), st.binary(max_size=100), st.sampled_from([0, 22, 64, 96, 1200]))
def test_device_drops_what_is_no_datagram(kind: int, data: bytes, size: int) -> None:
    framed = b"TP\1" + bytes([kind]) + data
    for whole in (data, framed, framed[:size].ljust(size, b"\0")):
        read = datagrams.parse(whole)
        assert read is None or whole[:3] == b"TP\1"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=20) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.dictionaries(st.text(max_size=6), VALUES, max_size=3), max_size=4), st.integers(1, 9))
def test_frames_are_read_back_in_any_portions(messages: list[dict[str, Any]], portion: int) -> None:
    stream = b"".join(framing.encode(m) for m in messages)
    reader = framing.FrameReader()
    read = [m for n in range(0, len(stream), portion) for m in reader.feed(stream[n : n + portion])]
    assert read == messages


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60))
def test_frames_are_total(data: bytes) -> None:
    with suppress(framing.FramingError):
        framing.decode(data)
    with suppress(framing.FramingError):
        list(framing.FrameReader().feed(data))
