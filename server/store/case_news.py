"""What cases read of everything else: findings that changed, devices behind an agent, what a story tells."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, func, select

from server.store import case_story
from server.store.case_rules import AgentDevice
from server.store.case_types import CaseFinding, TermsSeen
from server.store.counters import read_counter
from server.store.rows import chunks, license_columns, license_of
from server.store.schema import (
    ATTESTATIONS,
    CASE_FINDINGS,
    DEPLOYMENTS,
    DEVICE_VERDICTS,
    DEVICES,
    FINDINGS,
    LICENSES,
    SITES,
)
from server.store.watch_types import SiteKey
from verifier.errors import Reason
from verifier.place.region_json import region_from_json
from verifier.units import Pdi
from verifier.verdict import Severity
from verifier.verdict_json import fix_from_json

TAKEN_AT_ONCE = 10_000
"""Changes of findings in one transaction: some tenths of a second for which no verdict is committed."""

TOLD_SITES = 3
"""Sites that a story names."""

_SHOWN = ATTESTATIONS.alias("shown")
_NEWEST = ATTESTATIONS.alias("newest")

_NEWS = (
    select(
        FINDINGS,
        CASE_FINDINGS.c.case_id,
        CASE_FINDINGS.c.ended_at,
        DEVICES.c.agent,
        DEVICES.c.last_proof_at,
        DEPLOYMENTS.c.license_number,
        DEPLOYMENTS.c.site_id,
        LICENSES.c.licensee,
        SITES.c.title.label("site_title"),
        SITES.c.jurisdiction,
        # A verdict's finding opens when its evidence arrives: that names the agent that reported it.
        func.coalesce(_SHOWN.c.licensee, _NEWEST.c.licensee, "").label("reporter"),
    )
    .select_from(
        FINDINGS.join(DEVICES, DEVICES.c.pdi == FINDINGS.c.pdi)
        .outerjoin(
            CASE_FINDINGS,
            and_(
                CASE_FINDINGS.c.pdi == FINDINGS.c.pdi,
                CASE_FINDINGS.c.reason == FINDINGS.c.reason,
                CASE_FINDINGS.c.opened_at == FINDINGS.c.opened_at,
            ),
        )
        .outerjoin(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == FINDINGS.c.pdi)
        .outerjoin(LICENSES, LICENSES.c.number == DEPLOYMENTS.c.license_number)
        .outerjoin(
            SITES,
            and_(
                SITES.c.license_number == DEPLOYMENTS.c.license_number,
                SITES.c.site_id == DEPLOYMENTS.c.site_id,
            ),
        )
        .outerjoin(
            DEVICE_VERDICTS,
            and_(DEVICE_VERDICTS.c.pdi == FINDINGS.c.pdi, DEVICE_VERDICTS.c.received_at == FINDINGS.c.opened_at),
        )
        .outerjoin(_SHOWN, _SHOWN.c.challenge == DEVICE_VERDICTS.c.challenge)
        .outerjoin(_NEWEST, _NEWEST.c.challenge == DEVICES.c.last_attestation)
    )
    .order_by(FINDINGS.c.number)
)


@dataclass(frozen=True, slots=True)
class FindingNews:
    """Findings that changed behind a number, warnings and worse.

    Attributes:
        new: Those that belong to no case yet.
        ended: Those of a case that ended.
        weighed: Those of a case that changed otherwise.
        last: The number to go on from.
        count: How many changes there were, notices included.
        more: Further ones wait behind it.
    """

    new: tuple[CaseFinding, ...]
    ended: tuple[CaseFinding, ...]
    weighed: tuple[CaseFinding, ...]
    last: int
    count: int
    more: bool


def has_news(connection: Connection) -> bool:
    """Whether findings changed that cases have not taken in."""
    return read_counter(connection, "findings") > read_counter(connection, "cased")


def read_news(connection: Connection, limit: int) -> FindingNews:
    """Return the next up to `limit` changes of findings that cases have not taken in."""
    cased = read_counter(connection, "cased")
    # The limit counts findings: a row of the join is not always one, when two attestations arrived at one time.
    numbers = select(FINDINGS.c.number).where(FINDINGS.c.number > cased).order_by(FINDINGS.c.number).limit(limit)
    taken = list(connection.scalars(numbers))
    if not taken:
        return FindingNews((), (), (), cased, 0, more=False)
    rows: dict[tuple[bytes, int, int], Row[Any]] = {}
    for row in connection.execute(_NEWS.where(FINDINGS.c.number > cased, FINDINGS.c.number <= taken[-1])):
        # A notice belongs to no case (docs/protocol.md CS1).
        if row.severity >= Severity.WARNING or row.case_id is not None:
            rows.setdefault((row.pdi, row.reason, row.opened_at), row)
    known = [row for row in rows.values() if row.case_id is not None]
    return FindingNews(
        new=tuple(_finding_of(row) for row in rows.values() if row.case_id is None),
        ended=tuple(_finding_of(row) for row in known if row.ended_at is None and row.closed_at is not None),
        weighed=tuple(_finding_of(row) for row in known if row.closed_at is None),
        last=taken[-1],
        count=len(taken),
        more=len(taken) == limit,
    )


def _finding_of(row: Row[Any]) -> CaseFinding:
    return CaseFinding(
        pdi=Pdi(row.pdi),
        reason=Reason(row.reason),
        severity=Severity(row.severity),
        opened_at=row.opened_at,
        ended_at=row.closed_at,
        detail=row.detail,
        licensee=row.licensee or "",
        license_number=row.license_number or "",
        site_id=row.site_id or "",
        site_title=row.site_title or "",
        jurisdiction=row.jurisdiction or "",
        reporter=row.reporter,
        agent=row.agent,
        last_proof_at=row.last_proof_at,
        case_id=row.case_id,
    )


AgentKey = tuple[str, str]
"""Licensee and the agent's name; a name alone may be another licensee's agent too."""


@dataclass(frozen=True, slots=True)
class Behind:
    """The deployed devices that an agent reported last, and how many of them are silent in which case."""

    devices: tuple[AgentDevice, ...]
    cases: Mapping[int, int]


def read_behind(connection: Connection, agents: Collection[AgentKey]) -> Mapping[AgentKey, Behind]:
    """Return what stands behind each of these agents."""
    devices: defaultdict[AgentKey, list[AgentDevice]] = defaultdict(list)
    cases: defaultdict[AgentKey, dict[int, int]] = defaultdict(dict)
    silent = and_(
        FINDINGS.c.pdi == DEVICES.c.pdi, FINDINGS.c.reason == int(Reason.SILENT), FINDINGS.c.closed_at.is_(None)
    )
    in_case = and_(
        CASE_FINDINGS.c.pdi == FINDINGS.c.pdi,
        CASE_FINDINGS.c.reason == FINDINGS.c.reason,
        CASE_FINDINGS.c.opened_at == FINDINGS.c.opened_at,
    )
    query = select(
        DEVICES.c.agent,
        DEVICES.c.last_report_at,
        DEPLOYMENTS.c.license_number,
        DEPLOYMENTS.c.site_id,
        LICENSES.c.licensee,
        LICENSES.c.grace_us,
        FINDINGS.c.opened_at.label("silent_since"),
        CASE_FINDINGS.c.case_id,
    ).select_from(
        DEVICES.join(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi)
        .join(LICENSES, LICENSES.c.number == DEPLOYMENTS.c.license_number)
        .outerjoin(FINDINGS, silent)
        .outerjoin(CASE_FINDINGS, in_case)
    )
    for some in chunks(sorted({agent for _, agent in agents})):
        for row in connection.execute(query.where(DEVICES.c.agent.in_(some))):
            key = (row.licensee, row.agent)
            if key not in agents:
                continue
            site = SiteKey(row.license_number, row.site_id)
            devices[key].append(AgentDevice(site, row.last_report_at, row.grace_us, row.silent_since))
            if row.case_id is not None:
                cases[key][row.case_id] = cases[key].get(row.case_id, 0) + 1
    return {key: Behind(tuple(behind), cases[key]) for key, behind in devices.items()}


def read_terms(connection: Connection, found: Sequence[CaseFinding]) -> TermsSeen | None:
    """Return the license of findings as it stands, with the sites that they are at; None: there is none."""
    sites = sorted({each.site for each in found if each.license_number})
    if not sites:
        return None
    number = sites[0][0]
    query = select(*license_columns(), LICENSES.c.revised_at).where(LICENSES.c.number == number)
    row: Any = connection.execute(query).one_or_none()
    if row is None:
        return None
    told = [site_id for license_number, site_id in sites if license_number == number][:TOLD_SITES]
    of_site = select(SITES.c.title, SITES.c.region).where(SITES.c.license_number == number, SITES.c.site_id.in_(told))
    held = license_of(row)
    return TermsSeen(
        number=number,
        licensee=held.licensee,
        revision=held.revision,
        revised_at=row.revised_at,
        conditions=case_story.conditions(held),
        sites=tuple(
            (title, str(region_from_json(region)))
            for title, region in connection.execute(of_site.order_by(SITES.c.site_id))
        ),
        more_sites=len(sites) - len(told),
    )


def read_last_proof(connection: Connection, found: Sequence[CaseFinding]) -> tuple[Pdi, int, str] | None:
    """Return whose presence was proven last before its finding began, when, and what the fix showed then."""
    before = [
        (each.last_proof_at, each.pdi)
        for each in found
        if each.last_proof_at is not None and each.last_proof_at <= each.opened_at
    ]
    later = [each for each in found if each.last_proof_at is not None and each.last_proof_at > each.opened_at]
    proofs = select(DEVICE_VERDICTS.c.received_at, DEVICE_VERDICTS.c.fix).where(DEVICE_VERDICTS.c.presence_proven)
    if before:
        at_us, pdi = max(before)
        query = proofs.where(DEVICE_VERDICTS.c.pdi == pdi, DEVICE_VERDICTS.c.received_at == at_us)
    elif later:
        # It was proven since; what was proven before stands in its verdicts alone.
        pdi = later[0].pdi
        query = proofs.where(DEVICE_VERDICTS.c.pdi == pdi, DEVICE_VERDICTS.c.received_at < later[0].opened_at)
    else:
        return None
    row = connection.execute(query.order_by(DEVICE_VERDICTS.c.received_at.desc()).limit(1)).one_or_none()
    if row is not None:
        return pdi, row.received_at, "" if row.fix is None else fix_from_json(row.fix).explanation
    return (pdi, max(before)[0], "") if before else None
