"""Who may call what.

The role is in the SPIFFE ID of the peer's certificate (server/spiffe.py); TLS has checked the certificate itself, its
validity included. Every method of every service stands in `ROLES`; a method that is missing there is refused. Whoever
is limited to a jurisdiction may call what stands in `JURISDICTIONAL`, and there the handlers show them their part.
With plaintext on loopback, and then only, the role comes from the metadata `trigpoint-dev-role`, spelled as a SPIFFE
path without its leading slash: `officer/ann`, `viewer/DE/eva`, `agent/Example_20Cloud/rack-7`; a call without it is an
officer's.
"""

import contextlib
import contextvars
from collections.abc import AsyncIterator, Mapping

import grpc
import structlog
from cryptography import x509

from server.rpc.handlers import Context, Continuation, Handler, surround
from server.rpc.status import abort
from server.spiffe import Peer, Role, SpiffeError, parse_id, parse_path
from server.telemetry import Telemetry

DEV_ROLE_KEY = "trigpoint-dev-role"

ANYONE = frozenset(Role)
OFFICERS = frozenset({Role.OFFICER, Role.APPROVER})
READERS = OFFICERS | {Role.VIEWER, Role.AUDITOR}
AUDITORS = OFFICERS | {Role.AUDITOR}
PROPOSERS = OFFICERS | {Role.ADMIN}
JOURNAL_READERS = READERS | {Role.ADMIN}
LANDMARK_READERS = READERS | {Role.ADMIN, Role.LANDMARK}

ROLES: Mapping[str, frozenset[Role]] = {  # docs/protocol.md RC10
    "/trigpoint.v1.AttestationService/Attest": frozenset({Role.AGENT}),
    "/trigpoint.v1.LicensingService/ImportDeployments": OFFICERS,
    "/trigpoint.v1.LicensingService/GetDevice": READERS,
    "/trigpoint.v1.LicensingService/ListDevices": READERS,
    "/trigpoint.v1.LicensingService/WatchDevices": READERS,
    "/trigpoint.v1.LicensingService/GetResult": READERS,
    "/trigpoint.v1.LicensingService/ChallengeDevices": OFFICERS,
    "/trigpoint.v1.LandmarkService/ImportLandmarks": PROPOSERS,
    "/trigpoint.v1.LandmarkService/GetLandmark": LANDMARK_READERS,
    "/trigpoint.v1.LandmarkService/ListLandmarks": LANDMARK_READERS,
    "/trigpoint.v1.LandmarkService/GetTicketKey": LANDMARK_READERS,
    "/trigpoint.v1.LandmarkService/Prove": frozenset({Role.LANDMARK}),
    "/trigpoint.v1.LandmarkService/ListLandmarkAudits": LANDMARK_READERS,
    "/trigpoint.v1.LandmarkService/PlanLandmarks": OFFICERS,
    "/trigpoint.v1.RecordService/GetRecord": READERS,
    "/trigpoint.v1.RecordService/ListRecords": READERS,
    "/trigpoint.v1.RecordService/WriteRecords": OFFICERS,
    "/trigpoint.v1.RecordService/ListRevisions": AUDITORS,
    "/trigpoint.v1.RecordService/ExportDeployments": READERS,
    "/trigpoint.v1.ChangeService/GetChange": AUDITORS | {Role.ADMIN},
    "/trigpoint.v1.ChangeService/ListChanges": AUDITORS | {Role.ADMIN},
    "/trigpoint.v1.ChangeService/ApproveChanges": frozenset({Role.APPROVER}),
    "/trigpoint.v1.ChangeService/RejectChanges": frozenset({Role.APPROVER}),
    "/trigpoint.v1.ChangeService/WithdrawChanges": PROPOSERS,
    "/trigpoint.v1.CaseService/GetCase": READERS,
    "/trigpoint.v1.CaseService/ListCases": READERS,
    "/trigpoint.v1.CaseService/ListCaseDevices": READERS,
    "/trigpoint.v1.CaseService/WorkCases": OFFICERS,
    "/trigpoint.v1.CaseService/ExportCase": AUDITORS,
    "/trigpoint.v1.ExhibitService/AddExhibit": OFFICERS,
    "/trigpoint.v1.ExhibitService/ListExhibits": READERS,
    "/trigpoint.v1.ExhibitService/GetExhibit": READERS,
    "/trigpoint.v1.ExhibitService/AnswerExhibit": OFFICERS,
    "/trigpoint.v1.JournalService/GetCheckpoint": JOURNAL_READERS,
    "/trigpoint.v1.JournalService/GetConsistencyProof": JOURNAL_READERS,
    "/trigpoint.v1.JournalService/ProveRows": AUDITORS,
    "/trigpoint.v1.JournalService/AuditJournal": frozenset({Role.APPROVER, Role.AUDITOR, Role.ADMIN}),
    "/trigpoint.v1.JournalService/ListReads": frozenset({Role.APPROVER, Role.AUDITOR}),
    "/trigpoint.v1.JournalService/ApplyRetention": frozenset({Role.ADMIN}),
    "/trigpoint.v1.ScreeningService/ImportScreeningList": PROPOSERS,
    "/trigpoint.v1.ScreeningService/ListScreeningHits": READERS,
    "/trigpoint.v1.ScreeningService/DecideScreeningHits": OFFICERS,
    "/grpc.health.v1.Health/Check": ANYONE,
    "/grpc.health.v1.Health/Watch": ANYONE,
    "/grpc.health.v1.Health/List": ANYONE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYONE,
}

