"""`trigpoint-landmark`: make a key, show it, sign a record, serve, be ranged by others, and check against the registry.

Exit codes: 0 done, 1 `check` found a difference, 2 unusable input or no answer.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import structlog
import typer

from landmark.config import Config, build_config, load_config
from landmark.daemon import Daemon
from landmark.daemon import serve as serve_daemon
from landmark.errors import ConfigError, KeyFileError, LandmarkError, RecordError
from landmark.keys import LandmarkKey, create_key, load_key
from landmark.record import DEFAULT_UNCERTAINTY_KM, build_record, parse_moment, record_file, sign_record
from landmark.supervisor import keep_running, prover_command

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
def record(
    landmark_id: Annotated[str, typer.Option("--id", help="Its name in the registry: 1 to 63 of a-z, 0-9 and -.")],
    operator: Annotated[str, typer.Option("--operator", help="Who runs it, as in all records of this operator.")],
    hoster: Annotated[str, typer.Option("--hoster", help="Whose building or cloud it stands in.")],
    latitude: Annotated[float, typer.Option("--latitude", help="Degrees, WGS 84.")],
    longitude: Annotated[float, typer.Option("--longitude", help="Degrees, WGS 84.")],
    survey_method: Annotated[str, typer.Option("--survey-method", help="How the position was surveyed.")],
    country: Annotated[str, typer.Option("--country", help="Where it stands, ISO 3166-1 alpha-2, upper case.")],
    endpoint: Annotated[
        list[str], typer.Option("--endpoint", help="host:port, IPv6 hosts in brackets; repeatable, best first.")
    ],
    key: Annotated[Path, typer.Option("--key", help="The landmark's key file.")],
    operator_key: Annotated[Path, typer.Option("--operator-key", help="The operator's key file.")],
    uncertainty_km: Annotated[
        float, typer.Option("--uncertainty-km", help="How far the truth may be from the position.")
    ] = DEFAULT_UNCERTAINTY_KM,
    valid_from: Annotated[str | None, typer.Option("--valid-from", help="First day, or time with zone.")] = None,
    valid_until: Annotated[
        str | None, typer.Option("--valid-until", help="Last day, or the first time after it with zone.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to make; it must not exist. Without it, stdout.")
    ] = None,
    *,
    virtual_machine: Annotated[bool, typer.Option("--virtual-machine", help="It runs on a virtual machine.")] = False,
) -> None:
    """Write the landmark's record, signed with its operator's key, for `trigpoint landmark import`."""
    content = build_record(
        {
            "id": landmark_id,
            "operator": operator,
            "hoster": hoster,
            "latitude": latitude,
            "longitude": longitude,
            "uncertainty_km": uncertainty_km,
            "survey_method": survey_method,
            "virtual_machine": virtual_machine,
            "country": country,
            "endpoints": endpoint,
            "valid_from": None if valid_from is None else parse_moment(valid_from, "valid_from", end=False),
            "valid_until": None if valid_until is None else parse_moment(valid_until, "valid_until", end=True),
        }
    )
    text = record_file(sign_record(content, load_key(key).public_key, load_key(operator_key)))
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:  # lest a slip of the hand overwrites a key
            file.write(text)
    except OSError as error:
        raise RecordError(f"{out}: {error.strerror}") from error


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
    """Serve until SIGTERM or SIGINT. One JSON line on stdout says when it is ready; the log goes to stderr.

    With an [audit] table in the file, `prove` runs as a child of this process, and ends with it.
    """
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
    command = None if config is None or settings.audit is None else prover_command(config)
    _serve(settings, command)


@app.command()
def prove(
    config: Annotated[Path, typer.Option("--config", help="TOML file with an [audit] table.")],
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
) -> None:
    """Be ranged by other landmarks until SIGTERM or SIGINT; `serve` runs this by itself.

    One JSON line on stdout says when it is ready; the log goes to stderr.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own lines are not JSON; its failures reach our log
    # gRPC is imported here and in `check`, and nowhere else, so that it is never in the serving process.
    from landmark.prover_process import end_with  # noqa: PLC0415
    from landmark.prover_process import prove as run_prover  # noqa: PLC0415

    if parent is not None:
        end_with(parent)
    _set_up_log(process="prover")
    settings = load_config(config)
    if settings.audit is None:
        raise ConfigError(f"{config}: audit: the table is missing")
    key = load_key(settings.key_file)

    def on_ready() -> None:
        typer.echo(json.dumps({"ready": True, "key_id": key.key_id.hex()}))
        sys.stdout.flush()

    with _unusable_sockets(settings):
        run_prover(settings, settings.audit, key, on_ready)


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


def _serve(settings: Config, command: tuple[str, ...] | None) -> None:
    _set_up_log()
    key = load_key(settings.key_file)

    def on_ready(daemon: Daemon) -> None:
        line = {"ready": True, "endpoints": daemon.endpoints, "key_id": key.key_id.hex()}
        typer.echo(json.dumps(line))
        sys.stdout.flush()

    beside = None if command is None else functools.partial(keep_running, command)
    with _unusable_sockets(settings):
        # The plain loop on purpose: uvloop's timers fire early.
        asyncio.run(serve_daemon(settings, key, on_ready, beside))


@contextlib.contextmanager
def _unusable_sockets(settings: Config) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        typer.echo(f"trigpoint-landmark: {' '.join(settings.listen)}: {error.strerror}", err=True)
        raise typer.Exit(2) from error


def _set_up_log(**fields: str) -> None:
    """Log JSON lines to stderr; `fields` go into each."""
    structlog.contextvars.bind_contextvars(**fields)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
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
