"""Checks a case bundle offline (docs/protocol.md CB4): the order of the steps, and what must be said aloud.

Authentic first: nothing is read out of a bundle whose header, body or proofs do not hold. Then every point is checked,
and what fails does not hide the rest.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from console.offline import UnusableInputError, load_roots, read_input
from console.offline_bundle.case import Case, check_findings, read_case
from console.offline_bundle.evidence import Again, check_challenges, verify_again
from console.offline_bundle.journal import Journaled, verify_journal
from console.offline_bundle.landmarks import check_landmarks
from console.offline_bundle.ledger import Check, Ledger, State
from console.offline_bundle.reading import MAX_BODY_BYTES, MAX_HEADER_BYTES, Bundle, is_bundle, read_bundle
from console.offline_bundle.records import check_records
from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from console.offline_bundle.results import check_results
from verifier.errors import UsageError
from verifier.journal.notes import NoteKey
from verifier.jws import KeySet
from verifier.limits import MAX_JWKS_BYTES

__all__ = ["Outcome", "Trust", "check_bundle", "is_bundle", "load_bundle", "load_trust", "witness_time"]

_SHA256_HEX = 64


@dataclass(frozen=True, slots=True)
class Trust:
    """What the reader has from elsewhere.

    Attributes:
        journal: The journal's key.
        roots: SHA-256 of the vendor's root certificates, DER.
        witnesses: Keys of witnesses.
        results: JWK set of the service; None: the bundle's own is taken, and that is said.
    """

    journal: NoteKey
    roots: frozenset[bytes]
    witnesses: tuple[NoteKey, ...] = ()
    results: KeySet | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check came to. What is None was not reached.

    Attributes:
        checks: Every point.
        aloud: What nobody may overlook.
        not_shown: What a bundle, or this one, does not show.
        bundle: As read.
        journaled: What stands in the journal.
        case: The case.
        found: Attestations that were verified again.
    """

    checks: tuple[Check, ...]
    aloud: tuple[str, ...] = ()
    not_shown: tuple[str, ...] = ()
    bundle: Bundle | None = None
    journaled: Journaled | None = None
    case: Case | None = None
    found: tuple[Again, ...] = ()

    @property
    def refused(self) -> tuple[Check, ...]:
        """Points that do not hold; with any, the bundle must not be relied on."""
        return tuple(check for check in self.checks if check.state is State.REFUSED)

    def at(self, state: State) -> tuple[Check, ...]:
        """Return the points that came to this."""
        return tuple(check for check in self.checks if check.state is state)


def load_trust(
    journal: str, fingerprints: Iterable[str], roots: Iterable[Path], witnesses: Iterable[str], jwks: Path | None
) -> Trust:
    """Read what the reader gave.

    Args:
        journal: vkey.
        fingerprints: SHA-256 of root certificates in hex; colons and capitals are taken, as other tools print them.
        roots: PEM files of root certificates.
        witnesses: vkeys of cosigners.
        jwks: A JWK set; None: the bundle's own is taken.

    Raises:
        UnusableInputError: One of them is not what it should be; the message names it.
    """
    try:
        own, keys = NoteKey.parse(journal), tuple(map(NoteKey.parse, witnesses))
        trusted = frozenset(map(_fingerprint, fingerprints))
        results = None if jwks is None else KeySet.parse(read_input(jwks, MAX_JWKS_BYTES))
    except UsageError as error:
        raise UnusableInputError(str(error)) from error
    for key in keys:
        if not key.cosigns:
            raise UnusableInputError(f"--witness: the vkey of {key.name} is not a witness's, which cosigns")
    if own.cosigns:
        raise UnusableInputError(f"--journal-key: the vkey of {own.name} is a witness's and not a journal's")
    files = list(roots)
    given = load_roots(files).certificates if files else frozenset()
    return Trust(own, trusted | {sha256(der).digest() for der in given}, keys, results)


def load_bundle(path: Path) -> bytes:
    """Return the bytes of a bundle's file; raises `UnusableInputError`."""
    return read_input(path, MAX_HEADER_BYTES + MAX_BODY_BYTES)


def check_bundle(data: bytes, trust: Trust) -> Outcome:
    """Check a bundle. Never raises for what is in it: a refusal is an outcome."""
    ledger = Ledger()
    bundle: Bundle | None = None
    try:
        # 1. Header and body.
        bundle = read_bundle(data, trust.journal)
        ledger.shown(Part.HEADER, f"signed by the journal {bundle.header.origin}, for cases/{bundle.header.case}")
        ledger.shown(Part.BODY, f"{bundle.header.size:,} bytes, SHA-256 as signed")
        # 2. Proofs: every row stands in the journal, under one checkpoint.
        journaled = verify_journal(bundle, trust.journal, trust.witnesses)
        _tell_journal(bundle, journaled, ledger)
        # 3. The case itself.
        case = read_case(bundle, ledger)
        # 4. Challenges: no evidence is older than it may be.
        check_challenges(bundle, journaled, ledger)
        # 5. Evidence and verdicts, all again.
        found = verify_again(bundle, trust.roots, ledger)
        check_findings(bundle, case, found, ledger)
        # 6. What verdicts were given: records and landmarks.
        check_records(bundle, found, ledger)
        check_landmarks(bundle, found, ledger)
        # 7. Results.
        with ledger.point(Part.RESULTS, "the key set"):
            keys = trust.results or KeySet.parse(bundle.results_json)
            check_results(found, keys, ledger)
    except (BundleRefusedError, NotHereError, UsageError) as error:
        part = error.part if isinstance(error, BundleRefusedError) else Part.BODY
        ledger.refused(part, str(error))
        return Outcome(tuple(ledger.checks), bundle=bundle)
    return Outcome(
        checks=tuple(ledger.checks),
        aloud=tuple(_aloud(bundle, journaled, case, found, trust)),
        not_shown=tuple(_not_shown(journaled, found)),
        bundle=bundle,
        journaled=journaled,
        case=case,
        found=found,
    )


