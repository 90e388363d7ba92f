"""Landmarks audit each other: ranges between them, and who is distrusted (docs/protocol.md §12).

Landmark lists are wrong now and then. A round trip that is too short for the distance between two stated positions
shows that one of the two is wrong; which one, the other pairs tell. A landmark that stands farther away than it says
only looks slow, so nothing here speaks for a landmark: the audit takes away and never adds. What stops counting with a
distrusted landmark is decided in fix.py.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from verifier import cbor, cose
from verifier.errors import (
    MaskInvalidError,
    ReceiptMalformedError,
    ReceiptSignatureInvalidError,
    StatementInvalidError,
    TooFewRoundsError,
)
from verifier.limits import MAX_RECEIPT_BYTES, MIN_ACCEPTED_ROUNDS
from verifier.place.discs import FIBRE_SHARE, LIGHT_KM_PER_MS, radius_km
from verifier.place.geodesy import EARTH_RADIUS_KM, HALF_CIRCUMFERENCE_KM, angles, distance_km, unit_vectors
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.ranging import Receipt, transcript, verify_receipt
from verifier.place.regions import Atlas, Countries
from verifier.units import Challenge, Domain, Kilometers, LandmarkId, Nanoseconds

BORDER_TOLERANCE_KM = 25.0
"""How far a stated position may be out of its country: cities on a border, drawn coasts (docs/protocol.md LA5)."""

_FIBRE_KM_PER_MS = LIGHT_KM_PER_MS * FIBRE_SHARE
_REACH_FACTOR = 1.1
_REACH_SLACK_KM = 25.0
"""docs/protocol.md LA4: fibre can be a little faster than 2/3 of light, and positions are those of cities."""

_AAD_STATEMENT = b"trigpoint-prover-v1\0"
_MASK_BYTES = 8


@enum.unique
class AuditRule(enum.IntEnum):
    """Why a landmark is distrusted. Values equal `trigpoint.v1.AuditRule`."""

    COUNTRY = 1
    LIGHT = 2


@dataclass(frozen=True, slots=True)
class PairRange:
    """A verified range between two landmarks.

    Attributes:
        by: Who ranged, and signed the time.
        of: Who answered.
        rtt_ns: As signed, not widened.
    """

    by: LandmarkId
    of: LandmarkId
    rtt_ns: Nanoseconds


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A pair whose round trip is too short for the distance between its stated positions (docs/protocol.md LA4).

    Attributes:
        by: Who ranged.
        of: Who answered.
        rtt_ns: The least round trip of the pair, either way.
        apart_km: Between the stated positions.
        reach_km: The most that the round trip allows.
    """

    by: LandmarkId
    of: LandmarkId
    rtt_ns: Nanoseconds
    apart_km: Kilometers
    reach_km: Kilometers

    @property
    def excess_km(self) -> Kilometers:
        """How much farther apart the positions are than the round trip allows."""
        return Kilometers(self.apart_km - self.reach_km)


@dataclass(frozen=True, slots=True)
class Distrust:
    """A landmark that must not count, and why.

    Attributes:
        landmark_id: Which.
        rule: What it broke.
        contradictions: Pairs that brought it, the largest first; none with rule COUNTRY.
        explanation: One sentence with the numbers.
    """

    landmark_id: LandmarkId
    rule: AuditRule
    contradictions: tuple[Contradiction, ...]
    explanation: str


def audit(
    landmarks: Iterable[Landmark], pairs: Iterable[PairRange], atlas: Atlas, registry: LandmarkRegistry | None = None
) -> tuple[Distrust, ...]:
    """Return the landmarks that must be distrusted, in the order in which they were found (docs/protocol.md LA5).

    The result depends on what is given, not on its order.

    Args:
        landmarks: Those that may be judged.
        pairs: Verified ranges between them; those of other landmarks are passed over.
        atlas: Border data; a country that has no shape in it is not judged.
        registry: All landmarks, over which domains are joined (docs/protocol.md PL2); None: those that are judged.
    """
    judged = sorted(landmarks, key=lambda r: r.landmark_id)
    elsewhere = tuple(d for d in (_judge_country(r, atlas) for r in judged) if d is not None)
    gone = {d.landmark_id for d in elsewhere}
    rest = [r for r in judged if r.landmark_id not in gone]
    registry = registry or LandmarkRegistry.build(judged)
    domains = [registry.domain_of(r.landmark_id) for r in rest]
    return elsewhere + tuple(_judge_light(rest, domains, _contradictions(rest, pairs)))


