"""`trigpoint verify`: prints what an offline check of evidence, or of a case bundle, shows.

Exit codes: 0 every report is authentic, or every point of the bundle that can be recomputed holds; 1 at least one is
refused; 2 the input cannot be used. A missing nonce and a board that cannot be proven are said and change no exit code.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from console.bundle_command import TrustOptions, check_file, print_outcome
from console.offline import (
    NONCE_BYTES,
    Authentic,
    Board,
    DeviceKind,
    Evidence,
    Outcome,
    Refused,
    UnusableInputError,
    check,
    load_evidence,
    load_report,
    load_roots,
)
from console.offline_bundle.check import is_bundle

EXIT_REFUSED = 1
EXIT_UNUSABLE = 2


def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="JSON lists of evidence, [{certificate, evidence, nonce, ...}], or one case bundle"),
    ] = None,
    *,
    root: Annotated[
        list[Path] | None, typer.Option(help="PEM file of a vendor root that you trust; may be given again")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="One report, hex; needs --chain")] = None,
    chain: Annotated[Path | None, typer.Option(help="Its certificate chain, PEM, leaf first")] = None,
    nonce: Annotated[
        str | None, typer.Option(help="Nonce that reports must carry, 64 hex digits; overrides those in files")
    ] = None,
    journal_key: Annotated[str | None, typer.Option(help="Bundle: vkey of its journal", metavar="VKEY")] = None,
    root_fingerprint: Annotated[
        list[str] | None,
        typer.Option(help="Bundle: SHA-256 of the vendor's root, DER; may be given again", metavar="SHA256"),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(help="Bundle: vkey of a witness; may be given again; one must have signed", metavar="VKEY"),
    ] = None,
    jwks: Annotated[
        Path | None, typer.Option(help="Bundle: JWK set of the service; without it the bundle's own is taken")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout")] = False,
) -> None:
    """Check evidence or a case bundle offline: signatures, nonces, board edges; proofs, verdicts, records.

    Exit 0: all holds. 1: something refused. 2: unusable input.
    """
    options = TrustOptions(journal_key, root_fingerprint or (), root or (), witness or (), jwks)
    try:
        if any(map(is_bundle, files or ())):
            _verify_bundle(files or [], options, as_json=as_json, others=(report, chain, nonce))
            return
        _check_options(files or [], options)
        evidence = _load(files or [], report, chain, _parse_nonce(nonce))
        outcome = check(evidence, load_roots(options.roots), datetime.now(UTC))
    except UnusableInputError as error:
        Console(stderr=True).print(Text(f"trigpoint verify: {error}"), soft_wrap=True)
        raise typer.Exit(EXIT_UNUSABLE) from error
    if as_json:
        typer.echo(json.dumps(to_json(outcome), indent=2))
    else:
        _print(outcome, Console(highlight=False))
    if outcome.refused_count:
        raise typer.Exit(EXIT_REFUSED)


def _verify_bundle(files: Sequence[Path], options: TrustOptions, *, as_json: bool, others: Iterable[object]) -> None:
    if len(files) != 1 or any(other is not None for other in others):
        raise UnusableInputError("a case bundle is checked alone: give one file, and no --report, --chain or --nonce")
    outcome = check_file(files[0], options)
    print_outcome(outcome, as_json=as_json)
    if outcome.refused:
        raise typer.Exit(EXIT_REFUSED)


def _check_options(files: Iterable[Path], options: TrustOptions) -> None:
    for path in files:
        try:
            path.stat()
        except OSError as error:
            raise UnusableInputError(f"{path}: {error.strerror}") from error
    if options.are_given:
        raise UnusableInputError("no file is a case bundle, and some options that you gave are for one alone")
    if not options.roots:
        raise UnusableInputError("give --root, the PEM file of a vendor root that you trust")


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as plain JSON values; docs/officers.md gives the fields."""
    return {
        "authentic_count": len(outcome.results) - outcome.refused_count,
        "refused_count": outcome.refused_count,
        "reports": [_report_json(r) for r in outcome.results],
        "boards": [
            {
                "nonce": b.nonce.hex(),
                "gpus": [p.hex() for p in b.gpus],
                "switches": [p.hex() for p in b.switches],
                "proven_edges": b.edge_count,
            }
            for b in outcome.boards
        ],
    }


