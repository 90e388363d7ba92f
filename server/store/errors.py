"""Store faults. They can make a verdict late, never make one.

A fault of the database never leaves this room under another type.
`server/rpc/status.py` maps them to gRPC status.
"""


class StoreError(Exception):
    """Root of what the store raises."""


class StoreUnavailableError(StoreError):
    """The database did not do what was asked. Nothing of the call was written; trying again later may help."""


class StoreVersionError(StoreError):
    """The file was written by a newer release, or is not a Trigpoint store. Nothing was touched."""


class RecordConflictError(StoreError):
    """Imported records contradict each other or what stands. Nothing was imported.

    Attributes:
        field: The field that contradicts.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
