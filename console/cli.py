"""`trigpoint`: the officers' command line. Registers the commands; each stands in a module of its own.

Exit codes stand in console/exits.py and docs/officers.md.
"""

import typer

from console import (
    cases,
    changes,
    deployment_records,
    devices,
    journal,
    landmarks,
    licenses,
    logistics,
    parties,
    screening,
    sites,
)
from console.connection import ConnectionOptions
from console.desk import (
    CaOption,
    CertOption,
    ConfigOption,
    GlobalOptions,
    JsonOption,
    KeyOption,
    PlaintextOption,
    ServerOption,
)
from console.verify_command import verify

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Which licensed accelerators are what they say, and where their license says they may be.",
    epilog="Exit codes: 0 done, 1 refused or rows failed, 2 unusable input, 3 server unreachable, 4 not permitted.",
)
app.add_typer(devices.app, name="device")
app.add_typer(licenses.app, name="license")
app.add_typer(parties.app, name="party")
app.add_typer(sites.app, name="site")
app.add_typer(deployment_records.app, name="deployment")
app.add_typer(logistics.shipments, name="shipment")
app.add_typer(logistics.maintenance, name="maintenance")
app.add_typer(changes.app, name="change")
app.command("history")(changes.history)
app.add_typer(cases.app, name="case")
app.add_typer(screening.app, name="screening")
app.add_typer(landmarks.app, name="landmark")
app.add_typer(journal.app, name="journal")
app.command("verify")(verify)


@app.callback()
def _root(
    context: typer.Context,
    *,
    server: ServerOption = None,
    ca: CaOption = None,
    cert: CertOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    plaintext: PlaintextOption = False,
    as_json: JsonOption = False,
) -> None:
    context.obj = GlobalOptions(ConnectionOptions(server, ca, cert, key, config, plaintext), as_json)


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="trigpoint")


if __name__ == "__main__":
    main()
