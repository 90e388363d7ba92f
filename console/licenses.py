"""`trigpoint license`: draft, change, activate, suspend, revoke, look."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from trigpoint.v1 import place_pb2, records_pb2

from console import asked, records
from console.desk import Desk, with_desk
from console.exits import CommandError, ExitCode
from console.records import AllOption, AsOfOption, DryRunOption, FilterOption, LimitOption, ReasonOption

app = typer.Typer(
    no_args_is_help=True, help="Licenses: who may have how many devices, until when, on which conditions."
)

NumberArgument = Annotated[str, typer.Argument(metavar="NUMBER", help="The authority's number.")]
NumbersArgument = Annotated[list[str] | None, typer.Argument(metavar="[NUMBER]...", help="The authority's numbers.")]
FromOption = Annotated[Path | None, typer.Option("--file", help="Numbers, one a line, instead.")]
LicenseeOption = Annotated[str, typer.Option(help="Who holds it, as in its agents' certificates.", show_default=False)]
SinceOption = Annotated[str, typer.Option("--valid-from", help="First day, or time.", show_default=False)]
UntilOption = Annotated[
    str, typer.Option("--valid-until", help="Last day, or first time after it.", show_default=False)
]
PresenceOption = Annotated[
    str, typer.Option(help="What must be proven: site, country, outside_prohibited.", show_default=False)
]
CadenceOption = Annotated[str, typer.Option(help="How often, as 24h or 7d.", show_default=False)]
GraceOption = Annotated[str, typer.Option(help="And how late at most.", show_default=False)]
QuantityOption = Annotated[int | None, typer.Option(min=0, help="How many devices; 0: no limit.", show_default=False)]
EccnOption = Annotated[str, typer.Option(help="Export control classification number.", show_default=False)]
PartyOption = Annotated[
    list[str] | None,
    typer.Option("--party", help="ID:PART; part licensee, consignee, end_user or intermediate. Repeatable."),
]
DomainsOption = Annotated[
    int | None, typer.Option("--tolerated-domains", min=0, max=16, help="f of this license.", show_default=False)
]
AssuranceOption = Annotated[
    str, typer.Option(help="Least assurance of ranges: device_ranged, signed_range.", show_default=False)
]
SurprisesOption = Annotated[
    int | None, typer.Option("--surprises", min=0, max=96, help="Unannounced challenges a day.", show_default=False)
]
EtagOption = Annotated[str, typer.Option("--etag", help="Only if this revision stands.", show_default=False)]


@app.command("create")
@with_desk
def create(
    desk: Desk,
    *,
    number: NumberArgument,
    licensee: LicenseeOption,
    valid_from: SinceOption,
    valid_until: UntilOption,
    presence: PresenceOption,
    cadence: CadenceOption,
    grace: GraceOption,
    reason: ReasonOption,
    quantity: QuantityOption = None,
    eccn: EccnOption = "",
    party: PartyOption = None,
    tolerated_domains: DomainsOption = None,
    assurance: AssuranceOption = "",
    surprises: SurprisesOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Draft a license. It licenses nothing until two people have activated it."""
    texts = _Texts(licensee, valid_from, valid_until, presence, cadence, grace, eccn, assurance)
    held, _ = _terms(texts, _Numbers(quantity, tolerated_domains, surprises), party or ())
    records.write(desk, [records.created(asked.license_of(number), "license", held)], reason, dry_run=dry_run)


