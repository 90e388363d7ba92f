"""Fuzz doors: one function a parser, which takes any bytes and swallows the parser's own errors and no other.

A door also holds what must be true of bytes that the parser takes, such as that they encode to themselves. Signatures
would stop a fuzzer at the gate, so the doors behind a signature sign the bytes first, or ask a key that believes them.
Each door names good inputs to begin from. `python -m tests.fuzz DOOR` runs one.
"""

import base64
import functools
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from nacl.signing import VerifyKey
from rich.console import Console

from agent.memory import read_note
from console.bundle_render import render
from console.offline_bundle.as_json import to_json
from console.offline_bundle.check import Trust, check_bundle
from console.offline_bundle.reading import read_bundle
from console.offline_bundle.refusal import BundleRefusedError
from firmware_stubs import datagrams as device_datagrams
from firmware_stubs import framing
from firmware_stubs.firmware import reference_values
from landmark import cose as landmark_cose
from landmark import datagrams as landmark_datagrams
from landmark.errors import MalformedDatagramError, RefusedError
from landmark.errors import NotDeterministicError as LandmarkNotDeterministicError
from landmark.statements import verify_ticket
from server.records.names_alike import NameIndex
from server.rpc.screening_file import MAX_LISTED_ERRORS, list_entries, read_list
from tests.conformance.vectors import AUTHENTIC, load
from tests.fuzz import basis_samples, bundle_samples, result_samples
from tests.screening.list_file import ROWS, file_of
from tests.vectors.builder import (
    GPU,
    OID_COMPOSITE,
    OID_TCB_INFO,
    SWITCH,
    Device,
    Session,
    encode,
    fill,
    fwid_of,
    key_id,
    public_key,
    sign1,
    spki,
    tcb_info,
)
from tests.verifier.helpers_evidence import borders
from tests.verifier.helpers_place import landmark as landmark_record
from verifier import cbor, cose
from verifier.basis import read_basis
from verifier.cbor import NotDeterministicError
from verifier.errors import (
    BasisError,
    ChainConstraintViolatedError,
    ChainMalformedError,
    ChainSignatureInvalidError,
    ChainUntrustedRootError,
    ClaimsMalformedError,
    FwidMismatchError,
    LimitExceededError,
    PdiMismatchError,
    RangeError,
    RecordNotSignedError,
    ReportMalformedError,
    UsageError,
)
from verifier.evidence.chain import TrustRoots, VerifiedChain, verify_chain
from verifier.evidence.claims import parse_claims
from verifier.evidence.dice import parse_composite_device_id, parse_tcb_info
from verifier.evidence.measurements import ReferenceValues
from verifier.evidence.spdm import parse_report, verify_report
from verifier.journal import merkle
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, NoteError, NoteKey, NoteSignature, cosign, parse_lines, sign
from verifier.jws import JwsError, KeySet, decode_base64url, read_object, verify_jws
from verifier.place.borders import parse_borders
from verifier.place.geodesy import Position
from verifier.place.groups import parse_groups
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.ranging import verify_receipt
from verifier.place.record import verify_record
from verifier.place.regions import AnyOf, Atlas, Polygon, polygon_of
from verifier.result import Tier, tier_of, worst_of
from verifier.result_reading import parse_result
from verifier.units import Challenge
from witness.request import parse_submission

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
CHALLENGE = Challenge(Session().challenge)
TICKET_LABEL: Final = b"trigpoint-ticket-v1\0"
RECORD_LABEL: Final = b"trigpoint-landmark-v1\0"
UNIX_S = 1_900_000_000
LANDMARK = "landmark a"
OPERATOR = "operator a"
_DIGEST_BYTES = 48
_RECORD = landmark_record(
    "landmark", Position(10.0, -10.0), uncertainty_km=0.5, valid_from=datetime.fromtimestamp(UNIX_S, UTC)
)
_TICKET_KEYS = {key_id("server"): VerifyKey(public_key("server"))}
_CHAIN_ERRORS = (
    ChainConstraintViolatedError,
    ChainMalformedError,
    ChainSignatureInvalidError,
    ChainUntrustedRootError,
    LimitExceededError,
)
_COUNTRY_GROUPS = b"group,iso2,as_of,source,sureness\nD:5,CN,2026-01-01,EAR,high\nA:1,FR,2026-01-01,EAR,low\n"
_AREA = b'{"type": "Polygon", "coordinates": [[[0, 0], [9.5, 0], [9, 8], [0, 0]], [[2, 1], [3, 1], [3, 2], [2, 1]]]}'
_AREAS = (
    b'{"type": "MultiPolygon", "coordinates": [[[[179, 0], [180, 0], [180, 1], [179, 0]]],'
    b" [[[1, 1], [2, 1], [2, 2], [1, 1]]]]}"
)


