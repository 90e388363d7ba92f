"""Tables and pages for people. They read well in 80 columns: a PDI or a reason is never cut, the rest folds."""

import math
import re
from collections.abc import Callable, Container, Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import device_pb2, landmark_pb2, licensing_pb2, place_pb2, reason_pb2

from console import as_json
from console.text import absolute, age, clean, instant, plural

WIDE = 120  # from here on there is room for licensee and region in the list
_COUNTRY = re.compile("[A-Z]{2}")

_STANDING_STYLES = {
    device_pb2.STANDING_COMPLIANT: "green",
    device_pb2.STANDING_UNPROVEN: "yellow",
    device_pb2.STANDING_SILENT: "magenta",
    device_pb2.STANDING_VIOLATION: "bold red",
    device_pb2.STANDING_UNLICENSED: "red",
}
_SEVERITY_STYLES = {
    device_pb2.SEVERITY_NOTICE: "dim",
    device_pb2.SEVERITY_WARNING: "yellow",
    device_pb2.SEVERITY_VIOLATION: "bold red",
}


def standing(device: device_pb2.Device) -> Text:
    """Return the standing in its color; a switch is a witness and has none."""
    if device.standing == device_pb2.STANDING_UNSPECIFIED:
        return Text("witness" if _is_switch(device) else "-", "dim")
    return Text(as_json.standing_name(device.standing), _STANDING_STYLES.get(device.standing, ""))


def reasons(findings: Iterable[device_pb2.Finding], separator: str) -> Text:
    """Return the findings' reasons, each in the color of its severity."""
    return Text(separator).join(
        Text(as_json.reason_name(entry.reason), _SEVERITY_STYLES.get(entry.severity, "")) for entry in findings
    )


def device_list(devices: Sequence[device_pb2.Device], now: datetime, width: int) -> Table:
    """Return devices as a table; licensee and region appear when there is room for them."""
    table = _table()
    table.add_column("PDI", no_wrap=True, min_width=16)
    table.add_column("STANDING", no_wrap=True, min_width=10)
    table.add_column("SEEN", no_wrap=True, min_width=6)
    table.add_column("FINDINGS", no_wrap=True, min_width=25)
    table.add_column("LICENSE", overflow="fold")
    wide = width >= WIDE
    if wide:
        table.add_column("LICENSEE", overflow="fold")
        table.add_column("REGION", overflow="fold")
    for device in devices:
        seen = age(instant(device.last_report_time), now) if device.HasField("last_report_time") else "never"
        row: list[RenderableType] = [
            clean(as_json.pdi_of(device.name)),
            standing(device),
            seen,
            reasons(device.findings, "\n"),
            clean(device.license_number) or ("" if _is_switch(device) else Text("none", "dim")),
        ]
        if wide:
            row += [clean(device.licensee), clean(device.licensed_region)]
        table.add_row(*row)
    return table


def device_page(device: device_pb2.Device, now: datetime) -> Group:
    """Return all that is known about one device: identity, license, standing, findings with why, last fix."""
    parts: list[RenderableType] = [
        Text.assemble(("Device ", "bold"), (clean(as_json.pdi_of(device.name)), "bold"), "  ", standing(device)),
        _facts(
            [
                ("Identity", clean(device.model) or "not known: no verified report yet"),
                ("Kind", as_json.kind_name(device.kind).replace("UNSPECIFIED", "not known")),
                ("Device key", device.device_key_id.hex()),
                ("Firmware", _firmware(device)),
                ("Host", f"{clean(device.host_id)} (as the host tells it)" if device.host_id else ""),
                ("License", _license(device)),
                ("Licensed to be", _region(device)),
                ("Last report", _moment(device, "last_report_time", now)),
                ("Last proof", "" if _is_switch(device) else _moment(device, "last_proof_time", now)),
                ("Challenge", device.last_attestation.hex()),
            ]
        ),
        Text("\nFindings", "bold"),
        findings(device.findings, now) if device.findings else Text("none", "green"),
    ]
    if device.HasField("last_fix"):
        told = {entry.detail for entry in device.findings}
        fix = fix_page(device.last_fix, as_json.pdi_of(device.name), told)
        parts += [Text(f"\n{_place_heading(device, now)}", "bold"), fix]
    return Group(*parts)


