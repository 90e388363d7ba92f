"""Boards: slots, links, moving devices, and each lie. docs/protocol.md §4, §6."""

import secrets
from pathlib import Path

import pytest

from firmware_stubs.board import Board, make_board, move_device
from firmware_stubs.ca import DeviceCA
from firmware_stubs.client import BoardClient, BoardError, DeviceInfo
from firmware_stubs.errors import BadRequestError, EmulatorError, StateError
from firmware_stubs.faults import Fault
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER
from firmware_stubs.geography import LIGHT_KM_PER_S, Place, World, great_circle_km
from tests.firmware.conftest import MakeBoard, ServeBoard, StartLandmark
from tests.firmware.helpers import ParsedReport, transcript, verified_report


async def reports_of(client: BoardClient, nonce: bytes = bytes(32)) -> dict[DeviceInfo, ParsedReport]:
    return {
        device: verified_report(await client.report(device.pdi, nonce), await client.chain(device.pdi))
        for device in await client.devices()
    }


def edges(reports: dict[DeviceInfo, ParsedReport]) -> set[tuple[bytes, bytes]]:
    """Edges that both ends name (B1)."""
    forward = {
        (device.pdi, report.tlvs[22][p : p + 8][::-1])
        for device, report in reports.items()
        if device.kind == "gpu" and 22 in report.tlvs
        for p in range(0, 144, 8)
    }
    backward = {
        (report.tlvs[26][p : p + 8], device.pdi)
        for device, report in reports.items()
        if device.kind == "switch"
        for p in range(0, 64, 8)
    }
    return forward & backward


async def test_full_board_has_all_edges(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=8, switches=4))
    devices = await client.devices()
    assert [(d.kind, d.slot, d.can_range) for d in devices] == [("gpu", n, True) for n in range(8)] + [
        ("switch", n, False) for n in range(4)
    ]
    assert {d.board for d in devices} == {"a"}
    reports = await reports_of(client)
    gpus = [d.pdi for d in devices if d.kind == "gpu"]
    switches = [d.pdi for d in devices if d.kind == "switch"]
    assert edges(reports) == {(gpu, switch) for gpu in gpus for switch in switches}
    for device, report in reports.items():
        if device.kind == "switch":
            assert [report.tlvs[26][p : p + 8] for p in range(0, 64, 8)] == gpus


