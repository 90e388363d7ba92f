"""Where devices and their evidence come from."""