class BelievingKey:
    """A report key under which every signature holds."""

    def verifies(self, der_signature: bytes, message: bytes) -> bool:
        """Believe it."""
        del der_signature, message
        return True


@functools.cache
def believing_chains() -> tuple[VerifiedChain, VerifiedChain]:
    """Chains of a GPU and a switch, whose leaf believes every signature."""
    made = [Device(prefix=prefix).chain() for prefix in (GPU, SWITCH)]
    gpu, switch = (verify_chain(c, TrustRoots(frozenset({c[4]}))) for c in made)
    return replace(gpu, report_key=BelievingKey()), replace(switch, report_key=BelievingKey())


@functools.cache
def registry() -> LandmarkRegistry:
    record = landmark_record("landmark", Position(10.0, 10.0))
    return LandmarkRegistry.build([replace(record, public_key=public_key(LANDMARK))])


@functools.cache
def roots() -> TrustRoots:
    return TrustRoots(frozenset({Device().chain()[4]}))


# verifier/


def fuzz_cbor_decode(data: bytes) -> None:
    """verifier.cbor.decode: what it takes encodes to the same bytes."""
    with suppress(NotDeterministicError):
        assert cbor.encode(cbor.decode(data)) == data


def fuzz_cose_parse_sign1(data: bytes) -> None:
    """verifier.cose.parse_sign1: a message is good only under its own label."""
    with suppress(NotDeterministicError):
        assert not cose.parse_sign1(data).verifies(public_key(LANDMARK), TICKET_LABEL)


def fuzz_cose_parse_sign1_of_bytes(data: bytes) -> None:
    """verifier.cose.parse_sign1_of_bytes: it takes what `parse_sign1` takes, and payloads that are no CBOR."""
    with suppress(NotDeterministicError):
        raw = cose.parse_sign1_of_bytes(data)
        assert isinstance(raw.untrusted_payload, bytes)
        assert not raw.verifies(public_key(LANDMARK), TICKET_LABEL)
        parsed = cose.parse_sign1(data)  # the same, but for what the payload must be
        assert parsed.kid == raw.kid


def fuzz_parse_claims(data: bytes) -> None:
    """verifier.evidence.claims.parse_claims."""
    with suppress(ClaimsMalformedError, LimitExceededError):
        assert len(parse_claims(data).devices) >= 1


def fuzz_parse_report(data: bytes) -> None:
    """verifier.evidence.spdm.parse_report: the parts are the whole."""
    with suppress(ReportMalformedError):
        parsed = parse_report(data)
        assert parsed.signed_part + parsed.signature == data
        assert all(len(digest) == _DIGEST_BYTES for digest in parsed.measurements.values())


def fuzz_verify_report(data: bytes) -> None:
    """verifier.evidence.spdm.verify_report behind its signature: every field is read."""
    for chain in believing_chains():
        with suppress(ReportMalformedError, FwidMismatchError, PdiMismatchError):
            verify_report(data, chain, None)


def fuzz_verify_chain(data: bytes) -> None:
    """verifier.evidence.chain.verify_chain over certificates as `join_chain` joins them."""
    with suppress(*_CHAIN_ERRORS):
        verify_chain(split_chain(data), roots())


def fuzz_parse_composite_device_id(data: bytes) -> None:
    """verifier.evidence.dice.parse_composite_device_id."""
    with suppress(ChainConstraintViolatedError):
        assert len(parse_composite_device_id(data, spki(Device().label))) == _DIGEST_BYTES


def fuzz_parse_tcb_info(data: bytes) -> None:
    """verifier.evidence.dice.parse_tcb_info."""
    with suppress(ChainConstraintViolatedError):
        assert len(parse_tcb_info(data)) == _DIGEST_BYTES


