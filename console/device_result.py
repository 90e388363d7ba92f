"""`trigpoint device result`: the attestation result of a device, as the token or read (docs/results.md)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from trigpoint.v1 import licensing_pb2

from console.desk import CALL_TIMEOUT_S, Desk
from console.exits import CommandError, ExitCode
from console.offline_result import Appraisal, DeviceResult, Token, UnusableResultError, read_token
from console.text import absolute, clean

DecodeOption = Annotated[bool, typer.Option("--decode", help="What it says, in words.")]
JwksOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Key set of the server; checks the signature, implies --decode.")
]
_STYLES = {"affirming": "green", "warning": "yellow", "contraindicated": "bold red", "none": "dim"}


def show_result(desk: Desk, name: str, jwks: Path | None, *, decode: bool) -> None:
    """Print a result, the token alone unless it is to be read."""
    response = desk.licensing.GetResult(licensing_pb2.GetResultRequest(name=name), timeout=CALL_TIMEOUT_S)
    if not decode and jwks is None:
        if desk.json:
            desk.print_json({"attestation": response.attestation, "result": response.result})
        else:
            typer.echo(clean(response.result))  # nothing else, so that it can be piped on
        return
    try:
        token = read_token(response.result, jwks)
    except UnusableResultError as error:
        raise CommandError(ExitCode.REFUSED, f"the result of {name}: {error}") from error
    if desk.json:
        desk.print_json(
            {"attestation": response.attestation, "key": token.key, "signature_holds": token.signed or None}
            | {"claims": token.claims}
        )
        return
    desk.out.print(_facts(_of_token(token)))
    label = name.removeprefix("devices/")
    for shown in [label] if label in token.result.submods else token.result.submods:
        desk.out.print()
        desk.out.print(Text(f"Device {clean(shown)}", "bold"))
        desk.out.print(_facts(_of_appraisal(token.result.submods[shown])))
    others = len(token.result.submods) - 1
    if label in token.result.submods and others:
        desk.err.print(f"tells of {others} more of its attestation; --json shows all")


def _facts(facts: Iterator[tuple[str, str | Text]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    return table


def _of_token(token: Token) -> Iterator[tuple[str, str | Text]]:
    result = token.result
    yield "attestation", result.nonce.hex()
    yield "issued", absolute(result.issued_at)
    yield "expires", "-" if result.expires_at is None else absolute(result.expires_at)
    if result.issuer:
        yield "issuer", clean(result.issuer)
    yield "verifier", clean(f"{result.build}, {result.developer}")
    yield "key", clean(token.key)
    signed = Text("holds", "green") if token.signed else Text("not checked; --jwks FILE checks it", "yellow")
    yield "signature", signed


def _of_appraisal(appraisal: Appraisal) -> Iterator[tuple[str, str | Text]]:
    yield "status", Text(appraisal.status.value, _STYLES[appraisal.status.value])
    yield "vector", ", ".join(f"{clean(name)} {value}" for name, value in appraisal.vector.items()) or "-"
    yield "policy", clean(", ".join(appraisal.policy_ids)) or "-"
    if appraisal.device is not None:
        yield from _of_device(appraisal.device)


def _of_device(device: DeviceResult) -> Iterator[tuple[str, str | Text]]:
    yield "standing", "witness" if device.standing is None else device.standing.name
    yield "findings", ", ".join(reason.name for reason in device.findings) or "none"
    if device.license is not None:
        held = device.license
        yield "license", clean(f"{held.number}, revision {held.revision}")
        grade = "" if held.grade is None else f", {held.grade.name} grade"
        yield "presence", f"{held.question.name}: {'proven' if held.proven else 'not proven'}{grade}"
    if device.place is not None:
        place = device.place
        yield "licensed region", place.in_licensed_region.name
        yield "prohibited", f"outside of prohibited destinations: {place.outside_prohibited.name}"
        yield "assurance", f"{place.assurance.name}, f = {place.tolerated_domains}"
        yield "data", clean(f"borders {place.borders}, lists {place.lists}")
        if place.demonstration:
            yield "demonstration", Text("the rules for landmarks are relaxed: not for accusation", "yellow")
