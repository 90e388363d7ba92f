"""Whole sessions over real UDP sockets on loopback, and every way in which one is refused or dropped."""

import asyncio
import hashlib
import os
import time

import pytest

from landmark.keys import LandmarkKey
from tests.landmark.helpers import (
    LOOPBACKS,
    NONCE,
    REFUSED,
    STOP,
    Device,
    Issuer,
    Landmark,
    answer,
    commit,
    commitment_to,
    dumps,
    hello,
    read_receipt,
    reveal,
    run_landmark,
    sha256,
)

BUSY, INVALID, EXPIRED, USED, TOO_FEW, MISMATCH = range(1, 7)


def check_receipt(landmark: Landmark, device: Device, message: bytes) -> dict[int, object]:
    fields = read_receipt(message, landmark.key.public_key)
    assert sorted(fields) == list(range(1, 12))
    assert fields[2] == device.challenge
    assert fields[1] == sha256(b"trigpoint-session-v1\0", device.challenge, landmark.key.key_id, fields[3])
    assert fields[4] == commitment_to(fields[1], device.secret)
    stream = hashlib.shake_256(fields[5]).digest(16 * 64)
    for index, challenge in device.rounds.items():
        assert challenge == stream[16 * index : 16 * index + 16]
    assert len(fields[7]) == 8
    assert fields[9] in {1, 2}
    assert fields[10] == 7
    assert abs(fields[11] - time.time()) < 3600
    return fields


@pytest.mark.parametrize("host", LOOPBACKS)
@pytest.mark.parametrize("kernel_stamps", [True, False])
async def test_an_honest_session_gives_a_receipt_whose_every_field_checks(host: str, *, kernel_stamps: bool) -> None:
    async with run_landmark(kernel_stamps=kernel_stamps) as landmark:
        device = landmark.device(host, hold_ns=3_000_000)
        fields = check_receipt(landmark, device, await device.range(landmark.ticket(device)))
        assert fields[6] == 16
        assert fields[7] == (0xFFFF).to_bytes(8, "big")
        assert isinstance(fields[8], int)
        assert fields[8] >= 3_000_000
        if not kernel_stamps:
            assert fields[9] == 1
        stats = landmark.daemon.stats()
        assert stats.outcomes == {"receipt": 1}
        assert (stats.sessions, stats.rounds, stats.open_sessions, stats.hellos) == (1, 16, 0, 1)
        assert not stats.dropped
        assert not stats.refused


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_least_round_trip_on_idle_loopback_is_under_a_millisecond(host: str) -> None:
    async with run_landmark() as landmark:
        device = landmark.device(host)
        fields = check_receipt(landmark, device, await device.range(landmark.ticket(device)))
        assert isinstance(fields[8], int)
        assert 0 < fields[8] < 1_000_000


async def test_sixty_four_rounds() -> None:
    async with run_landmark(rounds=64, round_interval_ms=1) as landmark:
        device = landmark.device()
        fields = check_receipt(landmark, device, await device.range(landmark.ticket(device)))
        assert fields[6] == 64
        assert fields[7] == b"\xff" * 8


async def test_many_devices_at_once() -> None:
    async with run_landmark() as landmark:
        devices = [landmark.device() for _ in range(8)]
        receipts = await asyncio.gather(*(device.range(landmark.ticket(device)) for device in devices))
        for device, message in zip(devices, receipts, strict=True):
            check_receipt(landmark, device, message)


async def test_a_repeated_commit_changes_nothing_and_a_repeated_reveal_is_answered_again() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        datagram = device.commit_bytes(opened, landmark.ticket(device))
        for _ in range(3):
            device.send(datagram)
        await device.answer_rounds(opened)
        first = await device.finish(opened)
        assert await device.finish(opened) == first
        # Also when the session is over: its cookie is spent.
        device.send(datagram)
        await device.fence()
        assert landmark.daemon.stats().sessions == 1
        assert landmark.dropped() == {"repeated_commit": 3}


async def test_a_spent_cookie_opens_nothing_with_a_fresh_ticket() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        await device.answer_rounds(opened)
        await device.finish(opened)
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        await device.fence()
        assert landmark.daemon.stats().sessions == 1


@pytest.mark.parametrize("field", ["tag", "nonce", "cookie"])
async def test_a_wrong_cookie_gets_no_word(field: str) -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        value = bytearray(getattr(opened, field))
        value[-1] ^= 1
        setattr(opened, field, bytes(value))
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        await device.fence()
        assert landmark.dropped() == {"cookie_forged": 1}


async def test_a_cookie_from_another_address_gets_no_word() -> None:
    async with run_landmark() as landmark:
        device, other = landmark.device(), landmark.device()
        opened = await device.open()
        other.send(device.commit_bytes(opened, landmark.ticket(device)))
        await other.fence()
        assert landmark.dropped() == {"cookie_forged": 1}
        assert landmark.daemon.stats().sessions == 0