def fuzz_verify_receipt(data: bytes) -> None:
    """verifier.place.ranging.verify_receipt before its signature."""
    with suppress(RangeError):
        verify_receipt(data, CHALLENGE, registry())


def fuzz_receipt_payload(data: bytes) -> None:
    """verifier.place.ranging.verify_receipt behind its signature: a landmark that signs anything."""
    with suppress(RangeError):
        verify_receipt(sign1(data, LANDMARK), CHALLENGE, registry())


def fuzz_record(data: bytes) -> None:
    """verifier.place.record.verify_record before its signature."""
    with suppress(RecordNotSignedError):
        verify_record(_RECORD, "map", public_key(OPERATOR), data)


def fuzz_record_payload(data: bytes) -> None:
    """verifier.place.record.verify_record behind its signature: only the one payload says what the record says."""
    try:
        verify_record(_RECORD, "map", public_key(OPERATOR), sign1(data, OPERATOR, aad=RECORD_LABEL))
    except RecordNotSignedError:
        assert data != _record_payload()
    else:
        assert data == _record_payload()


def fuzz_reference_values(data: bytes) -> None:
    """verifier.evidence.measurements.ReferenceValues.parse."""
    with suppress(UsageError):
        ReferenceValues.parse([data])


def fuzz_atlas(data: bytes) -> None:
    """verifier.place.regions.Atlas.parse."""
    with suppress(UsageError):
        assert Atlas.parse(data, "fuzzed").country_codes


def fuzz_read_basis(data: bytes) -> None:
    """verifier.basis.read_basis: whatever is taken is a value that a verifier takes."""
    common, _, device = data.partition(b"\n")
    with suppress(BasisError):
        devices = {basis_samples.DEVICE: device.decode(errors="replace")}
        given = read_basis(common.decode(errors="replace"), devices, basis_samples.FILES)
        hash(given.setting)
        inputs = given.inputs({})
        assert all(0 <= landmark.uncertainty_km < 1000 for landmark in inputs.landmarks.by_key.values())
        assert {*inputs.deployments, *inputs.last} <= {basis_samples.DEVICE}


def fuzz_parse_borders(data: bytes) -> None:
    """verifier.place.borders.parse_borders: every country has a shape, and every point is on Earth."""
    with suppress(UsageError):
        rings = parse_borders(data)
        assert rings
        for parts in rings.values():
            assert all(len(ring) >= 3 and abs(ring).max() <= 180 and abs(ring[:, 1]).max() <= 90 for ring in parts)


def fuzz_parse_groups(data: bytes) -> None:
    """verifier.place.groups.parse_groups: what is always prohibited stays so, and every row is in a group."""
    with suppress(UsageError):
        groups = parse_groups(data, "fuzzed")
        prohibited = groups.prohibited()
        assert {"HK", "MO", "UA-43"} <= prohibited.codes
        assert groups.members.get("D:5", frozenset()) <= prohibited.codes
        assert str(prohibited)
        assert all(groups.notes())


def parts_of(drawn: Polygon | AnyOf) -> list[Polygon]:
    """Return the parts of a drawn site."""
    return [drawn] if isinstance(drawn, Polygon) else [part for part in drawn.members if isinstance(part, Polygon)]


def fuzz_polygon(data: bytes) -> None:
    """verifier.place.regions.polygon_of: what it takes encloses something that is on Earth."""
    try:
        geometry = json.loads(data)
    except (ValueError, RecursionError):
        return
    with suppress(UsageError):
        drawn = polygon_of("fuzzed", geometry)
        rings = [ring for part in parts_of(drawn) for ring in part.rings]
        assert all(len(ring) >= 3 for ring in rings)
        assert all(abs(x) <= 180 and abs(y) <= 90 for ring in rings for x, y in ring)
        assert str(drawn)


def fuzz_trust_roots(data: bytes) -> None:
    """verifier.evidence.chain.TrustRoots.parse."""
    with suppress(UsageError):
        assert TrustRoots.parse([data]).certificates


def fuzz_note(data: bytes) -> None:
    """verifier.journal.notes.Note.parse: what it takes is written alike, and is signed only if it is the sample."""
    with suppress(NoteError):
        note = Note.parse(data)
        assert bytes(note) == data
        assert note.signed_by(_JOURNAL_KEY) <= (note.text == _CHECKPOINT.text)
        assert note.cosigned_by(_WITNESS_KEY) in ({None, UNIX_S} if note.text == _CHECKPOINT.text else {None})


