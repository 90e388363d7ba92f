"""Errors of the ranging daemon, each with what its reader can do about it.

What a peer sends never ends the daemon: bad datagrams and tickets are counted and dropped or refused by `ranger`.
"""

import enum


class RefusalCode(enum.IntEnum):
    """Codes of REFUSED. docs/protocol.md D6."""

    BUSY = 1
    TICKET_INVALID = 2
    TICKET_EXPIRED = 3
    TICKET_USED = 4
    TOO_FEW_ROUNDS = 5
    REVEAL_MISMATCH = 6


class LandmarkError(Exception):
    """Root of all errors of the daemon."""


class MalformedDatagramError(LandmarkError):
    """A datagram of another header, or of the wrong size for its type."""


class NotDeterministicError(LandmarkError):
    """Bytes that are not the deterministic CBOR or COSE message that they should be. docs/protocol.md C2, C3."""


class SignatureInvalidError(LandmarkError):
    """A COSE message that names an unknown key, or whose signature does not hold under it."""


class RefusedError(LandmarkError):
    """A COMMIT that opens no session; `code` is what the device is told."""

    code: RefusalCode


class BusyError(RefusedError):
    """No room for another session. docs/protocol.md D5."""

    code = RefusalCode.BUSY


class TicketInvalidError(RefusedError):
    """Not a ticket that the server signed for this landmark."""

    code = RefusalCode.TICKET_INVALID


class TicketExpiredError(RefusedError):
    """A good ticket, too late."""

    code = RefusalCode.TICKET_EXPIRED


class TicketUsedError(RefusedError):
    """A good ticket that has opened its session already."""

    code = RefusalCode.TICKET_USED


class KeyFileError(LandmarkError):
    """The key file is missing, readable by others, or holds no Ed25519 seed."""


class RecordError(LandmarkError):
    """A record that the registry would not take, or a file for it that cannot be made; the message names what."""


class ConfigError(LandmarkError):
    """The configuration cannot be used; the message names the field."""
