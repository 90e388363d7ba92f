"""What takes two people (docs/protocol.md RC4), done by two: officer ann proposes, approver bob approves.

Over TLS who calls is in the channel's certificate; on plaintext these words say it, and over TLS they mean nothing.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from trigpoint.v1 import change_pb2, change_pb2_grpc, records_pb2, records_pb2_grpc

from server.records.values import LicenseRecord, RecordKind, RecordWrite
from server.store import Store
from server.store.record_types import RecordFilter
from server.store.types import ImportCounts
from verifier.license import Deployment, LicenseState

ANN = (("trigpoint-dev-role", "officer/ann"),)
BOB = (("trigpoint-dev-role", "approver/bob"),)


async def approve_all(approver: grpc.aio.Channel) -> list[change_pb2.Change]:
    """Approve every change that waits, the oldest first; at least one does."""
    stub = change_pb2_grpc.ChangeServiceStub(approver)
    waiting = await stub.ListChanges(change_pb2.ListChangesRequest(filter='state = "OPEN"'), metadata=BOB)
    names = [change.name for change in reversed(waiting.changes)]
    response = await stub.ApproveChanges(change_pb2.ApproveChangesRequest(names=names, reason="seen"), metadata=BOB)
    assert [change.state for change in response.changes] == [change_pb2.CHANGE_STATE_APPLIED] * len(names)
    return list(response.changes)


async def put_in_force(officer: grpc.aio.Channel, approver: grpc.aio.Channel | None = None) -> None:
    """Activate every draft; at least one is there. Without an approver's channel both use the officer's, plaintext."""
    stub = records_pb2_grpc.RecordServiceStub(officer)
    asked = records_pb2.ListRecordsRequest(
        kind=records_pb2.RECORD_KIND_LICENSE, filter='state = "DRAFT"', page_size=1_000
    )
    drafts = (await stub.ListRecords(asked, metadata=ANN)).records
    writes = [
        records_pb2.RecordWrite(
            record=records_pb2.Record(
                name=draft.name,
                etag=draft.etag,
                license=records_pb2.License(state=records_pb2.LICENSE_STATE_ACTIVE),
            ),
            update_mask=FieldMask(paths=["state"]),
        )
        for draft in drafts
    ]
    response = await stub.WriteRecords(
        records_pb2.WriteRecordsRequest(writes=writes, reason="licensed, says the test"), metadata=ANN
    )
    assert response.change.state == change_pb2.CHANGE_STATE_OPEN
    await approve_all(officer if approver is None else approver)


async def activate(store: Store, now: datetime) -> None:
    """Activate every draft in the store; at least one is there."""
    drafts = await store.records.list(RecordFilter(RecordKind.LICENSE, state=LicenseState.DRAFT), limit=1_000)
    writes: list[RecordWrite] = []
    for draft in drafts.records:
        assert isinstance(draft.record, LicenseRecord)
        terms = replace(draft.record.terms, state=LicenseState.ACTIVE)
        writes.append(RecordWrite(draft.name, replace(draft.record, terms=terms), draft.revision))
    outcome = await store.records.write(writes, "ann", "licensed, says the test", now)
    assert outcome.change is not None
    await store.records.approve(outcome.change.change_id, "bob", "seen", now)


async def deploy(store: Store, deployed: Iterable[Deployment], now: datetime) -> ImportCounts:
    """Put deployments on record and in force, straight in the store."""
    outcome = await store.import_deployments(deployed, now, state=LicenseState.ACTIVE, by="ann", reason="test")
    return outcome.counts