async def test_card_without_switches_reports_no_links(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    reports = await reports_of(await serve_board(new_board(gpus=2)))
    assert all(22 not in report.tlvs for report in reports.values())


async def test_pulled_gpu_joins_the_board_it_is_put_on(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    a, c = new_board("a", gpus=2, switches=1), new_board("c", gpus=1, switches=1, empty_slots=(0,))
    at_a, at_c = await serve_board(a), await serve_board(c)
    pulled = (await at_a.devices())[1]
    before = verified_report(await at_a.report(pulled.pdi, bytes(32)), await at_a.chain(pulled.pdi))
    chain = await at_a.chain(pulled.pdi)
    assert await at_a.faults(f"{Fault.PULLED_GPU}:gpu-1={c / 'gpu-0'}") == [f"pulled_gpu:gpu-1={c / 'gpu-0'}"]
    await at_c.power_cycle()
    assert pulled.pdi not in {device.pdi for device in await at_a.devices()}
    moved = next(device for device in await at_c.devices() if device.pdi == pulled.pdi)
    assert (moved.board, moved.slot) == ("c", 0)
    assert await at_c.chain(pulled.pdi) == chain
    reports = await reports_of(at_c)
    (switch,) = [device.pdi for device in reports if device.kind == "switch"]
    assert (pulled.pdi, switch) in edges(reports)
    assert reports[moved].counters > before.counters
    left = await reports_of(at_a)
    assert len(edges(left)) == 1


async def test_device_pulled_from_a_running_board_is_gone(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    a, c = new_board("a", gpus=2), new_board("c", gpus=1)
    client = await serve_board(a)
    pulled = (await client.devices())[1]
    move_device(a / "gpu-1", c / "gpu-5")
    assert len(await client.devices()) == 1
    with pytest.raises(BoardError) as caught:
        await client.report(pulled.pdi, bytes(32))
    assert caught.value.code == "DEVICE_GONE"


def test_slots_are_respected(tmp_path: Path, ca: DeviceCA, new_board: MakeBoard) -> None:
    board = new_board("a", gpus=2, switches=1, empty_slots=(0,))
    assert sorted(path.name for path in board.iterdir()) == ["gpu-1", "gpu-2", "switch-0"]
    with pytest.raises(StateError):
        make_board(board, ca, gpus=1, switches=0)
    for gpus, switches, empty in ((9, 0, ()), (0, 0, ()), (1, 5, ()), (8, 0, (3,))):
        with pytest.raises(BadRequestError):
            make_board(tmp_path / "b", ca, gpus=gpus, switches=switches, empty_slots=empty)
    for source, target in (("gpu-7", "gpu-3"), ("gpu-1", "gpu-2"), ("gpu-1", "gpu-9"), ("gpu-1", "elsewhere")):
        with pytest.raises(EmulatorError):
            move_device(board / source, board / target)


async def test_device_in_a_slot_of_the_other_kind_is_refused(new_board: MakeBoard) -> None:
    board = new_board("a", gpus=1, switches=1)
    (board / "switch-0").rename(board / "gpu-1")
    with pytest.raises(StateError):
        await Board.start(board, Place(0, 0), World({}))


async def test_wrong_nonce(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=2), faults=("wrong_nonce:gpu-1",))
    nonce = secrets.token_bytes(32)
    honest, lying = (await reports_of(client, nonce)).values()
    assert honest.nonce == nonce
    assert lying.nonce != nonce
    await client.faults()
    assert {report.nonce for report in (await reports_of(client, nonce)).values()} == {nonce}


async def test_replayed_report(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board())
    (device,) = await client.devices()
    first = await client.report(device.pdi, secrets.token_bytes(32))
    await client.faults("replayed_report")
    assert await client.report(device.pdi, secrets.token_bytes(32)) == first
    await client.power_cycle()
    nonce = secrets.token_bytes(32)
    replayed = verified_report(await client.report(device.pdi, nonce), await client.chain(device.pdi))
    assert replayed.nonce != nonce


async def test_foreign_chain(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board())
    (device,) = await client.devices()
    honest = await client.chain(device.pdi)
    before = verified_report(await client.report(device.pdi, bytes(32)), honest)
    await client.faults("foreign_chain")
    foreign = await client.chain(device.pdi)
    assert not set(honest) & set(foreign)
    assert await client.chain(device.pdi) == foreign
    report = verified_report(await client.report(device.pdi, bytes(32)), foreign)
    assert report.counters > before.counters
    await client.faults()
    assert await client.chain(device.pdi) == honest


async def test_flipped_measurement(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(), faults=("FLIPPED_MEASUREMENT",))
    (report,) = (await reports_of(client)).values()
    wrong = [index for index, digest in report.blocks.items() if digest not in GPU_CURRENT.measurements[index]]
    assert wrong == [2]


async def test_firmware_cannot_range(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=2), faults=("firmware_cannot_range:gpu-0",))
    older, current = await client.devices()
    assert (older.can_range, current.can_range) == (False, True)
    report = (await reports_of(client))[older]
    assert report.tlvs[20] == GPU_OLDER.fwid
    assert 0x5401 not in report.tlvs
    outcome = await client.range(older.pdi, bytes(32), bytes(32), ["127.0.0.1:9"], b"", 1)
    assert (outcome.receipt, outcome.answered_mask, outcome.why) == (None, 0, 5)
    await client.faults()
    assert all(device.can_range for device in await client.devices())


async def test_early_reveal(new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark) -> None:
    landmark = start_landmark(bytes(32))
    far_away = World({landmark.key_id: Place(0, 180)})
    client = await serve_board(new_board(), place=Place(0, 0), world=far_away, faults=("early_reveal",))
    (device,) = await client.devices()
    outcome = await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], b"", 20)
    (ranged,) = landmark.sessions
    assert outcome.receipt == b"receipt"
    assert outcome.answered_mask == 0xFFFF
    assert ranged.right() == set(range(16))  # the landmark sees nothing wrong
    assert min(ranged.rtt_ns.values()) < 10_000_000  # though light needs 133 ms
    report = verified_report(await client.report(device.pdi, bytes(32)), await client.chain(device.pdi))
    assert report.log == [(ranged.session, ranged.commitment, transcript(ranged.session, ranged.commitment, []))]


async def test_moved(new_board: MakeBoard, tmp_path: Path) -> None:
    del tmp_path
    board = await Board.start(new_board(), Place(1, 2), World({}), ("moved:22.54,114.06",))
    try:
        assert board.place == Place(22.54, 114.06)
        await board.set_faults(())
        assert board.place == Place(1, 2)
    finally:
        await board.close()


def test_world_file(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    path.write_text('{"landmarks": {"ab": {"latitude": 0, "longitude": 1}}, "path_factor": 2}', encoding="utf-8")
    world = World.load(path)
    expected_ns = 2 * great_circle_km(Place(0, 0), Place(0, 1)) / LIGHT_KM_PER_S * 2 * 1e9
    assert 0 <= world.round_trip_ns(Place(0, 0), b"\xab") - expected_ns <= 1
    assert world.round_trip_ns(Place(0, 0), b"\xac") == 0
    for text in ("", "[]", "{}", '{"landmarks": {"xy": {}}}', '{"landmarks": {}, "path_factor": -1}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadRequestError):
            World.load(path)


def test_distance_on_the_sphere() -> None:
    assert great_circle_km(Place(0, 0), Place(0, 180)) == pytest.approx(20015.087, abs=0.01)
    assert great_circle_km(Place(90, 0), Place(0, 50)) == pytest.approx(10007.543, abs=0.01)
    assert great_circle_km(Place(10, 10), Place(10, 10)) == 0