def findings(entries: Iterable[device_pb2.Finding], now: datetime) -> Table:
    """Return findings, each with why beneath it: in full the first time, then as a pointer."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column()
    told: set[str] = set()
    for entry in entries:
        style = _SEVERITY_STYLES.get(entry.severity, "")
        head = Text.assemble((as_json.reason_name(entry.reason), style), f"  {as_json.severity_name(entry.severity)}")
        if entry.HasField("open_time"):
            since = instant(entry.open_time)
            head.append(f", for {age(since, now)} (since {absolute(since)})", "dim")
        table.add_row(head)
        table.add_row(Padding(_once(entry.detail, told), (0, 0, 0, 2)))
        told.add(entry.detail)
    return table


def fix_page(fix: place_pb2.Fix, pdi: str, told: Container[str] = ()) -> Group:
    """Return what the last ranges showed: the sentence, both answers, each landmark's disc, what the proof rests on.

    `told` are sentences that stand above it already.
    """
    parts: list[RenderableType] = [_once(fix.explanation, told)]
    answers = [
        ("In its licensed region", as_json.answer_name(fix.in_licensed_region)),
        ("Out of prohibited places", as_json.answer_name(fix.outside_prohibited)),
        (
            "How",
            as_json.enum_name(place_pb2.Assurance.Name, fix.assurance, "ASSURANCE_").lower().replace("_", "-")
            + ("" if fix.ranged_by.hex() in ("", pdi) else f", by {fix.ranged_by.hex()} on its board"),
        ),
    ]
    parts.append(_facts(answers))
    if fix.discs:
        parts += [Text(""), disc_table(fix.discs), Text("")]
    parts.append(
        Text(
            f"{plural(fix.tolerated_domains, 'failure domain')} may be wrong; least violations "
            f"{fix.least_violations}; border margin {fix.border_margin_km:g} km; borders {clean(fix.borders_version)}; "
            f"prohibited destinations {clean(fix.prohibited_version)}.",
            "dim",
        )
    )
    if fix.demonstration:
        parts.append(Text("Demonstration rules for landmarks are in force: not for accusation.", "bold yellow"))
    return Group(*parts)


def disc_table(discs: Iterable[place_pb2.Disc]) -> Table:
    """Return one row a landmark: round trip, radius, distance to the licensed region, what the disc alone says."""
    table = _table()
    table.add_column("LANDMARK", overflow="fold")
    table.add_column("RTT ms", justify="right", no_wrap=True)
    table.add_column("WITHIN km", justify="right", no_wrap=True)
    table.add_column("REGION AT km", justify="right", no_wrap=True)
    table.add_column("ALONE IT SAYS", no_wrap=True, min_width=22)
    for disc in discs:
        where = Text(clean(disc.landmark_id))
        if disc.domain not in ("", disc.landmark_id):
            where.append(f"\n{clean(disc.domain)}", "dim")
        # Rounded to the device's favor, as the sentence above it is.
        within, region_at = _whole(disc.radius_km, math.ceil), _whole(disc.licensed_region_km, math.floor)
        table.add_row(where, f"{disc.rtt_ns / 1e6:,.3f}", within, region_at, _says(disc))
    return table


def change_line(device: device_pb2.Device, before: device_pb2.Device | None, read_at: datetime) -> Table:
    """Return one change as a line: when, which, how it stands and stood, what was found."""
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(no_wrap=True, min_width=8)
    line.add_column(no_wrap=True, min_width=16)
    line.add_column(no_wrap=True, min_width=10)
    line.add_column(overflow="fold")
    found = reasons(device.findings, ", ")
    if before is not None and before.standing != device.standing:
        found = Text.assemble(("was ", "dim"), standing(before), "  " if device.findings else "", found)
    line.add_row(f"{read_at:%H:%M:%S}", clean(as_json.pdi_of(device.name)), standing(device), found)
    return line


def import_errors(errors: Iterable[licensing_pb2.ImportRowError]) -> Table:
    """Return row-numbered errors; row 0 is the file as a whole."""
    table = _table()
    table.add_column("ROW", justify="right", no_wrap=True)
    table.add_column("FIELD", overflow="fold")
    table.add_column("VALUE", overflow="fold")
    table.add_column("WHAT IS WRONG", overflow="fold")  # a least width would push its end off the screen
    for entry in errors:
        table.add_row(str(entry.row) if entry.row else "file", *map(clean, (entry.field, entry.value, entry.message)))
    return table


def landmark_list(landmarks: Iterable[landmark_pb2.Landmark]) -> Table:
    """Return landmarks as a table."""
    table = _table()
    table.add_column("LANDMARK", overflow="fold")
    table.add_column("RUN BY, AT", overflow="fold")
    table.add_column("POSITION", no_wrap=True)
    table.add_column("DOMAIN", overflow="fold")
    table.add_column("ENDPOINTS", overflow="fold")
    for entry in landmarks:
        at = f"{entry.latitude:.4f}, {entry.longitude:.4f}\n{clean(entry.country)} ± {entry.uncertainty_km:g} km"
        name = Text(clean(entry.name.removeprefix("landmarks/")))
        if entry.virtual_machine:
            name.append("\nvirtual machine", "yellow")
        runs = Text(clean(entry.operator))
        if entry.hoster != entry.operator:
            runs.append(f"\n{clean(entry.hoster)}", "dim")
        name.append(*(("\nsigned", "dim") if entry.operator_signature else ("\nnot signed", "yellow")))
        table.add_row(name, runs, at, clean(entry.domain), "\n".join(map(clean, entry.endpoints)))
    return table


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold dim")


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for label, value in facts:
        if value:
            grid.add_row(label, value)
    return grid


def _is_switch(device: device_pb2.Device) -> bool:
    return device.kind == device_pb2.DEVICE_KIND_SWITCH


def _firmware(device: device_pb2.Device) -> str:
    if device.firmware or not device.HasField("last_report_time"):
        return clean(device.firmware) or "not known"
    return "no reference values"


def _license(device: device_pb2.Device) -> str:
    if _is_switch(device):
        return "none needed: a switch is a witness"
    if not device.license_number:
        return "none: no deployment names this device"
    return f"{clean(device.license_number)}, held by {clean(device.licensee)}"


def _region(device: device_pb2.Device) -> str:
    region = clean(device.licensed_region)
    return f"country {region}" if _COUNTRY.fullmatch(region) else region


def _place_heading(device: device_pb2.Device, now: datetime) -> str:
    """Return what the last fix is: a device that is silent may have been carried away since."""
    silent = device.standing == device_pb2.STANDING_SILENT or any(
        entry.reason == reason_pb2.REASON_SILENT for entry in device.findings
    )
    if silent and device.HasField("last_report_time"):
        return f"Where it was, {age(instant(device.last_report_time), now)} ago"
    return "Where it is"


def _once(sentence: str, told: Container[str]) -> Text:
    return Text("(see above)", "dim") if sentence and sentence in told else Text(clean(sentence), overflow="fold")


def _whole(kilometers: float, rounded: Callable[[float], int]) -> str:
    return f"{rounded(kilometers):,}" if math.isfinite(kilometers) else "-"


def _moment(device: device_pb2.Device, name: str, now: datetime) -> str:
    if not device.HasField(name):  # type: ignore[arg-type]  # the stub wants a literal
        return "never"
    moment = instant(getattr(device, name))
    return f"{age(moment, now)} ago ({absolute(moment)})"


def _says(disc: place_pb2.Disc) -> Text:
    said = [
        (disc.excludes_licensed_region, "not in licensed region", "bold red"),
        (disc.within_licensed_region, "in licensed region", "green"),
        (disc.within_prohibited, "in prohibited place", "bold red"),
        (disc.excludes_prohibited, "not in prohibited", "green"),
    ]
    texts = [Text(words, style) for holds, words, style in said if holds]
    return Text("\n").join(texts) if texts else Text("nothing", "dim")