def fuzz_signature_lines(data: bytes) -> None:
    """verifier.journal.notes.parse_lines, as a witness answers: what it takes is written alike."""
    with suppress(NoteError):
        assert "".join(line.line for line in parse_lines(data)).encode() == data


def fuzz_checkpoint(data: bytes) -> None:
    """verifier.journal.checkpoints.Checkpoint.parse: what it takes is written alike."""
    with suppress(NoteError, UnicodeDecodeError):
        assert Checkpoint.parse(data.decode()).text.encode() == data


def fuzz_vkey(data: bytes) -> None:
    """verifier.journal.notes.NoteKey.parse: what it takes is written alike."""
    with suppress(NoteError, UnicodeDecodeError):
        assert NoteKey.parse(data.decode()).vkey.encode() == data


def fuzz_consistency(data: bytes) -> None:
    """verifier.journal.merkle.verify_consistency: sizes, roots and path from bytes; no proof rewrites the past."""
    old, new, rest = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:16], "big"), data[16:]
    hashes = [rest[at : at + merkle.HASH_BYTES] for at in range(0, len(rest), merkle.HASH_BYTES)]
    if len(hashes) < 2:
        return
    old_root, new_root, *path = hashes
    if merkle.verify_consistency(old, new, old_root, new_root, path) and (old, new) == (_OLD, _NEW):
        assert new_root != _TREE_ROOTS[1] or old_root == _TREE_ROOTS[0]


def fuzz_inclusion(data: bytes) -> None:
    """verifier.journal.merkle.verify_inclusion: index, leaf and path from bytes; no leaf but the one is proven."""
    index, rest = int.from_bytes(data[:8], "big"), data[8:]
    leaf, *path = [rest[at : at + merkle.HASH_BYTES] for at in range(0, max(len(rest), 1), merkle.HASH_BYTES)]
    if merkle.verify_inclusion(leaf, index, _NEW, path, _TREE_ROOTS[1]):
        assert leaf == _TREE[index]


def fuzz_result(data: bytes) -> None:
    """verifier.result_reading.parse_result: no status that it takes is better than its vector."""
    with suppress(UsageError):
        for appraisal in parse_result(read_object(data)).submods.values():
            made = [tier for tier in map(tier_of, appraisal.vector.values()) if tier is not Tier.NONE]
            assert worst_of([appraisal.status, *made]) is appraisal.status


def fuzz_token(data: bytes) -> None:
    """verifier.jws.verify_jws: nothing holds but what the key signed, in its one spelling."""
    try:
        verify_jws(data.decode("latin-1"), KeySet.parse(result_samples.key_sets()[0]))
    except JwsError:
        return
    parts = [decode_base64url(part) for part in data.decode("ascii").split(".")]
    assert b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts) == data


def fuzz_key_set(data: bytes) -> None:
    """verifier.jws.KeySet.parse: every key is called by its thumbprint."""
    with suppress(JwsError):
        assert all(len(decode_base64url(name)) == 32 for name in KeySet.parse(data).keys)


# console/


def fuzz_bundle(data: bytes) -> None:
    """console.offline_bundle.reading.read_bundle before its header's signature: it takes what was signed alone."""
    with suppress(BundleRefusedError):
        read_bundle(data, bundle_samples.KEY)
        assert data in bundle_samples.files()


def fuzz_bundle_body(data: bytes) -> None:
    """console.offline_bundle.check behind its header: whatever a journal's owner writes is an outcome that can be told.

    The proofs hold for what was journaled alone.
    """
    outcome = check_bundle(bundle_samples.file_of(data), Trust(bundle_samples.KEY, frozenset()))
    told = to_json(outcome)
    assert json.dumps(told)
    render(told, Console(file=io.StringIO()))
    if not outcome.refused:
        good = json.loads(bundle_samples.bodies()[0])
        assert {**json.loads(data), "exported": None, "left_out": None} == {**good, "exported": None, "left_out": None}


# server/


