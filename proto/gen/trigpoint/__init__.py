"""Generated from proto/trigpoint by `make proto`."""