def _tell_journal(bundle: Bundle, journaled: Journaled, ledger: Ledger) -> None:
    checkpoint = journaled.checkpoint
    ledger.shown(Part.CHECKPOINT, f"signed by the journal, over {checkpoint.size:,} entries")
    if bundle.earlier:
        ledger.shown(Part.CHECKPOINT, f"extends {len(bundle.earlier)} checkpoints that challenges name")
    for witness in journaled.cosigned:
        ledger.shown(Part.WITNESSES, f"{witness.name} cosigned it at {witness_time(witness.time_s)}")
    rows = sum(item.row is not None for item in bundle.items)
    ledger.shown(
        Part.PROOFS,
        f"{rows} rows and {len(bundle.items) - rows} withheld ones stand in {len(bundle.entries)} of its entries",
    )


def _aloud(bundle: Bundle, journaled: Journaled, case: Case, found: Sequence[Again], trust: Trust) -> Iterator[str]:
    if not journaled.cosigned:
        named = (
            f" Signatures of {', '.join(journaled.others)} are on it and were not checked." if journaled.others else ""
        )
        yield (
            "UNWITNESSED: no witness that you named has signed the checkpoint. The journal's owner alone vouches that "
            f"others are shown the same journal.{named}"
        )
    if journaled.not_cosigned:
        yield f"These witnesses have not signed the checkpoint: {', '.join(journaled.not_cosigned)}."
    fixes = [device.fix for again in found for device in again.verdict.devices if device.fix is not None]
    if any(fix.demonstration for fix in fixes) or any(_is_demonstration(again) for again in found):
        yield "DEMONSTRATION: the rules for landmarks were relaxed. Nothing here may be used to accuse anybody."
    if bundle.exported.jurisdiction:
        yield f"REDACTED for a reader of {bundle.exported.jurisdiction}: what others are shown may be more."
    for why, count in sorted(Counter(item.withheld for item in bundle.items if item.row is None).items()):
        yield f"WITHHELD: {count} rows. {why}"
    for each in bundle.left_out:
        yield f"LEFT OUT: {each.count:,} {each.what}. {each.why}"
    unanswered = sum(row.optional_integer("answered_at") is None for row in case.exhibits)
    if unanswered:
        yield f"UNANSWERED: {unanswered} of {len(case.exhibits)} statements of the accused wait for an answer."
    if trust.results is None and any(again.verdict.devices for again in found):
        yield "The keys of the attestation results are the bundle's own; you gave none (--jwks)."
    disputed = sorted({domain for fix in fixes for domain in fix.contradicting})
    if disputed:
        yield f"Landmarks contradict each other: in some fix one of these is certainly wrong: {', '.join(disputed)}."


def _is_demonstration(again: Again) -> bool:
    setting = again.given.setting
    return setting.audited_within is None or setting.standing_for.days < 1


def _not_shown(journaled: Journaled, found: Sequence[Again]) -> Iterator[str]:
    yield "That it is complete. What the exporter left out without saying so cannot be seen from here."
    yield (
        "That rows stand today. Each is as the entry left it that it is proven in; that nothing changed it since, up "
        "to the checkpoint, only an audit of the whole journal shows."
    )
    if journaled.cosigned:
        yield "That the witnesses are independent of the journal's owner. Whoever chose them must know that."
    yield "That the service's clock was right. Times are its own; the order of entries is proven."
    yield (
        "That borders, country groups, reference values and the numbers of the policy are the right ones, that no "
        "record is missing, and that landmark operators' keys are theirs: all these the service chose or wrote down."
    )
    yield (
        "That operators and hosters of landmarks are as independent as their records say, and that no more than f of "
        "their domains are wrong: every answer about place rests on that."
    )
    yield (
        "That no key was taken out of a device, and that measured firmware does what its vendor says: every report "
        "rests on that. That certificates were not revoked is not checked."
    )
    if not found:
        yield "Any evidence of a device: none could be verified again. The findings are the service's word alone."
    yield "Who is to blame. That a device is not proven to be somewhere does not show where it is, nor who moved it."


def witness_time(time_s: int) -> str:
    """Return when a witness signed, by its own clock."""
    try:
        return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{time_s} s"


def _fingerprint(text: str) -> bytes:
    plain = text.replace(":", "").lower()
    try:
        digest = bytes.fromhex(plain)
    except ValueError:
        digest = b""
    if len(plain) != _SHA256_HEX or digest.hex() != plain:
        raise UsageError(f"{text!r} is no SHA-256 in hex")
    return digest
