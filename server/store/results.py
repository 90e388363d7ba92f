"""Attestation results as they were signed, and whom they tell of (docs/protocol.md §16)."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from server.store.rows import IN_FORCE
from server.store.schema import ATTESTATIONS, DEPLOYMENTS, DEVICES, LICENSES, SITES
from verifier.jws import unverified_parts
from verifier.result_reading import read_result
from verifier.units import Challenge, Pdi


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result.

    Attributes:
        challenge: Its attestation.
        token: The JWT.
        pdis: The devices that it tells of.
        jurisdictions: Of the sites that these are licensed to now.
    """

    challenge: Challenge
    token: str
    pdis: tuple[Pdi, ...]
    jurisdictions: frozenset[str]


def newest_result(connection: Connection, pdi: Pdi) -> StoredResult | None:
    """Return the result of the last attestation that shows a device to be authentic, None before the first."""
    challenge = connection.execute(select(DEVICES.c.last_attestation).where(DEVICES.c.pdi == pdi)).scalar()
    return None if challenge is None else find_result(connection, Challenge(challenge))


def find_result(connection: Connection, challenge: Challenge) -> StoredResult | None:
    """Return the result of one attestation, None when there is no such or it has none (docs/protocol.md EA1)."""
    token = connection.execute(select(ATTESTATIONS.c.result).where(ATTESTATIONS.c.challenge == challenge)).scalar()
    if not token:
        return None
    # This server signed it: what it names are the devices of the attestation (docs/protocol.md EA2).
    pdis = tuple(Pdi(bytes.fromhex(label)) for label in read_result(unverified_parts(token)[1]).submods)
    sites = select(SITES.c.jurisdiction).select_from(
        DEPLOYMENTS.join(LICENSES, LICENSES.c.number == DEPLOYMENTS.c.license_number).join(
            SITES,
            (SITES.c.license_number == DEPLOYMENTS.c.license_number) & (SITES.c.site_id == DEPLOYMENTS.c.site_id),
        )
    )
    found = connection.execute(sites.where(IN_FORCE, DEPLOYMENTS.c.device_pdi.in_(pdis)).distinct()).scalars()
    return StoredResult(challenge, token, pdis, frozenset(found))
