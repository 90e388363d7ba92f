"""A client to be killed: it attests for its hosts, and writes each attestation to standard output before it leaves.

Run as `python -m tests.durability.dying_client ADDRESS HOSTS FIRST_COUNT`. A line is an attestation's message in hex.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from trigpoint.v1 import attestation_pb2

from tests.durability import load
from tests.durability.load import Account
from tests.durability.servers import ServerProcess


class ToldAccount(Account):
    """An account that outlives its process."""

    def leave(self, attestations: Sequence[attestation_pb2.Attestation]) -> None:
        """Tell first, then enter."""
        for attestation in attestations:
            sys.stdout.write(f"{attestation.SerializeToString().hex()}\n")
        sys.stdout.flush()
        super().leave(attestations)


def main() -> None:
    """Attest until killed."""
    address, folder, first_count = sys.argv[1:]
    hosts = load.load_hosts(Path(folder))
    for gpu in (gpu for host in hosts for gpu in host.gpus):
        gpu.count = int(first_count)
    asyncio.run(load.run_load(ServerProcess(0, address), hosts, len(hosts) // 2, ToldAccount()))


if __name__ == "__main__":
    main()
