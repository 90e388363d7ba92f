"""Lists in, hits out, decisions on them, over gRPC and in the store (docs/protocol.md RC5)."""

import asyncio
import io
from collections.abc import Sequence
from datetime import datetime, timedelta

import grpc
import pytest
from trigpoint.v1 import screening_pb2

from server.desk.screening import ScreeningTask
from server.records.names_alike import Likeness
from server.rpc.screening_file import list_entries
from server.store.errors import HitsOpenError, StoreUnavailableError
from server.store.screening_door import ScreeningDoor
from server.store.screening_types import (
    HitCounts,
    HitFilter,
    HitKey,
    HitState,
    ListVersion,
    NewList,
    PartyNames,
    ScreenedParty,
)
from tests.screening.list_file import ROWS, SOURCE, entry, file_of
from tests.screening.screening_world import NOW, World
from tests.store.record_world import approve, draft, propose, write
from verifier.license import LicenseState

OPEN, CLEARED, CONFIRMED = (
    screening_pb2.HIT_STATE_OPEN,
    screening_pb2.HIT_STATE_CLEARED,
    screening_pb2.HIT_STATE_CONFIRMED,
)


def shown(hits: list[screening_pb2.ScreeningHit]) -> list[tuple[str, int]]:
    return [(hit.name.removeprefix("screeningHits/"), hit.state) for hit in hits]


async def test_a_new_list_screens_all_parties(world: World) -> None:
    await world.write_party("zarvelin", "Zarvelin Dynamics Frankfurt GmbH", "Other Name")
    await world.write_party("petrak", "Maximovin Petrak Olegovin")
    await world.write_party("nobody", "Qumolith Hosting Ltd")
    response = await world.send(file_of(ROWS), "2026-07-01")
    assert (response.entry_count, response.name_count) == (3, 5)
    assert (response.new_hit_count, response.gone_hit_count, response.error_count) == (2, 0, 0)
    first, second = await world.hits()
    assert (first.name, first.party, first.score) == ("screeningHits/petrak.e2", "parties/petrak", 100.0)
    assert (first.party_title, first.matched) == ("Maximovin Petrak Olegovin", "OLEGOVIN, Petrak Maximovin")
    assert (second.party_title, second.entry_title) == (
        "Zarvelin Dynamics Frankfurt GmbH",
        "Zarvelin Dynamics Co., Ltd.",
    )
    assert (second.score, second.source, second.list_version) == (88.0, SOURCE, "2026-07-01")
    assert (second.state, second.decided_by, second.HasField("decide_time")) == (OPEN, "", False)
    assert second.find_time.ToDatetime() == NOW.replace(tzinfo=None)
    assert await world.store.screening.blocked_parties(["zarvelin", "nobody", "petrak"]) == ("petrak", "zarvelin")


async def test_an_alias_is_screened_and_the_alike_pair_is_told(world: World) -> None:
    await world.write_party("p", "Innocent Title", "zd optronik", "Zarvelin")
    await world.send_rows("1")
    (hit,) = await world.hits()
    assert (hit.party_title, hit.matched, hit.entry_title) == (
        "Zarvelin",
        "ЗАРВЕЛИН",
        "Zarvelin Dynamics Co., Ltd.",
    )


async def test_a_written_party_is_blocked_until_it_is_screened(world: World) -> None:
    await world.write_party("p", "Qumolith Hosting")
    assert await world.store.screening.blocked_parties(["p"]) == ()  # no list is in force
    await world.send_rows("1")
    assert await world.store.screening.blocked_parties(["p"]) == ()
    await world.write_party("p", "Zarvelin Dynamics")
    await world.write_party("q", "Qumolith Two")
    assert await world.store.screening.blocked_parties(["p", "q", "unknown"]) == ("p", "q", "unknown")
    assert await world.task.screen() == HitCounts(new=1, gone=0)
    assert await world.store.screening.blocked_parties(["p", "q"]) == ("p",)
    await world.write_party("p", "Qumolith Hosting")
    assert await world.task.screen() == HitCounts(new=0, gone=1)
    assert await world.hits() == []
    assert await world.store.screening.blocked_parties(["p", "q"]) == ()
    assert await world.task.screen() == HitCounts()


