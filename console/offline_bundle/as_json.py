"""What a check of a bundle came to, as plain JSON values; docs/bundle.md gives the members.

What is printed for people is made of the same values (console/bundle_render.py).
"""

from collections.abc import Callable
from typing import Any

from trigpoint.v1 import cases_pb2

from console.offline_bundle.case import Case
from console.offline_bundle.check import Outcome, witness_time
from console.offline_bundle.evidence import Again
from console.offline_bundle.journal import Journaled
from console.offline_bundle.ledger import told
from console.offline_bundle.reading import Bundle
from console.offline_bundle.refusal import NotHereError
from console.offline_bundle.values import Row
from console.plain import enum_text
from verifier.errors import Reason, UsageError
from verifier.place.answers import Depths
from verifier.place.fix import Fix
from verifier.verdict import DeviceVerdict, Severity

Json = dict[str, Any]

_NOT_HERE = "(not in the bundle)"


def to_json(outcome: Outcome) -> Json:
    """Return all that is known of a bundle and of what became of it."""
    bundle, journaled, case = outcome.bundle, outcome.journaled, outcome.case
    return {
        "outcome": "refused" if outcome.refused else "shown",
        "bundle": None if bundle is None else _bundle(bundle),
        "checkpoint": None if journaled is None else _checkpoint(journaled),
        "case": None if bundle is None or case is None else _case(bundle, case),
        "attestations": [_attestation(again) for again in outcome.found],
        "checks": [{"part": c.part.value, "state": c.state.value, "text": c.text} for c in outcome.checks],
        "aloud": list(outcome.aloud),
        "not_shown": list(outcome.not_shown),
    }


def _bundle(bundle: Bundle) -> Json:
    exported = bundle.exported
    return {
        "case": f"cases/{bundle.header.case}",
        "journal": bundle.header.origin,
        "body_bytes": bundle.header.size,
        "body_sha256": bundle.header.sha256.hex(),
        "export_time": _time(exported.at_us),
        "exported_by": exported.by,
        "jurisdiction": exported.jurisdiction,
        "reason": exported.reason,
        "left_out": [{"what": each.what, "count": each.count, "why": each.why} for each in bundle.left_out],
        "withheld": [{"entry": i.entry, "item": i.number, "why": i.withheld} for i in bundle.items if i.row is None],
    }


def _checkpoint(journaled: Journaled) -> Json:
    checkpoint = journaled.checkpoint
    return {
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "cosigned": [{"name": each.name, "time": witness_time(each.time_s)} for each in journaled.cosigned],
        "not_cosigned": list(journaled.not_cosigned),
        "unchecked_signatures": list(journaled.others),
    }


def _case(bundle: Bundle, case: Case) -> Json:
    row = case.row
    kept = {(r.blob("pdi"), r.integer("reason"), r.integer("opened_at")): r for r in bundle.rows("findings")}
    return {
        "name": f"cases/{bundle.header.case}",
        "title": _text(row, "title"),
        "event": enum_text(cases_pb2.CaseEvent.DESCRIPTOR, row.integer("event")),
        "state": enum_text(cases_pb2.CaseState.DESCRIPTOR, row.integer("state")),
        "severity": _named(Severity, row.integer("severity")),
        "licensee": _text(row, "licensee"),
        "license": _text(row, "license_number"),
        "site": _text(row, "site_id"),
        "open_time": _time(row.integer("opened_at")),
        "resolve_time": None if row.optional_integer("resolved_at") is None else _time(row.integer("resolved_at")),
        "resolution": _text(row, "resolution"),
        "device_count": row.integer("devices"),
        "story": [
            {
                "time": _time(each.integer("at")),
                "by": _text(each, "by"),
                "kind": enum_text(cases_pb2.CaseEntryKind.DESCRIPTOR, each.integer("kind")),
                "text": _text(each, "text"),
            }
            for each in case.story
        ],
        "findings": [
            _finding(each, kept.get((each.blob("pdi"), each.integer("reason"), each.integer("opened_at"))))
            for each in case.findings
        ],
        "exhibits": [_exhibit(each) for each in case.exhibits],
    }