def fuzz_screening_list(data: bytes) -> None:
    """server.rpc.screening_file.read_list: errors are told and counted, and a list without any is read again alike."""
    reading = read_list(io.BytesIO(data))
    assert reading.error_count == len(reading.errors) or len(reading.errors) == MAX_LISTED_ERRORS
    if not reading.error_count:
        entries = list(list_entries(io.BytesIO(data)))
        assert [entry.entry_id for entry in entries] == [names.entry_id for names in reading.names]
        assert len(entries) == reading.entry_count > 0
        assert NameIndex(reading.names).name_count <= reading.name_count


# landmark/


def fuzz_landmark_datagram(data: bytes) -> None:
    """landmark.datagrams.parse_datagram: what it takes is of the size that it would have if written again."""
    with suppress(MalformedDatagramError):
        parsed = landmark_datagrams.parse_datagram(data)
        again = parsed.encode()
        assert len(again) == len(data)
        assert landmark_datagrams.parse_datagram(again) == parsed


def fuzz_landmark_decode(data: bytes) -> None:
    """landmark.cose.decode: what it takes encodes to the same bytes."""
    with suppress(LandmarkNotDeterministicError):
        assert landmark_cose.encode(landmark_cose.decode(data)) == data


def fuzz_ticket(data: bytes) -> None:
    """landmark.statements.verify_ticket before its signature."""
    with suppress(RefusedError):
        verify_ticket(data, key_id(LANDMARK), _TICKET_KEYS, UNIX_S)


def fuzz_ticket_payload(data: bytes) -> None:
    """landmark.statements.verify_ticket behind its signature: a server that signs anything."""
    with suppress(RefusedError):
        verify_ticket(sign1(data, "server", aad=TICKET_LABEL), key_id(LANDMARK), _TICKET_KEYS, UNIX_S)


# firmware_stubs/


def fuzz_device_datagram(data: bytes) -> None:
    """firmware_stubs.datagrams.parse: it drops what is no datagram; landmark.datagrams agrees on the rest."""
    if device_datagrams.parse(data) is not None and len(data) <= landmark_datagrams.MAX_DATAGRAM_BYTES:
        landmark_datagrams.parse_datagram(data)


def fuzz_frame(data: bytes) -> None:
    """firmware_stubs.framing.decode."""
    with suppress(framing.FramingError):
        assert all(isinstance(key, str) for key in framing.decode(data))


def fuzz_witness_request(data: bytes) -> None:
    """witness.request.parse_submission: what it takes is written alike."""
    with suppress(NoteError):
        taken = parse_submission(data)
        lines = [f"old {taken.old}", *(base64.b64encode(step).decode() for step in taken.proof), "", ""]
        assert "\n".join(lines).encode() + bytes(taken.note) == data
        assert taken.checkpoint.text == taken.note.text


def fuzz_agent_memory(data: bytes) -> None:
    """agent.memory.read_note: what the agent takes for a checkpoint has the size that a strict reader sees."""
    with suppress(UnicodeDecodeError):
        found = read_note(data.decode())
        with suppress(NoteError):
            checkpoint = Checkpoint.parse(Note.parse(data).text)
            if checkpoint.origin.isprintable() and len(checkpoint.origin) <= 255:
                assert found == (checkpoint.origin, checkpoint.size)


def fuzz_frame_reader(data: bytes) -> None:
    """firmware_stubs.framing.FrameReader: any portions give the same messages."""
    assert _messages([data]) == _messages([data[n : n + 1] for n in range(len(data))])


def _messages(portions: Sequence[bytes]) -> tuple[list[str], str]:
    reader, found = framing.FrameReader(), list[str]()
    try:
        for portion in portions:
            found.extend(repr(message) for message in reader.feed(portion))
    except framing.FramingError as error:
        return found, str(error)
    return found, ""


def join_chain(certificates: Sequence[bytes]) -> bytes:
    """Certificates with a u16be length before each, so that one input holds a chain."""
    return b"".join(len(c).to_bytes(2, "big") + c for c in certificates)


def split_chain(data: bytes) -> list[bytes]:
    """The certificates of `join_chain`; the last may be shorter than its length says."""
    certificates: list[bytes] = []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        certificates.append(data[2:end])
        data = data[end:]
    return certificates


# Good inputs to begin from.