async def refusal_of(device: Device, ticket: bytes) -> int:
    opened = await device.open()
    device.send(device.commit_bytes(opened, ticket))
    return await device.refusal()


async def test_an_expired_ticket_is_refused() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        ticket = landmark.ticket(device, expires=int(time.time()) - 30)
        assert await refusal_of(device, ticket) == EXPIRED


async def test_a_used_ticket_is_refused_even_for_another_device() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        ticket = landmark.ticket(device, ticket_id=b"i" * 16)
        await device.range(ticket)
        assert await refusal_of(device, ticket) == USED
        # Another ticket of the same id is used up too.
        again = landmark.ticket(device, ticket_id=b"i" * 16)
        assert await refusal_of(device, again) == USED
        other = landmark.device()
        other.challenge = device.challenge
        assert await refusal_of(other, ticket) == USED
        assert landmark.daemon.stats().refused == {"ticket_used": 3}


async def test_a_foreign_ticket_is_refused() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        ticket = Issuer().ticket(landmark.key.key_id, challenge=device.challenge)
        assert await refusal_of(device, ticket) == INVALID


async def test_a_ticket_for_another_landmark_is_refused() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        ticket = landmark.issuer.ticket(os.urandom(32), challenge=device.challenge)
        assert await refusal_of(device, ticket) == INVALID


async def test_every_flipped_bit_of_the_signature_end_of_a_ticket_is_refused() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        for at in (0, 1, 10, -100, -64, -33, -1):
            ticket = bytearray(landmark.ticket(device))
            ticket[at] ^= 1
            assert await refusal_of(device, bytes(ticket)) == INVALID


async def test_a_refused_commit_does_not_spend_the_cookie_or_the_ticket() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        ticket = landmark.ticket(device)
        opened = await device.open()
        device.send(device.commit_bytes(opened, ticket[:-1] + bytes([ticket[-1] ^ 1])))
        assert await device.refusal() == INVALID
        device.send(device.commit_bytes(opened, ticket))
        await device.answer_rounds(opened)
        check_receipt(landmark, device, await device.finish(opened))


async def test_both_ticket_keys_count_while_they_are_rotated() -> None:
    old, new = Issuer(), Issuer()
    async with run_landmark(ticket_keys=[old.public_hex, new.public_hex]) as landmark:
        for issuer in (old, new):
            device = landmark.device()
            await device.range(issuer.ticket(landmark.key.key_id, challenge=device.challenge))


async def test_a_first_answer_that_is_garbage_closes_the_round() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))

        def answers(index: int, right: bytes) -> list[bytes]:
            return [answer(opened.tag, index, bytes(16)), right] if index in {2, 5} else [right]

        await device.answer_rounds(opened, answers=answers)
        fields = check_receipt(landmark, device, await device.finish(opened))
        assert fields[7] == (0xFFFF & ~(1 << 2) & ~(1 << 5)).to_bytes(8, "big")
        assert landmark.dropped() == {"round_closed": 2}


async def test_an_answer_before_its_round_closes_it() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))

        def answers(index: int, right: bytes) -> list[bytes]:
            return [right, answer(opened.tag, 15, bytes(16))] if index == 0 else [right]

        await device.answer_rounds(opened, answers=answers)
        fields = check_receipt(landmark, device, await device.finish(opened))
        assert fields[7] == (0x7FFF).to_bytes(8, "big")


async def test_answers_from_another_address_are_dropped() -> None:
    async with run_landmark() as landmark:
        device, other = landmark.device(), landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))

        def answers(index: int, right: bytes) -> list[bytes]:
            other.send(answer(opened.tag, index, bytes(16)))
            return [right]

        await device.answer_rounds(opened, answers=answers)
        other.send(reveal(opened.tag, bytes(32)))
        await other.fence()
        fields = check_receipt(landmark, device, await device.finish(opened))
        assert fields[7] == (0xFFFF).to_bytes(8, "big")
        assert landmark.dropped() == {"wrong_source": 17}


async def test_answers_after_stop_are_ignored() -> None:
    async with run_landmark(answer_wait_ms=20) as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        late: list[bytes] = []

        def answers(index: int, right: bytes) -> list[bytes]:
            if index < 12:
                return [right]
            late.append(right)
            return []

        assert await device.answer_rounds(opened, answers=answers) == 16
        for datagram in late:
            device.send(datagram)
        fields = check_receipt(landmark, device, await device.finish(opened))
        assert fields[6] == 16
        assert fields[7] == (0x0FFF).to_bytes(8, "big")
        assert landmark.dropped() == {"after_stop": 4}


async def test_a_wrong_secret_is_refused_and_ends_the_session() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        await device.answer_rounds(opened)
        wrong = os.urandom(32)
        for _ in range(2):
            device.send(reveal(opened.tag, wrong))
            assert await device.refusal() == MISMATCH
        # The right one comes too late: a session takes one secret.
        device.send(reveal(opened.tag, device.secret))
        await device.fence()
        assert landmark.dropped() == {"reveal_changed": 1}
        assert landmark.daemon.stats().refused == {"reveal_mismatch": 1}


