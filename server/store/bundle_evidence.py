"""Attestations that belong to a case, and what each rests on (docs/protocol.md CB3)."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, func, select

from server.store.bundle_types import Bounds, Gathered
from server.store.framing import unpack
from server.store.rows import chunks
from server.store.schema import ATTESTATIONS, DEVICE_VERDICTS, DEVICES, EVIDENCE
from verifier.errors import EvidenceError
from verifier.evidence.claims import Claims, parse_claims
from verifier.units import Pdi

_SEARCHED = 10_000
"""Verdicts of one device that are looked through for the last proof before a finding."""

_CHECKPOINT_AT = 32
"""In a challenge's preimage, behind the random bytes (docs/protocol.md §2)."""


@dataclass(frozen=True, slots=True)
class Span:
    """A finding of the case: of which device, and when. Times are microseconds."""

    pdi: Pdi
    reason: int
    opened_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Attested:
    """An attestation of the case.

    Attributes:
        challenge: Its key.
        issued_at: When the challenge was drawn, microseconds.
        received_at: When it arrived.
        checkpoint: Hash of the checkpoint that the challenge names; zero: none.
        verdicts: Of each device that got one what it was given (verifier/basis.py), JSON.
        switches: Those of these devices that are on record nowhere: they stand on the boards of others.
        chains: Ids of the chains that reports name.
        landmarks: Key ids of the landmarks that were asked.
        basis: What the verification was given, JSON; empty when it is not kept.
        kept: Its raw evidence is.
    """

    challenge: bytes
    issued_at: int
    received_at: int
    checkpoint: bytes
    verdicts: Mapping[Pdi, str]
    switches: frozenset[Pdi]
    chains: frozenset[bytes]
    landmarks: frozenset[bytes]
    basis: str
    kept: bool


def attestations_of(
    connection: Connection, spans: Sequence[Span], gathered: Gathered, bounds: Bounds
) -> list[Attested]:
    """Return the attestations of these findings, as many as the bounds allow; findings that come first go first."""
    wanted: dict[bytes, Pdi] = {}
    newest: dict[Pdi, list[bytes]] = {}
    for span in spans:
        for challenge in _challenges_of(connection, span, newest):
            wanted.setdefault(challenge, span.pdi)
    taken = _within(connection, list(wanted), bounds)
    gathered.leave_out("attestations", len(wanted) - len(taken), "over the size of one bundle, which ends here")
    found = [_attested(connection, challenge, wanted[challenge]) for challenge in taken]
    missing = sum(not each.kept for each in found)
    gathered.leave_out("evidence", missing, "was not kept, or was removed when its time was over")
    return found


def add_attestation(gathered: Gathered, attested: Attested, theirs: frozenset[Pdi] | None, why: str) -> frozenset[Pdi]:
    """Take an attestation, its evidence and its verdicts; return the devices whose verdicts are shown.

    When there are none, nothing of it is.

    Args:
        gathered: Takes them.
        attested: Which.
        theirs: Devices that were the reader's then; None: all are.
        why: What is said of rows that are withheld.
    """
    devices = frozenset(attested.verdicts)
    shown = devices if theirs is None else theirs & devices
    if shown:
        shown |= attested.switches
    # docs/protocol.md CB5: claims and edges cannot be divided, so one device of theirs shows the evidence whole.
    withheld = "" if shown else why
    # A result can be divided as little, but no proof needs it: it would name the licenses of the others.
    hidden = frozenset[str]() if shown == devices else frozenset({"result"})
    gathered.add(ATTESTATIONS, attested.challenge, withheld=withheld, hidden=hidden)
    if attested.kept:
        gathered.add(EVIDENCE, attested.challenge, withheld=withheld)
    for pdi in devices:
        key = (pdi, attested.received_at, attested.challenge)
        gathered.add(DEVICE_VERDICTS, *key, withheld="" if pdi in shown else why)
    return shown


def facts_of(basis: str) -> tuple[int | None, set[bytes]]:
    """Return the number of the records that a verdict was made under, and the files that it was made with."""
    plain = json.loads(basis or "{}")
    materials = plain.get("setting", {}).get("materials", ())
    return plain.get("records"), {bytes.fromhex(sha256) for _, sha256 in materials}


def regions_of(basis: str) -> set[bytes]:
    """Return the drawn region that a device's verdict was made with, by its hash; a short one stands in the basis."""
    region = (json.loads(basis).get("deployment") or {}).get("region") or {}
    return {bytes.fromhex(region["sha256"])} if "sha256" in region else set()


def _challenges_of(connection: Connection, span: Span, newest: dict[Pdi, list[bytes]]) -> Iterable[bytes]:
    """Yield the attestations of one finding: those in which it opened and ended come first."""
    of_device = DEVICE_VERDICTS.c.pdi == span.pdi
    before = of_device & (DEVICE_VERDICTS.c.received_at < span.opened_at)
    moments = {span.opened_at} if span.ended_at is None else {span.opened_at, span.ended_at}
    query = select(DEVICE_VERDICTS.c.challenge).where(of_device)
    yield from connection.scalars(query.where(DEVICE_VERDICTS.c.received_at.in_(sorted(moments))))
    yield from _latest(connection, before)
    yield from _last_proof(connection, span)
    if span.pdi not in newest:
        newest[span.pdi] = list(_latest(connection, of_device))
    yield from newest[span.pdi]


