"""Tables of what is on record, of changes that wait, and of screening (docs/protocol.md §14)."""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from server.store.schema.base import METADATA, revision_columns

PARTIES = Table(
    "parties",
    METADATA,
    Column("party_id", String(63), primary_key=True),
    Column("title", Text, nullable=False),
    Column("aliases", Text, nullable=False),
    Column("addresses", Text, nullable=False),
    Column("country", String(2), nullable=False),
    *revision_columns(),
)
"""`aliases`, `addresses`: JSON arrays of text."""


LICENSES = Table(
    "licenses",
    METADATA,
    Column("number", String(128), primary_key=True),
    Column("licensee", Text, nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_until", BigInteger, nullable=False),
    Column("presence", Integer, nullable=False),
    Column("cadence_us", BigInteger, nullable=False),
    Column("grace_us", BigInteger, nullable=False),
    Column("state", Integer, nullable=False),
    Column("tolerated_domains", Integer),
    Column("assurance", Integer, nullable=False),
    Column("surprises_per_day", Integer, nullable=False),
    Column("eccn", Text, nullable=False),
    Column("quantity", BigInteger),
    Column("parties", Text, nullable=False),
    Column("tightened_at", BigInteger, nullable=False),
    *revision_columns(),
    Index("licenses_by_licensee", "licensee"),
    Index("licenses_by_end", "valid_until"),
)
"""`parties`: JSON, [party id, part] in turn. `tightened_at`: when cadence + grace last became shorter, or when the
license came into force."""


SITES = Table(
    "sites",
    METADATA,
    Column("license_number", String(128), ForeignKey(LICENSES.c.number), nullable=False),
    Column("site_id", String(63), nullable=False),
    Column("title", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("jurisdiction", String(8), nullable=False),
    *revision_columns(),
    PrimaryKeyConstraint("license_number", "site_id"),
    Index("sites_by_jurisdiction", "jurisdiction"),
)
"""`region`: JSON (verifier/place/region_json.py)."""


SHIPMENTS = Table(
    "shipments",
    METADATA,
    Column("shipment_id", String(63), primary_key=True),
    Column("license_number", String(128), nullable=False),
    Column("site_id", String(63), nullable=False),
    Column("shipped_at", BigInteger, nullable=False),
    Column("activation_by", BigInteger, nullable=False),
    Column("reference", Text, nullable=False),
    *revision_columns(),
    ForeignKeyConstraint(["license_number", "site_id"], [SITES.c.license_number, SITES.c.site_id]),
    Index("shipments_by_license", "license_number", "site_id"),
    Index("shipments_by_end", "activation_by"),
)


DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("device_pdi", LargeBinary(8), primary_key=True),
    Column("license_number", String(128), nullable=False),
    Column("site_id", String(63), nullable=False),
    Column("shipment_id", String(63), ForeignKey(SHIPMENTS.c.shipment_id)),
    Column("swap", Text),
    Column("licensed_at", BigInteger, nullable=False),
    *revision_columns(),
    ForeignKeyConstraint(["license_number", "site_id"], [SITES.c.license_number, SITES.c.site_id]),
    Index("deployments_by_site", "license_number", "site_id", "device_pdi"),
    Index("deployments_by_shipment", "shipment_id"),
)
"""Devices by PDI. `licensed_at`: since when the device is deployed under this license, in force.

`swap`: JSON, {"switches": [PDI in hex], "until": microseconds}; NULL when no change of board is on record.
"""


SELECTORS = Table(
    "selectors",
    METADATA,
    Column("kind", Integer, nullable=False),
    Column("selector", LargeBinary(32), nullable=False),
    Column("license_number", String(128), nullable=False),
    Column("site_id", String(63), nullable=False),
    Column("shipment_id", String(63), ForeignKey(SHIPMENTS.c.shipment_id)),
    Column("devices", Integer, nullable=False),
    Column("adopted", Integer, nullable=False),
    *revision_columns(),
    PrimaryKeyConstraint("kind", "selector"),
    ForeignKeyConstraint(["license_number", "site_id"], [SITES.c.license_number, SITES.c.site_id]),
    Index("selectors_by_site", "license_number", "site_id"),
)
"""Deployments by device key (kind 1) or by board (kind 2, a switch's PDI).

How many devices they allow, and how many have reported and got a deployment of their own by them.
"""


WINDOWS = Table(
    "maintenance_windows",
    METADATA,
    Column("window_id", String(63), primary_key=True),
    Column("license_number", String(128), ForeignKey(LICENSES.c.number), nullable=False),
    Column("site_id", String(63), nullable=False),
    Column("starts_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    *revision_columns(),
    Index("windows_by_license", "license_number"),
    Index("windows_by_end", "ends_at"),
)
"""`site_id`: empty for all sites of the license."""


REVISIONS = Table(
    "revisions",
    METADATA,
    Column("kind", Integer, nullable=False),
    Column("name", String(512), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("record_number", BigInteger, nullable=False),
    Column("revised_at", BigInteger, nullable=False),
    Column("revised_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("change_id", BigInteger),
    Column("record", Text),
    PrimaryKeyConstraint("name", "revision"),
    Index("revisions_by_number", "record_number", "name"),
    Index("revisions_by_time", "revised_at"),
)
"""Every revision of every record, the current ones included, by name. What stood before is the revision before.

`record`: JSON (server/records/codec.py); NULL: the record ended. `change_id`: the change that two people made it by.
"""


CHANGES = Table(
    "changes",
    METADATA,
    Column("change_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Integer, nullable=False),
    Column("state", Integer, nullable=False),
    Column("summary", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("licensees", Text, nullable=False),
    Column("proposed_by", Text, nullable=False),
    Column("proposed_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", BigInteger),
    Column("decision_reason", Text, nullable=False),
    Index("changes_by_state", "state", "change_id"),
)
"""What waits for a second person, or did (changes.py). `payload`: JSON of the records to write, or of the import.

`licensees`: JSON array of the licensees that it concerns.
"""


CHANGE_FILES = Table(
    "change_files",
    METADATA,
    Column("change_id", BigInteger, ForeignKey(CHANGES.c.change_id), nullable=False),
    Column("piece", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("change_id", "piece"),
)
"""An import file that waits for a second person, in pieces, each compressed by zlib. Gone once it is decided."""


SCREENING_LISTS = Table(
    "screening_lists",
    METADATA,
    Column("version", String(128), primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("entries", Integer, nullable=False),
    Column("imported_at", BigInteger, nullable=False),
    Column("imported_by", Text, nullable=False),
)
"""Lists that are or were in force; the one with the highest `number` is."""


SCREENING_ENTRIES = Table(
    "screening_entries",
    METADATA,
    Column("entry_id", String(128), primary_key=True),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("alt_names", Text, nullable=False),
    Column("addresses", Text, nullable=False),
    Column("programs", Text, nullable=False),
    Column("remarks", Text, nullable=False),
    Column("source_url", Text, nullable=False),
)
"""The list in force, whole. `alt_names`, `addresses`, `programs`: JSON arrays of text."""


SCREENING_HITS = Table(
    "screening_hits",
    METADATA,
    Column("party_id", String(63), nullable=False),
    Column("entry_id", String(128), nullable=False),
    Column("score", Double, nullable=False),
    Column("party_title", Text, nullable=False),
    Column("entry_title", Text, nullable=False),
    Column("matched", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("list_version", String(128), nullable=False),
    Column("state", Integer, nullable=False),
    Column("found_at", BigInteger, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", BigInteger),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("party_id", "entry_id"),
    Index("screening_hits_by_state", "state", "party_id"),
)
"""`party_title`, `matched`: the two names that are alike. A decision stands while both and the entry's title stay."""


SCREENED = Table(
    "screened",
    METADATA,
    Column("party_id", String(63), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("list_number", BigInteger, nullable=False),
)
"""Which revision of a party was last screened, and against which list. A party whose row says less than what stands is
not screened, so that whoever writes parties has nothing to mark (screening.py)."""
