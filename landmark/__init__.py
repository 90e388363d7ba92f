"""The ranging daemon."""