@app.command("update")
@with_desk
def update(
    desk: Desk,
    *,
    number: NumberArgument,
    reason: ReasonOption,
    licensee: LicenseeOption = "",
    valid_from: SinceOption = "",
    valid_until: UntilOption = "",
    presence: PresenceOption = "",
    cadence: CadenceOption = "",
    grace: GraceOption = "",
    quantity: QuantityOption = None,
    eccn: EccnOption = "",
    party: PartyOption = None,
    tolerated_domains: DomainsOption = None,
    assurance: AssuranceOption = "",
    surprises: SurprisesOption = None,
    etag: EtagOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Change a license. One in force changes once a second person approves."""
    texts = _Texts(licensee, valid_from, valid_until, presence, cadence, grace, eccn, assurance)
    held, paths = _terms(texts, _Numbers(quantity, tolerated_domains, surprises), party or ())
    change = records.updated(asked.license_of(number), "license", held, paths, etag)
    records.write(desk, [change], reason, dry_run=dry_run)


@app.command("activate")
@with_desk
def activate(
    desk: Desk,
    *,
    numbers: NumbersArgument = None,
    file: FromOption = None,
    drafts: Annotated[bool, typer.Option("--drafts", help="All drafts, instead.")] = False,
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Propose that licenses come into force, or back into force. A second person approves."""
    names = _names(desk, numbers, file, drafts=drafts)
    _set_state(desk, names, records_pb2.LICENSE_STATE_ACTIVE, reason, dry_run=dry_run)


@app.command("suspend")
@with_desk
def suspend(
    desk: Desk,
    *,
    numbers: NumbersArgument = None,
    file: FromOption = None,
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Propose that licenses are suspended: their devices are flagged until they are active again."""
    _set_state(desk, _names(desk, numbers, file), records_pb2.LICENSE_STATE_SUSPENDED, reason, dry_run=dry_run)


@app.command("revoke")
@with_desk
def revoke(
    desk: Desk,
    *,
    numbers: NumbersArgument = None,
    file: FromOption = None,
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Propose that licenses are revoked, for good."""
    _set_state(desk, _names(desk, numbers, file), records_pb2.LICENSE_STATE_REVOKED, reason, dry_run=dry_run)


@app.command("get")
@with_desk
def get(desk: Desk, *, number: NumberArgument, as_of: AsOfOption = "") -> None:
    """Tell all about one license."""
    records.show(desk, records.fetch(desk, asked.license_of(number), as_of), counted=True)


@app.command("list")
@with_desk
def list_(
    desk: Desk,
    *,
    state: Annotated[str, typer.Option(help="draft, active, suspended, revoked.", show_default=False)] = "",
    licensee: LicenseeOption = "",
    expiring: Annotated[str, typer.Option(help="Ending within this span, as 30d.", show_default=False)] = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List licenses in the order of their numbers."""
    before = _until(desk, expiring) if expiring else ""
    terms = (("state", state.upper()), ("licensee", licensee), ("expires_before", before))
    expression = asked.joined(*terms, extra=filter_)
    records.show_list(desk, records_pb2.RECORD_KIND_LICENSE, "license", expression, None if all_ else limit)


def _until(desk: Desk, expiring: str) -> str:
    span: timedelta = asked.span(expiring, "--expiring").ToTimedelta()
    return (desk.now + span).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _names(desk: Desk, numbers: list[str] | None, file: Path | None, *, drafts: bool = False) -> list[str]:
    if sum((bool(numbers), file is not None, drafts)) != 1:
        raise CommandError(
            ExitCode.UNUSABLE, "name the licenses, or give --file (or, to activate, --drafts): one of them"
        )
    if drafts:
        found, _ = records.fetch_all(desk, records_pb2.RECORD_KIND_LICENSE, 'state = "DRAFT"', None)
        if not found:
            raise CommandError(ExitCode.REFUSED, "no license is a draft")
        return [entry.name for entry in found]
    return [asked.license_of(number) for number in (records.lines_of(file) if file else numbers or ())]


def _set_state(
    desk: Desk, names: list[str], state: records_pb2.LicenseState.ValueType, reason: str, *, dry_run: bool
) -> None:
    held = records_pb2.License(state=state)
    # One change takes a thousand; more are proposed as several, each of them whole.
    for at in range(0, max(len(names), 1), records.MOST_WRITES):
        some = names[at : at + records.MOST_WRITES]
        writes = [records.updated(name, "license", held, ["state"]) for name in some]
        starts = state == records_pb2.LICENSE_STATE_ACTIVE
        records.write(desk, writes, reason, dry_run=dry_run, says_provable=starts)


class _Texts(NamedTuple):
    """Options that are text; empty when not given."""

    licensee: str
    valid_from: str
    valid_until: str
    presence: str
    cadence: str
    grace: str
    eccn: str
    assurance: str


class _Numbers(NamedTuple):
    """Options that are numbers; None when not given."""

    quantity: int | None
    tolerated_domains: int | None
    surprises_per_day: int | None


def _terms(texts: _Texts, numbers: _Numbers, parties: Sequence[str]) -> tuple[records_pb2.License, list[str]]:
    """Return the license of these options, and the fields that were given."""
    held = records_pb2.License(licensee=texts.licensee, eccn=texts.eccn, parties=[_party(entry) for entry in parties])
    if texts.valid_from:
        held.valid_from.CopyFrom(asked.moment(texts.valid_from, "--valid-from"))
    if texts.valid_until:
        held.valid_until.CopyFrom(asked.moment(texts.valid_until, "--valid-until", end_of_day=True))
    if texts.cadence:
        held.cadence.CopyFrom(asked.span(texts.cadence, "--cadence"))
    if texts.grace:
        held.grace.CopyFrom(asked.span(texts.grace, "--grace"))
    if texts.presence:
        name = _enum(place_pb2.Presence.keys(), "PRESENCE_", texts.presence, "--presence")
        held.presence = place_pb2.Presence.Value(name)
    if texts.assurance:
        name = _enum(place_pb2.Assurance.keys(), "ASSURANCE_", texts.assurance, "--assurance")
        held.assurance = place_pb2.Assurance.Value(name)
    paths = [name for name, value in texts._asdict().items() if value] + ["parties"] * bool(parties)
    for name, value in numbers._asdict().items():
        if value is not None:
            setattr(held, name, value)
            paths.append(name)
    return held, paths


def _party(text: str) -> records_pb2.LicenseParty:
    party, _, part = text.partition(":")
    name = _enum(records_pb2.PartyRole.keys(), "PARTY_ROLE_", part or "licensee", "--party")
    return records_pb2.LicenseParty(party=f"parties/{party}", role=records_pb2.PartyRole.Value(name))


def _enum(names: list[str], prefix: str, text: str, option: str) -> str:
    name = prefix + text.strip().upper().replace("-", "_")
    if name not in names or name.endswith("_UNSPECIFIED"):
        known = ", ".join(n.removeprefix(prefix).lower() for n in names if not n.endswith("_UNSPECIFIED"))
        raise CommandError(ExitCode.UNUSABLE, f"{option}: no {text!r}; there are {known}")
    return name
