"""LicensingService: deployments in, devices and how they stand out. Who may call stands in access.py."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import IO

from trigpoint.v1 import licensing_pb2, licensing_pb2_grpc

from server.desk.screening import ScreeningTask
from server.desk.watch import DeviceWatch
from server.rpc.access import current_peer, visible_jurisdiction
from server.rpc.convert import timestamp_to_proto
from server.rpc.convert_changes import change_to_proto
from server.rpc.convert_records import device_name, device_to_proto, pdi_from_name
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.filters import parse_filter
from server.rpc.handlers import Context
from server.rpc.imports import FileFormat, read_file
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.reading import note_read
from server.rpc.reasons import read_reason
from server.rpc.results import get_result
from server.rpc.rows import RowRules
from server.store import DeviceFilter, DeviceRecord, Store
from server.store.staging import Staging
from server.times import utc_now
from verifier.license import LicenseState
from verifier.units import Pdi

MAX_PIECE_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
"""A million rows have about 200 MB."""

SPOOL_BYTES = 1 << 20
"""Files up to this size never touch the disk."""

IMPORT_REASON = "import"
"""Stands in revisions when the caller says nothing else."""

_FORMATS: dict[int, FileFormat] = {licensing_pb2.IMPORT_FORMAT_CSV: "csv", licensing_pb2.IMPORT_FORMAT_JSON: "json"}

MAX_CHALLENGED = 1_000
MAX_CHALLENGE_REASON = 2_000

WATCH_PAGE = 500
"""Devices in one message of a watch."""


class LicensingServicer(licensing_pb2_grpc.LicensingServiceServicer):
    """Serves records of licensed devices.

    Args:
        store: Where they are kept.
        watch: Says when they change.
        rules: What rows of deployment files are checked against.
        screening: Looks at parties that are new.
        clock: Returns the current time, aware.
    """

    def __init__(
        self,
        store: Store,
        watch: DeviceWatch,
        rules: RowRules,
        screening: ScreeningTask,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._watch = watch
        self._rules = rules
        self._screening = screening
        self._clock = clock

    async def ImportDeployments(  # noqa: N802 - the schema's name
        self, requests: AsyncIterator[licensing_pb2.ImportDeploymentsRequest], _context: Context
    ) -> licensing_pb2.ImportDeploymentsResponse:
        """Import a file, or propose it: all rows or none. Errors in rows are an answer, not a status."""
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as file:
            options = await _receive(requests, file)
            reason = read_reason(options.reason, "options.reason", least=0) or IMPORT_REASON
            file.seek(0)
            with Staging() as staging:
                file_format = _FORMATS[options.format]
                reading = await asyncio.to_thread(read_file, file, file_format, self._rules, staging)
                response = licensing_pb2.ImportDeploymentsResponse(
                    row_count=reading.row_count,
                    errors=reading.errors,
                    error_count=reading.error_count,
                    validate_only=options.validate_only,
                    warnings=reading.warnings,
                )
                if reading.error_count:
                    return response
                by, now = current_peer().name, self._clock()
                outcome = await self._store.import_deployments(
                    staging.rows(),
                    now,
                    state=LicenseState.DRAFT,
                    by=by,
                    reason=reason,
                    validate_only=options.validate_only,
                )
                await self._screening.screen()  # a new licensee is a new party
                response.created_count = outcome.counts.created
                response.updated_count = outcome.counts.updated
                response.unchanged_count = outcome.counts.unchanged
                if outcome.touches_force and not options.validate_only:  # docs/protocol.md RC4
                    file.seek(0)
                    change = await self._store.records.propose_file(
                        _pieces(file), file_format, outcome.summary, outcome.licensees, by, reason, now, outcome.basis
                    )
                    response.change.CopyFrom(change_to_proto(change))
                return response

    async def GetDevice(  # noqa: N802 - the schema's name
        self, request: licensing_pb2.GetDeviceRequest, _context: Context
    ) -> licensing_pb2.GetDeviceResponse:
        """Return one device."""
        device = await self._store.get_device(pdi_from_name(request.name, "name"))
        visible = visible_jurisdiction()  # docs/protocol.md RC11: what lies elsewhere does not exist for the caller
        if device is None or (visible is not None and device.jurisdiction != visible):
            raise NotFoundError(request.name)
        await note_read(self._store.reads, "GetDevice", request.name, 1, self._clock())  # docs/protocol.md K2
        return licensing_pb2.GetDeviceResponse(device=device_to_proto(device))

    async def GetResult(  # noqa: N802 - the schema's name
        self, request: licensing_pb2.GetResultRequest, _context: Context
    ) -> licensing_pb2.GetResultResponse:
        """Return the newest result that tells of a device, or that of one attestation."""
        return await get_result(self._store, request, self._clock)

    async def ListDevices(  # noqa: N802 - the schema's name
        self, request: licensing_pb2.ListDevicesRequest, _context: Context
    ) -> licensing_pb2.ListDevicesResponse:
        """Return a page in the order of names."""
        chosen = _visible(parse_filter(request.filter))
        size = page_size(request.page_size)
        listed = f"devices {chosen!r}"
        after = read_token(listed, request.page_token)
        page = await self._store.list_devices(chosen, after=None if after is None else Pdi(after), limit=size)
        await note_read(self._store.reads, "ListDevices", request.filter, len(page.devices), self._clock())
        return licensing_pb2.ListDevicesResponse(
            devices=[device_to_proto(device) for device in page.devices],
            next_page_token=write_token(listed, page.devices[-1].pdi) if page.more else "",
            total_size=page.total,
        )

    async def WatchDevices(  # noqa: N802 - the schema's name
        self, request: licensing_pb2.WatchDevicesRequest, _context: Context
    ) -> AsyncIterator[licensing_pb2.WatchDevicesResponse]:
        """Yield what matches, then what changes, until the caller ends the stream.

        Who goes on after a break is told of every device that changed and does not match, since nobody knows what they
        were sent; to a peer of one jurisdiction that would name devices of others, so they begin anew.
        """
        chosen = _visible(parse_filter(request.filter))
        if request.after_change_number < 0:
            raise InvalidArgumentError("after_change_number", "must not be negative")
        after = 0 if chosen.jurisdiction is not None else request.after_change_number
        view = _View(chosen, resumed=after > 0)
        if not after:
            async for cursor, matching in self._standing(chosen):
                view.sent.update(device.pdi for device in matching)
                await note_read(self._store.reads, "WatchDevices", request.filter, len(matching), self._clock())
                yield self._watched(matching, (), cursor)
                after = cursor
        async with aclosing(self._watch.changes(after)) as feed:
            async for changes in feed:
                devices, left = view.sort(changes.devices)
                if devices:
                    await note_read(self._store.reads, "WatchDevices", request.filter, len(devices), self._clock())
                if devices or left:
                    yield self._watched(devices, left, changes.change_number)

    async def ChallengeDevices(  # noqa: N802 - the schema's name
        self, request: licensing_pb2.ChallengeDevicesRequest, _context: Context
    ) -> licensing_pb2.ChallengeDevicesResponse:
        """Propose to ask devices beyond what their licenses ask (docs/protocol.md K3)."""
        if not 1 <= len(request.devices) <= MAX_CHALLENGED:
            raise InvalidArgumentError("devices", f"1 to {MAX_CHALLENGED:,} devices")
        pdis = [pdi_from_name(name, f"devices[{at}]") for at, name in enumerate(request.devices)]
        if len(set(pdis)) != len(pdis):
            raise InvalidArgumentError("devices", "names a device twice")
        reason = read_reason(request.reason, "reason", most=MAX_CHALLENGE_REASON)
        change = await self._store.records.propose_challenges(pdis, current_peer().name, reason, self._clock())
        return licensing_pb2.ChallengeDevicesResponse(change=change.name)

    async def _standing(self, chosen: DeviceFilter) -> AsyncIterator[tuple[int, tuple[DeviceRecord, ...]]]:
        """Yield all that match, page by page, at least one page. The cursor comes with the last one, 0 before."""
        begun: int | None = None
        last: Pdi | None = None
        more = True
        while more:
            page = await self._store.list_devices(chosen, after=last, limit=WATCH_PAGE)
            # What changes while later pages are read has a higher number than the first page's, and is sent again.
            begun = page.change_number if begun is None else begun
            more = page.more
            last = page.devices[-1].pdi if page.devices else None
            yield (0 if more else begun), page.devices

    def _watched(
        self, devices: Iterable[DeviceRecord], left: Iterable[Pdi], change_number: int
    ) -> licensing_pb2.WatchDevicesResponse:
        return licensing_pb2.WatchDevicesResponse(
            devices=[device_to_proto(device) for device in devices],
            left=[device_name(pdi) for pdi in left],
            change_number=change_number,
            read_time=timestamp_to_proto(self._clock()),
        )


def _visible(chosen: DeviceFilter) -> DeviceFilter:
    """Return the filter for what the caller may see of it (docs/protocol.md RC11)."""
    visible = visible_jurisdiction()
    return chosen if visible is None else replace(chosen, jurisdiction=visible)


class _View:
    """What one watcher has been sent. One that goes on after a break may have been sent anything before it."""

    def __init__(self, chosen: DeviceFilter, *, resumed: bool) -> None:
        self._chosen = chosen
        self._resumed = resumed
        self._told_left: set[Pdi] = set()
        self.sent: set[Pdi] = set()

    def sort(self, changed: Iterable[DeviceRecord]) -> tuple[list[DeviceRecord], list[Pdi]]:
        """Return the changed devices that match, and those that the watcher holds and that match no longer."""
        devices: list[DeviceRecord] = []
        left: list[Pdi] = []
        for device in changed:
            if self._chosen.matches(device):
                devices.append(device)
                self.sent.add(device.pdi)
                self._told_left.discard(device.pdi)
            elif device.pdi in self.sent or (self._resumed and device.pdi not in self._told_left):
                left.append(device.pdi)
                self.sent.discard(device.pdi)
                self._told_left.add(device.pdi)
        return devices, left


async def _receive(
    requests: AsyncIterator[licensing_pb2.ImportDeploymentsRequest], file: IO[bytes]
) -> licensing_pb2.ImportOptions:
    """Write the pieces of a file and return the options that came first."""
    options: licensing_pb2.ImportOptions | None = None
    size = 0
    async for request in requests:
        kind = request.WhichOneof("message")
        if options is None:
            if kind != "options":
                raise InvalidArgumentError("options", "must be the first message")
            options = request.options
            if options.format not in _FORMATS:
                raise InvalidArgumentError("options.format", "must be CSV or JSON")
            continue
        if kind != "data":
            raise InvalidArgumentError("data", "only pieces of the file may follow the options")
        size += len(request.data)
        if len(request.data) > MAX_PIECE_BYTES or size > MAX_FILE_BYTES:
            raise InvalidArgumentError("data", f"at most {MAX_PIECE_BYTES} bytes a piece and {MAX_FILE_BYTES} in all")
        await asyncio.to_thread(file.write, request.data)
    if options is None:
        raise InvalidArgumentError("options", "must be the first message")
    return options


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yield what a file holds, piece by piece."""
    while piece := file.read(MAX_PIECE_BYTES):
        yield piece
