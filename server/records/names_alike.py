"""Which names are alike: parties against the names of a screening list (docs/screening.md). No I/O, no clock.

A name is brought into a normal form, in which spellings of one name meet: compatibility forms (NFKC), other scripts
(anyascii), case, marks, legal forms, and letters that transliterations write in several ways (`fold`). Two names are
alike when their normal forms are, or when the one is a part of the other.
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

LEAST_SCORE = 85.0
"""Of 100. `fuzz.ratio` counts letters in common, in order: one wrong letter in seven, or two in fourteen, are alike.
Below it unrelated names that share a common word begin to come up; tests/screening/measure.py shows both sides."""

CONTAINED_SCORE = 88.0
"""What is told when one name is a part of the other, whatever the rest of the longer one makes of the ratio."""

LEAST_CORE_SCORE = 80.0
"""The words that tell names apart must be alike too: Xamin Electronics is not Jameen Electronics. Less than the whole,
since one wrong letter in five must pass."""

LEAST_TOKEN_SCORE = 85.0
"""Words that are compared singly, of five letters or more, are taken for the same from here on."""

LEAST_LEAD_SCORE = 90.0
"""One word that stands for a whole name must be the same, or nearer than this and of eight letters or more."""

SHORT = 5
"""Names of so many letters or fewer must be the same in normal form: one letter makes another name of them."""

LEAST_PART = 8
"""Letters that a part of several words must have together."""

AT_ONCE = 64
"""Names compared in one step: with 80,000 names on the list that is a matrix of 20 MB."""

_LEGAL_TEXT = """
ab ag aktiengesellschaft aktsionernoe aktsionernoye ao aps as asa bhd bv bvba cjsc co company corp corporation
cv dd doo eood fzc fzco fze fzllc gesellschaft gmbh inc incorporated jsc kft kg kk kommandit kompani kompania
kompaniya lc lda limitada limited llc llp lp ltd ltda mbh mchj nv oao obschestvo obshchestvo ogranichennoi
ogranichennoy ojsc oo ood ooo otvetstvennostiu otvetstvennostyu ou oy oyj pao pjsc plc private pte pty
publichnoe pvt qjsc rt sa sae sagl sal sarl sas sasu sdn se sirketi sl slu spa spol srl sro sti tov tovarystvo
uab zao zrt
"""
_LEGAL = frozenset(_LEGAL_TEXT.split())
"""Says how a company is held, not who it is."""

_GENERIC_TEXT = """
agency applied associates association beijing business center centre china chinese city cloud commerce
commercial communication communications computer computers computing construction consulting corporate data
development digital dubai east electric electrical electronic electronics energy engineering enterprise
enterprises equipment establishment export factory far federal finance financial foreign foundation general
global group groups high holding holdings hong hosting import industrial industries industry info information
infrastructure innovation institute instruments integrated international invest investment investments iran
iranian kong lab laboratory logistics machinery management manufacturing marine maritime market marketing
materials middle moscow national network networks new north office oil optical organization partners plant
power precision production products project research resources russia russian science sciences scientific
sector security semiconductor server service services shanghai shenzhen shipping software solution solutions
south space state storage supply support syria system systems tech technical technological technologies
technology tehran telecom telecommunication telecommunications trade trading transport university ventures
west works world worldwide
"""
_GENERIC = frozenset(_GENERIC_TEXT.split())
"""Words that so many companies carry that they tell none from another."""

_FILLERS = frozenset({"and", "the", "of", "for"})
_CJK_LEGAL = re.compile("股份有限公司|有限责任公司|有限責任公司|有限公司|公司|株式会社|주식회사")
_JOINED = re.compile(r"['`]")
_INITIALS = re.compile(r"(?<=\b[a-z])\.(?=[a-z]\b)")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_REPEATED = re.compile(r"([a-z])\1+")
_FOLDS = (
    (re.compile("shch|tsch|sch"), "sh"),
    (re.compile("dzh|zh|dj"), "j"),
    (re.compile("tch"), "ch"),
    (re.compile("kh"), "h"),
    (re.compile("ph"), "f"),
    (re.compile("([gtd])h"), r"\1"),
    (re.compile("ck|qu|q|c(?!h)"), "k"),
    (re.compile("x"), "ks"),
    (re.compile("tz"), "ts"),
    (re.compile("ee"), "i"),
    (re.compile("(?<=[aou])e"), ""),  # the umlauts of other keyboards
    (re.compile("y"), "i"),
    (re.compile("w"), "v"),
    (re.compile("o"), "u"),
    (re.compile("e"), "a"),
    (re.compile("(?<=[aiu])h$"), ""),
)

_COMPANIES = frozenset({"", "entity"})
"""Types of entries that one distinctive word may stand for: no people, ships or aircraft, whose names are words."""


@dataclass(frozen=True, slots=True)
class NameForm:
    """A name in its normal form.

    Attributes:
        text: The name as it was written.
        ordered: Its folded words in a fixed order.
        joined: Its words as they stand, without blanks between them, folded.
        core: Its folded words that tell it from others, in their order.
    """

    text: str
    ordered: str
    joined: str
    core: tuple[str, ...]

    @property
    def is_short(self) -> bool:
        """Whether only the same form counts."""
        return len(self.joined) <= SHORT


@dataclass(frozen=True, slots=True)
class ListedNames:
    """The names of one entry of a list.

    Attributes:
        entry_id: The entry.
        kind: Its type as the list has it: Individual, Entity, Vessel, Aircraft, or empty.
        names: Its name first, then its aliases.
    """

    entry_id: str
    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """An entry that is called much like somebody.

    Attributes:
        entry_id: The entry.
        score: How alike, 0 to 100; 100: the same in normal form.
        name: Which of the names that were asked for.
        matched: Which of the entry's names.
        title: The entry's first name.
    """

    entry_id: str
    score: float
    name: str
    matched: str
    title: str


def words_of(text: str) -> list[str]:
    """Return the words of a name in lower-case ASCII, without legal forms unless there is nothing else."""
    plain = _CJK_LEGAL.sub(" ", unicodedata.normalize("NFKC", text)) or text
    plain = _JOINED.sub("", anyascii(plain).casefold()).replace("&", " and ")
    words = _NO_WORD.sub(" ", _INITIALS.sub("", plain)).split()
    return [word for word in words if word not in _LEGAL and word not in _FILLERS] or words


def fold(word: str) -> str:
    """Bring a word to the spelling in which transliterations meet: Mohammed and Muhammad, Schmidt and Shmidt."""
    for pattern, by in _FOLDS:
        word = pattern.sub(by, word)
    return _REPEATED.sub(r"\1", word)


@functools.lru_cache(1 << 17)
def _read_word(word: str) -> tuple[str, bool]:
    """Return the folded word, and whether it tells names apart. A misspelt `technology` does no more than the word."""
    folded = fold(word)
    generic, long = _folded_generic()
    if folded in generic or word.isdecimal():
        return folded, False
    if len(folded) < LEAST_PART:
        return folded, True
    return folded, process.extractOne(folded, long, scorer=fuzz.ratio, score_cutoff=LEAST_TOKEN_SCORE) is None


@functools.cache
def _folded_generic() -> tuple[frozenset[str], tuple[str, ...]]:
    folded = frozenset(map(fold, _GENERIC))
    return folded, tuple(sorted(word for word in folded if len(word) >= LEAST_PART - 1))


def form_of(text: str) -> NameForm:
    """Return the normal form of a name. One without a letter or digit has an empty form, and is like nothing."""
    words = words_of(text)
    read = [_read_word(word) for word in words]
    folded = [word for word, _ in read]
    core = [word for word, distinctive in read if distinctive]
    return NameForm(text, " ".join(sorted(folded)), fold("".join(words)), tuple(dict.fromkeys(core)))


class NameIndex:
    """All names of a list, ready to be compared with.

    Args:
        entries: The entries; read once.
    """

    def __init__(self, entries: Iterable[ListedNames]) -> None:
        self._entries: list[ListedNames] = []
        self._owners: list[int] = []
        self._forms: list[NameForm] = []
        holders: dict[str, list[int]] = defaultdict(list)
        for owner, entry in enumerate(entries):
            self._entries.append(entry)
            for form in {
                (form.ordered, form.joined): form for form in map(form_of, reversed(entry.names)) if form.joined
            }.values():
                for word in form.core:
                    holders[word].append(len(self._forms))
                self._owners.append(owner)
                self._forms.append(form)
        self._ordered = [form.ordered for form in self._forms]
        self._joined = [form.joined for form in self._forms]
        self._core_sizes = np.array([len(form.core) for form in self._forms], np.int64)
        self._holders = {word: np.array(names, np.int64) for word, names in holders.items()}
        self._words = [word for word in holders if len(word) >= SHORT]

    @property
    def name_count(self) -> int:
        """How many names there are to compare with; names of one entry that are the same in normal form count once."""
        return len(self._forms)

    def find(self, asked: Sequence[Sequence[str]]) -> Iterator[list[Likeness]]:
        """Yield for each of several parties, given by their names, the entries that are called like it.

        An entry comes once, with the pair of names that is most alike, the best entry first.
        """
        parties = iter(asked)
        while some := list(islice(parties, AT_ONCE)):
            forms = [[form for form in map(form_of, names) if form.joined] for names in some]
            scored = self._score([form for own in forms for form in own])
            for own in forms:
                yield self._best((form, next(scored)) for form in own)

    def _best(self, found: Iterable[tuple[NameForm, dict[int, float]]]) -> list[Likeness]:
        best: dict[int, Likeness] = {}
        for asked, scores in found:
            for number, score in scores.items():
                owner, form = self._owners[number], self._forms[number]
                entry = self._entries[owner]
                likeness = Likeness(entry.entry_id, score, asked.text, form.text, entry.names[0])
                if owner not in best or _rank(likeness) < _rank(best[owner]):
                    best[owner] = likeness
        return sorted(best.values(), key=_rank)

    def _score(self, asked: Sequence[NameForm]) -> Iterator[dict[int, float]]:
        """Yield the alike names of the list, by number, for each form."""
        words = self._variants({word for form in asked for word in form.core})
        for at in range(0, len(asked), AT_ONCE):
            some = asked[at : at + AT_ONCE]
            # Two readings of a name: its words in any order, and its letters wherever words are cut.
            ordered = _ratios([form.ordered for form in some], self._ordered)
            joined = _ratios([form.joined for form in some], self._joined)
            for row, form in enumerate(some):
                scores = np.maximum(ordered[row], joined[row])
                alike = {int(number): float(scores[number]) for number in np.flatnonzero(scores)}
                found = {n: score for n, score in alike.items() if self._may_be_alike(form, self._forms[n])}
                for number in self._parts(form, words):
                    found[number] = max(found.get(number, 0.0), CONTAINED_SCORE)
                yield found

    @staticmethod
    def _may_be_alike(asked: NameForm, listed: NameForm) -> bool:
        if asked.joined == listed.joined:
            return True  # however it is cut into words
        if asked.is_short or listed.is_short:
            return asked.ordered == listed.ordered
        if not asked.core or not listed.core:
            return not asked.core and not listed.core
        pairs = (sorted(asked.core), sorted(listed.core)), (asked.core, listed.core)
        return any(fuzz.ratio("".join(one), "".join(other)) >= LEAST_CORE_SCORE for one, other in pairs)

    def _variants(self, asked: Iterable[str]) -> dict[str, NDArray[np.int64]]:
        """Return for each word the names that hold it, or one spelled nearly so."""
        found: dict[str, NDArray[np.int64]] = {}
        remaining = iter(asked)
        while some := list(islice(remaining, AT_ONCE)):
            long = [word for word in some if len(word) >= SHORT]
            matrix = _ratios(long, self._words, LEAST_TOKEN_SCORE)
            near = {word: [self._words[n] for n in np.flatnonzero(matrix[row])] for row, word in enumerate(long)}
            for word in some:
                holders = [self._holders[other] for other in {word, *near.get(word, ())} if other in self._holders]
                if holders:
                    found[word] = np.unique(np.concatenate(holders))
        return found

    def _parts(self, asked: NameForm, words: dict[str, NDArray[np.int64]]) -> Iterator[int]:
        """Yield the names of which this one is a part, or that are a part of it, by the words that tell names apart."""
        holders = [words[word] for word in asked.core if word in words]
        if not holders:
            return
        names, counts = np.unique(np.concatenate(holders), return_counts=True)
        whole = (counts == len(asked.core)) | (counts == self._core_sizes[names])
        for number, shared in zip(names[whole].tolist(), counts[whole].tolist(), strict=True):
            if self._is_distinctive(asked, number, shared):
                yield number

    def _is_distinctive(self, asked: NameForm, number: int, shared: int) -> bool:
        listed = self._forms[number]
        part = min(asked.core, listed.core, key=len)
        if shared > 1:
            return sum(map(len, part)) >= LEAST_PART
        # One word says enough when it leads both names and the entry is a company.
        one, other = asked.core[0], listed.core[0]
        near = min(len(one), len(other)) >= LEAST_PART and fuzz.ratio(one, other) >= LEAST_LEAD_SCORE
        leads = one == other or near
        return leads and len(part[0]) >= SHORT and self._entries[self._owners[number]].kind.casefold() in _COMPANIES


def _ratios(asked: Sequence[str], listed: Sequence[str], least: float = LEAST_SCORE) -> NDArray[np.float32]:
    """Return how alike each pair is; 0 below the least. RapidFuzz leaves pairs early that cannot reach it."""
    if not asked or not listed:
        return np.zeros((len(asked), len(listed)), np.float32)
    matrix: NDArray[np.float32] = process.cdist(asked, listed, scorer=fuzz.ratio, score_cutoff=least, dtype=np.float32)
    return matrix


def _rank(likeness: Likeness) -> tuple[float, str, str, str]:
    return -likeness.score, likeness.entry_id, likeness.matched, likeness.name
