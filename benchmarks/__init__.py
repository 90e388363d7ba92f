"""Measurements of Trigpoint itself; nothing here is part of the service."""
