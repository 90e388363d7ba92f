"""How long to wait before the next try: exponential with full jitter, never less than the server asks for.

Spec: docs/protocol.md A5; google.rpc.RetryInfo. It decides times only; who sleeps is the caller's business.
"""

import random

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

STATUS_DETAILS_KEY = "grpc-status-details-bin"
LONGEST_RETRY_DELAY_S = 3600.0  # a server that asks for more is misconfigured; look again after an hour


class Backoff:
    """Delays in seconds. `first_s` bounds the first delay, each further bound doubles, up to `longest_s`."""

    def __init__(self, first_s: float, longest_s: float, rng: random.Random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._rng = rng
        self._failures = 0

    def reset(self) -> None:
        """Begin anew; something went well."""
        self._failures = 0

    def next_s(self, asked_s: float = 0.0) -> float:
        """Return the next delay. `asked_s` is what the server asks for; jitter comes on top, so that agents spread."""
        bound_s = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return asked_s + self._rng.uniform(0.0, bound_s)


def retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """Return the delay that the status details ask for (google.rpc.RetryInfo), 0 when they ask for none."""
    for key, value in error.trailing_metadata() or ():
        if key != STATUS_DETAILS_KEY or not isinstance(value, bytes):
            continue
        try:
            status = status_pb2.Status.FromString(value)
            for detail in status.details:
                retry = error_details_pb2.RetryInfo()
                if detail.Unpack(retry):
                    asked_s = float(retry.retry_delay.ToNanoseconds()) / 1e9
                    return min(max(asked_s, 0.0), LONGEST_RETRY_DELAY_S)
        except DecodeError:
            return 0.0
    return 0.0
