from datetime import UTC, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import landmark_pb2

from landmark.keys import LandmarkKey
from landmark.record import build_record, sign_record
from tests.licensing.licensing_world import NOW, TICKET_KEY, World

IMPORT = landmark_pb2.ImportLandmarksRequest
LIST = landmark_pb2.ListLandmarksRequest


def stamp(days: int) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(NOW + timedelta(days=days))
    return message


def landmark(name: str = "fra-1", /, **changes: Any) -> landmark_pb2.Landmark:
    fields: dict[str, Any] = {
        "name": f"landmarks/{name}",
        "public_key": name.encode().ljust(32, b"\0"),
        "operator": f"operator of {name}",
        "hoster": f"hoster of {name}",
        "latitude": 50.1,
        "longitude": 8.7,
        "uncertainty_km": 0.5,
        "survey_method": "GNSS",
        "endpoints": ["fra.landmarks.example:4100", "[2001:db8::1]:4100", "192.0.2.1:1"],
        "country": "DE",
        **changes,
    }
    return landmark_pb2.Landmark(**fields)


async def refused(call: object, code: grpc.StatusCode, word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is code
    assert word in str(caught.value.details())


async def test_landmark_is_kept_with_its_revision_and_domain(world: World) -> None:
    given = landmark(valid_from=stamp(-1), valid_until=stamp(365), virtual_machine=True)
    response = await world.register([given])
    assert (response.created_count, response.updated_count, response.unchanged_count) == (1, 0, 0)
    request = landmark_pb2.GetLandmarkRequest(name="landmarks/fra-1")
    kept = (await world.landmarks.GetLandmark(request)).landmark
    assert (kept.revision, kept.revise_time) == (1, stamp(0))
    assert kept.domain
    for field in ("revision", "revise_time", "domain"):
        kept.ClearField(field)
    assert kept == given


async def test_import_is_counted_and_idempotent(world: World) -> None:
    await world.register([landmark("a"), landmark("b")])
    # Output-only fields are ignored.
    again = [landmark("a", revision=7, domain="x", revise_time=stamp(5)), landmark("b", country="SG"), landmark("c")]
    checked = await world.landmarks.ImportLandmarks(IMPORT(landmarks=again, validate_only=True))
    assert not checked.HasField("change")
    for response in (checked, await world.register(again)):
        assert (response.created_count, response.updated_count, response.unchanged_count) == (1, 1, 1)
    listed = (await world.landmarks.ListLandmarks(LIST())).landmarks
    assert [(each.name, each.revision) for each in listed] == [
        ("landmarks/a", 1),
        ("landmarks/b", 2),
        ("landmarks/c", 1),
    ]


async def test_domains_merge_over_operator_and_hoster(world: World) -> None:
    given = [
        landmark("a", operator="one", hoster="x"),
        landmark("b", operator="two", hoster="x"),
        landmark("c", operator="two", hoster="y"),
        landmark("d", operator="three", hoster="z"),
    ]
    await world.register(given)
    a, b, c, d = (each.domain for each in (await world.landmarks.ListLandmarks(LIST())).landmarks)
    assert a == b == c != d


async def test_pages_of_landmarks(world: World) -> None:
    await world.register([landmark(name) for name in "edcba"])
    first = await world.landmarks.ListLandmarks(LIST(page_size=2))
    second = await world.landmarks.ListLandmarks(LIST(page_size=9, page_token=first.next_page_token))
    assert [each.name[-1] for each in (*first.landmarks, *second.landmarks)] == list("abcde")
    assert second.next_page_token == ""
    call = world.landmarks.ListLandmarks(LIST(page_token="AAAA"))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "page_token")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "landmarks/"),
        ("name", "landmarks/Fra"),
        ("name", "landmarks/" + "a" * 64),
        ("name", "fra-1"),
        ("public_key", bytes(31)),
        ("operator", ""),
        ("operator", "x" * 201),
        ("hoster", " x"),
        ("hoster", "a\nb"),
        ("survey_method", "x" * 201),
        ("latitude", 90.5),
        ("latitude", float("nan")),
        ("longitude", -180.5),
        ("longitude", float("inf")),
        ("uncertainty_km", -0.1),
        ("uncertainty_km", 101.0),
        ("uncertainty_km", float("nan")),
        ("country", "XX"),
        ("country", ""),
        ("endpoints", []),
        ("endpoints", ["a:1"] * 5),
        ("endpoints", ["a"]),
        ("endpoints", ["a:0"]),
        ("endpoints", ["a:65536"]),
        ("endpoints", ["a b:1"]),
        ("endpoints", ["-a:1"]),
        ("endpoints", ["2001:db8::1:4100"]),
        ("endpoints", ["[192.0.2.1]:1"]),
        ("endpoints", ["192.0.2.256:1"]),
        ("valid_until", Timestamp(seconds=0)),
        ("valid_until", Timestamp(seconds=10**15)),
    ],
)
async def test_landmark_that_cannot_be_used_imports_none(world: World, field: str, value: object) -> None:
    bad = landmark("bad", **{"valid_from": stamp(0), field: value})
    call = world.landmarks.ImportLandmarks(IMPORT(landmarks=[landmark(), bad]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, f"landmarks[1].{field}")
    assert not (await world.landmarks.ListLandmarks(LIST())).landmarks


async def test_landmarks_that_contradict_each_other_are_refused(world: World) -> None:
    await world.register([landmark("a", public_key=bytes(32))])
    for given, word in (
        ([landmark("b"), landmark("b")], "twice"),
        ([landmark("b", public_key=bytes(32))], "same public key"),
        ([], "1 to 10000"),
    ):
        call = world.landmarks.ImportLandmarks(IMPORT(landmarks=given))
        await refused(call, grpc.StatusCode.INVALID_ARGUMENT, word)


def signed(name: str = "fra-1", /, *, by: str = "operator", **changes: Any) -> landmark_pb2.Landmark:
    """A record that is signed as the landmark's own command signs it."""
    message = landmark(name, **{"operator": "One", "valid_from": stamp(-1), "virtual_machine": True, **changes})
    record = build_record(
        {
            "id": name,
            "operator": message.operator,
            "hoster": message.hoster,
            "latitude": message.latitude,
            "longitude": message.longitude,
            "uncertainty_km": message.uncertainty_km,
            "survey_method": message.survey_method,
            "virtual_machine": message.virtual_machine,
            "country": message.country,
            "endpoints": list(message.endpoints),
            "valid_from": message.valid_from.ToDatetime(tzinfo=UTC),
        }
    )
    entry = sign_record(record, message.public_key, operator_of(by))
    message.operator_key = bytes.fromhex(str(entry["operator_key"]))
    message.operator_signature = bytes.fromhex(str(entry["operator_signature"]))
    return message


def operator_of(name: str) -> LandmarkKey:
    return LandmarkKey.from_seed(name.encode().ljust(32, b"\0"))


async def test_a_signature_is_kept_and_is_a_new_revision(world: World) -> None:
    given = signed()
    bare = landmark_pb2.Landmark()
    bare.CopyFrom(given)
    for field in ("operator_key", "operator_signature"):
        bare.ClearField(field)
    request = landmark_pb2.GetLandmarkRequest(name=given.name)
    for revision, message in ((1, bare), (2, given)):
        await world.register([message])
        kept = (await world.landmarks.GetLandmark(request)).landmark
        assert (kept.revision, kept.operator_key, kept.operator_signature) == (
            revision,
            message.operator_key,
            message.operator_signature,
        )
        (record,) = await world.store.load_landmark_records()
        assert record.landmark.signed is (revision == 2)
    response = await world.register([signed()])
    assert response.unchanged_count == 1
    # Addresses are not signed: they may change under one signature.
    response = await world.register([signed(endpoints=["192.0.2.9:1"])])
    assert response.updated_count == 1
    assert signed(endpoints=["192.0.2.9:1"]).operator_signature == given.operator_signature


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "landmarks/fra-2"),
        ("public_key", bytes(32)),
        ("operator", "Two"),
        ("hoster", "Two"),
        ("latitude", 50.1000001),
        ("latitude", 50.10000001),
        ("longitude", 8.7000001),
        ("uncertainty_km", 0.501),
        ("survey_method", "map"),
        ("virtual_machine", False),
        ("country", "SG"),
        ("valid_from", stamp(-2)),
        ("valid_until", stamp(2)),
        ("operator_key", b""),
        ("operator_signature", bytes(99)),
    ],
)
async def test_record_that_says_another_thing_than_was_signed_imports_none(
    world: World, field: str, value: Any
) -> None:
    bent = signed()
    bent.ClearField(field)  # type: ignore[arg-type]  # a name of the table
    bent.MergeFrom(landmark_pb2.Landmark(**{field: value}))
    call = world.landmarks.ImportLandmarks(IMPORT(landmarks=[landmark("good"), bent]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, f"landmarks[1].{field}:")
    assert not (await world.landmarks.ListLandmarks(LIST())).landmarks


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"operator_key": bytes(32)}, "operator_signature"), ({"operator_signature": b""}, "operator_key")],
)
async def test_key_and_signature_come_together(world: World, changes: dict[str, bytes], field: str) -> None:
    bent = signed()
    for name, value in changes.items():
        setattr(bent, name, value)
    call = world.landmarks.ImportLandmarks(IMPORT(landmarks=[bent]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, f"landmarks[0].{field}:")


async def test_an_operator_has_one_key_over_the_whole_registry(world: World) -> None:
    await world.register([signed("a"), landmark("c", operator="One")])
    for other in ("One", "ONE", "oNe"):
        for given in ([signed("b", operator=other, by="thief")], [signed("c", operator=other, by="thief")]):
            call = world.landmarks.ImportLandmarks(IMPORT(landmarks=given))
            await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "landmarks.operator_key: operator")
    assert [each.revision for each in (await world.landmarks.ListLandmarks(LIST())).landmarks] == [1, 1]
    # Another operator has a key of its own; spaces and case make no other operator.
    await world.register([signed("b", operator="One  Two", by="other")])
    call = world.landmarks.ImportLandmarks(IMPORT(landmarks=[signed("d", operator="one two", by="third")]))
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "operator_key")
    # A new key comes with all records of its operator.
    response = await world.register([signed("a", by="new"), signed("c", by="new")])
    assert response.updated_count == 2


async def test_landmark_that_is_not_registered(world: World) -> None:
    get = world.landmarks.GetLandmark
    missing = get(landmark_pb2.GetLandmarkRequest(name="landmarks/none"))
    await refused(missing, grpc.StatusCode.NOT_FOUND, "landmarks/none")
    unnamed = get(landmark_pb2.GetLandmarkRequest(name="none"))
    await refused(unnamed, grpc.StatusCode.INVALID_ARGUMENT, "name")


async def test_ticket_key(world: World) -> None:
    assert (await world.landmarks.GetTicketKey(landmark_pb2.GetTicketKeyRequest())).public_key == TICKET_KEY
