"""One record has one text, and the text is the record."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from server.records.codec import (
    parties_from_json,
    parties_to_json,
    record_from_json,
    record_to_json,
    swap_from_json,
    swap_to_json,
)
from server.records.names import parse_name, record_name
from server.records.values import LicenseRecord, PartyRole, Record
from tests.records.record_strategies import ids, pdis, records, times
from verifier.license import BoardSwap


@given(records)
def test_a_record_reads_back_exactly_and_has_one_text(record: Record) -> None:
    name, text = record_name(record), record_to_json(record)
    back = record_from_json(parse_name(name).kind, name, text)
    assert back == record
    assert record_to_json(back) == text


@given(records, records)
def test_two_records_of_one_name_have_one_text_only_when_they_are_equal(one: Record, other: Record) -> None:
    if record_name(one) == record_name(other):
        assert (record_to_json(one) == record_to_json(other)) == (one == other)


@given(records)
def test_the_text_tells_no_revision(record: Record) -> None:
    if isinstance(record, LicenseRecord):
        later = replace(record, terms=replace(record.terms, revision=7))
        assert record_to_json(later) == record_to_json(record)
    assert "revision" not in json.loads(record_to_json(record))


@given(st.builds(BoardSwap, st.frozensets(pdis, max_size=5), times))
def test_a_swap_reads_back_exactly(swap: BoardSwap) -> None:
    assert swap_from_json(swap_to_json(swap)) == swap


@given(st.lists(st.tuples(ids, st.sampled_from(PartyRole)), max_size=5).map(tuple))
def test_parties_read_back_in_their_order(parties: tuple[tuple[str, PartyRole], ...]) -> None:
    assert parties_from_json(parties_to_json(parties)) == parties


def test_enumerations_stand_by_name() -> None:
    assert parties_to_json([("acme", PartyRole.END_USER)]) == '[["acme","END_USER"]]'
