"""`trigpoint-landmark`: make a key, show it, serve, and check against the registry.

Exit codes: 0 done, 1 `check` found a difference, 2 unusable input or no answer.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from landmark.config import Config, build_config, load_config
from landmark.daemon import Daemon
from landmark.daemon import serve as serve_daemon
from landmark.errors import KeyFileError, LandmarkError
from landmark.keys import LandmarkKey, create_key, load_key

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def keygen(file: Annotated[Path, typer.Argument(help="File to make; it must not exist.")]) -> None:
    """Draw a key into a new file of mode 0600; print its key id and public key."""
    if os.path.lexists(file):  # create_key refuses it as well; this says it better
        raise KeyFileError(f"{file} exists already; nothing was changed")
    _print_key(create_key(file))


@app.command()
def show(key: Annotated[Path, typer.Option("--key", help="Key file.")]) -> None:
    """Print key id and public key of a key file."""
    _print_key(load_key(key))


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; without it, the options below.")] = None,
    listen: Annotated[list[str] | None, typer.Option("--listen", help="host:port or [host]:port; repeatable.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Key file.")] = None,
    ticket_key: Annotated[
        list[str] | None, typer.Option("--ticket-key", help="Server's ticket key, hex; repeatable.")
    ] = None,
    position_revision: Annotated[int | None, typer.Option("--position-revision", help="1 when not given.")] = None,
    *,
    virtual_machine: Annotated[bool, typer.Option("--virtual-machine", help="It runs on a virtual machine.")] = False,
) -> None:
    """Serve until SIGTERM or SIGINT. One JSON line on stdout says when it is ready; the log goes to stderr."""
    if config is None:
        if key is None:
            raise typer.BadParameter("give --config, or --key with --listen and --ticket-key")
        settings = build_config(
            {
                "listen": listen or [],
                "key_file": key,
                "ticket_keys": ticket_key or [],
                "position_revision": 1 if position_revision is None else position_revision,
                "virtual_machine": virtual_machine,
            },
            "options",
        )
    elif listen or key or ticket_key or position_revision is not None or virtual_machine:
        raise typer.BadParameter("--config stands alone: write the rest into the file")
    else:
        settings = load_config(config)
    _serve(settings)


@app.command()
def check(
    config: Annotated[Path, typer.Option("--config", help="TOML file.")],
    name: Annotated[str, typer.Option("--name", help="Its record in the registry, landmarks/ID.")],
    server: Annotated[str, typer.Option("--server", help="host:port of the Trigpoint server.")],
    ca: Annotated[Path, typer.Option("--ca", help="Roots that the server's certificate must chain to, PEM.")],
    cert: Annotated[Path, typer.Option("--cert", help="Client certificate of the role landmark, PEM.")],
    key: Annotated[Path, typer.Option("--key", help="Its private key, PEM.")],
) -> None:
    """Compare the configuration with what the registry holds. Exit 0 when they agree, 1 when they differ."""
    # gRPC is imported here and nowhere else, so that it is never in the serving process.
    from landmark.check import Registry, compare_with_registry  # noqa: PLC0415

    settings = load_config(config)
    comparisons = compare_with_registry(Registry(server, ca, cert, key), name, settings, load_key(settings.key_file))
    for point in comparisons:
        if point.agrees:
            typer.echo(f"{point.what}: agrees")
        else:
            typer.echo(f"{point.what}: DIFFERS: here {point.here}, registry {point.registry}")
    if not all(point.agrees for point in comparisons):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; our own errors become one line and exit code 2."""
    try:
        app()
    except LandmarkError as error:
        typer.echo(f"trigpoint-landmark: {error}", err=True)
        sys.exit(2)


def _serve(settings: Config) -> None:
    _set_up_log()
    key = load_key(settings.key_file)

    def on_ready(daemon: Daemon) -> None:
        line = {"ready": True, "endpoints": daemon.endpoints, "key_id": key.key_id.hex()}
        typer.echo(json.dumps(line))
        sys.stdout.flush()

    try:
        # The plain loop on purpose: uvloop's timers fire early.
        asyncio.run(serve_daemon(settings, key, on_ready))
    except OSError as error:
        typer.echo(f"trigpoint-landmark: {' '.join(settings.listen)}: {error.strerror}", err=True)
        raise typer.Exit(2) from error


def _set_up_log() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


def _print_key(key: LandmarkKey) -> None:
    typer.echo(f"key id {key.key_id.hex()}")
    typer.echo(f"public key {key.public_key.hex()}")


if __name__ == "__main__":
    main()
