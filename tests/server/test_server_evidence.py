"""Evidence of an emulated device, as far as it does not need landmarks: chains by id, records, what a host may hide."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from trigpoint.v1 import attestation_pb2, device_pb2, reason_pb2

from agent.claims import bound_nonce, encode_claims
from firmware_stubs.ca import DeviceCA
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT, reference_values
from server.config import load_config
from server.spiffe import Peer, Role
from tests.server import helpers
from tests.server.helpers import attest, read
from tests.two_people import deploy
from verifier.basis import read_basis
from verifier.evidence.chain import chain_id
from verifier.units import Pdi

HOST = "host-1"


@pytest.fixture(scope="module")
def ca() -> DeviceCA:
    return DeviceCA.generate()


@pytest.fixture
def device(tmp_path: Path, ca: DeviceCA) -> Device:
    return Device.manufacture(tmp_path / "device", ca, GPU_CURRENT).powered_on()


@pytest.fixture
async def server(tmp_path: Path, ca: DeviceCA) -> AsyncIterator[helpers.Running]:
    path = helpers.init_folder(tmp_path / "server")
    (path.parent / "device-roots.pem").write_bytes(ca.root.certificate.public_bytes(Encoding.PEM))
    (path.parent / "reference-values.json").write_text(json.dumps(reference_values()))
    async with helpers.running_server(path.parent, load_config(path)) as running:
        yield running


@pytest.fixture
async def channel(server: helpers.Running) -> AsyncIterator[grpc.aio.Channel]:
    async with server.channel(helpers.AGENT) as opened:
        yield opened


def announce(listed: bytes, chain: bytes) -> attestation_pb2.AttestRequest:
    entry = attestation_pb2.InventoryDevice(pdi=listed, kind=device_pb2.DEVICE_KIND_GPU, chain_id=chain)
    return attestation_pb2.AttestRequest(inventory=attestation_pb2.Inventory(host_id=HOST, devices=[entry]))


async def challenge_for(
    stream: helpers.Stream, device: Device, listed: bytes | None = None
) -> attestation_pb2.Challenge:
    await stream.write(announce(listed or device.pdi, chain_id(device.chain_der())))
    challenge = (await read(stream)).challenge
    await read(stream)  # orders
    return challenge


async def answer(
    stream: helpers.Stream, device: Device, challenge: bytes, chains: list[list[bytes]]
) -> attestation_pb2.VerdictBatch:
    now = int(datetime.now(UTC).timestamp())
    claims = encode_claims(challenge=challenge, host_id=HOST, host_time_s=now, devices=[device.pdi], ranges=[])
    report = attestation_pb2.DeviceReport(
        spdm=device.report(bound_nonce(claims), None), chain_id=chain_id(device.chain_der())
    )
    evidence = attestation_pb2.Attestation(host_id=HOST, challenge=challenge, claims=claims, reports=[report])
    sent = [attestation_pb2.CertificateChain(certificates=chain) for chain in chains]
    batch = attestation_pb2.AttestationBatch(attestations=[evidence], chains=sent)
    await stream.write(attestation_pb2.AttestRequest(attestations=batch))
    return (await read(stream)).verdicts


def reasons(batch: attestation_pb2.VerdictBatch) -> set[int]:
    (verdict,) = batch.verdicts
    assert not verdict.HasField("rejection")
    (found,) = verdict.devices
    return {finding.reason for finding in found.findings}


async def test_a_chain_is_sent_once(channel: grpc.aio.Channel, device: Device) -> None:
    named = chain_id(device.chain_der())
    stream = attest(channel)
    first = await challenge_for(stream, device)
    assert list(first.known_chains) == []
    batch = await answer(stream, device, first.challenge, [device.chain_der()])
    assert list(batch.known_chains) == [named]
    assert reasons(batch) == {reason_pb2.REASON_UNKNOWN_DEVICE}
    assert batch.verdicts[0].devices[0].standing == device_pb2.STANDING_UNLICENSED

    again = await challenge_for(stream, device)
    assert list(again.known_chains) == [named]
    assert reasons(await answer(stream, device, again.challenge, [])) == {reason_pb2.REASON_UNKNOWN_DEVICE}


async def test_a_stored_chain_is_named_on_a_new_stream(channel: grpc.aio.Channel, device: Device) -> None:
    stream = attest(channel)
    first = await challenge_for(stream, device)
    await answer(stream, device, first.challenge, [device.chain_der()])
    other = attest(channel)
    second = await challenge_for(other, device)
    assert list(second.known_chains) == [chain_id(device.chain_der())]
    assert reasons(await answer(other, device, second.challenge, []))


async def test_a_chain_is_known_by_its_bytes(channel: grpc.aio.Channel, device: Device, ca: DeviceCA) -> None:
    stream = attest(channel)
    challenge = await challenge_for(stream, device)
    root = ca.root.certificate.public_bytes(Encoding.DER)
    batch = await answer(stream, device, challenge.challenge, [[root] * 5])
    (verdict,) = batch.verdicts
    assert [r.rejection.reason for r in verdict.report_rejections] == [reason_pb2.REASON_CHAIN_MISSING]
    assert list(batch.known_chains) == []


async def test_a_deployed_device_is_found_whatever_the_inventory_lists(
    server: helpers.Running, channel: grpc.aio.Channel, device: Device
) -> None:
    await deploy(server.store, [helpers.deployment(Pdi(device.pdi))], datetime.now(UTC))
    stream = attest(channel)
    challenge = await challenge_for(stream, device, listed=bytes(8))
    batch = await answer(stream, device, challenge.challenge, [device.chain_der()])
    assert reasons(batch) == {reason_pb2.REASON_LOCATION_UNPROVEN}
    assert batch.verdicts[0].devices[0].standing == device_pb2.STANDING_UNPROVEN
    found = await server.store.get_device(Pdi(device.pdi))
    assert found is not None
    assert found.host_id == HOST


async def test_an_agent_of_another_licensee_is_told_apart(server: helpers.Running, device: Device) -> None:
    await deploy(server.store, [helpers.deployment(Pdi(device.pdi))], datetime.now(UTC))
    stranger = Peer(Role.AGENT, "rack-1", "Another Cloud")
    async with server.channel(stranger) as channel:
        stream = attest(channel)
        challenge = await challenge_for(stream, device)
        batch = await answer(stream, device, challenge.challenge, [device.chain_der()])
    assert reason_pb2.REASON_FOREIGN_REPORT in reasons(batch)


async def test_its_verdict_is_made_again_with_what_the_store_keeps(
    server: helpers.Running, channel: grpc.aio.Channel, device: Device
) -> None:
    """The files that the configuration names are in the store from the start, and each basis names them."""
    await deploy(server.store, [helpers.deployment(Pdi(device.pdi))], datetime.now(UTC))
    stream = attest(channel)
    challenge = await challenge_for(stream, device)
    batch = await answer(stream, device, challenge.challenge, [device.chain_der()])
    assert batch.verdicts[0].result.count(".") == 2
    with closing(sqlite3.connect(server.app.config.store.path)) as store:
        files = dict(store.execute("SELECT sha256, data FROM materials"))
        result, common = store.execute(
            "SELECT result, basis FROM attestations JOIN evidence USING (challenge)"
        ).fetchone()
        bases = {Pdi(pdi): basis for pdi, basis in store.execute("SELECT pdi, basis FROM device_verdicts")}
    assert result == batch.verdicts[0].result
    given = read_basis(common, bases, files)
    assert given.setting == server.app.materials.setting
    assert given.records == await server.store.records_number()
    (record,) = server.store.committed
    again = given.setting.verifier(files).verify(
        record.attestation, given.inputs({chain_id(device.chain_der()): device.chain_der()})
    )
    assert again == record.verdict