def _latest(connection: Connection, condition: Any) -> Iterable[bytes]:
    query = select(DEVICE_VERDICTS.c.challenge).where(condition)
    return connection.scalars(query.order_by(DEVICE_VERDICTS.c.received_at.desc()).limit(1)).all()


def _last_proof(connection: Connection, span: Span) -> Iterable[bytes]:
    """Return the last attestation before the finding in which presence was proven."""
    last = connection.execute(select(DEVICES.c.last_proof_at).where(DEVICES.c.pdi == span.pdi)).scalar_one_or_none()
    if last is None:
        return ()
    verdicts = DEVICE_VERDICTS.c
    if last < span.opened_at:
        return _latest(connection, (verdicts.pdi == span.pdi) & (verdicts.received_at == last))
    searched = (
        select(verdicts.challenge, verdicts.received_at, verdicts.presence_proven)
        .where(verdicts.pdi == span.pdi, verdicts.received_at < span.opened_at)
        .order_by(verdicts.received_at.desc())
        .limit(_SEARCHED)
        .subquery()
    )
    query = select(searched.c.challenge).where(searched.c.presence_proven)
    return connection.scalars(query.order_by(searched.c.received_at.desc()).limit(1)).all()


def _within(connection: Connection, challenges: Sequence[bytes], bounds: Bounds) -> list[bytes]:
    """Return the first of these attestations whose evidence is within the bounds together."""
    size = func.length(EVIDENCE.c.claims) + func.length(EVIDENCE.c.reports) + func.length(EVIDENCE.c.basis)
    sizes: dict[bytes, int] = {}
    for some in chunks(challenges[: bounds.attestations]):
        query = select(EVIDENCE.c.challenge, size).where(EVIDENCE.c.challenge.in_(some))
        sizes.update((challenge, count) for challenge, count in connection.execute(query))
    taken: list[bytes] = []
    room = bounds.evidence_bytes
    for challenge in challenges[: bounds.attestations]:
        room -= sizes.get(challenge, 0)
        if room < 0:
            break
        taken.append(challenge)
    return taken


def _attested(connection: Connection, challenge: bytes, pdi: Pdi) -> Attested:
    joined = ATTESTATIONS.outerjoin(EVIDENCE, EVIDENCE.c.challenge == ATTESTATIONS.c.challenge)
    columns = (
        *(ATTESTATIONS.c[name] for name in ("preimage", "issued_at", "received_at", "result")),
        *(EVIDENCE.c[name] for name in ("claims", "reports", "basis")),
    )
    query = select(*columns).select_from(joined).where(ATTESTATIONS.c.challenge == challenge)
    row = connection.execute(query).one()
    claims = _claims(row)
    stated = {pdi, *_named_in(row.result), *(() if claims is None else claims.devices)}
    verdicts = DEVICE_VERDICTS.c
    of_this = select(verdicts.pdi, verdicts.chain_id, verdicts.standing, verdicts.basis).where(
        verdicts.pdi.in_(sorted(stated)), verdicts.received_at == row.received_at, verdicts.challenge == challenge
    )
    found = connection.execute(of_this).all()
    return Attested(
        challenge=challenge,
        issued_at=row.issued_at,
        received_at=row.received_at,
        checkpoint=row.preimage[_CHECKPOINT_AT:],
        verdicts={Pdi(each.pdi): each.basis for each in found},
        switches=frozenset(Pdi(each.pdi) for each in found if each.standing is None),  # docs/protocol.md AP4
        chains=frozenset(unpack(row.reports or b"")[::2]) | {each.chain_id for each in found},
        landmarks=frozenset() if claims is None else _asked(claims),
        basis=row.basis or "",
        kept=row.claims is not None,
    )


def _claims(row: Row[Any]) -> Claims | None:
    try:
        return None if row.claims is None else parse_claims(row.claims)
    except EvidenceError:
        return None  # it was rejected; the evidence shows why


def _asked(claims: Claims) -> frozenset[bytes]:
    ranged = {bytes(each.landmark) for each in claims.ranges}
    return frozenset(ranged | {bytes(landmark) for _, landmark, _ in claims.unanswered})


def _named_in(result: str) -> set[Pdi]:
    """Return the devices that a result names (docs/protocol.md EA2): they are known when evidence is gone."""
    if not result:
        return set()
    encoded = result.split(".")[1]
    try:
        payload = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return {Pdi(bytes.fromhex(name)) for name in payload["submods"]}
    except (binascii.Error, ValueError, KeyError, TypeError) as error:  # we wrote it
        raise AssertionError("a result that this service did not write") from error


def landmark_key_id(public_key: bytes) -> bytes:
    """Return a landmark's key id (docs/protocol.md R1)."""
    return sha256(public_key).digest()
