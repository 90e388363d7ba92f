"""Border data."""
