"""Records, evidence and standings, durable. Small and concrete: one schema, one SQLite file.

`Store` is the door; everything that goes through it is a plain value of `server.store.types` or of the verifier.
"""

from server.store.errors import (
    RecordConflictError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from server.store.store import Store
from server.store.types import (
    AttestationRecord,
    Changes,
    DeviceFilter,
    DevicePage,
    DeviceRecord,
    ImportCounts,
    LandmarkRecord,
    OpenFinding,
    Unwritten,
)

__all__ = [
    "AttestationRecord",
    "Changes",
    "DeviceFilter",
    "DevicePage",
    "DeviceRecord",
    "ImportCounts",
    "LandmarkRecord",
    "OpenFinding",
    "RecordConflictError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "Unwritten",
]
