"""The officers client."""
