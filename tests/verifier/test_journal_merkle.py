"""The tree against RFC 6962's published example tree, and against its recursive definitions written out again."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.journal import merkle

# The example tree of google/certificate-transparency, which every implementation of RFC 6962 is held against.
LEAVES = tuple(
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
)
ROOTS = tuple(
    bytes.fromhex(text)
    for text in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
)
A, B, C, D, E, F, G = (
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
)
INCLUSION = {  # (index, size): path
    (0, 1): (),
    (0, 8): (A, B, C),
    (5, 8): (D, E, G),
    (2, 3): (ROOTS[2].hex(),),
    (1, 5): (ROOTS[1].hex(), B, D),
}
CONSISTENCY = {(1, 1): (), (1, 8): (A, B, C), (6, 8): (F, E, G), (2, 5): (B, D)}
HASHES = tuple(map(merkle.leaf_hash, LEAVES))

MAX = 70


def hashes(count: int, kind: str = "leaf") -> list[bytes]:
    return [merkle.leaf_hash(f"{kind} {n}".encode()) for n in range(count)]


def split(count: int) -> int:
    """The largest power of two smaller than a count, by counting up."""
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def audit_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*audit_path(index, leaves[:k]), tree_hash(leaves[k:])]
    return [*audit_path(index - k, leaves[k:]), tree_hash(leaves[:k])]


def subproof(old: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 §2.1.2."""
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*subproof(old, leaves[:k], whole=whole), tree_hash(leaves[k:])]
    return [*subproof(old - k, leaves[k:], whole=False), tree_hash(leaves[:k])]


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_example_tree(size: int) -> None:
    assert merkle.root_of(HASHES[:size]) == ROOTS[size]
    assert merkle.root_at(size, merkle.nodes_of(HASHES)) == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_in_the_example_tree(index: int, size: int) -> None:
    path = tuple(map(bytes.fromhex, INCLUSION[index, size]))
    assert merkle.prove_inclusion(index, size, merkle.nodes_of(HASHES)) == path
    assert merkle.verify_inclusion(HASHES[index], index, size, path, ROOTS[size])


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_of_the_example_tree(old: int, new: int) -> None:
    path = tuple(map(bytes.fromhex, CONSISTENCY[old, new]))
    assert merkle.prove_consistency(old, new, merkle.nodes_of(HASHES)) == path
    assert merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], path)


def test_every_path_is_that_of_the_definition() -> None:
    leaves = hashes(MAX)
    nodes = merkle.nodes_of(leaves)
    for size in (1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, MAX):
        root = tree_hash(leaves[:size])
        assert merkle.root_at(size, nodes) == merkle.root_of(leaves[:size]) == root
        for index in range(size):
            path = audit_path(index, leaves[:size])
            assert list(merkle.prove_inclusion(index, size, nodes)) == path
            assert merkle.verify_inclusion(leaves[index], index, size, path, root)
            assert not merkle.verify_inclusion(merkle.leaf_hash(b"another"), index, size, path, root)


def test_every_consistency_proof_is_that_of_the_definition() -> None:
    leaves = hashes(40)
    nodes = merkle.nodes_of(leaves)
    roots = [tree_hash(leaves[:size]) for size in range(len(leaves) + 1)]
    for new in range(1, len(leaves) + 1):
        for old in range(1, new + 1):
            path = subproof(old, leaves[:new], whole=True)
            assert list(merkle.prove_consistency(old, new, nodes)) == path
            assert merkle.verify_consistency(old, new, roots[old], roots[new], path)
        assert merkle.prove_consistency(0, new, nodes) == ()
        assert merkle.verify_consistency(0, new, merkle.EMPTY_ROOT, roots[new], ())


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(1, MAX))
def test_no_other_leaf_place_size_root_or_path_is_proven(data: st.DataObject, size: int) -> None:
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.prove_inclusion(index, size, merkle.nodes_of(leaves))
    root = merkle.root_of(leaves)
    other = data.draw(st.integers(-2, size + 1).filter(lambda n: n != index))
    assert not merkle.verify_inclusion(leaves[index], other, size, path, root)
    assert not merkle.verify_inclusion(leaves[index], index, size, path, merkle.EMPTY_ROOT)
    assert not merkle.verify_inclusion(leaves[index], index, size, (*path, root), root)
    if path:
        at = data.draw(st.integers(0, len(path) - 1))
        bent = [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]
        assert not merkle.verify_inclusion(leaves[index], index, size, bent, root)
        assert not merkle.verify_inclusion(leaves[index], index, size, path[:-1], root)
        short = [*path[:at], path[at][:31], *path[at + 1 :]]
        assert not merkle.verify_inclusion(leaves[index], index, size, short, root)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(2, MAX))
def test_no_rewritten_past_is_consistent(data: st.DataObject, new: int) -> None:
    """Whatever leaf before `old` is another, no proof that the log could give leads from the old root to the new."""
    old = data.draw(st.integers(1, new - 1))
    at = data.draw(st.integers(0, old - 1))
    honest = hashes(new)
    forged = [*honest[:at], merkle.leaf_hash(b"slipped in"), *honest[at + 1 :]]
    old_root, new_root = merkle.root_of(honest[:old]), merkle.root_of(forged)
    for leaves in (honest, forged):
        path = merkle.prove_consistency(old, new, merkle.nodes_of(leaves))
        assert not merkle.verify_consistency(old, new, old_root, new_root, path)


