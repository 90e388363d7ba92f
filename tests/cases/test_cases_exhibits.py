"""Whoever is accused is heard: exhibits of cases and landmarks (docs/protocol.md K4)."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TypeAlias

import grpc
import pytest
from sqlalchemy import insert, update
from trigpoint.v1 import exhibit_pb2, exhibit_pb2_grpc

from server.rpc.access import DEV_ROLE_KEY, AccessInterceptor
from server.rpc.exhibits import MAX_FILE_BYTES, ExhibitServicer
from server.rpc.pages import write_token
from server.rpc.status import StatusInterceptor
from server.store import exhibit_rows
from server.store.case_types import CaseAction, CaseEntryKind, CaseRef, CaseState, CaseStateError, CaseWork
from server.store.errors import RecordNotFoundError
from server.store.exhibit_rows import ExhibitStateError, Statement
from server.store.exhibits import ExhibitDoor
from server.store.landmarks import import_landmarks
from server.store.schema import LANDMARK_DISTRUST
from server.store.watch_types import EndingLicense
from server.telemetry import Telemetry
from server.times import micros
from tests.cases.case_world import DAY, HOUR, MINUTE, START, CaseWorld
from tests.server.helpers import error_info
from tests.store.store_world import landmark
from verifier.errors import Reason

PDF = b"%PDF-1.7 the meter of hall 3"
SAID = Statement("Example Cloud", "The site was without power.\nSee the meter.", "meter.pdf", "application/pdf", PDF)
BARE = Statement("Lone Star Timing", "The antenna was moved.")
Metadata = tuple[tuple[str, str], ...]
Stub: TypeAlias = "exhibit_pb2_grpc.ExhibitServiceAsyncStub"


@pytest.fixture
async def accused(world: CaseWorld) -> CaseWorld:
    """Case 1: a silent device whose silence has ended, in Germany."""
    await world.license("D2", licensee="Other", sites=["ber"], country="DE")
    await world.deploy([1], license_number="D2", site="ber")
    await world.find(Reason.SILENT, [1], START)
    await world.cases.take_findings(START)
    await world.end(Reason.SILENT, [1], START + MINUTE)
    await world.cases.take_findings(START + MINUTE)
    return world


@pytest.fixture
def exhibits(world: CaseWorld) -> ExhibitDoor:
    return ExhibitDoor(world.read, world.write)


async def with_landmarks(world: CaseWorld) -> None:
    """Dallas is distrusted, Taipei is not."""
    names = ("dallas", "taipei")
    records = [landmark(name, operator=f"operator of {name}") for name in names]
    distrust = {
        "landmark_id": "dallas",
        "since": micros(START),
        "rule": 1,
        "explanation": "It is elsewhere.",
        "contradictions": "[]",
    }
    await world.write(lambda connection: import_landmarks(connection, records, START - HOUR, write=True))
    await world.write(lambda connection: connection.execute(insert(LANDMARK_DISTRUST), distrust))


async def resolve(world: CaseWorld, at: timedelta = HOUR) -> CaseState:
    work = CaseWork(CaseAction.RESOLVE, "power is back")
    (case,) = await world.cases.work([CaseRef(1)], work, "ann", START + at)
    return case.state


async def test_a_statement_stands_as_it_was_said_and_the_story_tells_it(
    accused: CaseWorld, exhibits: ExhibitDoor
) -> None:
    before = await accused.one()
    added = await exhibits.add("cases/1", SAID, "ann", START + HOUR)
    assert (added.name, added.by, added.at, added.answered_at) == ("cases/1/exhibits/1", "ann", START + HOUR, None)
    assert (added.sha256, added.size) == (hashlib.sha256(PDF).digest(), len(PDF))
    assert await exhibits.get("cases/1", 1) == added
    assert added.statement == SAID
    kind, text = (await accused.story(1))[-1]
    assert kind is CaseEntryKind.EXHIBIT
    assert text == (
        "Exhibit 1, Example Cloud says: The site was without power. See the meter. "
        f"File: meter.pdf, {len(PDF)} bytes, SHA-256 {hashlib.sha256(PDF).hexdigest()}."
    )
    assert (await accused.one()).revision == before.revision + 1, "an officer who saw less is told (RC2)"


async def test_an_answer_stands_beside_it_and_is_given_once(accused: CaseWorld, exhibits: ExhibitDoor) -> None:
    await exhibits.add("cases/1", SAID, "ann", START + HOUR)
    answered = await exhibits.answer("cases/1", 1, "We asked the grid operator.", "bob", START + 2 * HOUR)
    assert (answered.answered_at, answered.answered_by, answered.answer) == (
        START + 2 * HOUR,
        "bob",
        "We asked the grid operator.",
    )
    assert answered.statement == SAID
    assert (await accused.story(1))[-1] == (
        CaseEntryKind.EXHIBIT,
        "Exhibit 1 of Example Cloud was answered: We asked the grid operator.",
    )
    with pytest.raises(ExhibitStateError, match="bob answered it already"):
        await exhibits.answer("cases/1", 1, "On second thought", "ann", START + 3 * HOUR)
    assert (await exhibits.get("cases/1", 1)) == answered


async def test_while_one_stands_unanswered_no_officer_resolves_the_case(
    accused: CaseWorld, exhibits: ExhibitDoor
) -> None:
    for statement in (SAID, BARE):
        await exhibits.add("cases/1", statement, "ann", START + HOUR)
    with pytest.raises(CaseStateError, match="2 exhibits that are not answered"):
        await resolve(accused)
    await exhibits.answer("cases/1", 2, "Seen.", "bob", START + HOUR)
    with pytest.raises(CaseStateError, match="1 exhibit that is not answered"):
        await resolve(accused)
    accept = CaseWork(CaseAction.RESOLVE, "whatever", accept_risk=True)
    with pytest.raises(CaseStateError):
        await accused.cases.work([CaseRef(1)], accept, "ann", START + HOUR)
    await exhibits.answer("cases/1", 1, "Seen.", "bob", START + HOUR)
    assert await resolve(accused) is CaseState.RESOLVED


async def test_no_rule_resolves_it_either_until_the_answer(world: CaseWorld, exhibits: ExhibitDoor) -> None:
    await world.deploy([1])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START + 10 * MINUTE)
    await world.end(Reason.LOCATION_UNPROVEN, [1], START + HOUR)
    await world.cases.take_findings(START + HOUR)
    await exhibits.add("cases/1", SAID, "ann", START + 2 * HOUR)
    await world.cases.take_findings(START + 3 * DAY)
    assert (await world.one()).state is CaseState.OPEN
    assert (await world.cases.take_findings(START + 3 * DAY)).taken == 0
    await exhibits.answer("cases/1", 1, "Seen.", "bob", START + 4 * DAY)
    (resolved,) = (await world.cases.take_findings(START + 4 * DAY)).resolved
    assert (resolved.number, resolved.state) == (1, CaseState.RESOLVED)


async def test_nor_does_the_license_that_no_longer_ends(world: CaseWorld, exhibits: ExhibitDoor) -> None:
    ending = EndingLicense("D1", "Example Cloud", START + 5 * DAY)
    await world.cases.tell_endings([ending], START)
    await exhibits.add("cases/1", SAID, "ann", START)
    assert (await world.cases.tell_endings([], START + DAY)).resolved == ()
    await exhibits.answer("cases/1", 1, "Seen.", "bob", START + DAY)
    (resolved,) = (await world.cases.tell_endings([], START + DAY)).resolved
    assert resolved.number == 1


async def test_a_resolved_case_may_still_be_rebutted(accused: CaseWorld, exhibits: ExhibitDoor) -> None:
    await resolve(accused)
    assert (await exhibits.add("cases/1", BARE, "ann", START + DAY)).number == 1


async def test_an_appeal_is_against_a_distrust_that_stands(world: CaseWorld, exhibits: ExhibitDoor) -> None:
    await with_landmarks(world)
    appeal = await exhibits.add("landmarks/dallas", BARE, "ann", START + HOUR)
    assert (appeal.name, appeal.sha256, appeal.size) == ("landmarks/dallas/exhibits/1", b"", 0)
    assert (await exhibits.answer("landmarks/dallas", 1, "Survey it.", "bob", START + HOUR)).answer == "Survey it."
    with pytest.raises(ExhibitStateError, match="landmarks/taipei: it is not distrusted"):
        await exhibits.add("landmarks/taipei", BARE, "ann", START)
    ended = update(LANDMARK_DISTRUST).values(ended_at=micros(START + DAY))
    await world.write(lambda connection: connection.execute(ended))
    with pytest.raises(ExhibitStateError):
        await exhibits.add("landmarks/dallas", BARE, "ann", START + DAY)
    assert len((await exhibits.list("landmarks/dallas")).exhibits) == 1, "what was said stays"


@pytest.mark.parametrize("subject", ["cases/9", "landmarks/nowhere"])
async def test_what_does_not_exist_cannot_be_rebutted(exhibits: ExhibitDoor, subject: str) -> None:
    with pytest.raises(RecordNotFoundError, match=subject):
        await exhibits.add(subject, BARE, "ann", START)
    with pytest.raises(RecordNotFoundError, match=subject):
        await exhibits.list(subject)
    with pytest.raises(RecordNotFoundError, match=subject):
        await exhibits.answer(subject, 1, "Seen.", "bob", START)
    assert await exhibits.get(subject, 1) is None


async def test_a_warning_that_is_no_case_yet_cannot_be_rebutted(world: CaseWorld, exhibits: ExhibitDoor) -> None:
    await world.deploy([1])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START)
    with pytest.raises(RecordNotFoundError):
        await exhibits.add("cases/1", BARE, "ann", START)


@pytest.mark.usefixtures("accused")
async def test_pages_end_early_behind_large_files(exhibits: ExhibitDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exhibit_rows, "LISTED_BYTES", 2 * len(PDF) - 1)
    for _ in range(5):
        await exhibits.add("cases/1", SAID, "ann", START)
    numbers: list[list[int]] = []
    more, after = True, 0
    while more:
        page = await exhibits.list("cases/1", after=after)
        numbers.append([each.number for each in page.exhibits])
        more, after = page.more, page.exhibits[-1].number
        assert all(each.statement.data is None and each.sha256 for each in page.exhibits)
    assert numbers == [[1, 2], [3, 4], [5]]


# Over gRPC.


async def _ignore() -> None:
    """Nobody watches this server's health."""


