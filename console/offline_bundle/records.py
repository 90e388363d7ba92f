"""Holds what a verdict was given against the revisions of records in a bundle (docs/protocol.md RC1, RC4, RC6, CB4).

For each device that was appraised under a license: the license's terms, the deployment, the site's region, all as of
the records number that the verdict names, and that two people approved what only two people may change.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from console.offline_bundle.evidence import Again, alike, name_of
from console.offline_bundle.ledger import Ledger, moment, told
from console.offline_bundle.reading import Bundle
from console.offline_bundle.refusal import BundleRefusedError, NotHereError, Part
from console.offline_bundle.values import Row
from verifier.errors import UsageError
from verifier.license import Adoption, BoardSwap, License, LicenseState
from verifier.place.region_json import region_to_json
from verifier.units import Pdi

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_APPLIED: Final = 2
_PDI_BYTES: Final = 8
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision of a record.

    Attributes:
        name: Resource name.
        revision: Counted from 1.
        number: Of the write that made it.
        at_us: When.
        by: Who wrote or proposed it.
        change_id: The change that two people made it by; None when one was enough.
        record: As JSON; None: the record ended.
    """

    name: str
    revision: int
    number: int
    at_us: int
    by: str
    change_id: int | None
    record: Mapping[str, Any] | None

    @classmethod
    def of(cls, row: Row) -> "Revision":
        """Read a row of `revisions`; raises `NotHereError` or `UsageError`."""
        text = row.optional_text("record")
        try:
            record = None if text is None else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"a revision of {row.text('name')} is no JSON") from error
        if record is not None and not isinstance(record, dict):
            raise UsageError(f"a revision of {row.text('name')} is no object")
        numbers = row.integer("revision"), row.integer("record_number"), row.integer("revised_at")
        return cls(row.text("name"), *numbers, row.text("revised_by"), row.optional_integer("change_id"), record)


class Records:
    """The revisions and changes of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._revisions: dict[str, list[Row]] = {}
        self._entries: dict[tuple[str, int], int] = {}
        for entry, row in bundle.placed("revisions"):
            self._entries[row.text("name"), row.integer("revision")] = entry
            self._revisions.setdefault(row.text("name"), []).append(row)
        self._changes = {row.integer("change_id"): row for row in bundle.rows("changes")}

    def in_force(self, name: str, again: Again) -> Revision | None:
        """Return the newest revision here that stood when the challenge was issued; None when none did.

        Raises:
            NotHereError: The bundle has no revision of this name.
        """
        stood = [each for each in self.of(name) if _stood(each, again)]
        return max(stood, key=lambda each: each.revision, default=None)

    def of(self, name: str) -> list[Revision]:
        """Return the revisions of a record that are here, oldest first; raises `NotHereError` without any."""
        rows = self._revisions.get(name)
        if not rows:
            raise NotHereError(f"no revision of {name} is in the bundle")
        return sorted(map(Revision.of, rows), key=lambda each: each.revision)

    def check_order(self, revision: Revision, again: Again) -> None:
        """Refuse a revision that was written behind the verdict that is said to rest on it: entries prove the order."""
        if self._entries[revision.name, revision.revision] > again.entry:
            raise BundleRefusedError(
                Part.RECORDS, f"revision {revision.revision} of {revision.name} was written after the verdict"
            )

    def check_approval(self, revision: Revision) -> str:
        """Return who approved a revision, in words.

        Raises:
            BundleRefusedError: Its change was not approved by another person (docs/protocol.md RC4).
            NotHereError: The change is not here.
        """
        if revision.change_id is None:
            return f"written by {revision.by} alone"
        change = self._changes.get(revision.change_id)
        if change is None:
            raise NotHereError(f"change {revision.change_id}, by which {revision.name} was revised, is not here")
        proposed, decided = change.text("proposed_by"), change.text("decided_by")
        if change.integer("state") != _APPLIED or _person(proposed) == _person(decided) or not decided:
            raise BundleRefusedError(
                Part.RECORDS, f"{revision.name} was revised by change {revision.change_id}, which no second person made"
            )
        if proposed != revision.by:
            raise BundleRefusedError(
                Part.RECORDS, f"{revision.name} says it was revised by {revision.by}, its change by {proposed}"
            )
        return f"proposed by {proposed}, approved by {decided}"


def check_records(bundle: Bundle, found: Iterable[Again], ledger: Ledger) -> None:
    """Check the records of every device of every attestation that was verified again."""
    records = Records(bundle)
    for again in found:
        for pdi in sorted(again.devices):
            with ledger.point(Part.RECORDS, f"{pdi.hex()} in {name_of(again.row)}"):
                said = _check_device(records, again, pdi)
                if said:
                    ledger.shown(Part.RECORDS, f"{pdi.hex()} in {name_of(again.row)}: {said}")
                    _check_two_people(records, again, pdi)


def _check_device(records: Records, again: Again, pdi: Pdi) -> str:
    """Return what holds of a device's records, in words; empty for one that had none."""
    deployment, swap = again.given.deployments.get(pdi), None
    if deployment is not None:
        held, region, name, swap = deployment.license, deployment.region, f"deployments/{pdi.hex()}", deployment.swap
    else:
        adopted = _adopted(again, pdi)
        if adopted is None:
            _check_unlicensed(records, again, pdi)
            return ""
        held, region, name = adopted.license, adopted.region, _selector_name(adopted.selector)
    # 1. The license, by the revision that the verdict names.
    license_name = f"licenses/{escaped(held.number)}"
    license_ = next((each for each in records.of(license_name) if each.revision == held.revision), None)
    if license_ is None:
        raise NotHereError(f"revision {held.revision} of {license_name} is not in the bundle")
    if license_.record is None or not _same_terms(held, license_.record):
        raise BundleRefusedError(Part.RECORDS, f"its license is not as revision {held.revision} of {license_name} says")
    # 2. The deployment that stood, or the first since (docs/protocol.md RC6), and the site that it names.
    placed = _deployment(records, again, name, held.number)
    site = f"{license_name}/sites/{placed.record.get('site') if placed.record else ''}"
    if not _same_swap(swap, placed):
        raise BundleRefusedError(
            Part.RECORDS, f"its swap of boards is not as revision {placed.revision} of {name} says"
        )
    drawn = _site(records, again, site, placed)
    if drawn.record is None or not alike(drawn.record.get("region"), json.loads(region_to_json(region))):
        raise BundleRefusedError(Part.RECORDS, f"its region is not as revision {drawn.revision} of {site} says")
    # 3. None of them is younger than the verdict, and no newer license of the bundle stood when it was asked.
    newest = records.in_force(license_name, again)
    if newest is not None and newest.revision > held.revision and _stood(placed, again):
        raise BundleRefusedError(Part.RECORDS, f"revision {newest.revision} of {license_name} stood already")
    who = records.check_approval(license_)
    for each in (placed, drawn):
        records.check_approval(each)
    for each in (license_, placed, drawn):
        records.check_order(each, again)
    return (
        f"{license_name} revision {held.revision} ({who}), {site} revision {drawn.revision}, "
        f"deployed since {told(placed.at_us)}"
    )