JURISDICTIONAL = frozenset(  # docs/protocol.md RC11
    {
        "/trigpoint.v1.LicensingService/GetDevice",
        "/trigpoint.v1.LicensingService/ListDevices",
        "/trigpoint.v1.LicensingService/WatchDevices",
        "/trigpoint.v1.LicensingService/GetResult",
        "/trigpoint.v1.RecordService/GetRecord",
        "/trigpoint.v1.RecordService/ListRecords",
        "/trigpoint.v1.RecordService/ExportDeployments",
        "/trigpoint.v1.CaseService/GetCase",
        "/trigpoint.v1.CaseService/ListCases",
        "/trigpoint.v1.CaseService/ListCaseDevices",
        "/trigpoint.v1.CaseService/WorkCases",
        "/trigpoint.v1.CaseService/ExportCase",
        "/trigpoint.v1.ExhibitService/AddExhibit",
        "/trigpoint.v1.ExhibitService/ListExhibits",
        "/trigpoint.v1.ExhibitService/GetExhibit",
        "/trigpoint.v1.ExhibitService/AnswerExhibit",
        "/trigpoint.v1.JournalService/GetCheckpoint",
        "/trigpoint.v1.JournalService/GetConsistencyProof",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)
"""What peers of one jurisdiction may call: each of these handlers asks `visible_jurisdiction`, or shows no record."""

_peer: contextvars.ContextVar[Peer] = contextvars.ContextVar("peer")


def current_peer() -> Peer:
    """Return who calls the handler that runs now."""
    return _peer.get()


def visible_jurisdiction() -> str | None:
    """Return the country whose sites alone the caller sees (docs/protocol.md RC11); None when they see all."""
    return current_peer().jurisdiction or None


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls that `ROLES` does not allow, and tells handlers who calls.

    Args:
        trust_domain: Of the peers' SPIFFE IDs; None with plaintext on loopback.
        telemetry: Counts refusals.
    """

    def __init__(self, trust_domain: str | None, telemetry: Telemetry) -> None:
        self._trust_domain = trust_domain
        self._telemetry = telemetry

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Put the check around the handler; the certificate is known only there."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        return None if handler is None else surround(handler, lambda context: self._admitted(context, method))

    @contextlib.asynccontextmanager
    async def _admitted(self, context: Context, method: str) -> AsyncIterator[None]:
        try:
            peer = self._identify(context)
        except SpiffeError as error:
            self._tell(method, "unidentified", context, detail=str(error))
            await abort(context, grpc.StatusCode.UNAUTHENTICATED, "PEER_UNIDENTIFIED", str(error))
        denied = self._denial(peer, method)
        if denied is not None:
            cause, reason, text = denied
            self._tell(method, cause, context, peer=peer.path)
            await abort(context, grpc.StatusCode.PERMISSION_DENIED, reason, text, role=peer.role.value, method=method)
        token = _peer.set(peer)
        try:
            yield
        finally:
            _peer.reset(token)

    @staticmethod
    def _denial(peer: Peer, method: str) -> tuple[str, str, str] | None:
        """Return the refusal's cause, reason and text; None when the peer may call."""
        if peer.role not in ROLES.get(method, frozenset()):
            return "role", "ROLE_NOT_ALLOWED", f"role {peer.role} may not call {method}"
        if peer.jurisdiction and method not in JURISDICTIONAL:
            text = f"a peer that is limited to {peer.jurisdiction} may not call {method}"
            return "jurisdiction", "JURISDICTION_LIMITED", text
        return None

    def _identify(self, context: Context) -> Peer:
        if self._trust_domain is None:
            values = [value for key, value in context.invocation_metadata() or () if key == DEV_ROLE_KEY]
            if not values:  # whoever is on this machine could say any role; most often it is somebody's console
                return Peer(Role.OFFICER, "plaintext")
            if len(values) != 1 or not isinstance(values[0], str):
                raise SpiffeError(f"this server takes one {DEV_ROLE_KEY} in the metadata")
            return parse_path(values[0])
        pems = list(context.auth_context().get("x509_pem_cert", ()))
        if len(pems) != 1:
            raise SpiffeError("the peer showed no certificate")
        return peer_of_certificate(pems[0], self._trust_domain)

    def _tell(self, method: str, cause: str, context: Context, **known: str) -> None:
        self._telemetry.refusals.labels(method, cause).inc()
        structlog.get_logger().warning("call refused", method=method, cause=cause, address=context.peer(), **known)


def peer_of_certificate(pem: bytes, trust_domain: str) -> Peer:
    """Read who a peer is from its certificate, which TLS has verified; raises `SpiffeError`.

    A certificate names exactly one URI (X.509-SVID §2).
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise SpiffeError("the certificate names no SPIFFE ID") from error
    if len(uris) != 1:
        raise SpiffeError(f"the certificate names {len(uris)} URIs and not one SPIFFE ID")
    return parse_id(uris[0], trust_domain)
