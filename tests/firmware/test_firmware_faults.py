"""What each lie about identity, counters, links and place changes, and what it leaves true.

The older lies are in test_firmware_board.py, the tricks of a ranging session in test_firmware_tricks.py.
"""

import secrets

import pytest

from firmware_stubs.board import swap_devices
from firmware_stubs.client import BoardClient, BoardError
from firmware_stubs.errors import StateError
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER
from firmware_stubs.geography import Place, World
from tests.firmware.conftest import MakeBoard, ServeBoard, StartLandmark
from tests.firmware.helpers import ParsedReport, verified_report

MS = 1_000_000
EMPTY = b"\xff" * 8


async def reports_of(client: BoardClient) -> dict[str, ParsedReport]:
    nonce = secrets.token_bytes(32)
    return {
        f"{d.kind}-{d.slot}": verified_report(await client.report(d.pdi, nonce), await client.chain(d.pdi))
        for d in await client.devices()
    }


async def pdis_of(client: BoardClient) -> dict[str, bytes]:
    return {f"{d.kind}-{d.slot}": d.pdi for d in await client.devices()}


def named_by_switch(report: ParsedReport) -> list[bytes]:
    return [report.tlvs[26][at : at + 8] for at in range(0, 64, 8)]


def named_by_gpu(report: ParsedReport) -> set[bytes]:
    return {report.tlvs[22][at : at + 8][::-1] for at in range(0, 144, 8)}


async def test_foreign_leaf(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=2, switches=1), faults=("foreign_leaf",))
    reports = await reports_of(client)  # verified under the leaves that are shown
    for slot in ("gpu-0", "gpu-1"):
        assert reports[slot].tlvs[20] == GPU_CURRENT.fwid
        chain = await client.chain((await pdis_of(client))[slot])
        assert GPU_OLDER.fwid in chain[0]
        assert GPU_CURRENT.fwid not in chain[0]


async def test_rolled_back_counter(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=2))
    before = await reports_of(client)
    await client.faults("rolled_back_counter:gpu-1")
    told = await reports_of(client)
    assert told["gpu-1"].counters == (1, 1)
    assert told["gpu-0"].counters == (1, 2)
    # The device has counted all the same, and says so when it tells the truth again.
    await client.faults()
    assert before["gpu-1"].counters == (1, 1)
    assert (await reports_of(client))["gpu-1"].counters == (1, 3)


async def test_lies_about_links_change_one_side(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=2, switches=2))
    pdis, honest = await pdis_of(client), await reports_of(client)

    await client.faults("names_no_switch:gpu-1")
    told = await reports_of(client)
    assert named_by_gpu(told["gpu-1"]) == {EMPTY}
    assert named_by_gpu(told["gpu-0"]) == named_by_gpu(honest["gpu-0"])
    assert pdis["gpu-1"] in named_by_switch(told["switch-0"])

    await client.faults("named_by_no_switch:gpu-1")
    told = await reports_of(client)
    for slot in ("switch-0", "switch-1"):
        assert named_by_switch(told[slot]) == [pdis["gpu-0"]] + [EMPTY] * 7
    assert named_by_gpu(told["gpu-1"]) == named_by_gpu(honest["gpu-1"])

    await client.faults("gpu_in_no_slot:gpu-1")
    told = await reports_of(client)
    assert named_by_gpu(told["gpu-1"]) == {EMPTY}
    assert pdis["gpu-1"] not in named_by_switch(told["switch-0"]) + named_by_switch(told["switch-1"])
    assert named_by_gpu(told["gpu-0"]) == named_by_gpu(honest["gpu-0"])


@pytest.mark.parametrize("gpus", [2, 8])
async def test_repeated_pdi(new_board: MakeBoard, serve_board: ServeBoard, gpus: int) -> None:
    client = await serve_board(new_board(gpus=gpus, switches=2), faults=("repeated_pdi:switch-1",))
    pdis, told = await pdis_of(client), await reports_of(client)
    assert named_by_switch(told["switch-1"]).count(pdis["gpu-0"]) == 2
    assert named_by_switch(told["switch-0"]).count(pdis["gpu-0"]) == 1


async def test_repeated_pdi_on_a_board_without_gpus(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(gpus=0, switches=1), faults=("repeated_pdi",))
    assert set(named_by_switch((await reports_of(client))["switch-0"])) == {EMPTY}


async def test_swapped_gpus_change_places_and_back(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    here, there = new_board("a", gpus=2, switches=1), new_board("c", gpus=1, switches=1)
    client, other = await serve_board(here), await serve_board(there)
    ours, theirs = await pdis_of(client), await pdis_of(other)
    await client.faults(f"swapped_gpu:gpu-1={there / 'gpu-0'}")
    await other.power_cycle()
    assert await pdis_of(client) == {**ours, "gpu-1": theirs["gpu-0"]}
    assert await pdis_of(other) == {**theirs, "gpu-0": ours["gpu-1"]}
    reports = await reports_of(client)
    assert theirs["gpu-0"] in named_by_switch(reports["switch-0"])
    await client.faults()
    await other.power_cycle()
    assert (await pdis_of(client), await pdis_of(other)) == (ours, theirs)


def test_an_empty_slot_cannot_be_swapped(new_board: MakeBoard) -> None:
    board = new_board(gpus=1)
    for one, other in (("gpu-0", "gpu-1"), ("gpu-1", "gpu-0"), ("gpu-0", "elsewhere")):
        with pytest.raises(StateError):
            swap_devices(board / one, board / other)
    assert sorted(path.name for path in board.iterdir()) == ["gpu-0"]


async def test_a_relayed_gpu_is_farther_than_its_board(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32))
    world = World({landmark.key_id: Place(0, 0)}, path_factor=1.0)
    client = await serve_board(new_board(gpus=2), place=Place(0, 0), world=world, faults=("relayed_gpu:gpu-1=0,20",))
    pdis = await pdis_of(client)
    for slot in ("gpu-0", "gpu-1"):
        await client.range(pdis[slot], bytes(32), landmark.key_id, [landmark.endpoint], b"ticket", 20)
    await client.faults()
    await client.range(pdis["gpu-1"], bytes(32), landmark.key_id, [landmark.endpoint], b"ticket", 20)
    near, relayed, back = (min(ranged.rtt_ns.values()) for ranged in landmark.sessions)
    assert relayed >= 14 * MS  # 20 degrees are 2,224 km: 14.8 ms there and back
    assert max(near, back) < 14 * MS


@pytest.mark.parametrize(
    "order",
    [
        "relayed_gpu:gpu-1", "relayed_gpu:gpu-1=north", "relayed_gpu:gpu-7=0,0", "swapped_gpu:gpu-1",
        "swapped_gpu:gpu-1=/nowhere/gpu-1", "names_no_switch", "named_by_no_switch:switch-0", "gpu_in_no_slot:gpu-8",
        "early_garbage:gpu-1", "early_garbage:65", "reordered_rounds:-1",
    ],
)  # fmt: skip
async def test_an_order_that_makes_no_sense_changes_nothing(
    new_board: MakeBoard, serve_board: ServeBoard, order: str
) -> None:
    client = await serve_board(new_board(gpus=2, switches=1))
    with pytest.raises(BoardError) as error:
        await client.faults(order)
    assert error.value.code in {"BAD_REQUEST", "STATE"}
    assert await client.faults() == []
