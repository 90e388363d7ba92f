"""Changes over RPC: what waits, who may decide, what becomes of a file that waits (docs/protocol.md RC4)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import change_pb2, landmark_pb2

from server.records.values import ByBoard, ByKey, DeploymentRecord, LicenseRecord, RecordWrite, Shipment
from server.rpc.pages import write_token
from server.rpc.rows import RowRules
from server.store import DeviceFilter
from server.store.record_types import ChangeFilter
from tests.licensing.licensing_world import NOW, World, country_row, names, problems, row_rules, serve, site_row
from tests.server.helpers import error_info
from tests.two_people import ANN, BOB, approve_all
from verifier.license import LicenseState
from verifier.units import DeviceKeyId, Pdi

OPEN, APPLIED, STALE = change_pb2.CHANGE_STATE_OPEN, change_pb2.CHANGE_STATE_APPLIED, change_pb2.CHANGE_STATE_STALE
Metadata = tuple[tuple[str, str], ...]


def as_(path: str) -> Metadata:
    return (("trigpoint-dev-role", path),)


ADA = as_("admin/ada")
APPROVE = change_pb2.ApproveChangesRequest
REJECT = change_pb2.RejectChangesRequest
WITHDRAW = change_pb2.WithdrawChangesRequest


async def refused(call: object, code: grpc.StatusCode, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert (caught.value.code(), error_info(caught.value).reason) == (code, reason)


async def proposed_file(world: World, *numbers: int) -> change_pb2.Change:
    """Have license D2 in force with device 1, and propose these devices for it."""
    await world.license_rows([country_row(1)])
    response = await world.send_rows([country_row(number) for number in numbers])
    assert response.change.state == OPEN
    return response.change


def landmark(name: str, **changes: object) -> landmark_pb2.Landmark:
    message = landmark_pb2.Landmark(
        name=f"landmarks/{name}",
        public_key=name.encode().ljust(32, b"\0"),
        operator=f"operator of {name}",
        hoster=f"hoster of {name}",
        latitude=50.1,
        longitude=8.7,
        endpoints=["192.0.2.1:1"],
        country="DE",
    )
    for field, value in changes.items():
        setattr(message, field, value)
    return message


async def listed(world: World, text: str = "", by: Metadata = ANN) -> list[str]:
    response = await world.changes.ListChanges(change_pb2.ListChangesRequest(filter=text), metadata=by)
    return [change.name for change in response.changes]


async def device_names(world: World) -> Sequence[str]:
    page = await world.store.list_devices(DeviceFilter())
    return [f"devices/{device.pdi.hex()}" for device in page.devices]


async def test_a_new_license_is_a_draft_and_needs_no_second_person(world: World) -> None:
    response = await world.send_rows([country_row(1)])
    assert (response.created_count, response.HasField("change")) == (1, False)
    assert await listed(world) == []
    assert await device_names(world) == []  # a draft licenses nothing (docs/protocol.md RC3)


async def test_a_file_on_a_license_in_force_waits_and_is_applied_when_another_approves(world: World) -> None:
    change = await proposed_file(world, 1, 2, 3)
    assert (change.name, change.proposed_by, change.reason) == ("changes/2", "plaintext", "import")
    assert change.summary
    assert await device_names(world) == names([1])
    (applied,) = await approve_all(world.channel)
    assert (applied.name, applied.state, applied.decided_by, applied.decision_reason) == (
        "changes/2",
        APPLIED,
        "bob",
        "seen",
    )
    assert await device_names(world) == names([1, 2, 3])
    # The same file again changes nothing, so nothing waits.
    again = await world.send_rows([country_row(number) for number in (1, 2, 3)])
    assert (again.unchanged_count, again.HasField("change")) == (3, False)


async def test_a_dry_run_on_a_license_in_force_proposes_nothing(world: World) -> None:
    await world.license_rows([country_row(1)])
    before = await listed(world)
    response = await world.send_rows([country_row(1), country_row(2)], validate_only=True)
    assert (response.created_count, response.unchanged_count, response.HasField("change")) == (1, 1, False)
    assert await listed(world) == before


@pytest.mark.parametrize("path", ["approver/plaintext", "approver/PlainText"])
async def test_nobody_approves_or_rejects_their_own(world: World, path: str) -> None:
    change = await proposed_file(world, 2)
    for call in (
        world.changes.ApproveChanges(APPROVE(names=[change.name]), metadata=as_(path)),
        world.changes.RejectChanges(REJECT(names=[change.name], reason="no"), metadata=as_(path)),
    ):
        await refused(call, grpc.StatusCode.PERMISSION_DENIED, "FOUR_EYES")
    assert await listed(world, 'state = "OPEN"') == [change.name]


async def test_who_proposed_withdraws_and_nobody_else(world: World) -> None:
    change = await proposed_file(world, 2)
    by_ann = world.changes.WithdrawChanges(WITHDRAW(names=[change.name]), metadata=ANN)
    await refused(by_ann, grpc.StatusCode.PERMISSION_DENIED, "FOUR_EYES")
    response = await world.changes.WithdrawChanges(WITHDRAW(names=[change.name], reason="mistaken"))
    (withdrawn,) = response.changes
    assert (withdrawn.state, withdrawn.decision_reason) == (change_pb2.CHANGE_STATE_WITHDRAWN, "mistaken")
    call = world.changes.ApproveChanges(APPROVE(names=[change.name]), metadata=BOB)
    await refused(call, grpc.StatusCode.FAILED_PRECONDITION, "CHANGE_CLOSED")
    assert await device_names(world) == names([1])


async def test_rejecting_needs_a_reason_and_is_final(world: World) -> None:
    change = await proposed_file(world, 2)
    call = world.changes.RejectChanges(REJECT(names=[change.name], reason="  "), metadata=BOB)
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    response = await world.changes.RejectChanges(REJECT(names=[change.name], reason="unknown site"), metadata=BOB)
    assert response.changes[0].state == change_pb2.CHANGE_STATE_REJECTED
    found = await world.changes.GetChange(change_pb2.GetChangeRequest(name=change.name))
    assert found.change == response.changes[0]
    assert found.change.decide_time.ToDatetime() == NOW.replace(tzinfo=None)


async def test_a_file_that_was_overtaken_is_stale_and_writes_nothing(world: World) -> None:
    await world.license_rows([country_row(1)])
    first = (await world.send_rows([country_row(1, cadence_s=7200), country_row(2, cadence_s=7200)])).change
    second = (await world.send_rows([country_row(1, cadence_s=60), country_row(3, cadence_s=60)])).change
    response = await world.changes.ApproveChanges(APPROVE(names=[first.name, second.name]), metadata=BOB)
    assert [change.state for change in response.changes] == [APPLIED, STALE]
    assert "D2" in response.changes[1].decision_reason
    assert await device_names(world) == names([1, 2])


async def test_a_file_that_can_no_longer_be_read_is_stale_with_its_first_error(world: World, tmp_path: Path) -> None:
    change = await proposed_file(world, 2, 3)
    # The server comes back with other border data: DE is no longer known.
    rules = RowRules(frozenset({"SG"}), row_rules().destinations)
    async with serve(tmp_path / "trigpoint.db", rules=rules) as later:
        response = await later.changes.ApproveChanges(APPROVE(names=[change.name]), metadata=BOB)
    assert response.changes[0].state == STALE
    assert response.changes[0].decision_reason.startswith("row 1: country is no code of a country")
    assert await device_names(world) == names([1])


async def test_landmarks_wait_and_their_summary_says_what_changes(world: World) -> None:
    request = landmark_pb2.ImportLandmarksRequest(landmarks=[landmark("b"), landmark("a")], reason="two new ones")
    change = (await world.landmarks.ImportLandmarks(request, metadata=ADA)).change
    assert (change.proposed_by, change.reason) == ("ada", "two new ones")
    assert list(change.summary) == [
        "landmarks/b: new, of operator of b, DE, 50.1000, 8.7000",
        "landmarks/a: new, of operator of a, DE, 50.1000, 8.7000",
    ]
    assert not await world.store.load_registered_landmarks()
    await approve_all(world.channel)
    assert len(await world.store.load_registered_landmarks()) == 2
    moved = landmark("a", latitude=48.1, public_key=bytes(range(32)), country="SG")
    request = landmark_pb2.ImportLandmarksRequest(landmarks=[moved, landmark("b")])
    change = (await world.landmarks.ImportLandmarks(request)).change
    assert list(change.summary) == [
        "landmarks/a: another public_key; position 50.1000, 8.7000 -> 48.1000, 8.7000; country DE -> SG"
    ]


async def test_landmarks_that_another_change_overtook_are_stale(world: World) -> None:
    await world.register([landmark("a")])
    for latitude in (48.0, 49.0):
        request = landmark_pb2.ImportLandmarksRequest(landmarks=[landmark("a", latitude=latitude)])
        assert (await world.landmarks.ImportLandmarks(request)).change.state == OPEN
    response = await world.changes.ApproveChanges(APPROVE(names=["changes/2", "changes/3"]), metadata=BOB)
    assert [change.state for change in response.changes] == [APPLIED, STALE]
    (record,) = await world.store.load_registered_landmarks()
    assert record.landmark.position.latitude == 48.0


async def test_an_admin_sees_landmarks_changes_alone(world: World) -> None:
    """docs/protocol.md RC10: of devices and licenses an admin sees nothing."""
    file = await proposed_file(world, 2)
    request = landmark_pb2.ImportLandmarksRequest(landmarks=[landmark("a")])
    theirs = (await world.landmarks.ImportLandmarks(request, metadata=ADA)).change
    assert await listed(world, by=ADA) == [theirs.name]
    assert await listed(world) == [theirs.name, file.name, "changes/1"]
    get = change_pb2.GetChangeRequest
    await refused(world.changes.GetChange(get(name=file.name), metadata=ADA), grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert (await world.changes.GetChange(get(name=theirs.name), metadata=ADA)).change == theirs


async def test_changes_are_filtered_and_paged(world: World) -> None:
    await proposed_file(world, 2)
    request = landmark_pb2.ImportLandmarksRequest(landmarks=[landmark("a")])
    await world.landmarks.ImportLandmarks(request, metadata=ADA)
    assert await listed(world, 'state = "OPEN"') == ["changes/3", "changes/2"]
    assert await listed(world, 'state = "CHANGE_STATE_APPLIED"') == ["changes/1"]
    assert await listed(world, 'by = "ada"') == ["changes/3"]
    assert await listed(world, 'licensee = "Example Cloud"') == ["changes/2", "changes/1"]
    assert await listed(world, 'licensee = "Other"') == []
    pages: list[str] = []
    token = ""
    while True:
        page = await world.changes.ListChanges(change_pb2.ListChangesRequest(page_size=2, page_token=token))
        pages.append(" ".join(change.name for change in page.changes))
        token = page.next_page_token
        if not token:
            break
    assert pages == ["changes/3 changes/2", "changes/1"]
    for bad in ('state = "NEW"', 'colour = "red"'):
        call = world.changes.ListChanges(change_pb2.ListChangesRequest(filter=bad))
        await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], grpc.StatusCode.INVALID_ARGUMENT),
        (["changes/1"] * 2, grpc.StatusCode.INVALID_ARGUMENT),
        ([f"changes/{n}" for n in range(1, 102)], grpc.StatusCode.INVALID_ARGUMENT),
        (["changes/01"], grpc.StatusCode.INVALID_ARGUMENT),
        (["change/1"], grpc.StatusCode.INVALID_ARGUMENT),
        (["changes/7"], grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_decisions_name_changes_that_are_there(world: World, asked: list[str], code: grpc.StatusCode) -> None:
    reason = {grpc.StatusCode.NOT_FOUND: "NOT_FOUND"}.get(code, "INVALID_ARGUMENT")
    await refused(world.changes.ApproveChanges(APPROVE(names=asked), metadata=BOB), code, reason)
    await refused(world.changes.RejectChanges(REJECT(names=asked, reason="no"), metadata=BOB), code, reason)
    await refused(world.changes.WithdrawChanges(WITHDRAW(names=asked), metadata=ANN), code, reason)


async def test_nothing_is_applied_when_one_of_the_names_is_wrong(world: World) -> None:
    change = await proposed_file(world, 2)
    call = world.changes.ApproveChanges(APPROVE(names=[change.name, "changes/9"]), metadata=BOB)
    await refused(call, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert await listed(world, 'state = "OPEN"') == [change.name]


async def test_nothing_is_applied_when_one_of_the_changes_is_the_approvers_own(world: World) -> None:
    change = await proposed_file(world, 2)
    stored = await world.store.records.get("licenses/D2")
    assert stored is not None
    held = stored.record
    assert isinstance(held, LicenseRecord)
    suspended = replace(held, terms=replace(held.terms, state=LicenseState.SUSPENDED))
    outcome = await world.store.records.write([RecordWrite(stored.name, suspended, None)], "Bob", "inquiry", NOW)
    assert outcome.change is not None
    call = world.changes.ApproveChanges(APPROVE(names=[change.name, outcome.change.name]), metadata=BOB)
    await refused(call, grpc.StatusCode.PERMISSION_DENIED, "FOUR_EYES")
    assert len(await listed(world, 'state = "OPEN"')) == 2


async def test_rows_of_keys_boards_and_shipments_are_kept(world: World) -> None:
    shipped = {"shipment": "s-1", "shipped_on": "2026-02-01", "activation_by": "2026-03-01"}
    rows = [
        site_row(1, eccn="4A090.a", license_quantity=64, **shipped),
        site_row(2, device_pdi=None, device_key_id="AB" * 32),
        site_row(3, device_pdi=None, board="4100000000000001", board_devices="8"),
    ]
    response = await world.send_rows(rows)
    assert (response.created_count, response.error_count) == (3, 0), response
    get = world.store.records.get
    by_key = await get(f"deployments/key-{'ab' * 32}")
    by_board = await get("deployments/board-4100000000000001")
    shipment, held, first = (
        await get("shipments/s-1"),
        await get("licenses/D1"),
        await get(f"deployments/{1:016x}"),
    )
    assert by_key is not None
    assert by_board is not None
    assert shipment is not None
    assert held is not None
    assert first is not None
    assert isinstance(by_key.record, DeploymentRecord)
    assert isinstance(by_board.record, DeploymentRecord)
    assert by_key.record.selector == ByKey(DeviceKeyId(bytes.fromhex("ab" * 32)))
    assert by_board.record.selector == ByBoard(Pdi(bytes.fromhex("4100000000000001")), 8)
    assert isinstance(first.record, DeploymentRecord)
    assert first.record.shipment_id == "s-1"
    assert isinstance(shipment.record, Shipment)
    assert (shipment.record.shipped_at.isoformat(), shipment.record.activation_by.isoformat()) == (
        "2026-02-01T00:00:00+00:00",
        "2026-03-02T00:00:00+00:00",  # a day is the whole of it
    )
    assert isinstance(held.record, LicenseRecord)
    assert (held.record.eccn, held.record.quantity) == ("4A090.a", 64)


async def test_rows_of_one_site_and_of_one_shipment_agree(world: World) -> None:
    shipped = {"shipment": "s-1", "shipped_on": "2026-02-01", "activation_by": "2026-03-01"}
    response = await world.send_rows([site_row(1), site_row(2, site_radius_km=30)])
    assert problems(response) == [(2, "site_latitude")]
    assert "tell site Frankfurt 1 in two ways" in response.errors[0].message
    response = await world.send_rows([site_row(1, **shipped), site_row(2, **{**shipped, "shipped_on": "2026-02-02"})])
    assert problems(response) == [(2, "shipped_on")]
    assert response.errors[0].message == "rows 1 and 2 of shipment s-1 differ in shipped_on"
    response = await world.send_rows([site_row(1, **shipped), country_row(2, **shipped)])
    assert problems(response) == [(2, "shipment")]


async def test_a_license_to_a_prohibited_destination_warns_and_stops_nothing(world: World) -> None:
    shenzhen = {"site_name": "Hall", "site_latitude": 22.54, "site_longitude": 114.06, "license_number": "D3"}
    rows = [site_row(1, **shenzhen), site_row(2, **shenzhen), country_row(3), site_row(4)]
    response = await world.send_rows(rows, validate_only=True)
    assert (response.created_count, response.error_count) == (4, 0)
    (warning,) = response.warnings  # one for both devices of the site
    assert (warning.row, warning.field, warning.value) == (1, "site_name", "Hall")
    assert warning.message.startswith("the site of license D3 lies in a prohibited destination (list ")
    many = [site_row(n, **{**shenzhen, "site_name": f"Hall {n}"}) for n in range(1, 20)]
    response = await world.send_rows(many, validate_only=True)
    assert [warning.row for warning in response.warnings] == list(range(1, 9))


@pytest.mark.parametrize("reason", ["x" * 501, "a\x07b"])
async def test_a_reason_that_cannot_stand_in_a_revision_is_refused(world: World, reason: str) -> None:
    request = landmark_pb2.ImportLandmarksRequest(landmarks=[landmark("a")], reason=reason)
    await refused(world.landmarks.ImportLandmarks(request), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")


async def test_an_admin_is_not_told_of_changes_that_they_may_not_see_by_a_refusal(world: World) -> None:
    """docs/protocol.md RC10: of devices and licenses they see nothing."""
    change = await proposed_file(world, 2)
    call = world.changes.WithdrawChanges(WITHDRAW(names=[change.name]), metadata=ADA)
    await refused(call, grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize("last", [b"9" * 30, b"-1", b"\xff"])
async def test_a_page_token_that_somebody_made_up_is_no_fault_of_the_server(world: World, last: bytes) -> None:
    token = write_token(f"changes {ChangeFilter()!r}", last)
    call = world.changes.ListChanges(change_pb2.ListChangesRequest(page_token=token), metadata=ANN)
    await refused(call, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
