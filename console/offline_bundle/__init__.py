"""Case bundles, checked offline with public keys only (docs/protocol.md §18): no server, no store, no network.

A room of the console that imports the verifier. `check.check_bundle` is the order of the steps; what is printed,
and how, is decided in console/bundle_command.py.
"""
