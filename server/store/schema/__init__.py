"""The tables. Portable SQL: nothing here is SQLite's alone, so that the same schema can stand in PostgreSQL.

Times are integer microseconds since 1970 UTC, identities are raw bytes, and primary keys begin with the device where
rows belong to one. Enumerations are stored as the numbers of `trigpoint.v1`, inside JSON by name.
"""

from server.store.schema.access import CHALLENGE_ORDERS, EXHIBITS, MATERIALS, READS
from server.store.schema.base import META, METADATA, SCHEMA_VERSION
from server.store.schema.cases import CASE_ENTRIES, CASE_FINDINGS, CASES
from server.store.schema.evidence import (
    ATTESTATIONS,
    CHAINS,
    DEVICE_VERDICTS,
    DEVICES,
    EVIDENCE,
    FINDINGS,
    REMOVALS,
    SERVICE_INTERVALS,
)
from server.store.schema.journal import (
    JOURNAL_CHECKPOINTS,
    JOURNAL_ENTRIES,
    JOURNAL_NODES,
    JOURNAL_SECRETS,
    JOURNAL_TABLES,
)
from server.store.schema.landmarks import (
    LANDMARK_DISTRUST,
    LANDMARK_RANGES,
    LANDMARK_REVISIONS,
    LANDMARK_UPTIME,
    LANDMARKS,
)
from server.store.schema.records import (
    CHANGE_FILES,
    CHANGES,
    DEPLOYMENTS,
    LICENSES,
    PARTIES,
    REVISIONS,
    SCREENED,
    SCREENING_ENTRIES,
    SCREENING_HITS,
    SCREENING_LISTS,
    SELECTORS,
    SHIPMENTS,
    SITES,
    WINDOWS,
)

__all__ = [
    "ATTESTATIONS",
    "CASES",
    "CASE_ENTRIES",
    "CASE_FINDINGS",
    "CHAINS",
    "CHALLENGE_ORDERS",
    "CHANGES",
    "CHANGE_FILES",
    "DEPLOYMENTS",
    "DEVICES",
    "DEVICE_VERDICTS",
    "EVIDENCE",
    "EXHIBITS",
    "FINDINGS",
    "JOURNAL_CHECKPOINTS",
    "JOURNAL_ENTRIES",
    "JOURNAL_NODES",
    "JOURNAL_SECRETS",
    "JOURNAL_TABLES",
    "LANDMARKS",
    "LANDMARK_DISTRUST",
    "LANDMARK_RANGES",
    "LANDMARK_REVISIONS",
    "LANDMARK_UPTIME",
    "LICENSES",
    "MATERIALS",
    "META",
    "METADATA",
    "PARTIES",
    "READS",
    "REMOVALS",
    "REVISIONS",
    "SCHEMA_VERSION",
    "SCREENED",
    "SCREENING_ENTRIES",
    "SCREENING_HITS",
    "SCREENING_LISTS",
    "SELECTORS",
    "SERVICE_INTERVALS",
    "SHIPMENTS",
    "SITES",
    "WINDOWS",
]
