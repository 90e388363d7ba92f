"""`trigpoint party`: companies and persons that licenses name, and that are screened."""

from typing import Annotated

import typer
from trigpoint.v1 import records_pb2

from console import records
from console.desk import Desk, with_desk
from console.records import AllOption, AsOfOption, DryRunOption, FilterOption, LimitOption, ReasonOption

app = typer.Typer(no_args_is_help=True, help="Parties: who licenses name. Each is screened.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="1 to 63 of a-z, 0-9 and -.")]
TitleOption = Annotated[str, typer.Option("--name", help="Its name.", show_default=False)]
AliasOption = Annotated[list[str] | None, typer.Option("--alias", help="Another name. Repeatable.")]
AddressOption = Annotated[list[str] | None, typer.Option("--address", help="Repeatable.")]
CountryOption = Annotated[str, typer.Option(help="ISO 3166-1 alpha-2.", show_default=False)]


@app.command("create")
@with_desk
def create(
    desk: Desk,
    *,
    party: IdArgument,
    name: TitleOption,
    reason: ReasonOption,
    alias: AliasOption = None,
    address: AddressOption = None,
    country: CountryOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Record a party."""
    held = records_pb2.Party(title=name, aliases=alias or (), addresses=address or (), country=country)
    records.write(desk, [records.created(f"parties/{party}", "party", held)], reason, dry_run=dry_run)


@app.command("update")
@with_desk
def update(
    desk: Desk,
    *,
    party: IdArgument,
    reason: ReasonOption,
    name: TitleOption = "",
    alias: AliasOption = None,
    address: AddressOption = None,
    country: CountryOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Change a party. Aliases and addresses that are given take the place of all that stand."""
    held = records_pb2.Party(title=name, aliases=alias or (), addresses=address or (), country=country)
    given = {"title": name, "aliases": alias, "addresses": address, "country": country}
    change = records.updated(f"parties/{party}", "party", held, [path for path, value in given.items() if value])
    records.write(desk, [change], reason, dry_run=dry_run)


@app.command("get")
@with_desk
def get(desk: Desk, *, party: IdArgument, as_of: AsOfOption = "") -> None:
    """Tell all about one party."""
    records.show(desk, records.fetch(desk, f"parties/{party.removeprefix('parties/')}", as_of))


@app.command("list")
@with_desk
def list_(desk: Desk, *, filter_: FilterOption = "", limit: LimitOption = 100, all_: AllOption = False) -> None:
    """List parties in the order of their ids."""
    records.show_list(desk, records_pb2.RECORD_KIND_PARTY, "party", filter_, None if all_ else limit)