def as_(path: str) -> Metadata:
    return ((DEV_ROLE_KEY, path),)


ANN, EVE = as_("officer/ann"), as_("viewer/eve")
ADD = exhibit_pb2.AddExhibitRequest


@pytest.fixture
async def stub(accused: CaseWorld) -> AsyncIterator[Stub]:
    exhibits = ExhibitDoor(accused.read, accused.write)
    telemetry = Telemetry()
    server = grpc.aio.server(
        interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)],
        options=[("grpc.max_receive_message_length", 8 << 20)],
    )
    exhibit_pb2_grpc.add_ExhibitServiceServicer_to_server(ExhibitServicer(exhibits, lambda: START + HOUR), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        options = [("grpc.max_receive_message_length", 64 << 20)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield exhibit_pb2_grpc.ExhibitServiceStub(channel)
    finally:
        await server.stop(None)


def said(**changes: object) -> ADD:
    given = {"parent": "cases/1", "on_behalf_of": "Example Cloud", "statement": "No power.", **changes}
    return ADD(**given)  # type: ignore[arg-type]


async def refusal(call: object) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    info = error_info(caught.value)
    return caught.value.code(), info.metadata.get("field", info.reason)


async def test_the_file_comes_back_as_it_went(stub: Stub) -> None:
    data = bytes(range(256)) * (MAX_FILE_BYTES // 256)
    added = (await stub.AddExhibit(said(file_name="a.bin", data=data), metadata=ANN)).exhibit
    assert (added.media_type, added.size_bytes, added.by) == ("application/octet-stream", MAX_FILE_BYTES, "ann")
    got = await stub.GetExhibit(exhibit_pb2.GetExhibitRequest(name=added.name), metadata=EVE)
    assert (got.data, got.exhibit) == (data, added)
    assert added.sha256 == hashlib.sha256(data).digest()
    listed = (await stub.ListExhibits(exhibit_pb2.ListExhibitsRequest(parent="cases/1"), metadata=EVE)).exhibits
    assert list(listed) == [added]


async def test_an_exhibit_is_answered_over_the_wire_once(stub: Stub) -> None:
    await stub.AddExhibit(said(), metadata=ANN)
    request = exhibit_pb2.AnswerExhibitRequest(name="cases/1/exhibits/1", answer="Seen.")
    answered = (await stub.AnswerExhibit(request, metadata=ANN)).exhibit
    assert (answered.answer, answered.answered_by, answered.HasField("answer_time")) == ("Seen.", "ann", True)
    again = stub.AnswerExhibit(request, metadata=ANN)
    assert await refusal(again) == (grpc.StatusCode.FAILED_PRECONDITION, "EXHIBIT_STATE")


async def test_pages_join_to_the_whole(stub: Stub) -> None:
    for number in range(5):
        await stub.AddExhibit(said(statement=f"{number}"), metadata=ANN)
    found: list[str] = []
    token = ""
    while True:
        request = exhibit_pb2.ListExhibitsRequest(parent="cases/1", page_size=2, page_token=token)
        page = await stub.ListExhibits(request, metadata=EVE)
        found += [exhibit.statement for exhibit in page.exhibits]
        token = page.next_page_token
        if not token:
            break
    assert found == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"parent": ""}, "parent"),
        ({"parent": "cases/01"}, "parent"),
        ({"parent": "cases/1/exhibits/1"}, "parent"),
        ({"parent": "landmarks/UP"}, "parent"),
        ({"on_behalf_of": " "}, "on_behalf_of"),
        ({"on_behalf_of": "x" * 201}, "on_behalf_of"),
        ({"statement": ""}, "statement"),
        ({"statement": "x" * 10_001}, "statement"),
        ({"statement": "\x1b[31m"}, "statement"),
        ({"data": b"x"}, "file_name"),
        ({"media_type": "text/plain"}, "file_name"),
        ({"file_name": "../up", "data": b"x"}, "file_name"),
        ({"file_name": "a\\b", "data": b"x"}, "file_name"),
        ({"file_name": "..", "data": b"x"}, "file_name"),
        ({"file_name": "a\nb", "data": b"x"}, "file_name"),
        ({"file_name": "x" * 201, "data": b"x"}, "file_name"),
        ({"file_name": "a"}, "data"),
        ({"file_name": "a", "data": bytes(MAX_FILE_BYTES + 1)}, "data"),
        ({"file_name": "a", "data": b"x", "media_type": "pdf"}, "media_type"),
        ({"file_name": "a", "data": b"x", "media_type": "text/html; charset=x"}, "media_type"),
    ],
)
async def test_what_cannot_be_taken_names_its_field(stub: Stub, changes: dict[str, object], field: str) -> None:
    assert await refusal(stub.AddExhibit(said(**changes), metadata=ANN)) == (grpc.StatusCode.INVALID_ARGUMENT, field)


