"""GetResult: the newest result that tells of a device, that of an attestation, and who is given which (EA1, RC11)."""

from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from trigpoint.v1 import licensing_pb2

from server.intake.results import ResultSigner
from server.store.reads import ReadFilter
from server.store.types import AttestationRecord
from tests.licensing.licensing_world import NOW, World, country_row, names, site_row
from tests.store.store_world import device, record
from verifier.errors import Reason
from verifier.jws import KeySet, verify_jws
from verifier.place.landmarks import LandmarkRegistry
from verifier.result_reading import read_result
from verifier.verdict import Rejection
from verifier.verifier import Inputs

SIGNER = ResultSigner([ec.generate_private_key(ec.SECP256R1())], issuer="", developer="Example Ltd")
KEYS = KeySet.parse(SIGNER.jwks())
LATER = NOW + timedelta(minutes=1)


def signed(made: AttestationRecord) -> AttestationRecord:
    """The record with its result, as the intake makes it."""
    inputs = Inputs(made.verdict.received_at, made.issued, "Example Cloud", {}, LandmarkRegistry.build([]), {})
    return replace(made, result=SIGNER.sign(made.verdict, inputs))


async def get(world: World, name: str, who: str = "officer/ann") -> licensing_pb2.GetResultResponse:
    request = licensing_pb2.GetResultRequest(name=name)
    return await world.licensing.GetResult(request, metadata=(("trigpoint-dev-role", who),))


async def refusal(world: World, name: str, who: str = "officer/ann") -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(world, name, who)
    return caught.value.code()


async def test_the_newest_of_a_device_and_that_of_an_attestation(world: World) -> None:
    await world.license_rows([site_row(1), country_row(2)])
    first, second = signed(record(NOW, [device(1), device(2)])), signed(record(LATER, [device(1)]))
    await world.store.commit([first])
    await world.store.commit([second])
    one, two = names([1, 2])
    for name, made in (
        (one, second),
        (two, first),
        (f"attestations/{first.verdict.challenge.hex()}", first),
        (f"attestations/{second.verdict.challenge.hex()}", second),
    ):
        given = await get(world, name)
        assert given.attestation == f"attestations/{made.verdict.challenge.hex()}"
        assert given.result == made.result
        result = read_result(verify_jws(given.result, KEYS))
        assert result.nonce == made.verdict.challenge
        assert [*result.submods] == [each.pdi.hex() for each in made.verdict.devices]
    read = (await world.store.reads.list(ReadFilter())).reads  # newest first
    assert [(each.call, each.subject, each.devices, each.by) for each in read[:3]] == [
        ("GetResult", f"attestations/{second.verdict.challenge.hex()}", 1, "officer/ann"),
        ("GetResult", f"attestations/{first.verdict.challenge.hex()}", 2, "officer/ann"),
        ("GetResult", two, 2, "officer/ann"),
    ]


async def test_what_has_no_result(world: World) -> None:
    await world.license_rows([site_row(1)])
    rejected = signed(record(NOW, [], rejection=Rejection(Reason.CHALLENGE_EXPIRED, "late")))
    await world.store.commit([rejected])
    assert rejected.result == ""
    for name in (*names([1, 9]), f"attestations/{rejected.verdict.challenge.hex()}", f"attestations/{'00' * 32}"):
        assert await refusal(world, name) is grpc.StatusCode.NOT_FOUND
    assert (await world.store.reads.list(ReadFilter())).reads == ()  # nobody was shown anything


@pytest.mark.parametrize(
    "name", ["", "devices/1", "attestations/", "attestations/" + "0" * 63, "attestations/" + "A" * 64, "cases/1"]
)
async def test_no_name(world: World, name: str) -> None:
    assert await refusal(world, name) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_jurisdiction_is_given_what_tells_of_its_devices_alone(world: World) -> None:
    await world.license_rows(
        [
            country_row(1),
            country_row(2, country="SG", license_number="D3", site_name="Singapore"),
            country_row(3),
            country_row(4),
        ]
    )
    mixed = signed(record(NOW, [device(1), device(2)]))
    german = signed(record(NOW, [device(3), device(4), device(9)]))  # one that nobody licensed is nobody's
    unlicensed = signed(record(NOW, [device(8)]))
    await world.store.commit([mixed, german, unlicensed])
    one, two, three, eight = names([1, 2, 3, 8])
    assert (await get(world, three, "viewer/DE/eva")).result == german.result
    assert (await get(world, f"attestations/{german.verdict.challenge.hex()}", "officer/DE/eva")).result
    for name in (one, two, eight, f"attestations/{mixed.verdict.challenge.hex()}"):
        assert await refusal(world, name, "viewer/DE/eva") is grpc.StatusCode.NOT_FOUND
        assert (await get(world, name)).result
    assert await refusal(world, three, "viewer/SG/sam") is grpc.StatusCode.NOT_FOUND


async def test_who_may_not_ask(world: World) -> None:
    for who in ("agent/Example_20Cloud/rack-7", "landmark/sg-1", "admin/adam"):
        assert await refusal(world, names([1])[0], who) is grpc.StatusCode.PERMISSION_DENIED
