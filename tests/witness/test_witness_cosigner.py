"""What a witness signs and what not, check by check of C2SP tlog-witness; in memory but for its files."""

import asyncio
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tests.witness.witness_world import NAME, ORIGIN, MemoryLog, request
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import EMPTY_ROOT
from verifier.journal.notes import Note, NoteError, NoteKey, parse_lines, sign
from witness.cosigner import SIZE_TYPE, Cosigner
from witness.errors import KeyFileError, StateError
from witness.keys import create_key, load_key
from witness.ledger import Ledger
from witness.request import MAX_BODY_BYTES, MAX_PROOF, parse_submission

KEY = Ed25519PrivateKey.generate()
PUBLIC = NoteKey.of(NAME, KEY, cosigns=True)
NOW = 1_790_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Ledger.make(tmp_path / "state", PUBLIC.vkey)
    return tmp_path / "state"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    opened = Ledger.open(folder, PUBLIC.vkey)
    yield opened
    opened.close()


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    made.grow(100)
    return made


def ledger_file(folder: Path) -> Path:
    (path,) = folder.glob("*.note")
    return path


def cosigner_of(ledger: Ledger, *logs: MemoryLog) -> Cosigner:
    return Cosigner(NAME, KEY, {log.origin: [log.public] for log in logs}, ledger, lambda: NOW + 0.9)