async def test_names_and_tokens_that_are_none(stub: Stub) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    for name in ("", "cases/1", "cases/1/exhibits/0", "cases/1/exhibits/1\n", "parties/a/exhibits/1"):
        get = stub.GetExhibit(exhibit_pb2.GetExhibitRequest(name=name), metadata=EVE)
        assert await refusal(get) == (invalid, "name")
        answer = stub.AnswerExhibit(exhibit_pb2.AnswerExhibitRequest(name=name, answer="x"), metadata=ANN)
        assert await refusal(answer) == (invalid, "name")
    for token in ("?", write_token("exhibits of cases/1", b"-1"), write_token("exhibits of cases/2", b"1")):
        request = exhibit_pb2.ListExhibitsRequest(parent="cases/1", page_token=token)
        assert await refusal(stub.ListExhibits(request, metadata=EVE)) == (invalid, "page_token")
    gone = stub.GetExhibit(exhibit_pb2.GetExhibitRequest(name="cases/1/exhibits/9"), metadata=EVE)
    assert await refusal(gone) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


@pytest.mark.parametrize(("path", "sees"), [("officer/DE/dora", True), ("officer/SG/lee", False)])
async def test_a_jurisdiction_hears_and_answers_in_its_cases_alone(stub: Stub, path: str, sees: bool) -> None:  # noqa: FBT001 - a table's column
    await stub.AddExhibit(said(), metadata=ANN)
    name = "cases/1/exhibits/1"
    by = as_(path)
    for call in (
        stub.AddExhibit(said(), metadata=by),
        stub.ListExhibits(exhibit_pb2.ListExhibitsRequest(parent="cases/1"), metadata=by),
        stub.GetExhibit(exhibit_pb2.GetExhibitRequest(name=name), metadata=by),
        stub.AnswerExhibit(exhibit_pb2.AnswerExhibitRequest(name=name, answer="x"), metadata=by),
    ):
        if sees:
            await call
        else:
            assert await refusal(call) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_to_a_jurisdiction_no_landmark_exists(accused: CaseWorld, stub: Stub) -> None:
    await with_landmarks(accused)
    await stub.AddExhibit(said(parent="landmarks/dallas"), metadata=ANN)
    trusted = stub.AddExhibit(said(parent="landmarks/taipei"), metadata=ANN)
    assert await refusal(trusted) == (grpc.StatusCode.FAILED_PRECONDITION, "EXHIBIT_STATE")
    for call in (
        stub.AddExhibit(said(parent="landmarks/dallas"), metadata=as_("officer/DE/dora")),
        stub.ListExhibits(exhibit_pb2.ListExhibitsRequest(parent="landmarks/dallas"), metadata=as_("viewer/DE/eva")),
    ):
        assert await refusal(call) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
