"""A checked case bundle for people, in 80 columns: plain words, what holds, what does not, what it cannot show."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.text import Text

from console.text import clean, plural

Json: TypeAlias = Mapping[str, Any]

WIDTH = 80
MAX_POINTS = 12
"""Of one part and state; a case of a hundred devices has thousands, and --json lists them all."""

MAX_DEVICES = 40
_OWN = frozenset({"pdi", "device_key_id", "proven_edges"})
"""What devices of one board do not share."""

_STATE_STYLES = {"shown": "green", "refused": "bold red", "not recomputed": "yellow"}
_STATE_MARKS = {"shown": "holds", "refused": "REFUSED", "not recomputed": "not recomputed"}
_ANSWERS = {
    "PROVEN": "proven",
    "REFUTED": "refuted: it is not",
    "INDICATED": "indicated, which counts for no license",
    "UNPROVEN": "not proven, which does not mean the contrary",
}


class Sheet:
    """Lines of at most 80 columns; what others wrote cannot steer the terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str = "", style: str = "", indent: int = 0) -> None:
        """Print a paragraph, folded."""
        begin = " " * indent
        folded = textwrap.wrap(
            clean(text), WIDTH, initial_indent=begin, subsequent_indent=begin, break_on_hyphens=False
        )
        for each in folded or [""]:
            self._console.print(Text(each, style), soft_wrap=True)

    def head(self, text: str) -> None:
        """Print a heading, after an empty line."""
        self.line()
        self.line(text, "bold")

    def fact(self, label: str, value: str) -> None:
        """Print a label and what belongs to it; nothing when that is empty."""
        if not value:
            return
        begin = f"  {label:<14}"
        for each in textwrap.wrap(
            clean(value), WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False
        ):
            self._console.print(Text(each), soft_wrap=True)


def render(told: Json, console: Console) -> None:
    """Print what `to_json` of a checked bundle says."""
    sheet = Sheet(console)
    if told["bundle"] is not None:
        _bundle(told["bundle"], told["checkpoint"], sheet)
    if told["aloud"]:
        sheet.head("Read this first")
        for text in told["aloud"]:
            sheet.line(text, "bold yellow", 2)
    if told["case"] is not None:
        _case(told["case"], sheet)
    if told["attestations"]:
        sheet.head("Verified again, from the raw evidence")
        for attestation in told["attestations"]:
            _attestation(attestation, sheet)
    _checks(told["checks"], sheet)
    if told["not_shown"]:
        sheet.head("What this bundle does not show")
        for text in told["not_shown"]:
            sheet.line(text, indent=2)
    _end(told, sheet)


def _bundle(bundle: Json, checkpoint: Json | None, sheet: Sheet) -> None:
    sheet.line(f"Case bundle of {bundle['case']}, journal {bundle['journal']}", "bold")
    sheet.fact("exported", f"{bundle['export_time']} by {bundle['exported_by']}")
    sheet.fact("why", bundle["reason"])
    sheet.fact("for", f"a reader of {bundle['jurisdiction']}" if bundle["jurisdiction"] else "a reader of everything")
    sheet.fact("body SHA-256", f"{bundle['body_sha256'][:32]} {bundle['body_sha256'][32:]}")
    if checkpoint is not None:
        signed = ", ".join(f"{each['name']} at {each['time']}" for each in checkpoint["cosigned"])
        sheet.fact("checkpoint", f"{checkpoint['size']:,} entries, cosigned by {signed or 'nobody whom you named'}")


def _case(case: Json, sheet: Sheet) -> None:
    sheet.head("The case, in the service's own words")
    sheet.line(case["title"], indent=2)
    sheet.fact("state", f"{case['state']}, {case['severity']}, opened {case['open_time']}")
    sheet.fact("licensee", case["licensee"])
    sheet.fact("license", f"{case['license']}, site {case['site']}" if case["site"] else case["license"])
    sheet.fact("resolved", f"{case['resolve_time']}: {case['resolution']}" if case["resolve_time"] else "")
    for entry in case["story"]:
        by = f" {entry['by']}" if entry["by"] else ""
        sheet.line(f"{entry['time']}{by}", "dim", 2)
        for paragraph in entry["text"].splitlines():
            sheet.line(paragraph, indent=4)
    for exhibit in case["exhibits"]:
        sheet.line(f"{exhibit['time']} on behalf of {exhibit['on_behalf_of']}, by {exhibit['by']}", "bold", 2)
        sheet.line(exhibit["statement"], indent=4)
        if exhibit["file_name"]:
            sheet.line(f"with the file {exhibit['file_name']}", indent=4)
        answer = exhibit["answer"]
        sheet.line(f"answered by {exhibit['answered_by']}: {answer}" if answer else "not answered", indent=4)


