import random

from server.store.spans import Spans, at_least

LENGTH = 40


def instants(spans: Spans) -> set[int]:
    return {instant for start, end in spans for instant in range(start, end)}


def some(rng: random.Random) -> Spans:
    starts = [rng.randrange(LENGTH) for _ in range(rng.randrange(6))]
    return Spans((start, min(LENGTH, start + rng.randrange(9))) for start in starts)


def test_what_overlaps_or_touches_is_one() -> None:
    spans = Spans([(100, 200), (0, 50), (150, 250), (250, 260), (400, 400), (500, 450)])
    assert list(spans) == [(0, 50), (100, 260)]
    assert spans.total == 210
    assert spans.between(25, 120) == 45
    assert spans.between(60, 90) == 0
    assert spans.between(300, 200) == 0
    assert (bool(spans), bool(Spans())) == (True, False)
    assert Spans().between(0, 100) == 0


def test_spans_are_sets_of_instants() -> None:
    rng = random.Random(5)
    for _ in range(500):
        a, b, c = some(rng), some(rng), some(rng)
        assert instants(a.both(b)) == instants(a) & instants(b)
        assert instants(a.without(b)) == instants(a) - instants(b)
        since, until = sorted((rng.randrange(LENGTH), rng.randrange(LENGTH)))
        assert a.between(since, until) == len(instants(a) & set(range(since, until)))
        assert instants(a.clipped(since)) == {instant for instant in instants(a) if instant >= since}
        for count in (1, 2, 3):
            depth = [sum(instant in instants(each) for each in (a, b, c)) for instant in range(LENGTH)]
            assert instants(at_least(count, (a, b, c))) == {i for i, deep in enumerate(depth) if deep >= count}
        assert list(at_least(4, (a, b, c))) == []


def test_latest_start_is_the_latest_from_which_so_much_has_run() -> None:
    rng = random.Random(6)
    for _ in range(500):
        spans, until, length = some(rng), rng.randrange(LENGTH + 5), rng.randrange(1, 12)
        enough = [since for since in range(-1, LENGTH) if spans.between(since, until) >= length]
        assert spans.latest_start(until, length) == max(enough, default=None)


def test_last_start_is_that_of_the_last_interval_that_has_begun() -> None:
    spans = Spans([(0, 10), (20, 30)])
    assert [spans.last_start(when) for when in (0, 1, 15, 20, 21, 99)] == [None, 0, 0, 0, 20, 20]
