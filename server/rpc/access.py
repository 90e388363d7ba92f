"""Who may call what.

The role is in the SPIFFE ID of the peer's certificate (server/spiffe.py); TLS has checked the certificate itself.
Every method of every service stands in `ROLES`; a method that is missing there is refused. With plaintext on loopback,
and then only, the role comes from the metadata `trigpoint-dev-role`, spelled as a SPIFFE path without its leading
slash: `officer/ann`, `agent/Example_20Cloud/rack-7`; a call without it is an officer's.
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
OFFICER = frozenset({Role.OFFICER})
LANDMARK = frozenset({Role.LANDMARK})
OFFICER_OR_LANDMARK = frozenset({Role.OFFICER, Role.LANDMARK})

ROLES: Mapping[str, frozenset[Role]] = {
    "/trigpoint.v1.AttestationService/Attest": frozenset({Role.AGENT}),
    "/trigpoint.v1.LicensingService/ImportDeployments": OFFICER,
    "/trigpoint.v1.LicensingService/GetDevice": OFFICER,
    "/trigpoint.v1.LicensingService/ListDevices": OFFICER,
    "/trigpoint.v1.LicensingService/WatchDevices": OFFICER,
    "/trigpoint.v1.LandmarkService/ImportLandmarks": OFFICER,
    "/trigpoint.v1.LandmarkService/GetLandmark": OFFICER_OR_LANDMARK,
    "/trigpoint.v1.LandmarkService/ListLandmarks": OFFICER_OR_LANDMARK,
    "/trigpoint.v1.LandmarkService/GetTicketKey": OFFICER_OR_LANDMARK,
    "/trigpoint.v1.LandmarkService/Prove": LANDMARK,
    "/trigpoint.v1.LandmarkService/ListLandmarkAudits": OFFICER_OR_LANDMARK,
    "/trigpoint.v1.LandmarkService/PlanLandmarks": OFFICER,
    "/grpc.health.v1.Health/Check": ANYONE,
    "/grpc.health.v1.Health/Watch": ANYONE,
    "/grpc.health.v1.Health/List": ANYONE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ANYONE,
}

_peer: contextvars.ContextVar[Peer] = contextvars.ContextVar("peer")


def current_peer() -> Peer:
    """Return who calls the handler that runs now."""
    return _peer.get()


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
        if peer.role not in ROLES.get(method, frozenset()):
            self._tell(method, "role", context, peer=peer.path)
            text = f"role {peer.role} may not call {method}"
            await abort(
                context,
                grpc.StatusCode.PERMISSION_DENIED,
                "ROLE_NOT_ALLOWED",
                text,
                role=peer.role.value,
                method=method,
            )
        token = _peer.set(peer)
        try:
            yield
        finally:
            _peer.reset(token)

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
