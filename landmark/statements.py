"""What is signed: the server's ticket, the landmark's receipt, and its statement. docs/protocol.md §7, R9.

A `Ticket` exists only after its signature held and it was found to be for this landmark and still valid (TK1, but for
"once", which `ranger` keeps). A `Receipt` and a `Statement` are only ever written here, never read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nacl.signing import VerifyKey

from landmark import cose
from landmark.clock import ClockSource
from landmark.errors import NotDeterministicError, SignatureInvalidError, TicketExpiredError, TicketInvalidError
from landmark.keys import LandmarkKey

# TK1 allows this much clock skew between server and landmark.
TICKET_SKEW_S: Final = 5
TICKET_LIFE_S: Final = 300


@dataclass(frozen=True, slots=True)
class Ticket:
    """A verified ticket for this landmark.

    `challenge` has 32 bytes, `ticket_id` 16; `expires_unix_s` is the last second of its life, without skew.
    """

    challenge: bytes
    expires_unix_s: int
    ticket_id: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a landmark saw in one session; the fields of the receipt in the order of its keys.

    `least_round_trip_ns` is not widened. `unix_s` is the landmark's own time, informative.
    """

    session_id: bytes
    challenge: bytes
    landmark_nonce: bytes
    commitment: bytes
    seed: bytes
    rounds_sent: int
    accepted_mask: int
    least_round_trip_ns: int
    clock: ClockSource
    position_revision: int
    unix_s: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What a landmark that was ranged says of one session: its id, C and T, 32 bytes each. docs/protocol.md R9."""

    session_id: bytes
    commitment: bytes
    transcript: bytes


def verify_ticket(message: bytes, key_id: bytes, keys: Mapping[bytes, VerifyKey], unix_s: int) -> Ticket:
    """Return the ticket in `message` if it is good for the landmark `key_id` at `unix_s`.

    Raises:
        TicketInvalidError: not a ticket that a key of `keys` signed for this landmark.
        TicketExpiredError: it was one.
    """
    # 1. The server signed it. docs/protocol.md TK1, C3
    try:
        signed = cose.verify1(message, cose.TICKET_LABEL, keys)
        payload = cose.decode(signed)
    except (NotDeterministicError, SignatureInvalidError) as error:
        raise TicketInvalidError(str(error)) from error
    # 2. It has the four fields and no other.
    match payload:
        case {1: bytes(challenge), 2: bytes(landmark), 3: int(expires_unix_s), 4: bytes(ticket_id)} if (
            len(challenge) == 32 and len(ticket_id) == 16 and 0 <= expires_unix_s < 2**64
        ):
            pass
        case _:
            raise TicketInvalidError("not the payload of a ticket")
    # Written down again it gives the same bytes: so there is nothing else in it, and no boolean stands for a number.
    if signed != cose.encode({1: challenge, 2: landmark, 3: int(expires_unix_s), 4: ticket_id}):
        raise TicketInvalidError("not the payload of a ticket")
    # 3. It is for this landmark.
    if landmark != key_id:
        raise TicketInvalidError("for another landmark")
    # 4. It has not expired. That it opens one session only is kept by `ranger`.
    if unix_s > expires_unix_s + TICKET_SKEW_S:
        raise TicketExpiredError(f"expired {unix_s - expires_unix_s} s ago")
    # 5. Its life is short, so that its id need not be remembered for long.
    if expires_unix_s > unix_s + TICKET_LIFE_S:
        raise TicketInvalidError(f"expires {expires_unix_s - unix_s} s from now")
    return Ticket(challenge, expires_unix_s, ticket_id)


def sign_receipt(receipt: Receipt, key: LandmarkKey) -> bytes:
    """Return the signed receipt, COSE_Sign1. docs/protocol.md R6."""
    payload = cose.encode(
        {
            1: receipt.session_id,
            2: receipt.challenge,
            3: receipt.landmark_nonce,
            4: receipt.commitment,
            5: receipt.seed,
            6: receipt.rounds_sent,
            7: receipt.accepted_mask.to_bytes(8, "big"),  # docs/protocol.md C4
            8: receipt.least_round_trip_ns,
            9: int(receipt.clock),
            10: receipt.position_revision,
            11: receipt.unix_s,
        }
    )
    return cose.sign1(payload, cose.RECEIPT_LABEL, key.key_id, key.sign)


def sign_statement(statement: Statement, key: LandmarkKey) -> bytes:
    """Return the signed statement, COSE_Sign1, its payload 96 bytes without CBOR around them. docs/protocol.md R9."""
    payload = statement.session_id + statement.commitment + statement.transcript
    return cose.sign1(payload, cose.STATEMENT_LABEL, key.key_id, key.sign)