async def test_a_checkpoint_that_extends_the_last_one_is_cosigned_with_the_time(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    last = 0
    for size in (0, 1, 7, 8, 64, 99, 100, 100):
        answer = await cosigner.add_checkpoint(log.request(last, size))
        assert answer.status == 200
        cosigned = log.note(size).plus(parse_lines(answer.body.encode()))
        assert cosigned.cosigned_by(PUBLIC) == NOW
        assert cosigner.newest(ORIGIN).body == bytes(cosigned).decode()
        last = size


async def test_the_old_size_must_be_the_last_one(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    first = await cosigner.add_checkpoint(log.request(5, 10))
    assert (first.status, first.content_type, first.body) == (409, SIZE_TYPE, "0\n")
    assert (await cosigner.add_checkpoint(log.request(0, 10))).status == 200
    for old in (0, 9):
        answer = await cosigner.add_checkpoint(log.request(old, 20))
        assert (answer.status, answer.content_type, answer.body) == (409, SIZE_TYPE, "10\n")
    # Never smaller again, with whatever proof.
    assert (await cosigner.add_checkpoint(log.request(5, 9))).status == 409
    assert (await cosigner.add_checkpoint(request(10, (), bytes(log.note(9))))).status == 400


async def test_a_fork_is_not_cosigned(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    assert (await cosigner.add_checkpoint(log.request(0, 50))).status == 200
    fork = log.fork(40, 40)
    assert (await cosigner.add_checkpoint(fork.request(50))).status == 422
    assert (await cosigner.add_checkpoint(request(50, (), bytes(fork.note())))).status == 422
    same_size = await cosigner.add_checkpoint(fork.request(50, 50))
    assert (same_size.status, same_size.content_type, same_size.body) == (409, SIZE_TYPE, "50\n")
    assert Checkpoint.parse(Note.parse(cosigner.newest(ORIGIN).body.encode()).text) == log.checkpoint(50)
    assert (await cosigner.add_checkpoint(log.request(50))).status == 200


async def test_proofs_that_prove_too_much_are_refused(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    assert (await cosigner.add_checkpoint(request(0, [bytes(32)], bytes(log.note(10))))).status == 422
    assert (await cosigner.add_checkpoint(log.request(0, 10))).status == 200
    assert (await cosigner.add_checkpoint(request(10, [bytes(32)], bytes(log.note(10))))).status == 422
    longer = request(10, [*log.proof(10), bytes(32)], bytes(log.note()))
    assert (await cosigner.add_checkpoint(longer)).status == 422


async def test_an_empty_log_has_the_empty_root(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    wrong = sign(Checkpoint(ORIGIN, 0, bytes(32)).text, ORIGIN, log.key)
    assert (await cosigner.add_checkpoint(request(0, (), bytes(wrong)))).status == 409
    right = sign(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text, ORIGIN, log.key)
    assert (await cosigner.add_checkpoint(request(0, (), bytes(right)))).status == 200


async def test_who_signed_matters_and_in_which_order_it_is_asked(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    other, stranger = MemoryLog(origin="other.example"), MemoryLog()
    stranger.grow(10)
    assert (await cosigner.add_checkpoint(other.request(0))).status == 404
    assert (await cosigner.add_checkpoint(stranger.request(0))).status == 403
    assert cosigner.newest("other.example").status == cosigner.newest(ORIGIN).status == 404
    # An unknown signer is not told what was signed last.
    assert (await cosigner.add_checkpoint(stranger.request(5))).status == 403
    # Signatures of others beside the log's own do no harm, and are not kept.
    both = log.note(10).plus([*stranger.note(10).signatures, *sign(log.checkpoint(10).text, "x", KEY).signatures])
    assert (await cosigner.add_checkpoint(request(0, (), bytes(both)))).status == 200
    kept = ledger.last(ORIGIN)
    assert kept == log.note(10)


async def test_two_requests_at_once_cannot_bring_a_smaller_after_a_larger(ledger: Ledger, log: MemoryLog) -> None:
    cosigner = cosigner_of(ledger, log)
    requests = [log.request(0, size) for size in range(1, 60)]
    statuses = [a.status for a in await asyncio.gather(*(cosigner.add_checkpoint(r) for r in requests))]
    assert sorted(statuses) == [200, *[409] * 58]


async def test_nothing_is_signed_that_is_not_durable(
    ledger: Ledger, log: MemoryLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosigner = cosigner_of(ledger, log)
    assert (await cosigner.add_checkpoint(log.request(0, 10))).status == 200
    flushed: list[int] = []

    def full(descriptor: int) -> None:
        flushed.append(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = await cosigner.add_checkpoint(log.request(10, 20))
    assert answer.status == 503
    assert flushed
    assert ledger.last(ORIGIN) == log.note(10)
    monkeypatch.undo()
    assert (await cosigner.add_checkpoint(log.request(10, 20))).status == 200
    assert Note.parse(ledger_file(folder).read_bytes()) == log.note(20)


async def test_what_was_promised_outlives_the_process(folder: Path, log: MemoryLog) -> None:
    ledger = Ledger.open(folder, PUBLIC.vkey)
    assert (await cosigner_of(ledger, log).add_checkpoint(log.request(0, 50))).status == 200
    with pytest.raises(StateError, match="another process"):
        Ledger.open(folder, PUBLIC.vkey)
    ledger.close()
    ledger = Ledger.open(folder, PUBLIC.vkey)
    again = cosigner_of(ledger, log)
    assert (await again.add_checkpoint(log.fork(40, 40).request(50))).status == 422
    newest = Note.parse(again.newest(ORIGIN).body.encode())
    assert newest.cosigned_by(PUBLIC) == NOW
    assert newest.signed_by(log.public)
    ledger.close()


async def test_logs_do_not_share_their_state(ledger: Ledger, log: MemoryLog) -> None:
    other = MemoryLog(origin="other.example/a b".replace(" ", "/"))
    other.grow(3)
    cosigner = cosigner_of(ledger, log, other)
    assert (await cosigner.add_checkpoint(log.request(0))).status == 200
    assert (await cosigner.add_checkpoint(other.request(0))).status == 200
    assert (await cosigner.add_checkpoint(other.request(3))).status == 200
    assert (await cosigner.add_checkpoint(request(100, (), bytes(other.note())))).status == 400


def test_a_witness_without_its_state_does_not_start(tmp_path: Path, log: MemoryLog) -> None:
    with pytest.raises(StateError, match="make a new witness"):
        Ledger.open(tmp_path / "lost", PUBLIC.vkey)
    Ledger.make(tmp_path / "state", PUBLIC.vkey)
    with pytest.raises(StateError, match="exists"):
        Ledger.make(tmp_path / "state", PUBLIC.vkey)
    with pytest.raises(StateError, match="another name or key"):
        Ledger.open(tmp_path / "state", log.public.vkey)
    (tmp_path / "state" / "damaged.note").write_bytes(b"half a note")
    with pytest.raises(StateError, match="damaged"):
        Ledger.open(tmp_path / "state", PUBLIC.vkey)
    (tmp_path / "state" / "damaged.note").write_bytes(bytes(log.note()))
    with pytest.raises(StateError, match="of another log"):
        Ledger.open(tmp_path / "state", PUBLIC.vkey)


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = create_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path).private_bytes_raw() == key.private_bytes_raw()
    with pytest.raises(KeyFileError, match="exists"):
        create_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="lets others"):
        load_key(path)
    path.chmod(0o600)
    path.write_bytes(b"no key")
    with pytest.raises(KeyFileError, match="no unencrypted"):
        load_key(path)
    with pytest.raises(KeyFileError, match="not a regular file"):
        load_key(tmp_path)
    with pytest.raises(KeyFileError, match="No such file"):
        load_key(tmp_path / "none")


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "no gap": lambda _: b"old 0\n",
    "no old": lambda note: b"\n\n" + note,
    "old with a plus": lambda note: b"old +1\n\n" + note,
    "old with a zero": lambda note: b"old 01\n\n" + note,
    "old beyond sizes": lambda note: b"old 9999999999999999999\n\n" + note,
    "short hash": lambda note: request(0, [bytes(31)], note),
    "hash of another spelling": lambda note: b"old 0\n" + b"A" * 42 + b"B=\n\n" + note,
    "hash with a space": lambda note: b"old 0\n " + b"A" * 43 + b"=\n\n" + note,
    "64 hashes": lambda note: request(0, [bytes(32)] * (MAX_PROOF + 1), note),
    "not ASCII": lambda note: "old 1²\n\n".encode() + note,
    "no signature": lambda note: b"old 0\n\n" + note.rpartition(b"\n\n")[0] + b"\n\n",
    "an extension line": lambda note: b"old 0\n\n" + note.replace(b"\n\n", b"\nmore\n\n"),
    "carriage returns": lambda note: b"old 0\r\n\r\n" + note,
    "too large": lambda note: b"old 0\n\n" + note + note[-60:] * (MAX_BODY_BYTES // 60),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_bodies_that_are_none_are_refused(name: str, ledger: Ledger, log: MemoryLog) -> None:
    body = BROKEN[name](bytes(log.note()))
    assert (await cosigner_of(ledger, log).add_checkpoint(body)).status == 400
    assert ledger.last(ORIGIN) is None


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda more: b"old 0\n\n" + more))
def test_a_body_is_read_or_refused_by_name(body: bytes) -> None:
    try:
        submission = parse_submission(body)
    except NoteError:
        return
    assert request(submission.old, submission.proof, bytes(submission.note)) == body


def test_a_flipped_bit_is_never_cosigned(folder: Path, log: MemoryLog) -> None:
    async def run() -> None:
        ledger = Ledger.open(folder, PUBLIC.vkey)
        cosigner = cosigner_of(ledger, log)
        assert (await cosigner.add_checkpoint(log.request(0, 50))).status == 200
        body = log.request(50)
        for at in range(len(body)):
            flipped = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            answer = await cosigner.add_checkpoint(flipped)
            assert answer.status in {400, 403, 404, 409, 422}, (at, answer)
        ledger.close()

    asyncio.run(run())
