"""The emulated board."""
