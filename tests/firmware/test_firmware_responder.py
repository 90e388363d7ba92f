"""Ranging over real sockets against a landmark written from docs/protocol.md §7."""

import asyncio
import os
import secrets
import signal
import socket
from pathlib import Path

import pytest

from firmware_stubs.client import BoardError
from firmware_stubs.geography import LIGHT_KM_PER_S, Place, World, great_circle_km
from tests.firmware.conftest import MakeBoard, ServeBoard, StartLandmark
from tests.firmware.helpers import FakeLandmark, transcript, verified_report

HERE = Place(48.14, 11.58)
THERE = Place(50.11, 8.68)
TICKET = b"ticket of any bytes"
MS = 1_000_000


def hold_ns(path_factor: float = 1.5) -> float:
    return 2 * great_circle_km(HERE, THERE) / LIGHT_KM_PER_S * path_factor * 1e9


def world_of(*landmarks: FakeLandmark, at: Place = THERE) -> World:
    return World({landmark.key_id: at for landmark in landmarks})


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
async def test_device_ranges_and_signs_what_it_answered(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark, family: int
) -> None:
    challenge = secrets.token_bytes(32)
    landmark = start_landmark(challenge, family=family, indices=range(24))
    client = await serve_board(new_board(), place=HERE, world=world_of(landmark))
    (device,) = await client.devices()
    outcome = await client.range(device.pdi, challenge, landmark.key_id, [landmark.endpoint], TICKET, 20)
    assert (outcome.receipt, outcome.why) == (b"receipt", 0)
    (ranged,) = landmark.sessions
    assert ranged.ticket == TICKET
    assert ranged.right() == set(range(24))
    assert outcome.answered_mask == (1 << 24) - 1
    # Never before D, without slack; and only the session's least is bounded from above (a busy machine may be late).
    assert min(ranged.rtt_ns.values()) >= hold_ns()
    assert min(ranged.rtt_ns.values()) < hold_ns() + 1 * MS
    report = verified_report(await client.report(device.pdi, bytes(32)), await client.chain(device.pdi))
    expected = transcript(ranged.session, ranged.commitment, ranged.answered)
    assert report.log == [(ranged.session, ranged.commitment, expected)]


async def test_unknown_landmark_is_next_door(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32))
    client = await serve_board(new_board(), place=HERE)
    (device,) = await client.devices()
    await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], TICKET, 20)
    assert min(landmark.sessions[0].rtt_ns.values()) < 1 * MS


async def test_moving_changes_the_round_trip(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32))
    client = await serve_board(new_board(), place=THERE, world=world_of(landmark))
    (device,) = await client.devices()
    for place in (THERE, HERE):
        await client.move(place.latitude, place.longitude)
        await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], TICKET, 20)
    near, far = (min(ranged.rtt_ns.values()) for ranged in landmark.sessions)
    assert near < 1 * MS
    assert far >= hold_ns()


async def test_log_holds_a_devices_own_sessions_until_it_loses_power(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32))
    client = await serve_board(new_board(gpus=2))
    device, other = await client.devices()
    for _ in range(2):
        await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], TICKET, 20)
    log = verified_report(await client.report(device.pdi, bytes(32)), await client.chain(device.pdi)).log
    assert [entry[0] for entry in log] == [ranged.session for ranged in landmark.sessions]
    assert not verified_report(await client.report(other.pdi, bytes(32)), await client.chain(other.pdi)).log
    await client.power_cycle()
    after = verified_report(await client.report(device.pdi, bytes(32)), await client.chain(device.pdi))
    assert after.log == []
    assert after.counters == (2, 2)


async def test_sessions_run_at_once(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmarks = [start_landmark(bytes(32)) for _ in range(4)]
    client = await serve_board(new_board(gpus=2), place=HERE, world=world_of(*landmarks))
    devices = await client.devices()
    orders = [(devices[n % 2].pdi, landmark) for n, landmark in enumerate(landmarks)]
    outcomes = await asyncio.gather(
        *(client.range(pdi, bytes(32), mark.key_id, [mark.endpoint], TICKET, 20) for pdi, mark in orders)
    )
    assert [outcome.receipt for outcome in outcomes] == [b"receipt"] * 4
    for landmark in landmarks:
        assert landmark.sessions[0].right() == set(range(16))
        assert min(landmark.sessions[0].rtt_ns.values()) >= hold_ns()


async def test_lost_datagrams_are_repeated(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32), ignore={1: 1, 3: 1, 5: 2, 7: 1})
    client = await serve_board(new_board())
    (device,) = await client.devices()
    outcome = await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], TICKET, 20)
    assert outcome.receipt == b"receipt"
    (ranged,) = landmark.sessions
    assert len(ranged.right()) == 14
    assert outcome.answered_mask == (1 << 16) - 1  # the device cannot know that answers were lost


async def test_rounds_out_of_order_or_twice_are_dropped(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32), indices=[0, 1, 2, 2, 4, 3, 5, 6, 7, 8, 9])
    client = await serve_board(new_board())
    (device,) = await client.devices()
    outcome = await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], TICKET, 20)
    assert landmark.sessions[0].right() == {0, 1, 2, 4, 5, 6, 7, 8, 9}
    assert outcome.answered_mask == 0b11_1111_0111
    report = verified_report(await client.report(device.pdi, bytes(32)), await client.chain(device.pdi))
    ranged = landmark.sessions[0]
    assert report.log[0][2] == transcript(ranged.session, ranged.commitment, ranged.answered)


async def test_silence_and_refusal_have_their_numbers(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    refusing = start_landmark(bytes(32), refuse=2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        client = await serve_board(new_board())
        (device,) = await client.devices()
        silent, refused = await asyncio.gather(
            client.range(device.pdi, bytes(32), bytes(32), [f"127.0.0.1:{deaf.getsockname()[1]}"], TICKET, 0.2),
            client.range(device.pdi, bytes(32), refusing.key_id, [refusing.endpoint], TICKET, 20),
        )
    assert (silent.receipt, silent.why) == (None, 1)
    assert (refused.receipt, refused.why) == (None, 2)


async def test_second_endpoint_is_used_when_the_first_has_no_address(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32))
    client = await serve_board(new_board())
    (device,) = await client.devices()
    endpoints = ["[::2]:9", landmark.endpoint]
    outcome = await client.range(device.pdi, bytes(32), landmark.key_id, endpoints, TICKET, 20)
    assert outcome.receipt == b"receipt"


async def test_dead_responder_is_an_error_and_not_an_outcome(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board())
    (device,) = await client.devices()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{deaf.getsockname()[1]}"
        ranging = asyncio.create_task(client.range(device.pdi, bytes(32), bytes(32), [endpoint], TICKET, 50))
        await asyncio.to_thread(deaf.recv, 96)
        os.kill(responder_of(os.getpid()), signal.SIGKILL)
        with pytest.raises(BoardError) as caught:
            await ranging
    assert caught.value.code == "RESPONDER"


def responder_of(parent: int) -> int:
    """The one child of a board's process."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    children = [int(pid) for pid in text.split()]
    matching = [pid for pid in children if b"firmware_stubs.responder" in command_of(pid)]
    assert len(matching) == 1
    return matching[0]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # it ended meanwhile
