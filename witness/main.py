"""`trigpoint-witness`: make a witness, show its key and what it signed, serve.

Exit codes: 0 done or stopped by a signal, 2 unusable input. `serve` prints one JSON line on stdout when it is ready;
the log goes to stderr.
"""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import NoteKey
from witness.config import FILE, KEY_FILE, STATE_FOLDER, TEMPLATE, Config, check_name, load_config, split_address
from witness.cosigner import Cosigner
from witness.errors import WitnessError
from witness.files import make_durably
from witness.keys import create_key, load_key
from witness.ledger import Ledger
from witness.service import Service, bind

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ConfigOption = Annotated[Path, typer.Option("--config", help="The witness's TOML file.")]


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    name: Annotated[str, typer.Option("--name", help="Name in cosignatures: a URL without scheme, witness.example.")],
) -> None:
    """Make a witness: its key, its empty state and a commented witness.toml. Prints its public key, a vkey."""
    try:
        check_name(name)
        if there := [file for file in (KEY_FILE, FILE, STATE_FOLDER) if (folder / file).exists()]:
            _stop(f"{folder} holds {', '.join(there)} already; nothing was changed")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        vkey = NoteKey.of(name, create_key(folder / KEY_FILE), cosigns=True).vkey
        Ledger.make(folder / STATE_FOLDER, vkey)
        text = TEMPLATE.format(name=name, key=KEY_FILE, state=STATE_FOLDER)
        make_durably(folder / FILE, text.encode())
    except (WitnessError, OSError, ValueError) as error:
        _stop(str(error))
    typer.echo(vkey)
    typer.echo(f"made {folder}; next: name the logs in {folder / FILE}", err=True)


@app.command()
def show(config: ConfigOption) -> None:
    """Print the witness's key and, of each log, what it signed last: one JSON object. Not while it serves."""
    settings, _, vkey, ledger = _load(config)
    logs: dict[str, object] = {}
    for origin in settings.keys_by_origin():
        note = ledger.last(origin)
        logs[origin] = None if note is None else _told(Checkpoint.parse(note.text))
    ledger.close()
    typer.echo(json.dumps({"key": vkey, "logs": logs}, indent=2))


def _told(checkpoint: Checkpoint) -> dict[str, object]:
    return {"size": checkpoint.size, "root": checkpoint.root.hex()}


@app.command()
def serve(config: ConfigOption) -> None:
    """Serve until SIGTERM or SIGINT."""
    _configure_logging()
    settings, key, _, ledger = _load(config)
    try:
        asyncio.run(_serve(settings, Cosigner(settings.name, key, settings.keys_by_origin(), ledger)))
    except OSError as error:  # the address, or the files of TLS
        _stop(f"{settings.listen}: {error}")
    finally:
        ledger.close()


async def _serve(settings: Config, cosigner: Cosigner) -> None:
    listening = bind(*split_address(settings.listen))
    service = Service(settings, cosigner, _ready)

    def stop() -> None:
        service.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with listening:
        await service.serve([listening])


def _ready(address: str) -> None:
    sys.stdout.write(json.dumps({"ready": True, "address": address}) + "\n")
    sys.stdout.flush()


def _load(path: Path) -> tuple[Config, Ed25519PrivateKey, str, Ledger]:
    try:
        settings = load_config(path)
        key = load_key(settings.key)
        vkey = NoteKey.of(settings.name, key, cosigns=True).vkey
        return settings, key, vkey, Ledger.open(settings.state, vkey)
    except WitnessError as error:
        _stop(str(error))


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _stop(problem: str) -> NoReturn:
    typer.echo(f"trigpoint-witness: {problem}", err=True)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="trigpoint-witness")


if __name__ == "__main__":
    main()
