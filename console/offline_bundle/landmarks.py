"""Holds the landmarks that verdicts used against their records, signatures and ranges in a bundle (§12, CB4)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from console.offline_bundle.evidence import Again, name_of
from console.offline_bundle.ledger import Ledger, moment
from console.offline_bundle.reading import Bundle
from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from console.offline_bundle.values import Row
from verifier.errors import RangeError, UsageError
from verifier.place.audit import verify_prover_range
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry, party_name
from verifier.place.record import verify_record
from verifier.units import Challenge, CountryCode, LandmarkId

_DECIDING: Final = (
    "landmark_id",
    "public_key",
    "operator",
    "hoster",
    "position",
    "uncertainty_km",
    "virtual_machine",
    "country",
    "revision",
    "revised_at",
    "valid_from",
    "valid_until",
    "signed",
)
"""What the record says of a landmark; who ranged it, and whether it is distrusted, other tables say."""


class _Landmarks:
    """Rows of landmarks, by id and revision."""

    def __init__(self, bundle: Bundle) -> None:
        self.rows = {(r.text("landmark_id"), r.integer("revision")): r for r in bundle.rows("landmark_revisions")}
        self.entries = {
            (r.text("landmark_id"), r.integer("revision")): e for e, r in bundle.placed("landmark_revisions")
        }
        self.records = {key: _landmark(row) for key, row in self.rows.items()}
        self.distrust: dict[str, list[Row]] = {}
        for row in bundle.rows("landmark_distrust"):
            self.distrust.setdefault(row.text("landmark_id"), []).append(row)


def check_landmarks(bundle: Bundle, found: Sequence[Again], ledger: Ledger) -> None:
    """Check every landmark that a verdict used, once for each revision; then the ranges between landmarks."""
    with ledger.point(Part.LANDMARKS, "landmarks"):
        landmarks = _Landmarks(bundle)
        proven = _check_ranges(bundle, landmarks, ledger)
        seen: set[Landmark] = set()
        for again in found:
            for landmark in again.given.landmarks.landmarks:
                if landmark not in seen:
                    seen.add(landmark)
                    with ledger.point(Part.LANDMARKS, f"landmark {landmark.landmark_id} in {name_of(again.row)}"):
                        _check_landmark(landmarks, landmark, again, ledger)
            with ledger.point(Part.LANDMARKS, name_of(again.row)):
                _check_domains(again)
        _tell_witnesses(found, landmarks, proven, ledger)


def _check_landmark(landmarks: _Landmarks, landmark: Landmark, again: Again, ledger: Ledger) -> None:
    key = str(landmark.landmark_id), landmark.revision
    record, row = landmarks.records.get(key), landmarks.rows.get(key)
    if record is None or row is None:
        raise NotHereError(f"its record, revision {landmark.revision}, is not in the bundle")
    for name in _DECIDING:
        if getattr(record, name) != getattr(landmark, name):
            raise BundleRefusedError(Part.LANDMARKS, f"its {name} is not as its record says")
    if record.revised_at > again.given.now:
        raise BundleRefusedError(Part.LANDMARKS, "its record is younger than the verdict")
    if landmarks.entries[key] > again.entry:
        raise BundleRefusedError(Part.LANDMARKS, "its record was written after the verdict")
    if record.signed:  # docs/protocol.md LA8: whoever keeps the registry cannot move it
        verify_record(record, row.text("survey_method"), row.blob("operator_key"), row.blob("operator_signature"))
    issued_us = again.row.integer("issued_at")
    stood = any(_open_at(each, issued_us) for each in landmarks.distrust.get(key[0], ()))
    if landmark.distrusted and not stood:
        raise NotHereError("it was distrusted, and what brought it is not in the bundle")
    if stood and not landmark.distrusted:
        raise BundleRefusedError(Part.LANDMARKS, "it was distrusted when the challenge was issued, and counted")
    signed = "its operator's signature holds" if record.signed else "not signed by its operator"
    trust = f"; distrusted: {landmark.distrusted}" if landmark.distrusted else ""
    ledger.shown(Part.LANDMARKS, f"landmark {key[0]}, revision {key[1]}: as its record says; {signed}{trust}")


def _open_at(row: Row, time_us: int) -> bool:
    """Whether a distrust stood, told and not ended, a while before this time: a change takes 2 s to every process."""
    ended = row.optional_integer("ended_at")
    return row.integer("since") <= time_us - 2_000_000 and (ended is None or ended > time_us)


def _check_domains(again: Again) -> None:
    """Check that landmarks with one operator or hoster are one failure domain (docs/protocol.md PL2)."""
    used = again.given.landmarks
    domains: dict[str, str] = {}
    for landmark in used.landmarks:
        domain = used.domain_of(landmark.landmark_id)
        for party in (landmark.operator, landmark.hoster):
            if domains.setdefault(party_name(party), domain) != domain:
                raise BundleRefusedError(Part.LANDMARKS, f"{party} is in two failure domains")


def _check_ranges(bundle: Bundle, landmarks: _Landmarks, ledger: Ledger) -> set[tuple[str, str]]:
    """Verify the ranges between landmarks that are here; return of which landmark by which they are."""
    proven: set[tuple[str, str]] = set()
    rows = bundle.rows("landmark_ranges")
    registries = list(_registries(landmarks))
    for row in rows:
        of_id, by_id = row.text("of_id"), row.text("by_id")
        with ledger.point(Part.LANDMARKS, f"range of {of_id} by {by_id}"):
            _verify_range(row, registries)
            proven.add((of_id, by_id))
    if proven:
        ledger.shown(Part.LANDMARKS, f"{len(proven)} ranges between landmarks: both ends signed each")
    return proven


def _registries(landmarks: _Landmarks) -> Iterator[LandmarkRegistry]:
    """Yield registries of the revisions that are here: the newest of each landmark, then those before."""
    left = sorted(landmarks.records.values(), key=lambda r: -r.revision)
    while left:
        newest: dict[LandmarkId, Landmark] = {}
        for each in left:
            newest.setdefault(each.landmark_id, each)
        left = [each for each in left if newest[each.landmark_id] is not each]
        yield LandmarkRegistry.build(newest.values())


def _verify_range(row: Row, registries: Iterable[LandmarkRegistry]) -> None:
    of_id, by_id = row.text("of_id"), row.text("by_id")
    last: RangeError | None = None
    for registry in registries:
        known = {str(each.landmark_id): each for each in registry.landmarks}
        if of_id not in known or by_id not in known:
            continue
        try:
            pair = verify_prover_range(
                row.blob("receipt"),
                row.blob("statement"),
                row.blob("answered"),
                Challenge(row.blob("challenge")),
                known[of_id],
                registry,
            )
        except RangeError as error:
            last = error
            continue
        if (pair.by, pair.of, pair.rtt_ns) != (by_id, of_id, row.integer("least_rtt_ns")):
            raise BundleRefusedError(Part.LANDMARKS, "it is of another pair, or of another time, than was signed")
        return
    if last is None:
        raise NotHereError("the record of one of the two is not in the bundle")
    raise BundleRefusedError(Part.LANDMARKS, str(last))


def _tell_witnesses(
    found: Iterable[Again], landmarks: _Landmarks, proven: set[tuple[str, str]], ledger: Ledger
) -> None:
    """Say how much of what made landmarks count is signed by landmarks, and how much the service alone says (PL3)."""
    operators: dict[str, set[str]] = {}
    for (landmark_id, _), record in landmarks.records.items():
        operators.setdefault(landmark_id, set()).add(record.operator)
    counted = backed = 0
    for again in found:
        registry = again.given.landmarks
        for landmark in registry.landmarks:
            signed = {
                registry.domain_of_party(operator)
                for of_id, by_id in proven
                if of_id == str(landmark.landmark_id)
                for operator in operators.get(by_id, ())
            }
            counted += len(landmark.ranged_by)
            backed += sum(domain in signed for domain, _ in landmark.ranged_by)
    if backed:
        ledger.shown(
            Part.LANDMARKS, f"{backed} of {counted} times that a domain had ranged a landmark: signed by both ends"
        )
    if counted:
        bare = f", and for {counted - backed} of {counted} times that they had" if counted > backed else ""
        ledger.open(
            Part.LANDMARKS,
            f"when other domains had ranged the landmarks{bare}: the service's word, since of each pair of landmarks "
            "one signed range is kept, and no signature says when",
        )


def _landmark(row: Row) -> Landmark:
    valid = (row.optional_integer(name) for name in ("valid_from", "valid_until"))
    valid_from, valid_until = (None if each is None else moment(each) for each in valid)
    flag = row.integer("virtual_machine")
    if flag not in {0, 1}:
        raise UsageError("virtual_machine is 0 or 1")
    return Landmark(
        landmark_id=LandmarkId(row.text("landmark_id")),
        public_key=row.blob("public_key"),
        operator=row.text("operator"),
        hoster=row.text("hoster"),
        position=Position(row.number("latitude"), row.number("longitude")),
        uncertainty_km=row.number("uncertainty_km"),
        virtual_machine=bool(flag),
        country=CountryCode(row.text("country")),
        revision=row.integer("revision"),
        revised_at=moment(row.integer("revised_at")),
        valid_from=valid_from,
        valid_until=valid_until,
        signed=bool(row.blob("operator_signature")),
    )
