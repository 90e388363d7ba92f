"""The command `trigpoint-server`: makes what a server needs, checks a configuration, serves.

Exit codes: 0 done or drained, 1 could not serve, 2 wrong usage or configuration. `serve` prints one JSON line on stdout
when it is ready; logs go to stderr.
"""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer
import uvloop

from server import pki
from server.app import App
from server.config import Config, ConfigError, load_config
from server.desk.anchor import AnchorError
from server.spiffe import Peer, Role, SpiffeError, check_trust_domain
from server.store.errors import StoreError
from server.store.journal_audit import audit_journal, report_text
from server.store.journal_past import PastLostError
from server.telemetry import configure_logging
from verifier.journal.notes import NoteError, NoteKey

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The Trigpoint server."
)
_USAGE = 2
_FAILED = 1
_LANDMARK_ID = re.compile("[a-z0-9-]{1,63}")

ConfigOption = Annotated[Path, typer.Option("--config", help="The server's TOML file.")]
FolderArgument = Annotated[Path, typer.Argument(help="Folder that `init` made, or makes.")]


@cli.command("init")
def init_command(
    folder: FolderArgument,
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address in the server certificate; may be repeated.")
    ] = None,
    trust_domain: Annotated[str, typer.Option(help="Trust domain of the peers' SPIFFE IDs.")] = "trigpoint.example",
    address: Annotated[str, typer.Option(help="Address to listen on, written into server.toml.")] = "127.0.0.1:7443",
) -> None:
    """Make a CA, a server certificate, keys of tickets, journal and results, and a commented server.toml."""
    try:
        pki.init(folder, host or pki.DEFAULT_HOSTS, check_trust_domain(trust_domain), address)
    except (pki.PkiError, SpiffeError, OSError, ValueError) as error:
        _stop(str(error))
    typer.echo(
        f"made {folder}; next: put the vendor's roots and reference values there, then read {folder / 'server.toml'}",
        err=True,
    )


@cli.command("issue")
def issue_command(
    folder: FolderArgument,
    role: Annotated[Role, typer.Argument(help="What the peer may do.")],
    name: Annotated[str, typer.Argument(help="The peer's name; a landmark's id. Names the files too.")],
    licensee: Annotated[str, typer.Option(help="Agents only: the licensee that it reports for.")] = "",
    jurisdiction: Annotated[
        str,
        typer.Option(
            help="Viewers, officers, approvers and auditors only: the country whose sites alone they see, as DE. "
            "Without it they see all."
        ),
    ] = "",
) -> None:
    """Issue a client certificate: NAME.pem and NAME.key in the folder."""
    if role is Role.AGENT and not licensee:
        _stop("an agent needs --licensee")
    if role is not Role.AGENT and licensee:
        _stop("--licensee is for agents alone")
    if role is Role.LANDMARK and not _LANDMARK_ID.fullmatch(name):
        _stop(f"{name!r} is no landmark's id: 1 to 63 of a-z, 0-9 and -")
    try:
        peer = Peer(role, name, licensee, jurisdiction)
        certificate, key = pki.issue(folder, peer, peer.path.rpartition("/")[2])
    except (pki.PkiError, SpiffeError, OSError) as error:
        _stop(str(error))
    typer.echo(json.dumps({"certificate": str(certificate), "key": str(key)}))


@cli.command("ticket-key")
def ticket_key_command(folder: FolderArgument) -> None:
    """Print the public ticket key, which every landmark must know, as 64 hex digits."""
    try:
        key = pki.load_ed25519_key(folder / "ticket.key")
    except pki.PkiError as error:
        _stop(str(error))
    typer.echo(pki.public_bytes(key).hex())


@cli.command("journal-key")
def journal_key_command(config: ConfigOption) -> None:
    """Print the journal's public key as a vkey, which witnesses and readers of case bundles must know."""
    configure_logging()
    try:
        section = load_config(config).journal
        typer.echo(NoteKey.of(section.origin, pki.load_ed25519_key(section.key)).vkey)
    except ConfigError as error:
        _stop(*error.problems)
    except pki.PkiError as error:
        _stop(str(error))


@cli.command("result-key")
def result_key_command(
    path: Annotated[Path, typer.Argument(help="The file to make; it must not exist.")],
) -> None:
    """Make a key that signs attestation results. docs/operations.md tells how to rotate it in."""
    try:
        pki.make_result_key(path)
    except (pki.PkiError, OSError) as error:
        _stop(str(error))
    typer.echo(f"made {path}; add it at the end of results.keys, and move it to the front a day later", err=True)


@cli.command("audit")
def audit_command(
    store: Annotated[Path, typer.Argument(help="A store, or a copy of one. It is only read.")],
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint that the journal must extend; may be repeated.")
    ] = None,
    journal_key: Annotated[str, typer.Option(help="The journal's vkey, to check who signed the checkpoints.")] = "",
) -> None:
    """Recompute the whole journal and hold every table against it, without a server. Exit 1: something is wrong."""
    try:
        notes = [path.read_bytes() for path in checkpoint or []]
        key = NoteKey.parse(journal_key) if journal_key else None
        report = audit_journal(store, lambda _stage, _done, _total: None, checkpoints=notes, key=key)
    except (StoreError, OSError, NoteError) as error:
        _stop(str(error))
    typer.echo(report_text(report))
    if not notes:
        typer.echo("no --checkpoint was given: a journal that was rewritten whole would not be noticed", err=True)
    if report.fault_count:
        raise typer.Exit(_FAILED)


@cli.command("check")
def check_command(config: ConfigOption) -> None:
    """Check a configuration and every file that it names; print all that is wrong."""
    configure_logging()
    _load(config)
    typer.echo(f"{config}: good", err=True)


@cli.command("serve")
def serve_command(config: ConfigOption) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    configure_logging()
    app = _load(config)
    try:
        code = uvloop.run(_serve(app))
    except (StoreError, PastLostError, AnchorError, OSError) as error:
        structlog.get_logger().error("cannot serve", error=str(error))
        raise typer.Exit(_FAILED) from error
    raise typer.Exit(code)


async def _serve(app: App) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with app.running() as bound:
        sys.stdout.write(json.dumps({"ready": True, "address": bound.address, "http": bound.http_address}) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    return 0


def _load(path: Path) -> App:
    try:
        config: Config = load_config(path)
        return App.build(config)
    except ConfigError as error:
        _stop(*error.problems)


def _stop(*problems: str) -> NoReturn:
    for problem in problems:
        typer.echo(problem, err=True)
    raise typer.Exit(_USAGE)


def main() -> None:
    """Run the command line."""
    cli()
