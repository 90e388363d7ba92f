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


class RecordNotFoundError(StoreError):
    """There is no such record or change.

    Attributes:
        name: Its resource name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not on record")
        self.name = name


class StaleRevisionError(StoreError):
    """A write is based on another revision than the one that stands. Nothing was written.

    Attributes:
        name: Of the record.
        stands: The revision that stands; 0: none.
    """

    def __init__(self, name: str, stands: int, message: str = "") -> None:
        standing = f"stands at revision {stands}" if stands else "is not on record"
        super().__init__(message or f"{name} {standing}, not at the one that the write is based on")
        self.name = name
        self.stands = stands


class FourEyesError(StoreError):
    """Who decides is who proposed; it takes another person (docs/protocol.md RC4). Nothing was changed."""


class ChangeClosedError(StoreError):
    """The change is decided already. Nothing was changed."""


class HitsOpenError(StoreError):
    """A license would come into force with a screening hit at one of its parties (docs/protocol.md RC5).

    Attributes:
        party_ids: Whose hits are open or confirmed, or who is not screened yet, sorted.
    """

    def __init__(self, party_ids: tuple[str, ...]) -> None:
        super().__init__(f"screening hits are open, confirmed or still being looked for at {', '.join(party_ids)}")
        self.party_ids = party_ids
