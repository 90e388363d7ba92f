"""Delays between tries, with a seeded generator."""

import random

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from agent.backoff import LONGEST_RETRY_DELAY_S, Backoff, retry_delay_s


class _Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        assert a == 0.0
        return b


def _error(trailing: dict[str, str | bytes]) -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*trailing.items())
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), metadata)


def _asking(seconds: int) -> bytes:
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds)))
    other = any_pb2.Any()
    other.Pack(error_details_pb2.ErrorInfo(reason="STORE_DOWN"))
    encoded: bytes = status_pb2.Status(code=14, details=[other, detail]).SerializeToString()
    return encoded


def test_bounds_double_up_to_the_longest_and_begin_anew() -> None:
    backoff = Backoff(1.0, 10.0, _Highest())
    assert [backoff.next_s() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_jitter_is_full() -> None:
    backoff = Backoff(4.0, 4.0, random.Random(7))
    delays = [backoff.next_s() for _ in range(2_000)]
    assert min(delays) < 0.1
    assert max(delays) > 3.9
    assert all(0.0 <= delay <= 4.0 for delay in delays)


def test_never_less_than_the_server_asks_for() -> None:
    backoff = Backoff(1.0, 10.0, random.Random(7))
    assert all(backoff.next_s(30.0) >= 30.0 for _ in range(50))


@pytest.mark.parametrize(
    ("details", "delay_s"),
    [(_asking(12), 12.0), (_asking(10**6), LONGEST_RETRY_DELAY_S), (_asking(-5), 0.0), (b"\xff\xff", 0.0), (b"", 0.0)],
)
def test_retry_info_is_read_from_the_status_details(details: bytes, delay_s: float) -> None:
    assert retry_delay_s(_error({"grpc-status-details-bin": details})) == delay_s


def test_no_details_ask_for_nothing() -> None:
    assert retry_delay_s(_error({"other": "text"})) == 0.0
