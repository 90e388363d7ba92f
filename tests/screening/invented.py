"""Invented names: a list of the size and make of the public one, parties that are on it, and parties that are not.

No name here is taken from a list; words are put together from syllables. Everything follows from a seed.
"""

# ruff: noqa: RUF001, SIM905  # Cyrillic is meant, and lists of syllables read better as text

import random
from collections.abc import Callable, Iterator

from server.records.names_alike import ListedNames

_PARTS = {
    "chinese": (
        "b d f g h j l m n p q r s t w x y z zh ch sh".split(),
        "a ai an ang ao e ei en i ian in iu o u ui".split(),
    ),
    "russian": (
        "b v g d z k l m n p r s t f ch sh shch zh".split(),
        "a e i o u al ar el er ol or ur il en on ut as".split(),
    ),
    "arabic": ("b d f gh h j k kh l m n q r s sh t z".split(), "a i u aa ee al ar im ir ad id ud ab ub as".split()),
}
_ENDINGS = {"chinese": ("", ""), "russian": ("ov", "in", "iya", "sky", "ets"), "arabic": ("i", "an", "ah", "")}
_GENERIC = (
    "Electronics Technology Trading Industrial International Semiconductor Shipping Engineering Computing".split()
)
_LEGAL = {
    "chinese": ("Co., Ltd.", "Limited", "Company Limited"),
    "russian": ("LLC", "JSC", "OOO", "PJSC"),
    "arabic": ("FZE", "LLC", "Trading LLC", "Company"),
}
_GIVEN = "Ivan Sergey Mohammed Yusuf Hussein Abdul Wei Jun Dmitry Karim Nadeem Olga Fatimah Aleksandr Mikhail".split()
_CYRILLIC = dict(
    zip(
        "shch sh ch zh kh ya yu a b v g d e z i j k l m n o p r s t u f h y q w c x".split(),
        "щ ш ч ж х я ю а б в г д е з и й к л м н о п р с т у ф х ы к в к кс".split(),
        strict=True,
    )
)
_LATIN = (("shch", "sch"), ("kh", "h"), ("iya", "ia"), ("sky", "skiy"), ("ov", "off"), ("zh", "j"), ("u", "ou"))

Perturbation = Callable[[str, random.Random], str]


def word(rng: random.Random, people: str, *, syllables: int = 0) -> str:
    """Return an invented word."""
    count = syllables or rng.choice((2, 3, 3))
    first, second = _PARTS[people]
    made = "".join(rng.choice(first) + rng.choice(second) for _ in range(count)) + rng.choice(_ENDINGS[people])
    return made.capitalize()


def company(rng: random.Random) -> str:
    """Return an invented company."""
    people = rng.choice(tuple(_PARTS))
    brand = [word(rng, people) for _ in range(rng.choice((1, 1, 2)))]
    place = [word(rng, people, syllables=2)] if rng.random() < 0.4 else []
    return " ".join([*place, *brand, *rng.sample(_GENERIC, rng.choice((1, 1, 2))), rng.choice(_LEGAL[people])])


def person(rng: random.Random) -> str:
    """Return an invented person, as the lists write them."""
    people = rng.choice(("russian", "arabic"))
    return f"{word(rng, people).upper()}, {rng.choice(_GIVEN)} {word(rng, people)}"


def ship(rng: random.Random) -> str:
    """Return an invented ship."""
    return word(rng, rng.choice(tuple(_PARTS))).upper()


def listed(seed: int, count: int) -> Iterator[ListedNames]:
    """Yield entries: half companies, the others people and ships, with two aliases on average."""
    rng = random.Random(seed)
    for number in range(count):
        kind, make = rng.choice((("", company), ("Entity", company), ("Individual", person), ("Vessel", ship)))
        title = make(rng)
        aliases = [make(rng) if rng.random() < 0.5 else misspelled(title, rng) for _ in range(rng.choice((0, 2, 4)))]
        yield ListedNames(f"{number:040x}", kind, (title, *aliases))


def misspelled(name: str, rng: random.Random) -> str:
    """One wrong letter in its longest word."""
    words = name.split()
    at = max(range(len(words)), key=lambda n: len(words[n]))
    letters = list(words[at])
    place = rng.randrange(1, len(letters) - 1)
    match rng.randrange(4):
        case 0:
            letters[place] = rng.choice("aeioustrn")
        case 1:
            letters.insert(place, rng.choice("aeioustrn"))
        case 2:
            del letters[place]
        case _:
            letters[place : place + 2] = reversed(letters[place : place + 2])
    words[at] = "".join(letters)
    return " ".join(words)


def transliterated(name: str, _rng: random.Random) -> str:
    """As another office would write it in Latin letters."""
    lowered = name.lower()
    for one, other in _LATIN:
        lowered = lowered.replace(one, other)
    return lowered.title()


def in_cyrillic(name: str, _rng: random.Random) -> str:
    """In Cyrillic letters."""
    lowered = name.lower()
    for latin, cyrillic in _CYRILLIC.items():
        lowered = lowered.replace(latin, cyrillic)
    return lowered.title()


def turned(name: str, rng: random.Random) -> str:
    """Its words in another order."""
    words = name.replace(",", " ").split()
    rng.shuffle(words)
    return " ".join(words)


def without_legal_form(name: str, _rng: random.Random) -> str:
    """Without Co., LLC and the like."""
    for form in sorted({form for forms in _LEGAL.values() for form in forms}, key=len, reverse=True):
        name = name.removesuffix(form)
    return name.strip()


def with_other_legal_form(name: str, rng: random.Random) -> str:
    """With another legal form."""
    return f"{without_legal_form(name, rng)} {rng.choice(('GmbH', 'S.A.', 'Pte. Ltd.', 'B.V.', 'Sdn Bhd'))}"


def run_together(name: str, _rng: random.Random) -> str:
    """Two of its words as one."""
    return name.replace(" ", "", 1)


def with_more(name: str, rng: random.Random) -> str:
    """With a place and what it does."""
    return f"{without_legal_form(name, rng)} {rng.choice(_GENERIC)} Group (Exampleland)"


PERTURBATIONS: dict[str, Perturbation] = {
    "as listed": lambda name, _rng: name,
    "one wrong letter": misspelled,
    "other transliteration": transliterated,
    "in Cyrillic": in_cyrillic,
    "words in another order": turned,
    "no legal form": without_legal_form,
    "other legal form": with_other_legal_form,
    "two words as one": run_together,
    "more words": with_more,
    "order, no legal form, one wrong letter": lambda name, rng: misspelled(
        turned(without_legal_form(name, rng), rng), rng
    ),
}
