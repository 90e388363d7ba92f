"""What follows from attestations, or from their absence, after they are stored."""
