"""Landmarks and their failure domains: who can be wrong together, and who may not speak for whom."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.verifier.helpers_place import NOW, landmark, public_key
from verifier.errors import UsageError
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import CountryCode, LandmarkId

HERE = Position(1, 2)


def registry(**parties: tuple[str, str]) -> LandmarkRegistry:
    return LandmarkRegistry.build(landmark(n, HERE, operator=o, hoster=h) for n, (o, h) in parties.items())


def domains(found: LandmarkRegistry) -> dict[str, str]:
    return {str(r.landmark_id): str(found.domain_of(r.landmark_id)) for r in found.landmarks}


def get(found: LandmarkRegistry, name: str) -> Landmark:
    return next(r for r in found.landmarks if r.landmark_id == name)


def test_landmarks_that_share_nobody_have_domains_of_their_own() -> None:
    found = domains(registry(a=("op a", "host a"), b=("op b", "host b"), c=("op c", "op c")))
    assert len(set(found.values())) == 3


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("same", "x"), ("same", "y")),  # one operator
        (("x", "same"), ("y", "same")),  # one hoster
        (("same", "x"), ("y", "same")),  # the operator of one houses the other
        (("Same Co", "x"), ("same co", "y")),
        (("  Same\tCo ", "x"), ("Same   Co", "y")),
        (("STRASSE", "x"), ("straße", "y")),  # case folding, not lower case
        # Names that look alike are one name: wide letters, a ligature, a letter with its accent apart.
        (("\uff33\uff41\uff4d\uff45 Co", "x"), ("Same Co", "y")),
        (("\ufb01bre", "x"), ("fibre", "y")),
        (("Cafe\u0301", "x"), ("Caf\u00e9", "y")),
    ],
)
def test_a_shared_party_merges_two_domains(a: tuple[str, str], b: tuple[str, str]) -> None:
    found = domains(registry(a=a, b=b, other=("o", "h")))
    assert found["a"] == found["b"]
    assert found["other"] != found["a"]


def test_a_domain_is_named_by_the_first_of_its_parties_in_plain_small_letters() -> None:
    joint = landmark("a", Position(0, 0), operator="Zeta", hoster="Beta   Data \tCENTERS")
    registry = LandmarkRegistry.build([joint])
    assert registry.domain_of(joint.landmark_id) == registry.domain_of_party("ZETA") == "beta data centers"
    assert registry.domain_of_party("Nobody  Known") == "nobody known"


def test_names_that_differ_stay_apart() -> None:
    found = domains(registry(a=("Same Co", "x"), b=("SameCo", "y")))
    assert found["a"] != found["b"]


@pytest.mark.parametrize("names", ["abcd", "dcba", "acbd", "bdac"])
def test_domains_merge_over_chains_of_parties_whatever_the_order(names: str) -> None:
    # The four stand for links p1-p2, p2-p3, p3-p4, p4-p5; nobody is in the first and the last.
    links = dict(zip(names, [("p1", "p2"), ("p3", "p2"), ("p3", "p4"), ("p5", "p4")], strict=True))
    found = domains(registry(**links, other=("p6", "p7")))
    assert len({found[n] for n in "abcd"}) == 1
    assert found["other"] not in {found[n] for n in "abcd"}


def test_two_groups_join_through_a_third_landmark_that_comes_last() -> None:
    apart = {"a": ("p1", "p2"), "b": ("p2", "p3"), "c": ("q1", "q2"), "d": ("q2", "q3")}
    assert len(set(domains(registry(**apart)).values())) == 2
    assert len(set(domains(registry(**apart, z=("p3", "q3"))).values())) == 1


def test_a_domain_has_the_same_name_whatever_the_order_of_landmarks() -> None:
    a, b = landmark("a", HERE, operator="p1", hoster="p2"), landmark("b", HERE, operator="p3", hoster="p2")
    assert domains(LandmarkRegistry((a, b))) == domains(LandmarkRegistry((b, a))) == {"a": "p1", "b": "p1"}


def test_a_landmark_belongs_to_whoever_runs_or_houses_one_of_its_domain() -> None:
    found = registry(a=("Ada", "Bob"), b=("Cyd", "bob"), c=("Dan", "Eve"))
    a, b, c = (get(found, n) for n in "abc")
    for party in ("Ada", "Bob", "Cyd", "ADA", " bob "):
        assert found.belongs_to(a, party)
        assert found.belongs_to(b, party)
        assert not found.belongs_to(c, party)
    assert found.belongs_to(c, "eve")
    assert found.belongs_to(c, "dan")
    assert not found.belongs_to(a, "Zoe")
    assert not found.belongs_to(a, "")


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "valid"),
    [
        (None, None, True),
        (NOW, None, True),
        (NOW + timedelta(microseconds=1), None, False),
        (NOW - timedelta(1), None, True),
        (None, NOW, False),
        (None, NOW + timedelta(microseconds=1), True),
        (NOW - timedelta(1), NOW + timedelta(1), True),
        (NOW + timedelta(1), NOW + timedelta(2), False),
        (NOW - timedelta(2), NOW - timedelta(1), False),
    ],
)
def test_validity_begins_with_its_first_moment_and_ends_before_its_last(
    valid_from: object,
    valid_until: object,
    valid: bool,  # noqa: FBT001  (a column of the table)
) -> None:
    record = replace(landmark("a", HERE), valid_from=valid_from, valid_until=valid_until)  # type: ignore[arg-type]
    assert record.is_valid(NOW) is valid


def test_a_new_record_is_open_and_nobody_has_ranged_it() -> None:
    place, country = Position(0, 0), CountryCode("XX")
    new = Landmark(LandmarkId("a"), bytes(32), "operator", "hoster", place, 0.0, False, country, 1, NOW)  # noqa: FBT003
    assert (new.valid_from, new.valid_until, new.ranged_by) == (None, None, ())


def test_two_landmarks_of_one_name_are_refused() -> None:
    a = landmark("a", HERE)
    with pytest.raises(UsageError, match="one name"):
        LandmarkRegistry.build([a, replace(a, public_key=public_key("b"))])


def test_two_landmarks_with_one_key_are_refused() -> None:
    a = landmark("a", HERE)
    with pytest.raises(UsageError, match="one key"):
        LandmarkRegistry.build([a, replace(a, landmark_id=LandmarkId("b"))])


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(UsageError, match="32 bytes"):
        replace(landmark("a", HERE), public_key=key)


@pytest.mark.parametrize("km", [-0.001, 1000.0, float("nan"), float("inf")])
def test_an_uncertainty_that_is_none_is_refused(km: float) -> None:
    with pytest.raises(UsageError, match="uncertainty"):
        landmark("a", HERE, uncertainty_km=km)


def test_uncertainties_from_nothing_to_just_under_the_bound_are_taken() -> None:
    assert landmark("a", HERE, uncertainty_km=0).uncertainty_km == 0
    assert landmark("a", HERE, uncertainty_km=999.9).uncertainty_km == 999.9


def test_a_registry_is_in_the_order_of_names_and_finds_by_key_id() -> None:
    found = registry(c=("1", "2"), a=("3", "4"), b=("5", "6"))
    assert [r.landmark_id for r in found.landmarks] == ["a", "b", "c"]
    b = get(found, "b")
    assert b.key_id == hashlib.sha256(public_key("b")).digest()  # docs/protocol.md R1
    assert found.by_key[b.key_id] is b
    assert len(found.by_key) == 3


def test_an_empty_registry_is_one() -> None:
    assert LandmarkRegistry(()).by_key == {}
