"""The control socket: what a client sees when it asks for what is not there."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from firmware_stubs.client import BoardClient, BoardError
from firmware_stubs.errors import StateError
from firmware_stubs.framing import FRAME_MAX_BYTES, FrameReader, FramingError, decode, encode
from tests.firmware.conftest import MakeBoard, ServeBoard

TICKET = b"t"
ENDPOINTS = ["127.0.0.1:9"]


async def code_of(call: object) -> str:
    assert asyncio.iscoroutine(call)
    with pytest.raises(BoardError) as caught:
        await call
    return caught.value.code


async def test_errors_are_named(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board())
    (device,) = await client.devices()
    assert await code_of(client.report(bytes(8), bytes(32))) == "UNKNOWN_DEVICE"
    assert await code_of(client.chain(bytes(8))) == "UNKNOWN_DEVICE"
    assert await code_of(client.report(device.pdi, bytes(31))) == "BAD_REQUEST"
    assert await code_of(client.move(91, 0)) == "BAD_REQUEST"
    assert await code_of(client.move(float("nan"), 0)) == "BAD_REQUEST"
    assert await code_of(client.faults("no_such_lie")) == "BAD_REQUEST"
    assert await code_of(client.faults("moved")) == "BAD_REQUEST"
    assert await code_of(client.faults("pulled_gpu:gpu-0")) == "BAD_REQUEST"
    assert await code_of(client.range(device.pdi, bytes(31), bytes(32), ENDPOINTS, TICKET, 1)) == "BAD_REQUEST"
    assert await code_of(client.range(device.pdi, bytes(32), bytes(32), [], TICKET, 1)) == "BAD_REQUEST"
    assert await code_of(client.range(device.pdi, bytes(32), bytes(32), ["nonsense"], TICKET, 1)) == "BAD_REQUEST"
    assert await code_of(client.range(device.pdi, bytes(32), bytes(32), ENDPOINTS, TICKET, 60)) == "BAD_REQUEST"
    assert await code_of(client.range(device.pdi, bytes(32), bytes(32), ENDPOINTS, bytes(1091), 1)) == "BAD_REQUEST"
    assert len(await client.devices()) == 1


async def test_failed_fault_order_changes_nothing(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    client = await serve_board(new_board(), faults=("wrong_nonce",))
    assert await code_of(client.faults("replayed_report", "no_such_lie")) == "BAD_REQUEST"
    assert await client.faults("wrong_nonce", "replayed_report") == ["wrong_nonce", "replayed_report"]


async def test_nonsense_on_the_socket_is_refused_and_the_board_lives_on(
    new_board: MakeBoard, serve_board: ServeBoard
) -> None:
    client = await serve_board(new_board())
    for data in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xff", encode({"op": "nothing"}), encode({"op": 3})):
        reader, writer = await asyncio.open_unix_connection(client.path)
        writer.write(data)
        (reply,) = FrameReader().feed(await reader.read(4096))
        assert (reply["ok"], reply["code"]) == (False, "BAD_REQUEST")
        writer.close()
    _, writer = await asyncio.open_unix_connection(client.path)
    writer.write(b"\x00\x00")
    writer.close()
    assert len(await client.devices()) == 1


async def test_no_board_is_unreachable(tmp_path: Path) -> None:
    assert await code_of(BoardClient(tmp_path / "nothing.sock").devices()) == "UNREACHABLE"


async def test_socket_is_private_and_served_once(new_board: MakeBoard, serve_board: ServeBoard) -> None:
    board = new_board()
    client = await serve_board(board)
    assert stat.S_IMODE(os.stat(client.path).st_mode) == 0o600  # noqa: PTH116 -- the path may be text
    with pytest.raises(StateError):
        await serve_board(board)


def test_frames_come_in_any_portions() -> None:
    stream = encode({"a": 1}) + encode({"b": b"x"})
    reader = FrameReader()
    assert [message for at in range(len(stream)) for message in reader.feed(stream[at : at + 1])] == [
        {"a": 1},
        {"b": b"x"},
    ]
    for body in (b"", b"\x01", b"\xa1\x01\x02", b"\x1c"):
        with pytest.raises(FramingError):
            decode(body)
    with pytest.raises(FramingError):
        encode({"a": bytes(FRAME_MAX_BYTES)})
