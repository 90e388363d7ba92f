"""The journal, as anybody can check it: Merkle tree, checkpoints and their signatures, what an item commits to.

docs/protocol.md §17. Pure, and without any of our other rooms, so that a witness can use it alone.
"""
