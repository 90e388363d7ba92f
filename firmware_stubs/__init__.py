"""The emulated HGX board: GPUs and switches that sign, range and, when told to, lie.

Written from docs/protocol.md §4 to §8 alone. It imports nothing else of this repository, so that an error in another
reader or writer of the same format cannot hide behind the same error here.
"""
