"""What a host that owns the network can do to one ranging session; `session` does it.

None of it touches the device: its firmware keeps R1 to R4 of docs/protocol.md whatever reaches it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tricks:
    """The tricks played on a session; the defaults play none. Counts are of rounds, from round 0 on.

    Attributes:
        early_reveal: The host has the secret before the rounds, and an accomplice beside the landmark answers them.
        garbage_rounds: In so many rounds, bytes that are no answer leave just before the answer.
        reordered_rounds: In so many rounds, each two reach the device in the wrong order.
        padded_answers: Every answer has one byte too many.
        answers_from_elsewhere: Every answer leaves from another address than the one that the session was opened from.
    """

    early_reveal: bool = False
    garbage_rounds: int = 0
    reordered_rounds: int = 0
    padded_answers: bool = False
    answers_from_elsewhere: bool = False


NO_TRICKS = Tricks()
