"""The Merkle tree of RFC 6962 §2.1: roots, inclusion and consistency proofs, and a tree that only grows.

A *node* (level, number) is the hash of the complete subtree over leaves `number << level` to
`(number + 1) << level`; level 0 holds the leaf hashes. Nodes never change once their leaves exist, so a store keeps
them and every root and proof is made of few of them.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""Root of a tree without leaves (RFC 6962 §2.1)."""

NodeSource = Callable[[int, int], bytes]
"""Returns the hash of the complete subtree at level and number."""

MAX_PATH = 64
"""Hashes in one proof; a tree of more than 2^63 leaves cannot be."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf's data."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two subtrees."""
    return sha256(b"\1" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    if not leaves:
        return EMPTY_ROOT
    # Level by level; an odd one out is carried up as it is, which is the tree of RFC 6962.
    level = list(leaves)
    while len(level) > 1:
        above = [sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


def nodes_of(leaves: Sequence[bytes]) -> NodeSource:
    """Return a source of nodes over leaf hashes in memory, for small trees."""
    return lambda level, number: root_of(leaves[number << level : (number + 1) << level])


def root_at(size: int, nodes: NodeSource) -> bytes:
    """Return the root of the tree of the first `size` leaves."""
    root = b""
    for level, number in _peaks(size):
        node = nodes(level, number)
        root = node_hash(node, root) if root else node
    return root or EMPTY_ROOT


def prove_inclusion(index: int, size: int, nodes: NodeSource) -> tuple[bytes, ...]:
    """Return the audit path of leaf `index` in the tree of `size` leaves (RFC 6962 §2.1.1).

    Raises:
        ValueError: There is no such leaf in that tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    return tuple(_path(index, 0, size, nodes))


def prove_consistency(old: int, new: int, nodes: NodeSource) -> tuple[bytes, ...]:
    """Return the proof that the tree of `old` leaves is the beginning of that of `new` (RFC 6962 §2.1.2).

    Raises:
        ValueError: It is not 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise ValueError(f"no proof leads from {old} to {new} leaves")
    return tuple(_subproof(old, 0, new, nodes, whole=True)) if 0 < old < new else ()


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Return whether the leaf hash stands at `index` in the tree with this root (RFC 9162 §2.1.3.2)."""
    return inclusion_root(leaf, index, size, path) == root


def inclusion_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that an audit path leads to; None when no leaf of such a tree has a path of this form."""
    if not 0 <= index < size or len(path) > MAX_PATH:
        return None
    number, last, node = index, size - 1, leaf
    for step in path:
        if last == 0 or len(step) != HASH_BYTES:
            return None
        if number & 1 or number == last:
            node = node_hash(step, node)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            node = node_hash(node, step)
        number >>= 1
        last >>= 1
    return node if last == 0 else None


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Return whether the tree of `old` leaves is the beginning of that of `new` (RFC 9162 §2.1.4.2)."""
    if not 0 <= old <= new or len(path) > MAX_PATH or any(len(step) != HASH_BYTES for step in path):
        return False
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    steps = list(path)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    return bool(steps) and _roots_of_subproof(old, new, steps) == (old_root, new_root)


def _roots_of_subproof(old: int, new: int, steps: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return the roots of both trees that a consistency proof leads to; None when it has too many or few steps."""
    number, last = old - 1, new - 1
    while number & 1:
        number >>= 1
        last >>= 1
    first = second = steps[0]
    for step in steps[1:]:
        if last == 0:
            return None
        if number & 1 or number == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while not number & 1 and number:
                number >>= 1
                last >>= 1
        else:
            second = node_hash(second, step)
        number >>= 1
        last >>= 1
    return (first, second) if last == 0 else None


class Frontier:
    """A tree that grows at its end: holds the peaks alone, and tells which nodes each new leaf completes."""

    def __init__(self, size: int, nodes: NodeSource) -> None:
        self._size = size
        # Peaks from the largest subtree to the smallest, each with its level.
        self._peaks = [(level, nodes(level, number)) for level, number in reversed(_peaks(size))]

    @property
    def size(self) -> int:
        """Leaves so far."""
        return self._size

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; return the nodes that it completes as (level, number, hash), the leaf's own first."""
        level, number, node = 0, self._size, leaf
        completed = [(level, number, node)]
        while self._peaks and self._peaks[-1][0] == level:
            node = node_hash(self._peaks.pop()[1], node)
            level, number = level + 1, number >> 1
            completed.append((level, number, node))
        self._peaks.append((level, node))
        self._size += 1
        return completed

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        root = b""
        for _, node in reversed(self._peaks):
            root = node_hash(node, root) if root else node
        return root or EMPTY_ROOT


def _peaks(size: int) -> list[tuple[int, int]]:
    """Return the complete subtrees that a tree is made of, the smallest and last one first."""
    return [(level, (size >> level) - 1) for level in range(size.bit_length()) if size >> level & 1]


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def _range(begin: int, end: int, nodes: NodeSource) -> bytes:
    """Return the hash over leaves `begin` to `end`, which is a subtree as RFC 6962 §2.1 cuts them."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return nodes(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(_range(begin, middle, nodes), _range(middle, end, nodes))


def _path(index: int, begin: int, end: int, nodes: NodeSource) -> Iterator[bytes]:
    if end - begin == 1:
        return
    middle = begin + _split(end - begin)
    if index < middle:
        yield from _path(index, begin, middle, nodes)
        yield _range(middle, end, nodes)
    else:
        yield from _path(index, middle, end, nodes)
        yield _range(begin, middle, nodes)


def _subproof(old: int, begin: int, end: int, nodes: NodeSource, *, whole: bool) -> Iterator[bytes]:
    """Yield SUBPROOF(m, D, b) of RFC 6962 §2.1.2; b is `whole`."""
    if old == end:
        if not whole:
            yield _range(begin, end, nodes)
        return
    middle = begin + _split(end - begin)
    if old <= middle:
        yield from _subproof(old, begin, middle, nodes, whole=whole)
        yield _range(middle, end, nodes)
    else:
        yield from _subproof(old, middle, end, nodes, whole=False)
        yield _range(begin, middle, nodes)
