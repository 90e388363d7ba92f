"""Exports a case as one file that anybody can check offline (docs/protocol.md §18)."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.desk.bundle_file import Body, Earlier, Exported, write_body, write_header
from server.store.bundle_types import CaseRows
from server.store.errors import RecordNotFoundError, StoreUnavailableError
from server.store.journal_types import Proofs, RowsNotSealedError, SignedCheckpoint
from server.store.store import Store
from server.times import micros

PIECE_BYTES = 1 << 20
SPOOL_BYTES = 1 << 20
"""Bundles up to this size never touch the disk."""

AT_ONCE = 2
"""Exports that are made at the same moment; each may hold a hundred megabytes while it is."""

_TRIES = 8
"""Rows change while they are exported; each time the journal is sealed again."""


class Seals(Protocol):
    """What the exporter needs of `server.desk.sealer.Sealer`."""

    async def seal(self, *, patient: bool = False) -> SignedCheckpoint:
        """Sign what is durable now; `patient`: wait for every witness."""


class OtherJurisdictionError(Exception):
    """The case is not one of the jurisdiction that it was to be redacted for; the message says so."""


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What to export, for whom and why.

    Attributes:
        number: Of the case.
        by: Who asks, as `officer/ann`.
        sees: The only jurisdiction whose cases they see; None: all.
        jurisdiction: Whose reader it is redacted for (docs/protocol.md CB5); None: nobody's.
        reason: Why.
    """

    number: int
    by: str
    sees: str | None
    jurisdiction: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that is made.

    Attributes:
        header: Its header.
        body: Its body, on disk or in memory; closed with the context that it came from.
        devices: How many devices it shows.
    """

    header: bytes
    body: IO[bytes]
    devices: int

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the file, piece by piece."""
        await asyncio.to_thread(self.body.seek, 0)
        piece = self.header + await asyncio.to_thread(self.body.read, PIECE_BYTES - len(self.header))
        while piece:
            yield piece
            piece = await asyncio.to_thread(self.body.read, PIECE_BYTES)


class CaseExporter:
    """Makes bundles.

    Args:
        store: Where the rows and the journal are.
        sealer: Signs checkpoints, so that what was written last can be proven.
        key: The journal's.
        origin: The journal's name.
        jwks: The keys of results, a JWK set (docs/protocol.md EA5).
    """

    def __init__(self, store: Store, sealer: Seals, key: Ed25519PrivateKey, origin: str, jwks: bytes) -> None:
        self._store = store
        self._sealer = sealer
        self._key = key
        self._origin = origin
        self._jwks = jwks
        self._room = asyncio.Semaphore(AT_ONCE)

    @contextlib.asynccontextmanager
    async def exported(self, order: ExportOrder, now: datetime) -> AsyncIterator[Bundle]:
        """Make a bundle; it is gone when the context ends.

        Raises:
            RecordNotFoundError: The case does not exist, or is not the caller's to see.
            OtherJurisdictionError: It is not of the jurisdiction that it is to be redacted for.
            BundleTooLargeError: It does not fit into one file.
            StoreUnavailableError: The store does not answer, or its rows change too fast to be proven.
        """
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
            async with self._room:
                header, devices = await self._make(order, now, file)
            yield Bundle(header, file, devices)

    async def _make(self, order: ExportOrder, now: datetime, file: IO[bytes]) -> tuple[bytes, int]:
        # 1. Which rows, and which of them the reader is shown.
        rows = await self._rows(order)
        # 2. Proofs of them, to a checkpoint that covers them.
        proofs = await self._prove(rows)
        # 3. Proofs that it extends every checkpoint that a challenge names.
        earlier = [await self._earlier(named, proofs.size) for named in sorted(rows.checkpoints)]
        # 4. The file.
        body = Body(
            exported=Exported(micros(now), order.by, order.jurisdiction or "", order.reason),
            proofs=proofs,
            earlier=tuple(earlier),
            rows={row.key: row for row in rows.rows},
            materials=rows.materials,
            results=self._jwks,
            left_out=rows.left_out,
        )
        await asyncio.to_thread(write_body, body, file)
        name = f"cases/{order.number}"
        return await asyncio.to_thread(write_header, name, self._origin, self._key, file), rows.devices

    async def _rows(self, order: ExportOrder) -> CaseRows:
        found = await self._store.cases.get(order.number, jurisdiction=order.sees)
        if found is None:
            raise RecordNotFoundError(f"cases/{order.number}")
        if order.jurisdiction is not None and found.case.jurisdiction != order.jurisdiction:
            whose = found.case.jurisdiction or "the home authority alone"
            raise OtherJurisdictionError(f"the case is of {whose}: nobody of {order.jurisdiction} may see it")
        rows = await self._store.cases.bundle_rows(order.number, order.jurisdiction)
        if rows is None:
            raise RecordNotFoundError(f"cases/{order.number}")
        return rows

    async def _prove(self, rows: CaseRows) -> Proofs:
        keys = [row.key for row in rows.rows]
        for _ in range(_TRIES):
            await self._sealer.seal(patient=True)
            try:
                return await self._store.journal.prove_rows(keys, None)
            except RowsNotSealedError:
                continue
        raise StoreUnavailableError("rows of the case change faster than they can be proven")

    async def _earlier(self, named: bytes, size: int) -> Earlier:
        checkpoint = await self._store.journal.by_hash(named)
        if checkpoint is None:
            raise StoreUnavailableError(f"the journal lacks the checkpoint {named.hex()} that a challenge names")
        path, _, _ = await self._store.journal.consistency(checkpoint.size, size)
        return Earlier(checkpoint.note, path)
