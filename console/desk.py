"""What every command that talks to a server needs, and the decorator that gives it to them.

Connection options and --json may stand before the command or after it; the later one wins.
"""

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec

import grpc
import typer
from rich.console import Console
from trigpoint.v1 import (
    cases_pb2_grpc,
    change_pb2_grpc,
    exhibit_pb2_grpc,
    journal_pb2_grpc,
    landmark_pb2_grpc,
    licensing_pb2_grpc,
    records_pb2_grpc,
    screening_pb2_grpc,
)

from console.connection import ConnectionOptions, connect
from console.exits import reported

CALL_TIMEOUT_S = 20.0
UPLOAD_TIMEOUT_S = 600.0  # 100 MB of rows over a slow line, and their commit

P = ParamSpec("P")

ServerOption = Annotated[str | None, typer.Option(metavar="HOST:PORT", help="The server.")]
CaOption = Annotated[Path | None, typer.Option(help="PEM of the CA of the server's certificate.")]
CertOption = Annotated[Path | None, typer.Option(help="PEM of your certificate.")]
KeyOption = Annotated[Path | None, typer.Option(help="PEM of its private key.")]
ConfigOption = Annotated[Path | None, typer.Option(help="Settings file [~/.config/trigpoint/config.toml].")]
PlaintextOption = Annotated[bool, typer.Option("--plaintext", help="No TLS; loopback alone.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON alone on stdout.")]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """Options that were given before the command."""

    connection: ConnectionOptions = field(default_factory=ConnectionOptions)
    json: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """One command's view of the world.

    Attributes:
        target: The server, HOST:PORT.
        licensing: Stub, as are `landmarks`, `records`, `changes`, `cases`, `screening`, `journal` and `exhibits`.
        json: JSON alone on stdout.
        out: Terminal or pipe that results go to.
        err: Where everything else goes.
        now: One moment, taken at the start.
    """

    target: str
    licensing: licensing_pb2_grpc.LicensingServiceStub
    landmarks: landmark_pb2_grpc.LandmarkServiceStub
    records: records_pb2_grpc.RecordServiceStub
    changes: change_pb2_grpc.ChangeServiceStub
    cases: cases_pb2_grpc.CaseServiceStub
    screening: screening_pb2_grpc.ScreeningServiceStub
    journal: journal_pb2_grpc.JournalServiceStub
    exhibits: exhibit_pb2_grpc.ExhibitServiceStub
    json: bool
    out: Console
    err: Console
    now: datetime

    def print_json(self, value: object, *, one_line: bool = False) -> None:
        """Print one JSON value to stdout."""
        # ASCII alone: other people's text may hold what a terminal acts on.
        typer.echo(json.dumps(value, indent=None if one_line else 2))


def plain_console(*, stderr: bool = False) -> Console:
    """Return a Rich console that reads no markup, emoji or highlighting out of other people's text."""
    file = sys.stderr if stderr else sys.stdout
    return Console(file=file, markup=False, emoji=False, highlight=False)


def with_desk(command: Callable[Concatenate[Desk, P], None]) -> Callable[..., None]:
    """Give a command its Desk, and the connection options and --json to the command line."""

    def run(
        context: typer.Context,
        *,
        server: ServerOption = None,
        ca: CaOption = None,
        cert: CertOption = None,
        key: KeyOption = None,
        config: ConfigOption = None,
        plaintext: PlaintextOption = False,
        as_json: JsonOption = False,
        **own: object,
    ) -> None:
        given = ConnectionOptions(server, ca, cert, key, config, plaintext)
        earlier = context.obj if isinstance(context.obj, GlobalOptions) else GlobalOptions()
        with reported(server or ""):
            connection = connect(given.over(earlier.connection))
        without_tls = connection.credentials is None
        with reported(connection.target, plaintext=without_tls), connection.channel() as channel:
            desk = _desk(connection.target, channel, as_json=as_json or earlier.json)
            command(desk, **own)  # type: ignore[call-arg, arg-type]  # Typer checked `own` against the signature

    _advertise(run, command)
    return run


def _desk(target: str, channel: grpc.Channel, *, as_json: bool) -> Desk:
    return Desk(
        target=target,
        licensing=licensing_pb2_grpc.LicensingServiceStub(channel),
        landmarks=landmark_pb2_grpc.LandmarkServiceStub(channel),
        records=records_pb2_grpc.RecordServiceStub(channel),
        changes=change_pb2_grpc.ChangeServiceStub(channel),
        cases=cases_pb2_grpc.CaseServiceStub(channel),
        screening=screening_pb2_grpc.ScreeningServiceStub(channel),
        journal=journal_pb2_grpc.JournalServiceStub(channel),
        exhibits=exhibit_pb2_grpc.ExhibitServiceStub(channel),
        json=as_json,
        out=plain_console(),
        err=plain_console(stderr=True),
        now=datetime.now(UTC),
    )


def _advertise(run: Callable[..., None], command: Callable[..., None]) -> None:
    """Show Typer the command's own parameters followed by the shared ones."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = [
        parameter
        for parameter in inspect.signature(run, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    parameters = _keyword_only([shared[0], *own, *shared[1:]])
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = command.__name__, command.__doc__


def _keyword_only(parameters: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
