"""Errors to gRPC status: the one place. A status means that the server could not decide (docs/protocol.md A5).

Every status carries `google.rpc.ErrorInfo`. A caller's mistake names its field, a store fault is UNAVAILABLE, and what
nobody foresaw is INTERNAL: logged once, and nothing of it shown to the caller.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Never

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from server.desk.bundle_file import BundleTooLargeError
from server.desk.journal_audits import AuditFailedError, AuditRunningError
from server.intake.audit_stream import NotRegisteredError
from server.intake.pipeline import BusyError
from server.intake.stream import StoppingError
from server.rpc.errors import InvalidArgumentError, NotFoundError
from server.rpc.handlers import Context, Continuation, Handler, surround
from server.store.case_types import CaseStateError
from server.store.errors import (
    ChangeClosedError,
    FourEyesError,
    HitsOpenError,
    RecordConflictError,
    RecordNotFoundError,
    StaleRevisionError,
    StoreUnavailableError,
)
from server.store.exhibit_rows import ExhibitStateError
from server.store.journal_past import PastLostError
from server.store.journal_types import RowsAlteredError, RowsNotSealedError
from server.telemetry import Telemetry

DOMAIN = "trigpoint.dev"
RETRY_AFTER_S = 1.0
PAST_LOST_RETRY_S = 60.0


async def abort(
    context: Context, code: grpc.StatusCode, reason: str, message: str, *details: Message, **metadata: str
) -> Never:
    """End the call with a status. `reason` is UPPER_SNAKE_CASE and stable; `metadata` is what a program may read."""
    status = Status(code=Code.Value(code.name), message=message)
    for detail in (ErrorInfo(domain=DOMAIN, reason=reason, metadata=metadata), *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    await context.abort(code, message, (("grpc-status-details-bin", status.SerializeToString()),))
    raise AssertionError  # abort raises


def retry_after(seconds: float) -> RetryInfo:
    """Say when to come back."""
    delay = Duration()
    delay.FromMilliseconds(int(seconds * 1000))
    return RetryInfo(retry_delay=delay)


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """The outermost interceptor: whatever a handler raises leaves as a status.

    Args:
        telemetry: Counts faults.
        on_store_fault: Called for each store fault, before the caller hears of it.
    """

    def __init__(self, telemetry: Telemetry, on_store_fault: Callable[[], Awaitable[None]]) -> None:
        self._telemetry = telemetry
        self._on_store_fault = on_store_fault

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        """Put the mapping around the handler."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        return None if handler is None else surround(handler, lambda context: self._mapped(context, method))

    @contextlib.asynccontextmanager
    async def _mapped(self, context: Context, method: str) -> AsyncIterator[None]:
        try:
            yield
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort: nothing unforeseen may reach the caller
            if context.done():  # the caller left, and what it left behind failed on that
                structlog.get_logger().info("caller left", method=method)
                return
            answer = _answer_to(error)
            if answer is _INTERNAL:
                structlog.get_logger().exception("unforeseen error", method=method)
            elif isinstance(error, StoreUnavailableError):
                structlog.get_logger().exception("store fault", method=method)
                await self._on_store_fault()
            if answer.code in _FAULTS:
                self._telemetry.faults.labels(method, answer.code.name).inc()
            await abort(context, answer.code, answer.reason, answer.message, *answer.details, **answer.metadata)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a caller is told of an error."""

    code: grpc.StatusCode
    reason: str
    message: str
    details: tuple[Message, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


_INTERNAL = _Answer(grpc.StatusCode.INTERNAL, "INTERNAL", "internal error; the server's log says more")
_FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


_REFUSALS: Mapping[type[Exception], tuple[grpc.StatusCode, str]] = {
    NotFoundError: (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    RecordNotFoundError: (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    NotRegisteredError: (grpc.StatusCode.FAILED_PRECONDITION, "LANDMARK_NOT_REGISTERED"),
    StaleRevisionError: (grpc.StatusCode.ABORTED, "REVISION_STALE"),  # docs/protocol.md RC2
    FourEyesError: (grpc.StatusCode.PERMISSION_DENIED, "FOUR_EYES"),  # docs/protocol.md RC4
    ChangeClosedError: (grpc.StatusCode.FAILED_PRECONDITION, "CHANGE_CLOSED"),
    CaseStateError: (grpc.StatusCode.FAILED_PRECONDITION, "CASE_STATE"),  # docs/protocol.md CS4, K4
    ExhibitStateError: (grpc.StatusCode.FAILED_PRECONDITION, "EXHIBIT_STATE"),  # docs/protocol.md K4
    BundleTooLargeError: (grpc.StatusCode.FAILED_PRECONDITION, "BUNDLE_TOO_LARGE"),  # docs/protocol.md CB1
    HitsOpenError: (grpc.StatusCode.FAILED_PRECONDITION, "SCREENING_HITS_OPEN"),  # docs/protocol.md RC5
    RowsAlteredError: (grpc.StatusCode.FAILED_PRECONDITION, "ROW_ALTERED"),  # docs/protocol.md J9
    RowsNotSealedError: (grpc.StatusCode.ABORTED, "ROWS_NOT_SEALED"),
    AuditRunningError: (grpc.StatusCode.FAILED_PRECONDITION, "AUDIT_RUNNING"),
    AuditFailedError: (grpc.StatusCode.UNAVAILABLE, "AUDIT_FAILED"),
}
"""What is refused and says by itself why."""


def _answer_to(error: Exception) -> _Answer:
    code = grpc.StatusCode
    match error:
        case InvalidArgumentError() | RecordConflictError():
            message = str(error)
            described = error.message if isinstance(error, InvalidArgumentError) else message
            violation = BadRequest.FieldViolation(field=error.field, description=described)
            details = (BadRequest(field_violations=[violation]),)
            return _Answer(code.INVALID_ARGUMENT, "INVALID_ARGUMENT", message, details, {"field": error.field})
        case BusyError():
            details = (retry_after(error.retry_after_s),)
            return _Answer(code.RESOURCE_EXHAUSTED, "TOO_MUCH_AT_ONCE", str(error), details)
        case PastLostError():
            # Agents come again (docs/protocol.md A5); until a person has acted, they hear the same.
            message = "the journal does not extend a checkpoint that this server signed; its log says more"
            return _Answer(code.UNAVAILABLE, "PAST_LOST", message, (retry_after(PAST_LOST_RETRY_S),))
        case StoppingError() | StoreUnavailableError():
            stopping = isinstance(error, StoppingError)
            reason = "STOPPING" if stopping else "STORE_UNAVAILABLE"
            message = "this server is stopping" if stopping else "the store does not answer"
            return _Answer(code.UNAVAILABLE, reason, message, (retry_after(RETRY_AFTER_S),))
        case _:
            refusal = _REFUSALS.get(type(error))
            return _INTERNAL if refusal is None else _Answer(*refusal, str(error), metadata=_told_of(error))


def _told_of(error: Exception) -> Mapping[str, str]:
    """Return what a program may read of a refusal."""
    match error:
        case StaleRevisionError():
            return {"name": error.name, "revision": str(error.stands)}
        case NotFoundError() | RecordNotFoundError() | ExhibitStateError():
            return {"name": error.name}
        case NotRegisteredError():
            return {"name": f"landmarks/{error.landmark_id}"}
        case CaseStateError():
            return {"name": f"cases/{error.number}"}
        case HitsOpenError():
            return {"parties": ",".join(error.party_ids)}
        case _:
            return {}
