"""What a verification is given: deployments in force as of its challenge, last accepted states, what may be adopted.

Two queries, as long as no record of these devices changed since the challenge was issued.
"""

from collections.abc import Collection, Iterable
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, select

from server.records.codec import swap_from_json
from server.store.asof import deployments_as_of, first_deployment_since
from server.store.counters import read_counter
from server.store.record_rows import BY_BOARD, BY_KEY
from server.store.rows import IN_FORCE, chunks, license_columns, license_of
from server.store.schema import DEPLOYMENTS, DEVICES, LICENSES, SELECTORS, SITES
from server.store.states import state_of
from server.store.types import LoadedInputs
from verifier.continuity import DeviceState
from verifier.evidence.chain import DeviceKind
from verifier.license import Adoption, Deployment
from verifier.place.region_json import region_from_json
from verifier.units import DeviceKeyId, Pdi

_DEPLOYED = (
    select(
        DEPLOYMENTS.c.device_pdi,
        DEPLOYMENTS.c.swap,
        DEPLOYMENTS.c.record_number.label("deployment_number"),
        SITES.c.region,
        SITES.c.record_number.label("site_number"),
        LICENSES.c.record_number.label("license_number"),
        *license_columns(),
    )
    .select_from(DEPLOYMENTS.join(SITES).join(LICENSES))
    .where(IN_FORCE)
)
_ADOPTABLE = (
    select(SELECTORS.c.selector, (SELECTORS.c.devices - SELECTORS.c.adopted).label("left"), SITES.c.region)
    .add_columns(*license_columns())
    .select_from(SELECTORS.join(SITES).join(LICENSES))
    .where(IN_FORCE)
)


def load_inputs(
    connection: Connection, pdis: Collection[Pdi], as_of: int, key_ids: Collection[DeviceKeyId] = ()
) -> LoadedInputs:
    """Return what stood when the number of the records was `as_of` (docs/protocol.md RC6).

    A device that had no deployment in force then gets the first that it has since. What may be adopted is as it stands
    now, since the deployment that comes of it is made now.

    Args:
        connection: The transaction.
        pdis: Devices; they are looked up as switches of board deployments too.
        as_of: Number of the records.
        key_ids: Device keys to look up in deployments by key.
    """
    deployments: dict[Pdi, Deployment] = {}
    newest: dict[Pdi, int] = {}
    last: dict[Pdi, DeviceState] = {}
    switches: set[Pdi] = set()
    for some in chunks(pdis):
        for row in connection.execute(_DEPLOYED.where(DEPLOYMENTS.c.device_pdi.in_(some))):
            pdi = Pdi(row.device_pdi)
            deployments[pdi] = _deployment_of(row)
            newest[pdi] = max(row.deployment_number, row.site_number, row.license_number)
        for row in connection.execute(select(DEVICES).where(DEVICES.c.pdi.in_(some))):
            if row.last_report_at is not None:
                last[Pdi(row.pdi)] = state_of(row)
            if row.kind == int(DeviceKind.SWITCH):
                switches.add(Pdi(row.pdi))
    revised = {pdi: number for pdi, number in newest.items() if number > as_of}
    bare = [pdi for pdi in pdis if pdi not in deployments and pdi not in switches]
    if revised or (bare and read_counter(connection, "records") > as_of):
        _set_back(connection, deployments, revised, bare, as_of)
    adoptions: dict[bytes, Adoption] = {}
    if bare:
        adoptions.update(_adoptable(connection, BY_BOARD, pdis))
    if key_ids:
        adoptions.update(_adoptable(connection, BY_KEY, key_ids))
    return LoadedInputs(deployments, last, adoptions)


def _set_back(
    connection: Connection,
    deployments: dict[Pdi, Deployment],
    revised: dict[Pdi, int],
    bare: Collection[Pdi],
    as_of: int,
) -> None:
    """Make of what stands what stood then, or the first since.

    Args:
        connection: The transaction.
        deployments: What stands.
        revised: Devices of those whose records changed since then, with the number of the last change.
        bare: Devices that have nothing in force now.
        as_of: Number of the records then.
    """
    then = deployments_as_of(connection, [*revised, *bare], as_of)
    deployments.update({pdi: found.deployment for pdi, found in then.items()})
    # What was in force neither then nor just before its last change came into force by that change, as it stands.
    new = sorted((number, pdi) for pdi, number in revised.items() if pdi not in then)
    for number, group in groupby(new, key=lambda each: each[0]):
        earlier = () if number - 1 <= as_of else deployments_as_of(connection, [pdi for _, pdi in group], number - 1)
        for pdi in earlier:
            first = first_deployment_since(connection, pdi, as_of)
            if first is not None:
                deployments[pdi] = first.deployment


def _deployment_of(row: Row[Any]) -> Deployment:
    swap = None if row.swap is None else swap_from_json(row.swap)
    return Deployment(Pdi(row.device_pdi), license_of(row), region_from_json(row.region), swap)


def _adoptable(connection: Connection, kind: int, selectors: Iterable[bytes]) -> dict[bytes, Adoption]:
    found: dict[bytes, Adoption] = {}
    for some in chunks(selectors):
        query = _ADOPTABLE.where(SELECTORS.c.kind == kind, SELECTORS.c.selector.in_(some))
        for row in connection.execute(query):
            found[row.selector] = Adoption(row.selector, license_of(row), region_from_json(row.region), row.left)
    return found