async def test_a_reveal_before_stop_is_dropped() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))

        def answers(index: int, right: bytes) -> list[bytes]:
            return [right, reveal(opened.tag, device.secret)] if index == 3 else [right]

        await device.answer_rounds(opened, answers=answers)
        check_receipt(landmark, device, await device.finish(opened))
        assert landmark.dropped() == {"reveal_before_stop": 1}


async def test_seven_right_answers_are_too_few_and_eight_are_enough() -> None:
    async with run_landmark(answer_wait_ms=20) as landmark:
        for enough in (7, 8):
            device = landmark.device()
            opened = await device.open()
            device.send(device.commit_bytes(opened, landmark.ticket(device)))

            def answers(index: int, right: bytes, enough: int = enough) -> list[bytes]:
                return [right] if index < enough else [right[:-1] + bytes([right[-1] ^ 1])]

            await device.answer_rounds(opened, answers=answers)
            if enough == 8:
                fields = check_receipt(landmark, device, await device.finish(opened))
                assert fields[7] == (0xFF).to_bytes(8, "big")
            else:
                device.send(reveal(opened.tag, device.secret))
                assert await device.refusal() == TOO_FEW


async def test_a_silent_device_gets_stop_again_and_again_within_what_it_paid() -> None:
    async with run_landmark(answer_wait_ms=20) as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        # COMMIT pays for 18 datagrams of 64 bytes: 16 rounds and two times STOP.
        kinds = [(await device.receive())[3] for _ in range(18)]
        assert kinds[16:] == [STOP, STOP]


async def test_over_the_bound_a_landmark_is_busy() -> None:
    async with run_landmark(limits={"sessions_at_once": 1}) as landmark:
        device, other = landmark.device(), landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        await device.receive()
        ticket = landmark.ticket(other)
        assert await refusal_of(other, ticket) == BUSY
        await device.answer_rounds(opened)
        await device.finish(opened)
        # A busy landmark has not spent the ticket.
        await other.range(ticket)


@pytest.mark.parametrize("size", [0, 3, 4, 63, 65, 95, 97, 1199, 1201, 1400])
async def test_datagrams_of_other_sizes_are_dropped(size: int) -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        for kind in range(256):
            device.send((b"TP\x01" + bytes([kind]))[:size].ljust(size, b"\0"))
            if kind % 64 == 63:
                await device.fence()
        assert landmark.dropped() == {"malformed": 256}


async def test_datagrams_of_the_landmarks_own_kinds_and_of_another_version_are_dropped() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        device.send((b"TP\x01" + bytes([NONCE])).ljust(96, b"\0"))
        device.send((b"TP\x01" + bytes([REFUSED])).ljust(64, b"\0"))
        device.send(b"TP\x02\x01" + hello(bytes(16), landmark.key.key_id)[4:])
        device.send(hello(bytes(16), os.urandom(32)))
        device.send(answer(os.urandom(16), 0, bytes(16)))
        await device.fence()
        assert landmark.dropped() == {"unexpected_kind": 2, "malformed": 1, "other_landmark": 1, "unknown_tag": 1}


async def test_hello_keeps_no_state() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        for _ in range(100):
            await device.open()
        ranger = landmark.daemon._ranger
        assert not ranger._sessions
        assert not ranger._timers
        assert not ranger._used_tickets
        assert landmark.daemon.stats().hellos == 100


async def test_a_restart_forgets_sessions_and_cookies() -> None:
    key, issuer = LandmarkKey.from_seed(os.urandom(32)), Issuer()
    async with run_landmark(key=key, issuer=issuer) as landmark:
        device = landmark.device()
        opened, unused = await device.open(), await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        await device.answer_rounds(opened)
        listen = list(landmark.daemon.endpoints)
        landmark.daemon.close()
        async with run_landmark(key=key, issuer=issuer, listen=listen) as again:
            device.send(reveal(opened.tag, device.secret))
            device.send(device.commit_bytes(unused, landmark.ticket(device)))
            await device.fence()
            assert again.dropped() == {"unknown_tag": 1, "cookie_forged": 1}


async def test_the_rounds_leave_without_waiting_for_answers() -> None:
    async with run_landmark(answer_wait_ms=4_000) as landmark:
        device = landmark.device()
        opened = await device.open()
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        rounds = [await device.receive() for _ in range(16)]
        assert [int.from_bytes(data[20:22], "big") for data in rounds] == list(range(16))
        assert len({data[48:64] for data in rounds}) == 16


async def test_a_commit_whose_ticket_length_does_not_fit_is_dropped() -> None:
    async with run_landmark() as landmark:
        device = landmark.device()
        opened = await device.open()
        datagram = bytearray(commit(opened.tag, opened.nonce, opened.cookie, bytes(32), dumps({})))
        datagram[108:110] = b"\xff\xff"
        device.send(bytes(datagram))
        await device.fence()
        assert landmark.dropped() == {"malformed": 1}
