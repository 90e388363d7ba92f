"""A witness: cosigns checkpoints of journals, each only when it extends the last one (docs/protocol.md J7)."""