_JOURNAL_SECRET, _WITNESS_SECRET = (Ed25519PrivateKey.from_private_bytes(fill(kind)) for kind in ("log", "witness"))
_JOURNAL_KEY = NoteKey.of("log.example", _JOURNAL_SECRET)
_WITNESS_KEY = NoteKey.of("witness.example", _WITNESS_SECRET, cosigns=True)
_OLD, _NEW = 5, 13
_TREE = [merkle.leaf_hash(bytes([n])) for n in range(_NEW)]
_TREE_ROOTS = merkle.root_of(_TREE[:_OLD]), merkle.root_of(_TREE)
_CHECKPOINT = Checkpoint(_JOURNAL_KEY.name, _NEW, _TREE_ROOTS[1])


def _witness_requests() -> list[bytes]:
    proof = b"".join(base64.b64encode(fill(f"step {n}")) + b"\n" for n in range(3))
    return [head + b"\n" + note for head in (b"old 0\n", b"old 7\n" + proof) for note in _notes()]


def _notes() -> list[bytes]:
    note = sign(_CHECKPOINT.text, _JOURNAL_KEY.name, _JOURNAL_SECRET)
    return [bytes(note), bytes(note.plus([_cosignature()]))]


def _cosignature() -> NoteSignature:
    return cosign(_CHECKPOINT.text, _WITNESS_KEY.name, _WITNESS_SECRET, UNIX_S)


def _consistency() -> bytes:
    path = merkle.prove_consistency(_OLD, _NEW, merkle.nodes_of(_TREE))
    return _OLD.to_bytes(8, "big") + _NEW.to_bytes(8, "big") + b"".join((*_TREE_ROOTS, *path))


def _inclusions() -> list[bytes]:
    nodes = merkle.nodes_of(_TREE)
    return [n.to_bytes(8, "big") + b"".join((_TREE[n], *merkle.prove_inclusion(n, _NEW, nodes))) for n in (0, 7, 12)]


def _good(kind: str, member: str) -> list[bytes]:
    return [bytes.fromhex(v[member]) for v in load(VECTORS, kind) if v["expect"] == AUTHENTIC]


def _receipts() -> list[bytes]:
    return _good("range", "receipt")[:4]


def _payloads() -> list[bytes]:
    return [encode(Session().payload()), encode(Session(sent=64, answered=tuple(range(64))).payload())]


def _reports() -> list[bytes]:
    return sorted(_good("report", "report"), key=len)[:-1]  # one holds a full log


def _extension(oid: x509.ObjectIdentifier) -> bytes:
    extension = {
        OID_COMPOSITE: Device().certificates()[0].more[0][0],
        OID_TCB_INFO: tcb_info(fwid_of("firmware")),
    }[oid]
    assert isinstance(extension, x509.UnrecognizedExtension)
    return extension.value


def _pems() -> list[bytes]:
    roots = [x509.load_der_x509_certificate(Device(vendor=v).chain()[4]) for v in ("vendor", "other vendor")]
    return [b"".join(r.public_bytes(Encoding.PEM) for r in roots[:n]) for n in (1, 2)]


def _screening_lists() -> list[bytes]:
    return [file_of(ROWS), file_of(ROWS, ("source", "entity_number", "type", "name", "alt_names"))]


def _record_payload() -> bytes:
    parties = {3: _RECORD.operator, 4: _RECORD.hoster}
    place = {5: 100_000_000, 6: -100_000_000, 7: 500}
    return encode({1: "landmark", 2: _RECORD.public_key, **parties, **place, 8: "map", 9: False, 10: "XX", 11: UNIX_S})


def _ticket_payload() -> bytes:
    return encode({1: CHALLENGE, 2: key_id(LANDMARK), 3: UNIX_S + 60, 4: fill("ticket id", 16)})


def _datagrams() -> list[bytes]:
    made = landmark_datagrams
    tag, nonce, cookie = fill("tag", 16), fill("nonce"), fill("cookie", 24)
    kinds = (
        made.Hello(fill("hello", 16), key_id(LANDMARK)),
        made.Nonce(tag, fill("hello", 16), nonce, cookie),
        made.Commit(tag, nonce, cookie, fill("C"), sign1(_ticket_payload(), "server", aad=TICKET_LABEL)),
        made.Round(tag, 7, fill("c", 16)),
        made.Answer(tag, 7, fill("a", 16)),
        made.Stop(tag, 16),
        made.Reveal(tag, fill("s")),
        made.ReceiptDatagram(tag, Session().receipt()),
        made.Refused(tag, 1),
    )
    return [kind.encode() for kind in kinds]


