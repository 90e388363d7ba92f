"""Budgets that are checked before any cryptography. Each number stands beside its reason."""

from datetime import timedelta

CHALLENGE_LIFE = timedelta(seconds=60)
"""A stepwise ranging of a far board takes 5 to 15 s on real round trips; a minute leaves room and keeps evidence fresh
(docs/protocol.md CH2)."""

MAX_CLAIMS_BYTES = 65_536
"""64 ranges of at most 600 bytes each are 38 kB; the rest of a claims-set is under 2 kB."""

MAX_REPORTS = 64
"""An HGX board has 8 GPUs and 4 switches; five such boards in one host fit."""

MAX_REPORT_BYTES = 24_576
"""A real GPU report is 4,274 bytes; 128 log entries of 96 bytes add 12,288 (docs/protocol.md R4)."""

MAX_CERTIFICATE_BYTES = 4_096
"""Real certificates have 450 to 1,000 bytes."""

CHAIN_LENGTH = 5
"""docs/protocol.md I1."""

MAX_RANGES = 128
"""Sessions in one attestation. The device keeps its last 128 in the log, so more could not be checked (docs/protocol.md
R4)."""

MAX_RECEIPT_BYTES = 1_024
"""A receipt has about 330 bytes; it must fit one datagram (docs/protocol.md §7)."""

MAX_LOG_ENTRIES = 128
"""docs/protocol.md E6."""

MIN_ACCEPTED_ROUNDS = 8
"""Against noise: the minimum of eight round trips is steady; security needs one (docs/protocol.md R5)."""

MAX_ROUNDS = 64
"""The mask of rounds is 64 bits (docs/protocol.md R3, C4)."""

MAX_REFUSED_CHAINS = 4_096
"""A refusal is a few hundred bytes; whoever sends more bad chains than this pays for each with its own bytes."""

MAX_CACHED_CHAINS = 65_536
"""About 6 kB each as parsed: 400 MB for the GPUs and switches of 5,000 boards on one worker."""

MAX_RESULT_BYTES = 131_072
"""An attestation result. 64 devices with every finding are 100 kB as a compact token (docs/protocol.md §16)."""

MAX_JWKS_BYTES = 65_536
"""A key set. One key has 250 bytes; a server has at most eight."""
