"""Challenges beyond what licenses ask, which two people order (docs/protocol.md K3)."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from server.records.summary import summary_of
from server.store.changes import Proposal, propose
from server.store.counters import take_numbers
from server.store.errors import RecordNotFoundError
from server.store.record_types import ChangeKind, ChangeRecord
from server.store.rows import IN_FORCE, chunks
from server.store.schema import CHALLENGE_ORDERS, DEPLOYMENTS, DEVICES, LICENSES, SITES
from server.times import micros
from verifier.units import Pdi

_DEPLOYED = (
    select(DEPLOYMENTS.c.device_pdi, LICENSES.c.number, LICENSES.c.licensee, SITES.c.title)
    .select_from(DEPLOYMENTS.join(SITES).join(LICENSES))
    .where(IN_FORCE)
)


def propose_challenges(
    connection: Connection, pdis: Sequence[Pdi], by: str, reason: str, now: datetime
) -> ChangeRecord:
    """Keep the wish to ask these devices until a second person approves it.

    Raises:
        RecordNotFoundError: A device is neither deployed nor seen.
    """
    found: set[bytes] = set()
    deployed: dict[bytes, tuple[str, str, str]] = {}
    for some in chunks(pdis):
        found.update(connection.scalars(select(DEVICES.c.pdi).where(DEVICES.c.pdi.in_(some))))
        for row in connection.execute(_DEPLOYED.where(DEPLOYMENTS.c.device_pdi.in_(some))):
            deployed[row.device_pdi] = (row.number, row.licensee, row.title)
    for pdi in pdis:
        if pdi not in found and pdi not in deployed:
            raise RecordNotFoundError(f"devices/{pdi.hex()}")
    payload = json.dumps({"devices": [pdi.hex() for pdi in pdis]}, separators=(",", ":"))
    summary = summary_of([f"devices/{pdi.hex()}: ask at once, once ({_whose(deployed.get(pdi))})" for pdi in pdis])
    licensees = tuple(sorted({licensee for _, licensee, _ in deployed.values()}))
    return propose(connection, Proposal(ChangeKind.CHALLENGES, payload, summary, licensees, by, reason, now))


def apply_challenges(connection: Connection, change: ChangeRecord, payload: Mapping[str, Any], now: datetime) -> None:
    """Order the challenges of a change in the caller's transaction. The records' number makes streams look at once."""
    number = take_numbers(connection, "records", 1)[0]
    rows = [
        {"pdi": bytes.fromhex(device), "number": number, "ordered_at": micros(now), "change_id": change.change_id}
        for device in payload["devices"]
    ]
    connection.execute(insert(CHALLENGE_ORDERS), rows)


def is_ordered(connection: Connection, pdis: Collection[Pdi], beyond: int) -> bool:
    """Whether a challenge of one of these devices was ordered when the number of the records was above `beyond`."""
    for some in chunks(sorted(pdis)):
        ordered = select(CHALLENGE_ORDERS.c.number).where(
            CHALLENGE_ORDERS.c.pdi.in_(some), CHALLENGE_ORDERS.c.number > beyond
        )
        if connection.execute(ordered.limit(1)).first() is not None:
            return True
    return False


def _whose(deployed: tuple[str, str, str] | None) -> str:
    if deployed is None:
        return "without a deployment in force"
    number, licensee, site = deployed
    return f"license {number} of {licensee}, {site}"