async def test_decisions_stand_while_the_names_do(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics", "Unlike Anything")
    await world.send_rows("1")
    (hit,) = await world.decide(CLEARED, "screeningHits/p.e1")
    assert (hit.state, hit.decided_by, hit.reason) == (CLEARED, "ann", "looked at it")
    assert hit.decide_time.ToDatetime() == NOW.replace(tzinfo=None)
    assert await world.store.screening.blocked_parties(["p"]) == ()
    # Another list and another alias that change neither name nor likeness.
    assert await world.send_rows("2", [*ROWS, entry("e9", "Unrelated Wombatine")]) == (0, 0)
    await world.write_party("p", "Zarvelin Dynamics", "Unlike All")
    assert await world.task.screen() == HitCounts()
    (hit,) = await world.hits()
    assert (hit.state, hit.list_version, hit.reason) == (CLEARED, "2", "looked at it")
    # The entry's name changes: the same person would have to say so again.
    renamed = entry("e1", "Zarvelin Dynamics (Group)", "Zarvelin Dynamics Co., Ltd.")
    assert await world.send_rows("3", [renamed]) == (1, 0)
    (hit,) = await world.hits()
    assert (hit.state, hit.decided_by, hit.reason, hit.HasField("decide_time")) == (OPEN, "", "", False)
    # So does the party's.
    await world.decide(CONFIRMED, hit.name)
    assert await world.store.screening.blocked_parties(["p"]) == ("p",)
    await world.write_party("p", "Zarvelin Dinamics")
    assert await world.task.screen() == HitCounts(new=1, gone=0)
    (hit,) = await world.hits()
    assert (hit.state, hit.party_title) == (OPEN, "Zarvelin Dinamics")


async def test_a_hit_that_was_open_under_other_names_is_no_new_one(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics")
    await world.send_rows("1")
    await world.write_party("p", "Zarvelin Dinamics")
    assert await world.task.screen() == HitCounts()
    assert [(hit.party_title, hit.state) for hit in await world.hits()] == [("Zarvelin Dinamics", OPEN)]


async def test_hits_go_with_their_entry(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics")
    await world.write_party("q", "Petrak Olegovin")
    await world.send_rows("1")
    await world.decide(CONFIRMED, "screeningHits/p.e1")
    assert await world.send_rows("2", ROWS[1:]) == (0, 1)
    assert shown(await world.hits()) == [("q.e2", OPEN)]
    assert await world.store.screening.blocked_parties(["p", "q"]) == ("q",)


async def test_a_dry_run_tells_and_changes_nothing(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics")
    await world.write_party("q", "Petrak Olegovin")
    assert await world.send_rows("1", validate_only=True) == (2, 0)
    assert await world.hits() == []
    assert await world.store.screening.list_in_force() is None
    await world.send_rows("1")
    await world.decide(CLEARED, "screeningHits/p.e1")
    changed = [entry("e1", "Zarvelin Dynamics"), entry("e7", "Zarvelin Dynamic")]
    before = await world.hits()
    assert await world.send_rows("2", changed, validate_only=True) == (2, 1)
    assert await world.hits() == before
    assert await world.send_rows("2", changed) == (2, 1)
    assert shown(await world.hits()) == [("p.e1", OPEN), ("p.e7", OPEN)]


async def test_a_list_is_taken_whole_or_not_at_all(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics")
    await world.send_rows("1")
    response = await world.send(file_of([entry("n1", "Fine"), entry("n2", "")]), "2")
    assert [(error.row, error.field, error.message) for error in response.errors] == [(2, "name", "is empty")]
    assert (response.error_count, response.new_hit_count) == (1, 0)
    assert shown(await world.hits()) == [("p.e1", OPEN)]
    assert await world.store.screening.list_in_force() == ListVersion("1", 1)


async def test_a_version_names_one_file(world: World) -> None:
    await world.send_rows("1")
    for validate_only in (True, False):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.send_rows("1", ROWS[1:], validate_only=validate_only)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "options.version" in (caught.value.details() or "")
    assert await world.send_rows("1") == (0, 0)
    await world.send_rows("2", ROWS[1:])
    await world.send_rows("1")  # back to the older one
    assert await world.store.screening.list_in_force() == ListVersion("1", 4)


async def test_pages_are_open_first_then_by_score(world: World) -> None:
    for number in range(5):
        await world.write_party(f"p{number}", "Zarvelin Dynamics" if number % 2 else "Zarvelin Dynamics Frankfurt")
    await world.send_rows("1")
    await world.decide(CLEARED, "screeningHits/p1.e1", "screeningHits/p4.e1")
    order = [("p3.e1", OPEN), ("p0.e1", OPEN), ("p2.e1", OPEN), ("p1.e1", CLEARED), ("p4.e1", CLEARED)]
    assert shown(await world.hits()) == order
    assert shown(await world.hits('state = "CLEARED"')) == order[3:]
    assert shown(await world.hits('state = "HIT_STATE_OPEN" AND party = "p2"')) == [("p2.e1", OPEN)]
    assert shown(await world.hits('party = "parties/p3"')) == [("p3.e1", OPEN)]
    assert (await world.store.screening.list_hits(HitFilter(), limit=1)).list_version == "1"


async def test_entries_with_any_id_are_named(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics")
    await world.send_rows("1", [entry("a.b/c_ü", "Zarvelin Dynamics"), entry("d", "Zarvelin Dynamics")])
    first, second = await world.hits()
    assert (first.name, second.name) == ("screeningHits/p.a.b_2fc_5f_c3_bc", "screeningHits/p.d")
    decided = await world.decide(CONFIRMED, second.name, first.name)
    assert shown(decided) == [("p.d", CONFIRMED), ("p.a.b_2fc_5f_c3_bc", CONFIRMED)]


async def test_decisions_are_all_or_none(world: World) -> None:
    await world.write_party("p", "Zarvelin Dynamics")
    await world.send_rows("1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.decide(CLEARED, "screeningHits/p.e1", "screeningHits/p.e2")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "screeningHits/p.e2" in (caught.value.details() or "")
    assert shown(await world.hits()) == [("p.e1", OPEN)]


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("names", screening_pb2.DecideScreeningHitsRequest(state=CLEARED, reason="x")),
        ("names[0]", screening_pb2.DecideScreeningHitsRequest(names=["p.e1"], state=CLEARED, reason="x")),
        ("names[0]", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/p"], state=CLEARED, reason="x")),
        ("names[0]", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/P.e"], state=CLEARED, reason="x")),
        ("names[0]", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/p._"], state=CLEARED, reason="x")),
        ("names", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/p.e"] * 2, state=CLEARED, reason="x")),
        ("names", screening_pb2.DecideScreeningHitsRequest(names=["x"] * 1_001, state=CLEARED, reason="x")),
        ("state", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/p.e"], state=OPEN, reason="x")),
        ("state", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/p.e"], reason="x")),
        ("reason", screening_pb2.DecideScreeningHitsRequest(names=["screeningHits/p.e"], state=CLEARED, reason=" ")),
    ],
)
async def test_a_bad_decision_names_its_field(
    world: World, field: str, request_: screening_pb2.DecideScreeningHitsRequest
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.DecideScreeningHits(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(f"{field}: ")


@pytest.mark.parametrize(
    "request_",
    [
        screening_pb2.ListScreeningHitsRequest(filter='score = "90"'),
        screening_pb2.ListScreeningHitsRequest(filter='state = "GONE"'),
        screening_pb2.ListScreeningHitsRequest(filter='party = "Not An Id"'),
        screening_pb2.ListScreeningHitsRequest(page_size=-1),
        screening_pb2.ListScreeningHitsRequest(page_token="bm9uc2Vuc2U"),
    ],
)
async def test_a_bad_question_is_refused(world: World, request_: screening_pb2.ListScreeningHitsRequest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.ListScreeningHits(request_)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("version", ["", " ", "x" * 129, "a\nb", "2026-07-01 "])
async def test_a_list_needs_a_version(world: World, version: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.send_rows(version)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "options.version" in (caught.value.details() or "")


async def test_what_was_found_on_another_state_is_not_kept(world: World) -> None:
    await world.write_party("p", "Qumolith Hosting")
    await world.send_rows("1")
    listed = await world.store.screening.list_in_force()
    assert listed == ListVersion("1", 1)
    found = (Likeness("e1", 90.0, "Old Name", "ZD Optronics", "Zarvelin Dynamics Co., Ltd."),)
    await world.write_party("p", "Qumolith Two")
    older = ScreenedParty(PartyNames("p", 1, ("Old Name",)), found)
    assert await world.store.screening.keep_hits(listed, [older], NOW) == HitCounts()
    assert await world.store.screening.blocked_parties(["p"]) == ("p",)
    current = ScreenedParty(PartyNames("p", 2, ("Qumolith Two",)), found)
    assert await world.store.screening.keep_hits(ListVersion("0", 0), [current], NOW) == HitCounts()
    assert await world.hits() == []
    new = NewList("2", b"2" * 32, 0, "ann")
    assert await world.store.screening.replace_list(new, [], [older], NOW) == HitCounts()
    assert await world.store.screening.blocked_parties(["p"]) == ("p",)


async def test_two_processes_on_one_store_follow_each_other(world: World) -> None:
    other = ScreeningTask(world.store.screening, lambda: NOW)
    await world.send_rows("1")
    await world.write_party("p", "Zarvelin Dynamics")
    assert await other.screen() == HitCounts(new=1)
    await world.send_rows("2", [entry("z", "Qumolith Hosting")])
    await world.write_party("q", "Qumolith Hosting")
    assert await other.screen() == HitCounts(new=1)
    assert shown(await world.hits()) == [("q.z", OPEN)]


async def test_the_task_screens_who_was_left_over(world: World) -> None:
    await world.send_rows("1")
    await world.write_party("p", "Zarvelin Dynamics")
    kept = asyncio.Event()

    class Watched(ScreeningDoor):
        async def keep_hits(self, listed: ListVersion, screened: Sequence[ScreenedParty], now: datetime) -> HitCounts:
            counts = await super().keep_hits(listed, screened, now)
            kept.set()
            return counts

    watched = Watched(world.store._read, world.store._write)
    task = asyncio.create_task(ScreeningTask(watched, lambda: NOW, timedelta(0)).run())
    await kept.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shown(await world.hits()) == [("p.e1", OPEN)]
    decided = await world.store.screening.decide_hits([HitKey("p", "e1")], HitState.CLEARED, "ann", "no", NOW)
    assert [hit.state for hit in decided] == [HitState.CLEARED]


async def test_a_store_fault_makes_the_task_late(world: World) -> None:
    kept = asyncio.Event()
    faults = [StoreUnavailableError("broken"), StoreUnavailableError("still broken")]

    class Failing(ScreeningDoor):
        async def load_unscreened(self, listed: ListVersion, *, limit: int = 1_000) -> list[PartyNames]:
            if faults:
                raise faults.pop()
            kept.set()
            return await super().load_unscreened(listed, limit=limit)

    await world.send_rows("1")
    failing = Failing(world.store._read, world.store._write)
    task = asyncio.create_task(ScreeningTask(failing, lambda: NOW, timedelta(0)).run())
    await kept.wait()
    assert faults == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_license_waits_for_its_parties(world: World) -> None:
    """docs/protocol.md RC5: whether a hit came before the change was proposed, after it, or is still to be found."""
    await world.send_rows("1", ROWS[1:])
    await world.write_party("acme", "Zarvelin Dynamics", "Example Cloud")
    await world.task.screen()
    await write(world.store, draft(parties=["acme"]))
    change = await propose(world.store, draft(state=LicenseState.ACTIVE, parties=["acme"]))
    entries = list_entries(io.BytesIO(file_of(ROWS)))
    await world.store.screening.replace_list(NewList("2", b"2" * 32, 3, "ann"), entries, [], NOW)
    for _ in range(2):  # not screened, then with a hit
        with pytest.raises(HitsOpenError) as refused:
            await approve(world.store, change)
        assert refused.value.party_ids == ("acme",)
        await world.task.screen()
    await world.decide(CONFIRMED, "screeningHits/acme.e1")
    with pytest.raises(HitsOpenError):
        await approve(world.store, change)
    await world.decide(CLEARED, "screeningHits/acme.e1")
    assert (await approve(world.store, change)).state.name == "APPLIED"
