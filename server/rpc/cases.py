"""CaseService: cases, their stories, and what people do to them (docs/protocol.md §15).

Who may call stands in access.py; whoever is limited to a jurisdiction sees and works its cases alone (RC11).
"""

import re
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from trigpoint.v1 import cases_pb2, cases_pb2_grpc, device_pb2, reason_pb2

from server.records.names import site_name
from server.rpc.access import current_peer, visible_jurisdiction
from server.rpc.case_export import Exports
from server.rpc.convert import timestamp_to_proto
from server.rpc.convert_records import device_name, pdi_from_name
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.filters import named_value, parse_terms, refused_filter
from server.rpc.handlers import Context
from server.rpc.pages import page_size, read_token, write_token
from server.rpc.reading import note_read
from server.rpc.reasons import read_reason
from server.store.case_door import CaseDoor
from server.store.case_types import (
    CaseAction,
    CaseCursor,
    CaseDevice,
    CaseDeviceCursor,
    CaseEntry,
    CaseEvent,
    CaseFilter,
    CaseRecord,
    CaseRef,
    CaseState,
    CaseWork,
)
from server.store.reads import ReadDoor
from server.times import micros, moment
from verifier.errors import Reason
from verifier.units import Pdi
from verifier.verdict import Severity

MAX_WORKED = 1_000
MAX_NOTE = 2_000
MAX_ASSIGNEE = 200
FIELDS = ("state", "event", "severity", "licensee", "license", "site", "assignee", "device")

_NAME = re.compile(r"cases/([1-9][0-9]{0,17})")
_ETAG = re.compile(r"[1-9][0-9]{0,17}")
_PDI = re.compile(r"[0-9a-f]{16}")
_CURSOR = struct.Struct(">Bqq")
_DEVICE_CURSOR = struct.Struct(">8sIq")
_NEEDS_TEXT = frozenset({CaseAction.NOTE, CaseAction.RESOLVE, CaseAction.REOPEN})


class CaseServicer(cases_pb2_grpc.CaseServiceServicer):
    """Serves cases.

    Args:
        cases: Where they are kept.
        clock: Returns the current time, aware.
        export: Serves bundles.
        reads: Where it is written down who was shown where devices are.
    """

    def __init__(
        self,
        cases: CaseDoor,
        clock: Callable[[], datetime],
        export: Exports,
        *,
        reads: ReadDoor,
    ) -> None:
        self._cases = cases
        self._reads = reads
        self._clock = clock
        self._export = export

    async def GetCase(  # noqa: N802 - the schema's name
        self, request: cases_pb2.GetCaseRequest, _context: Context
    ) -> cases_pb2.GetCaseResponse:
        """Return one case with its story."""
        found = await self._cases.get(_number(request.name, "name"), jurisdiction=visible_jurisdiction())
        if found is None:
            raise NotFoundError(request.name)
        # docs/protocol.md K2: a story tells where devices were.
        await note_read(self._reads, "GetCase", request.name, found.case.devices, self._clock())
        story = map(_entry_to_proto, found.entries)
        return cases_pb2.GetCaseResponse(case=case_to_proto(found.case), story=story)

    async def ListCases(  # noqa: N802 - the schema's name
        self, request: cases_pb2.ListCasesRequest, _context: Context
    ) -> cases_pb2.ListCasesResponse:
        """Return a page, the gravest first, then the oldest."""
        chosen = _filter(request.filter)
        size = page_size(request.page_size)
        listed = f"cases {chosen!r}"
        token = read_token(listed, request.page_token)
        page = await self._cases.list(chosen, after=None if token is None else _cursor(token), limit=size)
        return cases_pb2.ListCasesResponse(
            cases=map(case_to_proto, page.cases),
            next_page_token=write_token(listed, _after(page.cases[-1])) if page.more else "",
            total_size=page.total,
        )

    async def ListCaseDevices(  # noqa: N802 - the schema's name
        self, request: cases_pb2.ListCaseDevicesRequest, _context: Context
    ) -> cases_pb2.ListCaseDevicesResponse:
        """Return a page of a case's findings, in the order of PDIs."""
        number = _number(request.name, "name")
        size = page_size(request.page_size)
        listed = f"devices of {request.name}"
        token = read_token(listed, request.page_token)
        after = None if token is None else _device_cursor(token)
        page = await self._cases.list_devices(number, jurisdiction=visible_jurisdiction(), after=after, limit=size)
        if page is None:
            raise NotFoundError(request.name)
        shown = len({device.pdi for device in page.devices})
        await note_read(self._reads, "ListCaseDevices", request.name, shown, self._clock())
        return cases_pb2.ListCaseDevicesResponse(
            devices=map(_device_to_proto, page.devices),
            next_page_token=write_token(listed, _after_device(page.devices[-1])) if page.more else "",
        )

    async def WorkCases(  # noqa: N802 - the schema's name
        self, request: cases_pb2.WorkCasesRequest, _context: Context
    ) -> cases_pb2.WorkCasesResponse:
        """Do one thing to cases, all or none."""
        refs, work = _refs(request.cases), _work(request)
        worked = await self._cases.work(
            refs, work, current_peer().name, self._clock(), jurisdiction=visible_jurisdiction()
        )
        return cases_pb2.WorkCasesResponse(cases=map(case_to_proto, worked))

    async def ExportCase(  # noqa: N802 - the schema's name
        self, request: cases_pb2.ExportCaseRequest, _context: Context
    ) -> AsyncIterator[cases_pb2.ExportCaseResponse]:
        """Yield the pieces of a bundle (docs/protocol.md §18)."""
        number = _number(request.name, "name")
        async for response in self._export.pieces(number, request, self._clock()):
            yield response


