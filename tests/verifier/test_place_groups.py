"""Lists of country groups: their members, how sure each row is, and which of them prohibit."""

import pytest

from tests.verifier.helpers_place import countries, groups, prohibited
from verifier.errors import UsageError
from verifier.place.groups import COLUMNS, CountryGroups, parse_groups

HEADER = ",".join(COLUMNS)


def parse(*rows: str) -> CountryGroups:
    return parse_groups("\n".join([HEADER, *rows, ""]).encode(), "a list")


def test_members_dates_and_sources_are_those_of_the_rows() -> None:
    found = parse("A:5,FR,2026-02-01,EAR,high", "A:5,DE,2025-01-01,BIS,high", "D:5,CN,2026-02-01,EAR,high")
    assert found.version == "a list"
    assert found.members == {"A:5": {"FR", "DE"}, "D:5": {"CN"}}
    fifth = found.groups["A:5"]
    assert (fifth.name, fifth.as_of, fifth.sources) == ("A:5", ("2025-01-01", "2026-02-01"), ("BIS", "EAR"))
    assert fifth.unsure == ()
    assert found.notes() == ()


def test_columns_may_stand_in_any_order_and_others_beside_them() -> None:
    data = b"note,sureness,source,as_of,iso2,group\nx,high,EAR,2026-01-01,CU,E:1\n"
    assert parse_groups(data, "v").members == {"E:1": {"CU"}}


def test_only_three_groups_and_three_names_prohibit() -> None:
    rows = [("D:5", "AA"), ("E:1", "BB"), ("E:2", "CC"), ("D:1", "DD"), ("D:4", "EE"), ("A:5", "FF"), ("A:6", "GG")]
    found = parse(*(f"{group},{iso2},2026-01-01,s,high" for group, iso2 in rows))
    assert found.prohibited() == countries("AA", "BB", "CC", "HK", "MO", "UA-43")
    unsure = parse(*(f"{group},{iso2},2026-01-01,s,low" for group, iso2 in rows))
    assert unsure.prohibited() == found.prohibited()


@pytest.mark.parametrize("missing", ["D:5", "E:1", "E:2"])
def test_a_list_that_would_prohibit_less_is_refused(missing: str) -> None:
    rows = (f"{group},AA,2026-01-01,s,high" for group in ("D:5", "E:1", "E:2") if group != missing)
    with pytest.raises(UsageError, match=missing):
        parse(*rows).prohibited()


def test_a_row_that_is_not_sure_is_told_with_every_list() -> None:
    found = parse(
        "A:5,FR,2026-01-01,s,high",
        "A:5,XB,2026-01-01,s,low",
        "A:5,XA,2026-01-01,s,low",
        "A:5,XC,2026-01-01,s,medium",
        "D:5,CN,2026-01-01,s,medium",
        "E:1,CU,2026-01-01,s,high",
    )
    assert set(found.groups["A:5"].unsure) == {("XA", "low"), ("XB", "low"), ("XC", "medium")}
    assert found.notes() == (
        "A:5: XC of medium sureness",
        "A:5: XA, XB of low sureness: a placeholder, to be replaced by the operator",
        "D:5: CN of medium sureness",
    )


@pytest.mark.parametrize("column", COLUMNS)
def test_a_list_without_one_of_its_columns_is_a_misuse(column: str) -> None:
    rest = [name for name in COLUMNS if name != column]
    for data in (",".join(rest) + "\n", ",".join(rest) + "\nD:5,CU,x,high\n"):
        with pytest.raises(UsageError, match="need the columns"):
            parse_groups(data.encode(), "v")


@pytest.mark.parametrize("data", [b"", b"CU,D:5\n", b"group;iso2;as_of;source;sureness\n"])
def test_what_is_no_list_is_a_misuse(data: bytes) -> None:
    with pytest.raises(UsageError, match="need the columns"):
        parse_groups(data, "v")


@pytest.mark.parametrize(
    ("row", "missing"),
    [
        (",CN,2026-01-01,s,high", "group"),
        ("D:5,,2026-01-01,s,high", "iso2"),
        ("D:5,CN,,s,high", "as_of"),
        ("D:5,CN,2026-01-01,,high", "source"),
        ("D:5,CN,2026-01-01,s,", "sureness"),
        ("D:5,CN,2026-01-01,s", "sureness"),
        ("D:5", "iso2"),
    ],
)
def test_a_row_that_lacks_a_value_is_a_misuse(row: str, missing: str) -> None:
    with pytest.raises(UsageError, match=f"row 2 of the country groups has no {missing}"):
        parse("A:5,FR,2026-01-01,s,high", row)


@pytest.mark.parametrize("sureness", ["HIGH", "sure", "none", "medium "])
def test_a_sureness_that_is_none_is_a_misuse(sureness: str) -> None:
    with pytest.raises(UsageError, match="row 1 of the country groups: sureness"):
        parse(f"A:5,FR,2026-01-01,s,{sureness}")


@pytest.mark.parametrize("data", [b"D:5,\xff,2026-01-01,s,high\n", b"D:5," + b"x" * 200_000 + b",2026-01-01,s,high\n"])
def test_what_is_no_text_or_no_csv_is_a_misuse(data: bytes) -> None:
    with pytest.raises(UsageError, match="not CSV in UTF-8"):
        parse_groups(HEADER.encode() + b"\n" + data, "v")


def test_the_list_that_ships_names_its_groups_and_says_what_is_a_placeholder() -> None:
    assert {"A:5", "A:6", "D:1", "D:4", "D:5", "E:1", "E:2"} <= set(groups().groups)
    assert prohibited().codes == groups().prohibited().codes
    told = " ".join(groups().notes())
    unsure = {name for name, group in groups().groups.items() if group.unsure}
    assert all(f"{name}: " in told for name in unsure)
    assert set(groups().members) == set(groups().groups)