def position_bound_km(
    landmark: Landmark, pairs: Iterable[PairRange], registry: LandmarkRegistry, tolerated_domains: int
) -> Kilometers | None:
    """Return how far from its stated position a landmark can be at most (docs/protocol.md LA7).

    Args:
        landmark: Which, as the registry has it.
        pairs: Verified ranges; those of other landmarks are passed over.
        registry: All landmarks; those that are distrusted bound nobody.
        tolerated_domains: f, how many of the domains that ranged it may be wrong.

    Returns:
        Kilometers on the sphere; None when nothing bounds it.
    """
    others = {r.landmark_id: r for r in registry.landmarks if not r.distrusted}
    own = registry.domain_of(landmark.landmark_id)
    least: dict[Domain, float] = {}
    for pair in pairs:
        by = others.get(pair.by)
        if pair.of != landmark.landmark_id or by is None or (domain := registry.domain_of(pair.by)) == own:
            continue
        # Landmarks stand still, so no way of a truck is added (docs/protocol.md PL1).
        radius = radius_km(pair.rtt_ns, timedelta(0), by.uncertainty_km, latitude=by.position.latitude)
        bound = distance_km(landmark.position, by.position) + radius
        least[domain] = min(bound, least.get(domain, bound))
    bounds = sorted(least.values())[tolerated_domains:]
    return Kilometers(bounds[0]) if bounds and bounds[0] < HALF_CIRCUMFERENCE_KM else None


def verify_prover_range(
    receipt: bytes,
    statement: bytes,
    answered: bytes,
    challenge: Challenge,
    prover: Landmark,
    registry: LandmarkRegistry,
) -> PairRange:
    """Return a range between two landmarks that holds in every point of docs/protocol.md LA2.

    Whether the ranging landmark was ordered to range this one, and how often, only the caller knows.

    Args:
        receipt: The ranging landmark's COSE_Sign1.
        statement: The answering landmark's COSE_Sign1 (docs/protocol.md R9).
        answered: Mask of the rounds that it says it answered, 8 bytes.
        challenge: The one that is open for this batch of orders.
        prover: The landmark that answered, as its certificate names it.
        registry: All landmarks that may range.

    Raises:
        RangeError: The one point that fails first.
    """
    # The ranging landmark's signature, and that it speaks of this challenge.
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise ReceiptMalformedError(f"the receipt has {len(receipt)} bytes; at most {MAX_RECEIPT_BYTES}")
    held = verify_receipt(receipt, challenge, registry)
    if held.landmark.key_id == prover.key_id:
        raise ReceiptSignatureInvalidError("the receipt is the answering landmark's own")
    # accepted ⊆ answered ⊆ sent.
    if len(answered) != _MASK_BYTES:  # docs/protocol.md C4
        raise MaskInvalidError(f"a mask of {len(answered)} bytes")
    mask, sent = int.from_bytes(answered, "big"), (1 << held.sent_rounds) - 1
    if mask & ~sent or held.accepted & ~mask:
        raise MaskInvalidError("the masks are not accepted within answered within sent")
    if held.accepted.bit_count() < MIN_ACCEPTED_ROUNDS:  # docs/protocol.md R5
        raise TooFewRoundsError(f"{held.accepted.bit_count()} rounds accepted; at least {MIN_ACCEPTED_ROUNDS}")
    # The answering landmark signed exactly these challenges, under exactly this commitment.
    _verify_statement(statement, held, mask, prover)
    return PairRange(held.landmark.landmark_id, prover.landmark_id, held.rtt_ns)


def _verify_statement(statement: bytes, receipt: Receipt, answered: int, prover: Landmark) -> None:
    if len(statement) > MAX_RECEIPT_BYTES:
        raise StatementInvalidError(f"the statement has {len(statement)} bytes; at most {MAX_RECEIPT_BYTES}")
    try:
        message = cose.parse_sign1_of_bytes(statement)
    except cbor.NotDeterministicError as error:
        raise StatementInvalidError(str(error)) from error
    # docs/protocol.md R9: kid is the prover's key id, and the key is the prover's too.
    if message.kid != prover.key_id or not message.verifies(prover.public_key, _AAD_STATEMENT):
        raise StatementInvalidError(f"the statement is not signed by {prover.landmark_id}")
    if message.untrusted_payload != receipt.session + receipt.commitment + transcript(receipt, answered):
        raise StatementInvalidError("the statement is about another session, commitment or transcript")


def _judge_country(landmark: Landmark, atlas: Atlas) -> Distrust | None:
    if landmark.country not in atlas.country_codes:
        return None
    off_km = atlas.distances(Countries(frozenset({landmark.country})), landmark.position).to_region_km
    if off_km <= BORDER_TOLERANCE_KM:
        return None
    place = f"{landmark.position.latitude:.2f}, {landmark.position.longitude:.2f}"
    explanation = (
        f"Its stated position, {place}, is {off_km:,.0f} km from {landmark.country}, the country that it says it "
        "stands in."
    )
    return Distrust(landmark.landmark_id, AuditRule.COUNTRY, (), explanation)