def _finding(row: Row, kept: Row | None) -> Json:
    return {
        "pdi": row.blob("pdi").hex(),
        "reason": _named(Reason, row.integer("reason")),
        "severity": None if kept is None else _named(Severity, kept.integer("severity")),
        "detail": None if kept is None else _text(kept, "detail"),
        "open_time": _time(row.integer("opened_at")),
        "end_time": None if row.optional_integer("ended_at") is None else _time(row.integer("ended_at")),
    }


def _exhibit(row: Row) -> Json:
    answered = row.optional_integer("answered_at") is not None
    return {
        "time": _time(row.integer("at")),
        "by": _text(row, "by"),
        "on_behalf_of": _text(row, "on_behalf_of"),
        "statement": _text(row, "statement"),
        "file_name": _text(row, "file_name"),
        "answer_time": _time(row.integer("answered_at")) if answered else None,
        "answered_by": _text(row, "answered_by") if answered else None,
        "answer": _text(row, "answer") if answered else None,
    }


def _attestation(again: Again) -> Json:
    verdict, row = again.verdict, again.row
    rejection = verdict.rejection
    return {
        "challenge": verdict.challenge.hex(),
        "issue_time": _time(row.integer("issued_at")),
        "receive_time": _time(row.integer("received_at")),
        "host": verdict.host_id,
        "agent": _text(row, "agent"),
        "licensee": _text(row, "licensee"),
        "rejection": None if rejection is None else {"reason": rejection.reason.name, "detail": rejection.detail},
        "refused_reports": [
            {"index": each.index, "reason": each.rejection.reason.name, "detail": each.rejection.detail}
            for each in verdict.report_rejections
        ],
        "lacking_chains": sorted(again.lacking),
        "devices": [_device(again, device) for device in verdict.devices],
        "roots": sorted(root.hex() for root in again.roots),
    }


def _device(again: Again, device: DeviceVerdict) -> Json:
    if device.pdi not in again.devices:
        return {"pdi": device.pdi.hex(), "withheld": True}
    return {
        "pdi": device.pdi.hex(),
        "withheld": False,
        "kind": device.kind.name,
        "model": device.model,
        "firmware": device.firmware,
        "device_key_id": device.device_key_id.hex(),
        "standing": None if device.standing is None else device.standing.name,
        "presence_proven": device.presence_proven,
        "proven_edges": [pdi.hex() for pdi in device.proven_edges],
        "findings": [
            {"reason": each.reason.name, "severity": each.severity.name, "detail": each.detail}
            for each in device.findings
        ],
        "place": None if device.fix is None else _place(device.fix),
    }


def _place(fix: Fix) -> Json:
    return {
        "in_licensed_region": fix.in_licensed_region.name,
        "outside_prohibited": fix.outside_prohibited.name,
        "tolerated_domains": fix.tolerated_domains,
        "least_violations": fix.least_violations,
        "licensed_depths": _depths(fix.licensed_depths),
        "outside_depths": _depths(fix.outside_depths),
        "contradicting": list(fix.contradicting),
        "assurance": fix.assurance.name,
        "demonstration": fix.demonstration,
        "borders": fix.borders_version,
        "lists": fix.prohibited_version,
        "explanation": fix.explanation,
        "discs": [
            {
                "landmark": disc.landmark_id,
                "revision": disc.landmark_revision,
                "domain": disc.domain,
                "latitude": disc.position.latitude,
                "longitude": disc.position.longitude,
                "rtt_ns": disc.rtt_ns,
                "radius_km": disc.radius_km,
                "may_accuse": disc.may_accuse,
            }
            for disc in fix.discs
        ],
    }


def _depths(depths: Depths) -> Json:
    return dict(depths._asdict())


def _text(row: Row, name: str) -> str:
    try:
        return row.text(name)
    except NotHereError:
        return _NOT_HERE


def _time(time_us: int) -> str:
    try:
        return told(time_us)
    except UsageError:
        return f"{time_us} us"


def _named(kind: Callable[[int], Reason | Severity], number: int) -> str:
    try:
        return kind(number).name
    except ValueError:
        return str(number)
