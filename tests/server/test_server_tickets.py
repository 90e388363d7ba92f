"""Tickets, read by hand as a landmark would."""

import hashlib
from datetime import UTC, datetime, timedelta

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from server.intake.challenges import NO_CHECKPOINT, ChallengeBook, draw_challenge
from server.intake.tickets import TicketOffice
from verifier.evidence.attestation import derive_challenge
from verifier.units import Challenge, LandmarkKeyId

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LANDMARK = LandmarkKeyId(hashlib.sha256(b"landmark").digest())


def test_a_ticket_is_as_the_protocol_says() -> None:
    key = Ed25519PrivateKey.generate()
    office = TicketOffice(key)
    issued = draw_challenge("host", NOW, NO_CHECKPOINT).issued
    ticket = office.issue(issued, LANDMARK)

    tagged = cbor2.loads(ticket)
    assert tagged.tag == 18
    protected, unprotected, payload, signature = tagged.value
    assert unprotected == {}
    public = key.public_key().public_bytes_raw()
    assert office.public_key == public
    assert cbor2.loads(protected) == {1: -19, 4: hashlib.sha256(public).digest()}
    structure = cbor2.dumps(["Signature1", protected, b"trigpoint-ticket-v1\0", payload], canonical=True)
    Ed25519PublicKey.from_public_bytes(public).verify(signature, structure)
    receipt_structure = cbor2.dumps(["Signature1", protected, b"trigpoint-receipt-v1\0", payload], canonical=True)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(public).verify(signature, receipt_structure)

    fields = cbor2.loads(payload)
    assert fields.keys() == {1, 2, 3, 4}
    assert (fields[1], fields[2]) == (issued.challenge, LANDMARK)
    assert fields[3] == int((NOW + issued.life + timedelta(seconds=5)).timestamp())
    assert len(fields[4]) == 16
    for part in (ticket, protected, payload):
        assert cbor2.dumps(cbor2.loads(part), canonical=True) == part  # C2


def test_two_tickets_are_never_the_same() -> None:
    office = TicketOffice(Ed25519PrivateKey.generate())
    issued = draw_challenge("host", NOW, NO_CHECKPOINT).issued
    assert office.issue(issued, LANDMARK) != office.issue(issued, LANDMARK)


def test_a_challenge_is_derived_from_its_preimage() -> None:
    drawn = draw_challenge("host", NOW, bytes(range(32)))
    random, checkpoint = drawn.preimage[:32], drawn.preimage[32:]
    assert checkpoint == bytes(range(32))
    assert drawn.issued.challenge == derive_challenge(random, checkpoint)


def test_a_challenge_is_spent_once_and_by_its_host_alone() -> None:
    book = ChallengeBook()
    drawn = book.issue("host", NOW, NO_CHECKPOINT)
    challenge = drawn.issued.challenge
    assert book.spend("other", challenge) is None
    assert book.spend("host", Challenge(bytes(32))) is None
    assert book.spend("host", challenge) is drawn
    assert book.spend("host", challenge) is None


def test_one_challenge_a_host_is_open() -> None:
    book = ChallengeBook()
    first = book.issue("host", NOW, NO_CHECKPOINT)
    second = book.issue("host", NOW, NO_CHECKPOINT)
    assert book.spend("host", first.issued.challenge) is None
    assert book.find("host", second.issued.challenge) is second
    assert book.is_open("host")
    assert book.drop("host")
    assert not book.drop("host")