def _attestation(attestation: Json, sheet: Sheet) -> None:
    sheet.line(f"{attestation['receive_time']}  host {attestation['host']}, agent {attestation['agent']}", "bold", 2)
    sheet.line(f"challenge {attestation['challenge']}", "dim", 2)
    if attestation["rejection"]:
        sheet.line(f"rejected: {attestation['rejection']['reason']}, {attestation['rejection']['detail']}", indent=4)
    lacking = attestation["lacking_chains"]
    if lacking:
        sheet.line(
            f"The chains of {plural(len(lacking), 'report')} are not in the bundle. What follows is what the others "
            "show alone.",
            "yellow",
            4,
        )
    for report in attestation["refused_reports"]:
        if report["index"] in lacking:
            continue
        sheet.line(f"report {report['index']} refused: {report['reason']}, {report['detail']}", indent=4)
    # Devices of one board share what is found of them: it is told once.
    alike: dict[str, list[Json]] = {}
    for device in attestation["devices"]:
        told = {name: value for name, value in device.items() if name not in _OWN}
        alike.setdefault(json.dumps(told, sort_keys=True), []).append(device)
    for devices in alike.values():
        _devices(devices, sheet)


def _devices(devices: Sequence[Json], sheet: Sheet) -> None:
    first = devices[0]
    for device in devices[:MAX_DEVICES]:
        if device["withheld"]:
            sheet.line(f"{device['pdi']}  authentic report; what is on record of it is withheld", indent=4)
        else:
            standing = device["standing"] or "a witness of its board, has no standing"
            sheet.line(f"{device['pdi']}  {device['kind']} {device['model']}  {standing}", indent=4)
    if len(devices) > MAX_DEVICES:
        sheet.line(f"and {plural(len(devices) - MAX_DEVICES, 'device')} more; --json lists all", "dim", 4)
    if first["withheld"]:
        return
    for finding in first["findings"]:
        sheet.line(f"{finding['severity']} {finding['reason']}: {finding['detail']}", indent=6)
    for line in _place(first["place"]) if first["place"] else ():
        sheet.line(line, indent=6)


def _place(place: Json) -> Iterator[str]:
    yield f"in its licensed region: {_ANSWERS[place['in_licensed_region']]}"
    yield f"outside prohibited destinations: {_ANSWERS[place['outside_prohibited']]}"
    discs, allowed, wrong = place["discs"], place["tolerated_domains"], place["least_violations"]
    yield (
        f"from {plural(len(discs), 'disc')}, if of the failure domains of landmarks at most {allowed} "
        f"{'is' if allowed == 1 else 'are'} wrong (f); certainly wrong: {wrong or 'none'} (v*)"
    )
    for name, told in (("in its licensed region", "licensed_depths"), ("outside prohibited", "outside_depths")):
        depths = place[told]
        yield (
            f"depths: a place {name} lies outside of at least {depths['in_region']} of these discs, any other place of "
            f"at least {depths['in_complement']}"
        )
    for disc in sorted(discs, key=lambda each: each["radius_km"]):
        accuses = "" if disc["may_accuse"] else ", may not accuse"
        yield (
            f"within {disc['radius_km']:,.1f} km of {disc['landmark']} ({disc['domain']}): "
            f"{disc['rtt_ns'] / 1e6:,.3f} ms{accuses}"
        )


def _checks(checks: Sequence[Json], sheet: Sheet) -> None:
    sheet.head("What was checked")
    found: dict[tuple[str, str], list[str]] = {}
    for check in sorted(checks, key=lambda each: each["state"] != "refused"):
        found.setdefault((check["part"], check["state"]), []).append(check["text"])
    for (part, state), texts in found.items():
        sheet.line(f"{part}: {_STATE_MARKS[state]}", _STATE_STYLES[state], 2)
        for text in texts[:MAX_POINTS]:
            sheet.line(text, indent=4)
        if len(texts) > MAX_POINTS:
            sheet.line(f"and {len(texts) - MAX_POINTS:,} more of this kind; --json lists all", "dim", 4)


def _end(told: Json, sheet: Sheet) -> None:
    states = [check["state"] for check in told["checks"]]
    refused, unsure = states.count("refused"), states.count("not recomputed")
    sheet.line()
    if refused:
        sheet.line(f"REFUSED: {plural(refused, 'point')} of this bundle did not hold. Do not rely on it.", "bold red")
        return
    rest = f"; {plural(unsure, 'point')} could not be recomputed from it" if unsure else ""
    sheet.line(f"SHOWN: every point that can be recomputed holds ({states.count('shown')}){rest}.", "bold green")
