"""Which names are alike: spellings of one name meet, and others do not."""

# ruff: noqa: RUF001  # other scripts are meant

import io
import random
import re

import pytest

from server.records.names_alike import (
    CONTAINED_SCORE,
    LEAST_SCORE,
    Likeness,
    ListedNames,
    NameIndex,
    fold,
    form_of,
    words_of,
)
from tests.screening import measure
from tests.screening.invented import PERTURBATIONS, company, listed, person


def likeness(name: str, *entry: str, kind: str = "") -> Likeness | None:
    (found,) = NameIndex([ListedNames("1", kind, entry)]).find([[name]])
    return found[0] if found else None


def score(name: str, *entry: str, kind: str = "") -> float:
    found = likeness(name, *entry, kind=kind)
    return found.score if found else 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zarvelin Elektronika", "ЗАРВЕЛИН ЭЛЕКТРОНИКА"),
        ("ООО «Зарвелин»", "Zarvelin LLC"),
        ("ＺＡＲＶＥＬＩＮ  Ｃｏ．， Ｌｔｄ．", "zarvelin"),
        ("MUHAMAD QASIMZADEH", "Qasimzade, Mohammad"),
        ("Yussuf Khaldoon Ashrafi", "Yusuf Haldun Ashrafi"),
        ("Sergey Shcherbanoff", "Sergei Scherbanoff"),
        ("Müllerstätt Präzision GmbH", "Muellerstaett Praezision"),
        ("Al-Zarvelin Trading L.L.C.", "AlZarvelin Trading"),
        ("Société Zarvélin S.A.", "societe zarvelin"),
        ("Zarvelin & Sons", "Zarvelin and Sons, Inc."),
        ("新曜半導体有限公司", "新曜半導体"),
        ("Zarvelin 'Plus'", "Zarvelin Plus"),
    ],
)
def test_spellings_of_one_name_are_the_same(one: str, other: str) -> None:
    assert score(one, other) == score(other, one) == 100.0


def test_chinese_meets_its_pinyin_however_it_is_cut() -> None:
    assert score("曜新半导体有限公司", "Yao Xin Ban Dao Ti Co., Ltd.") == 100.0
    assert score("曜新半导体有限公司", "Yaoxin Bandaoti") == 100.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zarvelin Dynamics", "Zarvelyn Dinamics"),
        ("Qorvathian Systems", "Qorvathain Systems"),
        ("Zarvelin Optronic Works", "Optronic Zarvelin Works Ltd"),
        ("Petrak Olegovin", "OLEGOVIN, Petrak"),
    ],
)
def test_small_differences_are_alike(one: str, other: str) -> None:
    assert score(one, other) >= LEAST_SCORE


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Qorvath Electronics Trading Company", "Zumelin Electronics Trading Company"),
        ("Leyian International Limited", "Chefin International Limited"),
        ("Electronics Trading Ltd", "Zarvelin Electronics Trading Ltd"),
        ("Beijing Technology Center", "Beijing Zarvelin Technology Center"),
        ("ABX", "ABY"),
        ("Korda", "Kordas"),
        ("", "Zarvelin"),
        ("!!!", "???"),
        ("Ltd", "Zarvelin Ltd"),
    ],
)
def test_other_names_are_not_alike(one: str, other: str) -> None:
    assert likeness(one, other) is None
    assert likeness(other, one) is None


def test_short_names_must_be_the_same() -> None:
    assert score("ABX", "A.B.X. Ltd") == 100.0
    assert score("Zorin LLC", "ZORIN") == 100.0
    assert likeness("Zorin", "Zorim") is None


def test_a_part_of_a_name_is_alike() -> None:
    assert score("Zarvelin Frankfurt Data Center", "Zarvelin Technologies Co., Ltd.") == CONTAINED_SCORE
    assert score("Zarvelin", "Zarvelin Heavy Industries Import Export") == CONTAINED_SCORE
    assert score("Petrak Olegovin", "OLEGOVIN, Petrak Maximovin") == CONTAINED_SCORE
    assert score("Petrack Olegovin Cloud", "OLEGOVIN, Petrak Maximovin", kind="Individual") == CONTAINED_SCORE


def test_one_word_is_a_part_only_when_it_leads_and_names_a_company() -> None:
    assert likeness("Silverlight Zarvelin Hosting", "ZARVELIN HOLDING") is None
    assert likeness("Zarvelin Lake Hosting", "ZARVELIN", kind="Vessel") is None
    assert likeness("Zarvelin Lake Hosting", "ZARVELIN", kind="Individual") is None
    assert score("Zarvelin Lake Hosting", "ZARVELIN", kind="Entity") == CONTAINED_SCORE
    assert likeness("Zar Lake Hosting", "ZAR", kind="Entity") is None


def test_the_pair_that_is_most_alike_is_told() -> None:
    index = NameIndex(
        [
            ListedNames("b", "", ("Zarvelin Dynamics", "ZD Optronics")),
            ListedNames("a", "", ("Something Else", "Zarvelyn Dynamiks Works", "Zarvelin Dynamics JSC")),
            ListedNames("c", "", ("Unrelated Company",)),
        ]
    )
    (found, none) = index.find([["Other Title", "Zarvelin Dynamics"], ["Nobody at all"]])
    assert found == [
        Likeness("a", 100.0, "Zarvelin Dynamics", "Zarvelin Dynamics JSC", "Something Else"),
        Likeness("b", 100.0, "Zarvelin Dynamics", "Zarvelin Dynamics", "Zarvelin Dynamics"),
    ]
    assert none == []


def test_more_parties_than_fit_in_one_step() -> None:
    entries = list(listed(3, 300))
    found = list(NameIndex(entries).find([[entry.names[0], "Qorvathian Works"] for entry in entries]))
    assert len(found) == len(entries)
    assert all(entry.entry_id in {like.entry_id for like in likes} for entry, likes in zip(entries, found, strict=True))


def test_an_empty_list_is_like_nobody() -> None:
    assert list(NameIndex([]).find([["Zarvelin"], []])) == [[], []]
    assert list(NameIndex([ListedNames("1", "", ("Zarvelin",))]).find([])) == []


def test_words_and_folds() -> None:
    assert words_of("The J.S.C. of O'Zarvelin-Works, Co.Ltd") == ["ozarvelin", "works"]
    assert words_of("Limited") == ["limited"]
    assert fold("shchukhin") == fold("schuhin") == "shuhin"
    assert form_of("Zarvelin Tehcnology").core == ("zarvalin",)


def test_recall_and_noise_are_as_the_documentation_says() -> None:
    """A smaller list than the one of docs/screening.md; its numbers must not be worse than these."""
    rng = random.Random(11)
    entries = list(listed(11, 4_000))
    index = NameIndex(entries)
    told = [entry for entry in entries if entry.kind != "Vessel"]
    for name, perturb in PERTURBATIONS.items():
        chosen = rng.sample(told, 150)
        found = index.find([[perturb(rng.choice(entry.names), rng)] for entry in chosen])
        missed = sum(e.entry_id not in {x.entry_id for x in likes} for e, likes in zip(chosen, found, strict=True))
        assert missed <= 6, name  # 4 %
    with_hit = sum(bool(likes) for likes in index.find([[make(rng)] for make in (company, person) for _ in range(200)]))
    assert with_hit <= 20  # 5 %


def test_the_measurement_runs() -> None:
    out = io.StringIO()
    measure.main(out, entries=200, parties=20, tries=10)
    assert "found, as listed: 100.0%" in out.getvalue()
    assert len(re.findall(r"^found, ", out.getvalue(), re.MULTILINE)) == len(PERTURBATIONS)
