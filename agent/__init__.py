"""Runs beside accelerators."""