def _report_json(result: Authentic | Refused) -> dict[str, Any]:
    if isinstance(result, Refused):
        return {"source": result.source, "authentic": False, "reason": result.reason.name, "detail": result.detail}
    device = result.device
    return {
        "source": result.source,
        "authentic": True,
        "kind": device.kind.name.lower(),
        "model": device.chain.model,
        "pdi": device.pdi.hex(),
        "device_key_id": device.chain.device_key_id.hex(),
        "driver_version": device.report.driver_version,
        "vbios_version": device.report.vbios_version,
        "fwid": device.chain.fwid.hex(),
        "nonce": device.report.nonce.hex(),
        "freshness": "checked" if result.fresh else "not checked",
        "proven_edges": [p.hex() for p in result.edges],
        "named_without_proof": sorted(p.hex() for p in device.report.linked - set(result.edges)),
    }


def _load(files: Sequence[Path], report: Path | None, chain: Path | None, nonce: bytes | None) -> list[Evidence]:
    if (report is None) != (chain is None):
        raise UnusableInputError("--report and --chain go together")
    evidence = [item for path in files for item in load_evidence(path, nonce)]
    if report is not None and chain is not None:
        evidence.append(load_report(report, chain, nonce))
    if not evidence:
        raise UnusableInputError("nothing to check: give files, or --report and --chain")
    return evidence


def _parse_nonce(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        nonce = bytes.fromhex(text)
    except ValueError as error:
        raise UnusableInputError("--nonce is not hex") from error
    if len(nonce) != NONCE_BYTES:
        raise UnusableInputError(f"--nonce has {len(nonce)} bytes; {NONCE_BYTES} are needed")
    return nonce


def _print(outcome: Outcome, console: Console) -> None:
    for result in outcome.results:
        if isinstance(result, Refused):
            _line(console, ("REFUSED", "bold red"), f"  {result.source}")
            _wrapped(console, "reason", result.reason.name)
            _wrapped(console, "detail", result.detail)
        else:
            _print_device(result, console)
    if outcome.boards:
        console.print()
        for board in outcome.boards:
            _print_board(board, console)
    console.print()
    authentic = len(outcome.results) - outcome.refused_count
    style = "bold red" if outcome.refused_count else "bold green"
    console.print(Text(f"{authentic} authentic, {outcome.refused_count} refused", style=style))


def _print_device(result: Authentic, console: Console) -> None:
    device = result.device
    kind = "GPU" if device.kind is DeviceKind.GPU else "switch"
    _line(console, ("authentic", "green"), f"  {kind} {device.pdi.hex()}  {device.chain.model}")
    versions = [f"driver {device.report.driver_version}"] if device.report.driver_version else []
    versions.append(f"{'VBIOS' if device.kind is DeviceKind.GPU else 'firmware'} {device.report.vbios_version}")
    fwid = device.chain.fwid.hex()
    freshness = "nonce checked" if result.fresh else "freshness not checked: no nonce was given"
    rows = [
        ("from", result.source),
        ("versions", ", ".join(versions)),
        ("device key", device.chain.device_key_id.hex()),
        ("FWID", fwid[:48]),
        ("", fwid[48:]),
        ("freshness", freshness),
        ("edges", _edges(result)),
    ]
    for label, value in rows:
        _wrapped(console, label, value)


def _edges(result: Authentic) -> str:
    unproven = len(result.device.report.linked) - len(result.edges)
    if not result.device.report.linked:
        return "none named"
    proven = f"proven to {' '.join(p.hex() for p in result.edges)}" if result.edges else "none proven here"
    return proven + (f"; {unproven} more named by this device alone" if unproven else "")


def _print_board(board: Board, console: Console) -> None:
    _line(
        console,
        ("board", "bold"),
        f"  {len(board.gpus)} GPUs and {len(board.switches)} switches, {board.edge_count} edges signed by both ends",
    )
    _wrapped(console, "nonce", board.nonce.hex())


def _line(console: Console, marked: tuple[str, str], rest: str) -> None:
    console.print(Text.assemble(marked, rest))


def _wrapped(console: Console, label: str, value: str, width: int = 64) -> None:
    lines = _fold(value.split(" "), width)
    for number, line in enumerate(lines):
        console.print(Text(f"    {label if number == 0 else '':<12}{line}"), soft_wrap=True)


def _fold(words: Iterable[str], width: int) -> list[str]:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
