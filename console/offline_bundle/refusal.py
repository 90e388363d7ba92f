"""Why a case bundle is refused: which part of it, and what is wrong with it."""

import enum


@enum.unique
class Part(enum.StrEnum):
    """The parts of a bundle that are checked, in this order (docs/protocol.md CB4)."""

    HEADER = "header"
    BODY = "body"
    CHECKPOINT = "checkpoint"
    WITNESSES = "witnesses"
    PROOFS = "proofs"
    CASE = "case"
    CHALLENGES = "challenges"
    EVIDENCE = "evidence"
    VERDICTS = "verdicts"
    RECORDS = "records"
    LANDMARKS = "landmarks"
    RESULTS = "results"


class BundleRefusedError(Exception):
    """Something in a bundle is not what it must be.

    Attributes:
        part: Where.
        message: What, in words.
    """

    def __init__(self, part: Part, message: str) -> None:
        super().__init__(message)
        self.part = part
        self.message = message


class NotHereError(Exception):
    """Something that a check needs is not in the bundle: it was withheld or left out. Nothing is wrong with what is."""
