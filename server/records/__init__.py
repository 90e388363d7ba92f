"""What is on record, as plain values: parties, licenses, sites, deployments, shipments, windows. No I/O.

docs/protocol.md §14 is the specification.
"""
