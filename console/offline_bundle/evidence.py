"""Verifies the attestations of a bundle again, from raw evidence and from what the service was given (CB4).

Of each: its challenge from the preimage, its hashes, every chain, report, edge, receipt and transcript, discs, depths,
findings and standing, by `verifier.verifier.Verifier`; then what came out is held against the rows. Answers, counts and
findings must be the same; numbers with a fraction may differ by one part in 10^9, as other processors round.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from console.offline_bundle.journal import Journaled
from console.offline_bundle.ledger import Ledger, moment, told
from console.offline_bundle.reading import Bundle
from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from console.offline_bundle.values import Row
from verifier.basis import Given, read_basis
from verifier.errors import Reason, UsageError
from verifier.evidence.attestation import UnverifiedAttestation, UnverifiedReport, derive_challenge
from verifier.evidence.chain import chain_id
from verifier.limits import CHALLENGE_LIFE
from verifier.setting import Setting
from verifier.units import ChainId, Challenge, Pdi
from verifier.verdict import DeviceVerdict, Verdict
from verifier.verdict_json import findings_to_json, fix_to_json, report_rejections_to_json, void_ranges_to_json
from verifier.verifier import Inputs, Verifier

_NO_CHECKPOINT: Final = bytes(32)
_PREIMAGE_BYTES: Final = 64
_PDI_BYTES: Final = 8
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Again:
    """An attestation that was verified again.

    Attributes:
        row: Of `attestations`.
        entry: Index of the journal's entry that wrote it.
        verdict: What came out now.
        given: What the service says that it was given.
        inputs: The same, with the chains.
        devices: Its rows of `device_verdicts` that are here, by PDI.
        roots: SHA-256 of the roots that its accepted chains end in.
        lacking: Indices of reports whose chain the service had and the bundle lacks (docs/protocol.md CB5): without it
            nothing of the report could be verified, nor what rests on its device's ranges and edges.
    """

    row: Row
    entry: int
    verdict: Verdict
    given: Given
    inputs: Inputs
    devices: Mapping[Pdi, Row]
    roots: frozenset[bytes]
    lacking: frozenset[int]

    @property
    def is_whole(self) -> bool:
        """Whether the chain and the row of every authentic device are here; its license is known by its row alone."""
        return not self.lacking and all(device.pdi in self.devices for device in self.verdict.devices)

    @property
    def shown(self) -> tuple[DeviceVerdict, ...]:
        """What came out of the devices whose rows are here, and so all that it was made of."""
        return tuple(device for device in self.verdict.devices if device.pdi in self.devices)


def name_of(row: Row) -> str:
    """Return how an attestation is called here."""
    return f"attestation {row.blob('challenge').hex()[:16]} of {told(row.integer('received_at'))}"


def check_challenges(bundle: Bundle, journaled: Journaled, ledger: Ledger) -> None:
    """Derive each challenge from its preimage; the checkpoint in it shows what its evidence cannot be older than."""
    for entry, row in bundle.placed("attestations"):
        with ledger.point(Part.CHALLENGES, name_of(row)):
            preimage = row.blob("preimage")
            if len(preimage) != _PREIMAGE_BYTES or (
                derive_challenge(preimage[:32], preimage[32:]) != row.blob("challenge")
            ):
                raise BundleRefusedError(Part.CHALLENGES, "its challenge does not follow from the preimage")
            if preimage[32:] == _NO_CHECKPOINT:
                raise NotHereError("its challenge names no checkpoint, so nothing shows how old the evidence is")
            checkpoint = journaled.earlier.get(preimage[32:])
            if checkpoint is None:
                raise BundleRefusedError(Part.CHALLENGES, "its challenge names a checkpoint that is not in the bundle")
            # What is named was there before: the row that answers stands behind it (docs/protocol.md §2).
            if checkpoint.size > entry:
                raise BundleRefusedError(Part.CHALLENGES, "its challenge names a checkpoint that came after it")
            ledger.shown(
                Part.CHALLENGES, f"{name_of(row)}: no older than the journal's entry {max(0, checkpoint.size - 1):,}"
            )


def verify_again(bundle: Bundle, trusted: frozenset[bytes], ledger: Ledger) -> tuple[Again, ...]:
    """Verify every attestation whose evidence is here, and hold the rows against it.

    Args:
        bundle: Whose journal proofs hold.
        trusted: SHA-256 of the vendor roots (DER) that the reader trusts.
        ledger: Takes what is found.
    """
    reader = _Reader(bundle)
    found: list[Again] = []
    for entry, row in bundle.placed("attestations"):
        with ledger.point(Part.EVIDENCE, name_of(row)):
            again = reader.verify(row, entry)
            if foreign := again.roots - trusted:
                raise BundleRefusedError(
                    Part.EVIDENCE, f"a device's chain ends in the root {min(foreign).hex()}, which you did not name"
                )
            found.append(again)
            refused = again.verdict.report_rejections
            ledger.shown(
                Part.EVIDENCE,
                f"{name_of(row)}: {len(again.verdict.devices)} reports authentic, {len(refused)} refused, "
                f"{_ranges(again)} device-logged ranges",
            )
        if found and found[-1].row is row:
            _compare(found[-1], ledger)
    return tuple(found)


def _ranges(again: Again) -> int:
    return len({(d.fix.ranged_by, disc.landmark_id) for d in again.verdict.devices if d.fix for disc in d.fix.discs})


class _Reader:
    """Finds what belongs to an attestation among the rows, and keeps verifiers by their setting."""

    def __init__(self, bundle: Bundle) -> None:
        self._files = {digest: material.data for digest, material in bundle.materials.items()}
        self._evidence = {row.blob("challenge"): row for row in bundle.rows("evidence")}
        self._chains = {row.blob("chain_id"): row for row in bundle.rows("chains")}
        self._devices: dict[bytes, dict[Pdi, Row]] = {}
        for row in bundle.rows("device_verdicts"):
            self._devices.setdefault(row.blob("challenge"), {})[Pdi(row.blob("pdi"))] = row
        self._verifiers: dict[Setting, Verifier] = {}

    def verify(self, row: Row, entry: int) -> Again:
        """Verify one attestation again; raises what `Ledger.point` notes."""
        challenge = row.blob("challenge")
        evidence = self._evidence.get(challenge)
        if evidence is None:
            raise NotHereError("its raw evidence is not in the bundle, so its verdict is the service's word alone")
        claims, reports = evidence.blob("claims"), evidence.blob("reports")
        # 1. The evidence is what the attestation's row says that it was.
        if (sha256(claims).digest(), sha256(reports).digest()) != (
            row.blob("claims_sha256"),
            row.blob("reports_sha256"),
        ):
            raise BundleRefusedError(Part.EVIDENCE, "its evidence has other hashes than its row")
        # 2. What the verifier was given is about this attestation.
        devices = self._devices.get(challenge, {})
        given = read_basis(
            evidence.text("basis"), {pdi: each.text("basis") for pdi, each in devices.items()}, self._files
        )
        _same_attestation(row, given)
        # 3. The same verifier, the same inputs.
        verifier = self._verifiers.get(given.setting)
        if verifier is None:
            verifier = self._verifiers[given.setting] = given.setting.verifier(self._files)
        unverified = UnverifiedAttestation(row.text("host_id"), Challenge(challenge), claims, _reports(reports))
        inputs = given.inputs(self._known(unverified))
        verdict = verifier.verify(unverified, inputs)
        roots = frozenset(sha256(inputs.chains[device.chain_id][-1]).digest() for device in verdict.devices)
        lacking = _chain_missing(report_rejections_to_json(verdict.report_rejections)) - _chain_missing(
            row.text("report_rejections")
        )
        return Again(row, entry, verdict, given, inputs, devices, roots, lacking)

    def _known(self, attestation: UnverifiedAttestation) -> dict[ChainId, Sequence[bytes]]:
        known: dict[ChainId, Sequence[bytes]] = {}
        for report in attestation.reports:
            row = self._chains.get(report.chain_id)
            if row is not None:
                certificates = _unframed(row.blob("certificates"))
                if chain_id(certificates) != report.chain_id:
                    raise BundleRefusedError(Part.EVIDENCE, "a chain has another id than its row says")
                known[report.chain_id] = certificates
        return known


def _chain_missing(rejections: str) -> frozenset[int]:
    """Return the indices of reports that were refused since nobody had their chain."""
    listed = _read(rejections, "refused reports")
    refused = [each for each in listed if isinstance(each, list) and len(each) == 3] if isinstance(listed, list) else []
    return frozenset(each[0] for each in refused if type(each[0]) is int and each[1] == Reason.CHAIN_MISSING.name)


def _same_attestation(row: Row, given: Given) -> None:
    said = (
        (given.issued.challenge, row.blob("challenge")),
        (given.issued.host_id, row.text("host_id")),
        (given.issued.issued_at, moment(row.integer("issued_at"))),
        (given.now, moment(row.integer("received_at"))),
        (given.reporter_licensee, row.text("licensee")),
    )
    if given.issued.life > CHALLENGE_LIFE:  # docs/protocol.md CH2
        raise BundleRefusedError(Part.EVIDENCE, "its challenge is said to have lived longer than any does")
    if any(one != other for one, other in said):
        raise BundleRefusedError(Part.EVIDENCE, "what its verification was given is of another attestation")


def _reports(framed: bytes) -> tuple[UnverifiedReport, ...]:
    """Return reports from their column: chain id and SPDM bytes in turn."""
    parts = _unframed(framed)
    if len(parts) % 2:
        raise UsageError("the reports are not pairs of chain id and report")
    return tuple(UnverifiedReport(parts[at + 1], ChainId(parts[at])) for at in range(0, len(parts), 2))


def _unframed(framed: bytes) -> tuple[bytes, ...]:
    """Split byte strings, each behind its length as u32be."""
    items: list[bytes] = []
    at = 0
    while at < len(framed):
        end = at + 4 + int.from_bytes(framed[at : at + 4], "big")
        if end > len(framed) or at + 4 > len(framed):
            raise UsageError("a list of byte strings is cut off")
        items.append(framed[at + 4 : end])
        at = end
    return tuple(items)


def _compare(again: Again, ledger: Ledger) -> None:
    row, verdict = again.row, again.verdict
    with ledger.point(Part.VERDICTS, name_of(row)):
        reason = None if verdict.rejection is None else int(verdict.rejection.reason)
        if reason != row.optional_integer("rejection"):
            raise BundleRefusedError(Part.VERDICTS, "it was rejected, or accepted, otherwise than the rules say")
        if again.lacking:
            ledger.open(
                Part.VERDICTS,
                f"{name_of(row)}: the chains of {len(again.lacking)} of its reports are not in the bundle, so these "
                "reports are not verified, nor what rests on them",
            )
        else:
            _same(
                row.text("report_rejections"), report_rejections_to_json(verdict.report_rejections), "refused reports"
            )
            if strangers := again.devices.keys() - {device.pdi for device in verdict.devices}:
                raise BundleRefusedError(
                    Part.VERDICTS, f"it has a verdict on {min(strangers).hex()}, which did not report authentically"
                )
        for device in verdict.devices:
            if device.pdi not in again.devices:
                ledger.open(
                    Part.VERDICTS, f"{name_of(row)}: the verdict on {device.pdi.hex()} is not in the bundle to compare"
                )
        for device in again.shown:
            try:
                _compare_device(device, again.devices[device.pdi], verdict.received_at)
            except BundleRefusedError as error:
                if not again.lacking:
                    raise
                raise NotHereError(f"{error.message}; it may rest on a chain that is not in the bundle") from error
        if again.shown:
            ledger.shown(
                Part.VERDICTS, f"{name_of(row)}: verdicts on {len(again.shown)} devices recomputed, and the same"
            )


def _compare_device(device: DeviceVerdict, row: Row, received_at: datetime) -> None:
    name = device.pdi.hex()
    standing = None if device.standing is None else int(device.standing)
    plain = (
        ("arrival", moment(row.integer("received_at")), received_at),
        ("chain", row.blob("chain_id"), device.chain_id),
        ("standing", row.optional_integer("standing"), standing),
        ("presence", row.integer("presence_proven"), int(device.presence_proven)),
    )
    for what, said, recomputed in plain:
        if said != recomputed:
            raise BundleRefusedError(Part.VERDICTS, f"the {what} of {name} is not what the rules give")
    _same(row.text("findings"), findings_to_json(device.findings), f"findings of {name}")
    _same(row.text("void_ranges"), void_ranges_to_json(device.void_ranges), f"dropped ranges of {name}")
    fix = None if device.fix is None else fix_to_json(device.fix)
    _same(row.optional_text("fix") or "null", fix or "null", f"fix of {name}")


def _read(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleRefusedError(Part.VERDICTS, f"the {what} are no JSON") from error


def _same(said: str, recomputed: str, what: str) -> None:
    if not alike(_read(said, what), json.loads(recomputed)):
        raise BundleRefusedError(Part.VERDICTS, f"the {what} recomputed are not those of the row")


def alike(one: object, other: object) -> bool:
    """Return whether two JSON values are the same, but for the last digits of numbers with a fraction."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and one == other
