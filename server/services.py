"""The services of one server, put together from its parts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from trigpoint.v1 import (
    attestation_pb2,
    attestation_pb2_grpc,
    cases_pb2,
    cases_pb2_grpc,
    change_pb2,
    change_pb2_grpc,
    exhibit_pb2,
    exhibit_pb2_grpc,
    journal_pb2,
    journal_pb2_grpc,
    landmark_pb2,
    landmark_pb2_grpc,
    licensing_pb2,
    licensing_pb2_grpc,
    records_pb2,
    records_pb2_grpc,
    screening_pb2,
    screening_pb2_grpc,
)

from server.desk.bundle import CaseExporter
from server.desk.journal_audits import JournalAuditor
from server.desk.screening import ScreeningTask
from server.desk.watch import DeviceWatch
from server.intake.audit_stream import AuditIntake
from server.intake.stream import Intake
from server.intake.tickets import TicketOffice
from server.rpc.attestation import AttestationServicer
from server.rpc.audits import AuditLister
from server.rpc.case_export import CaseExport
from server.rpc.cases import CaseServicer
from server.rpc.changes import ChangeServicer
from server.rpc.destinations import Destinations
from server.rpc.exhibits import ExhibitServicer
from server.rpc.health import Health
from server.rpc.journal import JournalServicer
from server.rpc.landmarks import LandmarkServicer
from server.rpc.licensing import LicensingServicer
from server.rpc.plan import LandmarkPlanner
from server.rpc.records import RecordServicer
from server.rpc.rows import RowRules
from server.rpc.screening import ScreeningServicer
from server.store.journal_types import SignedCheckpoint
from server.store.store import Store
from verifier.place.policy import PlacePolicy

SERVICES = tuple(
    descriptor.full_name
    for file in (
        attestation_pb2,
        licensing_pb2,
        landmark_pb2,
        records_pb2,
        change_pb2,
        cases_pb2,
        exhibit_pb2,
        journal_pb2,
        screening_pb2,
    )
    for descriptor in file.DESCRIPTOR.services_by_name.values()
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the services are made of.

    Attributes:
        store: Where everything is kept.
        watch: Says when devices change.
        policy: What the operator decides about place.
        tickets: Signs tickets.
        intake: Takes attestations.
        proving: What landmarks' streams share.
        screening: Looks at parties that are new.
        health: Of this server.
        clock: Returns the time, aware.
        seal: Signs what is durable in the journal now.
        auditor: Runs audits of the journal.
        exporter: Makes case bundles.
        raw_days: How long raw evidence is kept in any case.
    """

    store: Store
    watch: DeviceWatch
    policy: PlacePolicy
    tickets: TicketOffice
    intake: Intake
    proving: AuditIntake
    screening: ScreeningTask
    health: Health
    clock: Callable[[], datetime]
    seal: Callable[[], Awaitable[SignedCheckpoint]]
    auditor: JournalAuditor
    exporter: CaseExporter
    raw_days: float


def add_services(server: grpc.aio.Server, parts: Parts) -> None:
    """Add every service, and the descriptions of all."""
    store, policy, clock = parts.store, parts.policy, parts.clock
    country_codes = policy.atlas.country_codes
    planner = LandmarkPlanner(store, policy, clock)
    rules = RowRules(country_codes | policy.atlas.groups.keys(), Destinations(policy))
    attestation_pb2_grpc.add_AttestationServiceServicer_to_server(AttestationServicer(parts.intake), server)
    licensing_pb2_grpc.add_LicensingServiceServicer_to_server(
        LicensingServicer(store, parts.watch, rules, parts.screening, clock), server
    )
    landmark_pb2_grpc.add_LandmarkServiceServicer_to_server(
        LandmarkServicer(
            store,
            parts.tickets.public_key,
            country_codes,
            clock,
            planner=planner,
            proving=parts.proving,
            audits=AuditLister(store, policy, clock),
        ),
        server,
    )
    records_pb2_grpc.add_RecordServiceServicer_to_server(
        RecordServicer(store, policy, planner, parts.screening, clock), server
    )
    cases_pb2_grpc.add_CaseServiceServicer_to_server(
        CaseServicer(store.cases, clock, CaseExport(parts.exporter, store.reads), reads=store.reads), server
    )
    exhibit_pb2_grpc.add_ExhibitServiceServicer_to_server(ExhibitServicer(store.exhibits, clock), server)
    journal_pb2_grpc.add_JournalServiceServicer_to_server(
        JournalServicer(store, parts.seal, parts.auditor, parts.raw_days, clock), server
    )
    change_pb2_grpc.add_ChangeServiceServicer_to_server(ChangeServicer(store, rules, parts.screening, clock), server)
    screening_pb2_grpc.add_ScreeningServiceServicer_to_server(
        ScreeningServicer(store.screening, parts.screening, clock), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(parts.health.servicer, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
