"""Metrics and log events. Labels are bounded: reasons, standings, method names; never a device, a host or a peer.

Times are absolute, so that a rule can compute an age even when the server hangs. The audit journal is another thing
than this log.
"""

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Telemetry:
    """The server's metrics, in a registry of their own, so that two servers in one process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the output, and nothing here asks when a counter was made
        self.registry = CollectorRegistry()
        registry = self.registry
        self.attestations = Counter(
            "trigpoint_attestations",
            "Attestations answered: accepted, partial (a report was refused), rejected",
            ["result"],
            registry=registry,
        )
        self.rejections = Counter(
            "trigpoint_rejections", "Refused attestations and reports", ["reason"], registry=registry
        )
        self.findings = Counter(
            "trigpoint_findings",
            "Findings in verdicts, still open ones counted each time",
            ["reason"],
            registry=registry,
        )
        self.void_ranges = Counter("trigpoint_void_ranges", "Ranges that were dropped", ["reason"], registry=registry)
        self.contradictions = Counter(
            "trigpoint_place_contradictions",
            "Fixes whose discs have no place in common: some landmark is wrong",
            registry=registry,
        )
        self.ranges_ordered = Counter(
            "trigpoint_ranges_ordered", "Ranging sessions that were ordered", registry=registry
        )
        self.challenges = Counter("trigpoint_challenges", "Challenges issued", registry=registry)
        self.challenges_lapsed = Counter(
            "trigpoint_challenges_lapsed", "Challenges whose life ended without an attestation", registry=registry
        )
        self.streams = Gauge("trigpoint_streams", "Open Attest streams", registry=registry)
        self.prove_streams = Gauge("trigpoint_prove_streams", "Open Prove streams of landmarks", registry=registry)
        self.landmark_ranges = Counter(
            "trigpoint_landmark_ranges",
            "Ordered ranges between landmarks: taken, or why not",
            ["result"],
            registry=registry,
        )
        self.landmarks = Gauge(
            "trigpoint_landmarks", "Landmarks by state, as of the last audit", ["state"], registry=registry
        )
        self.landmark_audit_timestamp = Gauge(
            "trigpoint_landmark_audit_timestamp_seconds",
            "When this node last looked whether landmarks contradict each other, Unix seconds",
            registry=registry,
        )
        self.bytes_in_flight = Gauge(
            "trigpoint_bytes_in_flight", "Bytes of evidence that are being worked on", registry=registry
        )
        self.verify_seconds = Histogram(
            "trigpoint_verify_seconds", "Verification of one attestation", buckets=_SECONDS, registry=registry
        )
        self.commit_seconds = Histogram(
            "trigpoint_commit_seconds", "From verdict to durable commit of a batch", buckets=_SECONDS, registry=registry
        )
        self.devices = Gauge(
            "trigpoint_devices", "Devices by standing, as of the last sweep", ["standing"], registry=registry
        )
        self.cases_open = Gauge(
            "trigpoint_cases_open", "Cases that are not resolved", ["event", "severity"], registry=registry
        )
        self.cases_told = Counter(
            "trigpoint_cases_told",
            "Cases that somebody was told of: opened, or back after they were over",
            ["event", "severity"],
            registry=registry,
        )
        self.sweep_timestamp = Gauge(
            "trigpoint_sweep_timestamp_seconds", "When the last sweep ended, Unix seconds", registry=registry
        )
        self.licenses_ending = Gauge(
            "trigpoint_licenses_ending",
            "Licenses in force that end within 30 days, as of the last sweep",
            registry=registry,
        )
        self.alive_timestamp = Gauge(
            "trigpoint_alive_timestamp_seconds",
            "When this node last wrote to the store, Unix seconds",
            registry=registry,
        )
        self.journal_size = Gauge(
            "trigpoint_journal_size", "Entries that the newest checkpoint covers", registry=registry
        )
        self.journal_checkpoint_timestamp = Gauge(
            "trigpoint_journal_checkpoint_timestamp",
            "When the newest checkpoint was signed, Unix seconds",
            registry=registry,
        )
        self.journal_cosigned_size = Gauge(
            "trigpoint_journal_cosigned_size",
            "Entries of the largest checkpoint that the witness cosigned for this process",
            ["witness"],
            registry=registry,
        )
        self.journal_witness_failures = Counter(
            "trigpoint_journal_witness_failures",
            "Checkpoints that a witness did not cosign, and why",
            ["witness", "reason"],
            registry=registry,
        )
        self.journal_past_lost = Gauge(
            "trigpoint_journal_past_lost",
            "1 once somebody showed a checkpoint of ours that the journal does not extend",
            registry=registry,
        )
        self.store_up = Gauge("trigpoint_store_up", "1 while the store takes writes", registry=registry)
        self.refusals = Counter(
            "trigpoint_refusals", "Calls refused before their handler", ["method", "cause"], registry=registry
        )
        self.faults = Counter(
            "trigpoint_faults", "Calls that failed by our fault", ["method", "code"], registry=registry
        )
        self.task_failures = Counter(
            "trigpoint_task_failures", "Failed runs of background tasks", ["task"], registry=registry
        )


class _Lossy(io.TextIOBase):
    """A stream that loses what it cannot write: a full disk under the log must not stop the service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logging(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send every log event to `stream` as one JSON object a line, those of libraries included.

    Process-wide; main.py calls it once.
    """
    sink = cast("TextIO", _Lossy(stream))
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.dict_tracebacks,
    ]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sink),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