def _contradictions(landmarks: Sequence[Landmark], pairs: Iterable[PairRange]) -> list[tuple[int, int, Contradiction]]:
    """Return every contradiction with the indices of its two landmarks, one for each unordered pair.

    The two directions have one distance, so the shorter round trip contradicts more.
    """
    index = {r.landmark_id: i for i, r in enumerate(landmarks)}
    first, second, rtt_ns = _known_pairs(pairs, index)
    # The least of each unordered pair: sorted by pair, then time, then direction, the first of each pair.
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((first, rtt_ns, high, low))
    first, second, rtt_ns, low, high = (x[order] for x in (first, second, rtt_ns, low, high))
    new = np.ones(len(low), dtype=bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    first, second, rtt_ns = first[new], second[new], rtt_ns[new]

    vectors = unit_vectors(
        np.array([r.position.latitude for r in landmarks]), np.array([r.position.longitude for r in landmarks])
    )
    apart_km = angles(vectors[first], vectors[second]) * EARTH_RADIUS_KM
    uncertainty_km = np.array([r.uncertainty_km for r in landmarks])
    # docs/protocol.md LA4
    reach_km = rtt_ns / 1e6 / 2 * _FIBRE_KM_PER_MS * _REACH_FACTOR + _REACH_SLACK_KM
    reach_km += uncertainty_km[first] + uncertainty_km[second]
    found: list[tuple[int, int, Contradiction]] = []
    for k in np.flatnonzero(apart_km > reach_km):
        a, b = int(first[k]), int(second[k])
        contradiction = Contradiction(
            by=landmarks[a].landmark_id,
            of=landmarks[b].landmark_id,
            rtt_ns=Nanoseconds(int(rtt_ns[k])),
            apart_km=Kilometers(float(apart_km[k])),
            reach_km=Kilometers(float(reach_km[k])),
        )
        found.append((a, b, contradiction))
    return found


def _known_pairs(
    pairs: Iterable[PairRange], index: Mapping[LandmarkId, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return index of the ranging landmark, of the answering one and round trip of each pair, shape (n,) each."""
    known = [(index[p.by], index[p.of], p.rtt_ns) for p in pairs if p.by in index and p.of in index]
    columns = np.array(known, dtype=np.int64).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def _judge_light(
    landmarks: Sequence[Landmark],
    domains: Sequence[Domain],
    contradictions: Sequence[tuple[int, int, Contradiction]],
) -> Iterable[Distrust]:
    """Take away the landmark that the most domains contradict until no pair is left (docs/protocol.md LA5).

    Domains are counted and not landmarks, lest one operator outvote an honest landmark with many of its own.
    """
    excess_km = np.zeros((len(landmarks), len(landmarks)))  # 800 landmarks: 5 MB
    of_landmark: dict[int, list[tuple[int, Contradiction]]] = {}
    for a, b, contradiction in contradictions:
        excess_km[a, b] = excess_km[b, a] = contradiction.excess_km
        of_landmark.setdefault(a, []).append((b, contradiction))
        of_landmark.setdefault(b, []).append((a, contradiction))
    place = {domain: k for k, domain in enumerate(dict.fromkeys(domains))}
    votes = np.zeros((len(landmarks), max(1, len(place))), dtype=np.int64)
    for a, b, _ in contradictions:
        votes[a, place[domains[b]]] += 1
        votes[b, place[domains[a]]] += 1
    while votes.any():
        count = np.count_nonzero(votes, axis=1)
        most = np.flatnonzero(count == count.max())
        # Ties fall on the larger contradictions, one a domain, then on the first name: max takes the first of equals.
        worst = int(max(most, key=lambda k: _largest_by_domain(excess_km[k], domains)))
        brought = [c for other, c in of_landmark[worst] if excess_km[worst, other]]
        brought.sort(key=lambda c: (-c.excess_km, c.by, c.of))
        votes[excess_km[worst] > 0, place[domains[worst]]] -= 1
        votes[worst] = 0
        excess_km[worst] = excess_km[:, worst] = 0.0
        landmark_id = landmarks[worst].landmark_id
        yield Distrust(landmark_id, AuditRule.LIGHT, tuple(brought), _explain_light(landmark_id, brought))


def _largest_by_domain(excess_km: NDArray[np.float64], domains: Sequence[Domain]) -> float:
    """Return the sum of each domain's largest contradiction, kilometers."""
    largest: dict[Domain, float] = {}
    for k in np.flatnonzero(excess_km).tolist():
        largest[domains[k]] = max(float(excess_km[k]), largest.get(domains[k], 0.0))
    return sum(largest.values())


def _explain_light(landmark_id: LandmarkId, brought: Sequence[Contradiction]) -> str:
    largest = brought[0]
    other = largest.of if largest.by == landmark_id else largest.by
    landmarks = "another landmark" if len(brought) == 1 else f"{len(brought)} other landmarks"
    largest_of = "" if len(brought) == 1 else "the largest contradiction, "
    stop = "" if len(brought) == 1 else ","
    return (
        f"It and {landmarks} answer each other faster than light in fibre allows: {largest_of}a round trip of "
        f"{largest.rtt_ns / 1e6:,.3f} ms with {other}{stop} "
        f"allows {largest.reach_km:,.0f} km, and their stated positions "
        f"are {largest.apart_km:,.0f} km apart."
    )
