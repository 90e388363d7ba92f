"""ExportCase: a case as one file that anybody can check offline (docs/protocol.md §18)."""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

import structlog
from trigpoint.v1 import cases_pb2

from server.desk.bundle import CaseExporter, ExportOrder, OtherJurisdictionError
from server.rpc.access import current_peer, visible_jurisdiction
from server.rpc.errors import InvalidArgumentError
from server.rpc.reading import note_read
from server.rpc.reasons import read_reason
from server.store.reads import ReadDoor

MAX_WHY = 2_000

_COUNTRY = re.compile(r"[A-Z]{2}")


class Exports(Protocol):
    """What CaseService needs to serve bundles."""

    def pieces(
        self, number: int, request: cases_pb2.ExportCaseRequest, now: datetime
    ) -> AsyncIterator[cases_pb2.ExportCaseResponse]:
        """Yield the pieces of the bundle of a case."""


class CaseExport:
    """Serves bundles.

    Args:
        exporter: Makes them.
        reads: Where it is written down that somebody was shown where devices are.
    """

    def __init__(self, exporter: CaseExporter, reads: ReadDoor) -> None:
        self._exporter = exporter
        self._reads = reads

    async def pieces(
        self, number: int, request: cases_pb2.ExportCaseRequest, now: datetime
    ) -> AsyncIterator[cases_pb2.ExportCaseResponse]:
        """Yield the pieces of the bundle of a case."""
        sees = visible_jurisdiction()
        order = ExportOrder(
            number=number,
            by=current_peer().path,
            sees=sees,
            jurisdiction=_reader(request.jurisdiction, sees),
            reason=read_reason(request.reason, "reason", most=MAX_WHY),
        )
        try:
            async with self._exporter.exported(order, now) as bundle:
                # docs/protocol.md K2: it is on record before the first byte leaves.
                await note_read(self._reads, "ExportCase", request.name, bundle.devices, now)
                structlog.get_logger().info(
                    "case exported", case=request.name, by=order.by, jurisdiction=order.jurisdiction, why=order.reason
                )
                async for piece in bundle.pieces():
                    yield cases_pb2.ExportCaseResponse(data=piece)
        except OtherJurisdictionError as error:
            raise InvalidArgumentError("jurisdiction", str(error)) from error


def _reader(asked: str, sees: str | None) -> str | None:
    """Return whose reader the bundle is redacted for: nobody gets more than they may see (docs/protocol.md CB5)."""
    if asked and not _COUNTRY.fullmatch(asked):
        raise InvalidArgumentError("jurisdiction", "two capital letters, ISO 3166-1")
    if sees is not None and asked not in {"", sees}:
        raise InvalidArgumentError("jurisdiction", f"you see what is of {sees} alone")
    return asked or sees