def case_to_proto(case: CaseRecord) -> cases_pb2.Case:
    """Write a case."""
    message = cases_pb2.Case(
        name=f"cases/{case.number}",
        etag=str(case.revision),
        event=cases_pb2.CaseEvent.Value(f"CASE_EVENT_{case.event.name}"),
        state=cases_pb2.CaseState.Value(f"CASE_STATE_{case.state.name}"),
        severity=device_pb2.Severity.Value(f"SEVERITY_{case.severity.name}"),
        title=case.title,
        licensee=case.licensee,
        license_number=case.license_number,
        site=site_name(case.license_number, case.site_id) if case.site_id else "",
        assignee=case.assignee,
        open_time=timestamp_to_proto(case.opened_at),
        change_time=timestamp_to_proto(case.changed_at),
        resolution=case.resolution,
        device_count=case.devices,
        open_device_count=case.devices_open,
    )
    if case.quiet_since is not None:
        message.quiet_since.CopyFrom(timestamp_to_proto(case.quiet_since))
    if case.resolved_at is not None:
        message.resolve_time.CopyFrom(timestamp_to_proto(case.resolved_at))
    return message


def _entry_to_proto(entry: CaseEntry) -> cases_pb2.CaseEntry:
    kind = cases_pb2.CaseEntryKind.Value(f"CASE_ENTRY_KIND_{entry.kind.name}")
    return cases_pb2.CaseEntry(time=timestamp_to_proto(entry.at), by=entry.by, kind=kind, text=entry.text)


def _device_to_proto(device: CaseDevice) -> cases_pb2.CaseDevice:
    message = cases_pb2.CaseDevice(
        device=device_name(device.pdi),
        reason=reason_pb2.Reason.Value(f"REASON_{device.reason.name}"),
        open_time=timestamp_to_proto(device.opened_at),
        detail=device.detail,
    )
    if device.ended_at is not None:
        message.end_time.CopyFrom(timestamp_to_proto(device.ended_at))
    return message


def _number(name: str, field: str) -> int:
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(field, "a case is named cases/ and its number")
    return int(match[1])


def _filter(text: str) -> CaseFilter:
    values = parse_terms(text, FIELDS)
    device = values.get("device")
    if device is not None and not _PDI.fullmatch(device.removeprefix("devices/")):
        raise refused_filter("a device is its PDI as 16 lower-case hex digits")
    return CaseFilter(
        state=named_value("state", CaseState, "CASE_STATE_", values.get("state")),
        event=named_value("event", CaseEvent, "CASE_EVENT_", values.get("event")),
        severity=named_value("severity", Severity, "SEVERITY_", values.get("severity")),
        licensee=values.get("licensee"),
        license_number=values.get("license"),
        site_id=values.get("site"),
        assignee=values.get("assignee"),
        device=None if device is None else pdi_from_name(f"devices/{device.removeprefix('devices/')}", "filter"),
        jurisdiction=visible_jurisdiction(),
    )


def _refs(given: Sequence[cases_pb2.CaseRef]) -> list[CaseRef]:
    if not 1 <= len(given) <= MAX_WORKED:
        raise InvalidArgumentError("cases", f"1 to {MAX_WORKED:,} cases")
    refs: dict[int, CaseRef] = {}
    for at, ref in enumerate(given):
        number = _number(ref.name, f"cases[{at}].name")
        if number in refs:
            raise InvalidArgumentError(f"cases[{at}].name", f"{ref.name} is given twice")
        if ref.etag and not _ETAG.fullmatch(ref.etag):
            raise InvalidArgumentError(f"cases[{at}].etag", "an etag of a case, or empty for whatever stands")
        refs[number] = CaseRef(number, int(ref.etag) if ref.etag else None)
    return list(refs.values())


def _work(request: cases_pb2.WorkCasesRequest) -> CaseWork:
    try:
        action = CaseAction(request.action)
    except ValueError:
        raise InvalidArgumentError("action", "one of the actions of CaseAction") from None
    text = read_reason(request.text, "text", least=1 if action in _NEEDS_TEXT else 0, most=MAX_NOTE)
    assignee = read_reason(request.assignee, "assignee", least=0, most=MAX_ASSIGNEE)
    if assignee and action is not CaseAction.ASSIGN:
        raise InvalidArgumentError("assignee", "goes with ASSIGN alone")
    if request.accept_risk and action is not CaseAction.RESOLVE:
        raise InvalidArgumentError("accept_risk", "goes with RESOLVE alone")
    return CaseWork(action, text, assignee, accept_risk=request.accept_risk)


def _after(case: CaseRecord) -> bytes:
    return _CURSOR.pack(int(case.severity), micros(case.opened_at), case.number)


def _cursor(token: bytes) -> CaseCursor:
    try:
        severity, opened_at, number = _CURSOR.unpack(token)
        return CaseCursor(Severity(severity), moment(opened_at), number)
    except (struct.error, ValueError, OverflowError) as error:
        raise InvalidArgumentError("page_token", "not a token of this service") from error


def _after_device(device: CaseDevice) -> bytes:
    return _DEVICE_CURSOR.pack(device.pdi, int(device.reason), micros(device.opened_at))


def _device_cursor(token: bytes) -> CaseDeviceCursor:
    try:
        pdi, reason, opened_at = _DEVICE_CURSOR.unpack(token)
        return CaseDeviceCursor(Pdi(pdi), Reason(reason), moment(opened_at))
    except (struct.error, ValueError, OverflowError) as error:
        raise InvalidArgumentError("page_token", "not a token of this service") from error