def _check_two_people(records: Records, again: Again, pdi: Pdi) -> None:
    """Say when one person alone wrote a license that was in force (docs/protocol.md RC4)."""
    deployment = again.given.deployments.get(pdi) or _adopted(again, pdi)
    if deployment is None:
        return
    held = deployment.license
    for each in records.of(f"licenses/{escaped(held.number)}"):
        if each.revision == held.revision and each.change_id is None:
            raise NotHereError(f"that two people approved revision {held.revision} of {each.name}: {each.by} alone did")


def _check_unlicensed(records: Records, again: Again, pdi: Pdi) -> None:
    """Refuse a verdict that knows no deployment of a device, when the bundle has one that was in force (AP4)."""
    with suppress(NotHereError):
        placed = records.in_force(f"deployments/{pdi.hex()}", again)
        if placed is not None and placed.record is not None:
            held = records.in_force(f"licenses/{escaped(str(placed.record.get('license')))}", again)
            if held is not None and held.record is not None and held.record.get("state") != LicenseState.DRAFT.name:
                raise BundleRefusedError(Part.RECORDS, f"{placed.name} was in force, and the verdict knows of none")


def _deployment(records: Records, again: Again, name: str, number: str) -> Revision:
    stood = records.in_force(name, again)
    choices = [stood] if stood is not None else []
    choices += [each for each in records.of(name) if not _stood(each, again)]
    received = again.row.integer("received_at")
    for each in choices:
        if each.record is not None and each.record.get("license") == number and each.at_us <= received:
            return each
    raise BundleRefusedError(Part.RECORDS, f"no revision of {name} here puts it under the license {number}")


def _site(records: Records, again: Again, name: str, placed: Revision) -> Revision:
    found = records.in_force(name, again)
    if found is None:  # both came into force since the challenge was issued (docs/protocol.md RC6)
        found = max(
            (each for each in records.of(name) if each.number <= placed.number),
            key=lambda each: each.revision,
            default=None,
        )
    if found is None:
        raise BundleRefusedError(Part.RECORDS, f"no revision of {name} here is as old as the verdict")
    return found


def _stood(revision: Revision, again: Again) -> bool:
    """Whether a revision was written when the challenge was issued: by the number of writes, not by a clock (RC6)."""
    number = again.given.records
    return revision.at_us <= again.row.integer("received_at") if number is None else revision.number <= number


def _adopted(again: Again, pdi: Pdi) -> Adoption | None:
    return next((device.adopted for device in again.verdict.devices if device.pdi == pdi), None)


def _selector_name(selector: bytes) -> str:
    return f"deployments/{'board' if len(selector) == _PDI_BYTES else 'key'}-{selector.hex()}"


def _same_terms(held: License, record: Mapping[str, Any]) -> bool:
    stated = {
        "licensee": held.licensee,
        "state": held.state.name,
        "presence": held.presence.name,
        "assurance": held.assurance.name,
        "tolerated_domains": held.tolerated_domains,
        "cadence_us": held.cadence // _MICROSECOND,
        "grace_us": held.grace // _MICROSECOND,
        "surprises_per_day": held.surprises_per_day,
    }
    times = (("valid_from", held.valid_from), ("valid_until", held.valid_until))
    return all(name in record and record[name] == value for name, value in stated.items()) and all(
        type(record.get(name)) is int and moment(record[name]) == value for name, value in times
    )


def _same_swap(swap: BoardSwap | None, placed: Revision) -> bool:
    record = placed.record.get("swap") if placed.record else None
    if swap is None or not isinstance(record, dict):
        return swap is None and record is None
    return record.get("switches") == sorted(pdi.hex() for pdi in swap.switches) and (
        type(record.get("until")) is int and moment(record["until"]) == swap.until
    )


def escaped(text: str) -> str:
    """Return a license's number as resource names spell it (docs/protocol.md RC1)."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{text!r} holds half a character") from error
    escaped = "".join(chr(byte) if byte in _PLAIN else f"_{byte:02x}" for byte in data)
    return escaped.replace(".", "_2e") if not escaped.strip(".") else escaped


def _person(name: str) -> str:
    """Return who somebody is, whatever role and jurisdiction they stand with (docs/protocol.md RC4)."""
    return name.rpartition("/")[2].casefold()