def _frames() -> list[bytes]:
    messages: list[framing.Message] = [{"op": "devices"}, {"ok": True, "result": [{"pdi": bytes(8), "slot": 3}]}]
    return [framing.encode(m) for m in messages]


@dataclass(frozen=True, slots=True)
class Door:
    """One door: the function, and good inputs for its parser."""

    fuzz: Callable[[bytes], None]
    samples: Callable[[], Sequence[bytes]]

    @property
    def name(self) -> str:
        """The function's name without `fuzz_`."""
        return self.fuzz.__name__.removeprefix("fuzz_")


DOORS: Final = {
    door.name: door
    for door in (
        Door(fuzz_cbor_decode, lambda: [*_good("claims", "claims")[:3], *_payloads()]),
        Door(fuzz_cose_parse_sign1, _receipts),
        Door(fuzz_cose_parse_sign1_of_bytes, lambda: [*_receipts(), sign1(bytes(range(96)), LANDMARK)]),
        Door(fuzz_parse_claims, lambda: sorted(_good("claims", "claims"), key=len)[:8]),
        Door(fuzz_parse_report, _reports),
        Door(fuzz_verify_report, _reports),
        Door(fuzz_verify_chain, lambda: [join_chain(Device(prefix=p).chain()) for p in (GPU, SWITCH)]),
        Door(fuzz_parse_composite_device_id, lambda: [_extension(OID_COMPOSITE)]),
        Door(fuzz_parse_tcb_info, lambda: [_extension(OID_TCB_INFO)]),
        Door(fuzz_verify_receipt, _receipts),
        Door(fuzz_receipt_payload, _payloads),
        Door(fuzz_record, lambda: [sign1(_record_payload(), OPERATOR, aad=RECORD_LABEL)]),
        Door(fuzz_record_payload, lambda: [_record_payload()]),
        Door(fuzz_reference_values, lambda: [_small_references()]),
        Door(fuzz_atlas, lambda: [borders()]),
        Door(fuzz_read_basis, lambda: basis_samples.bases(_good("claims", "claims")[0])),
        Door(fuzz_parse_borders, lambda: [borders()]),
        Door(fuzz_parse_groups, lambda: [_COUNTRY_GROUPS]),
        Door(fuzz_polygon, lambda: [_AREA, _AREAS]),
        Door(fuzz_trust_roots, _pems),
        Door(fuzz_note, _notes),
        Door(fuzz_signature_lines, lambda: [_cosignature().line.encode() * n for n in (1, 2)]),
        Door(fuzz_checkpoint, lambda: [_CHECKPOINT.text.encode()]),
        Door(fuzz_vkey, lambda: [key.vkey.encode() for key in (_JOURNAL_KEY, _WITNESS_KEY)]),
        Door(fuzz_consistency, lambda: [_consistency()]),
        Door(fuzz_inclusion, _inclusions),
        Door(fuzz_result, result_samples.results),
        Door(fuzz_token, result_samples.tokens),
        Door(fuzz_key_set, result_samples.key_sets),
        Door(fuzz_bundle, bundle_samples.files),
        Door(fuzz_bundle_body, bundle_samples.bodies),
        Door(fuzz_screening_list, _screening_lists),
        Door(fuzz_landmark_datagram, _datagrams),
        Door(fuzz_landmark_decode, lambda: [_ticket_payload()]),
        Door(fuzz_ticket, lambda: [sign1(_ticket_payload(), "server", aad=TICKET_LABEL)]),
        Door(fuzz_ticket_payload, lambda: [_ticket_payload()]),
        Door(fuzz_device_datagram, _datagrams),
        Door(fuzz_frame, lambda: [frame[framing.LENGTH_BYTES :] for frame in _frames()]),
        Door(fuzz_frame_reader, lambda: [*_frames(), b"".join(_frames())]),
        Door(fuzz_witness_request, _witness_requests),
        Door(fuzz_agent_memory, _notes),
    )
}


def _small_references() -> bytes:
    """Reference values of one firmware with two blocks; the emulator's own are long."""
    document: dict[str, Any] = reference_values()
    entry = dict(document["firmware"][0])
    entry["measurements"] = dict(list(entry["measurements"].items())[:2])
    return json.dumps({**document, "firmware": [entry]}).encode()
