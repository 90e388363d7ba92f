"""Records, evidence and standings, durable. Small and concrete: one schema, one SQLite file.

`Store` is the door; everything that goes through it is a plain value of `server.store.types` or of the verifier.
"""

from server.store.errors import (
    ChangeClosedError,
    FourEyesError,
    HitsOpenError,
    RecordConflictError,
    RecordNotFoundError,
    StaleRevisionError,
    StoreError,
    StoreUnavailableError,
    StoreVersionError,
)
from server.store.record_types import (
    ChangeFilter,
    ChangeKind,
    ChangePage,
    ChangeRecord,
    ChangeState,
    RecordFilter,
    RecordPage,
    RevisionCursor,
    RevisionFilter,
    RevisionPage,
    RevisionRecord,
    StoredRecord,
    WriteOutcome,
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
    "ChangeClosedError",
    "ChangeFilter",
    "ChangeKind",
    "ChangePage",
    "ChangeRecord",
    "ChangeState",
    "Changes",
    "DeviceFilter",
    "DevicePage",
    "DeviceRecord",
    "FourEyesError",
    "HitsOpenError",
    "ImportCounts",
    "LandmarkRecord",
    "OpenFinding",
    "RecordConflictError",
    "RecordFilter",
    "RecordNotFoundError",
    "RecordPage",
    "RevisionCursor",
    "RevisionFilter",
    "RevisionPage",
    "RevisionRecord",
    "StaleRevisionError",
    "Store",
    "StoreError",
    "StoreUnavailableError",
    "StoreVersionError",
    "StoredRecord",
    "Unwritten",
    "WriteOutcome",
]
