"""One attestation's way in: challenges, range orders, verification, commit."""