@settings(deadline=None, max_examples=200)
@given(st.data(), st.integers(2, MAX))
def test_no_other_consistency_proof_holds(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new - 1))
    leaves = hashes(new)
    path = merkle.prove_consistency(old, new, merkle.nodes_of(leaves))
    roots = merkle.root_of(leaves[:old]), merkle.root_of(leaves)
    assert merkle.verify_consistency(old, new, *roots, path)
    at = data.draw(st.integers(0, len(path) - 1))
    bent = bytes([path[at][0] ^ 1]) + path[at][1:]
    for wrong in ([*path[:at], bent, *path[at + 1 :]], path[:-1], [*path, path[0]], [*path[:at], b"", *path[at + 1 :]]):
        assert not merkle.verify_consistency(old, new, *roots, wrong)
    assert not merkle.verify_consistency(old, new, roots[1], roots[0], path)
    for sizes in ((new, old), (-1, new), (old, old), (new, new)):
        assert not merkle.verify_consistency(*sizes, *roots, path)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 64])
def test_a_path_leads_to_the_root_of_no_deeper_or_flatter_tree(size: int) -> None:
    """The root is the right one, and the size that is claimed with it is not."""
    path = merkle.prove_inclusion(0, 2, merkle.nodes_of(HASHES))
    assert merkle.verify_inclusion(HASHES[0], 0, 2, path, ROOTS[2])
    assert not merkle.verify_inclusion(HASHES[0], 0, size, path, ROOTS[2])
    assert merkle.inclusion_root(HASHES[0], 0, size, path) is None


@pytest.mark.parametrize("size", [3, 4, 5, 64])
def test_a_consistency_proof_leads_to_no_deeper_tree(size: int) -> None:
    path = merkle.prove_consistency(1, 2, merkle.nodes_of(HASHES))
    assert merkle.verify_consistency(1, 2, ROOTS[1], ROOTS[2], path)
    assert not merkle.verify_consistency(1, size, ROOTS[1], ROOTS[2], path)


def test_what_is_equal_or_empty_needs_no_proof_and_takes_none() -> None:
    root = ROOTS[3]
    assert merkle.verify_consistency(3, 3, root, root, ())
    assert not merkle.verify_consistency(3, 3, root, ROOTS[2], ())
    assert not merkle.verify_consistency(3, 3, root, root, (root,))
    assert merkle.verify_consistency(0, 0, merkle.EMPTY_ROOT, merkle.EMPTY_ROOT, ())
    assert not merkle.verify_consistency(0, 3, root, root, ())
    assert not merkle.verify_consistency(0, 3, merkle.EMPTY_ROOT, root, (root,))
    assert not merkle.verify_consistency(3, 8, ROOTS[3], ROOTS[8], ())


def test_a_proof_of_no_tree_that_can_be_is_not_looked_at() -> None:
    too_long = (ROOTS[1],) * (merkle.MAX_PATH + 1)
    assert not merkle.verify_inclusion(HASHES[0], 0, 1 << 80, too_long, ROOTS[1])
    assert not merkle.verify_consistency(1, 1 << 80, ROOTS[1], ROOTS[1], too_long)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_no_path_leads_to_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.prove_inclusion(index, size, merkle.nodes_of(HASHES))


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3)])
def test_no_proof_leads_back(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="no proof"):
        merkle.prove_consistency(old, new, merkle.nodes_of(HASHES))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, MAX), st.integers(0, MAX))
def test_a_growing_tree_is_the_tree(begin: int, more: int) -> None:
    """From any size on, roots and every node that a leaf completes are those of the whole tree."""
    leaves = hashes(begin + more)
    nodes = merkle.nodes_of(leaves)
    kept = {
        (level, number): nodes(level, number) for level in range(begin.bit_length()) for number in range(begin >> level)
    }
    frontier = merkle.Frontier(begin, lambda level, number: kept[level, number])
    for leaf in leaves[begin:]:
        for level, number, node in frontier.append(leaf):
            assert (level, number) not in kept
            assert node == nodes(level, number)
            kept[level, number] = node
    size = begin + more
    assert frontier.size == size
    assert frontier.root() == tree_hash(leaves)
    assert kept.keys() == {(level, n) for level in range(size.bit_length()) for n in range(size >> level)}


@settings(deadline=None, max_examples=200)
@given(
    st.integers(-1, 1 << 70),
    st.integers(-1, 1 << 70),
    st.lists(st.binary(max_size=40) | st.binary(min_size=32, max_size=32), max_size=70),
)
def test_verifying_is_total(small: int, large: int, path: list[bytes]) -> None:
    assert not merkle.verify_inclusion(HASHES[0], small, large, path, b"no root")
    if small != large:
        assert not merkle.verify_consistency(small, large, b"no root", b"another", path)
