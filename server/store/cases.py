"""Findings become cases, and rules end them: one round in one transaction (docs/protocol.md CS1 to CS4).

The number of the last finding that was taken in moves in the same transaction, so that two nodes on one store neither
double anything nor forget it. The rules themselves stand in case_rules.py, the sentences in case_story.py.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from server.store import case_story as story
from server.store.case_book import WAITING, CaseBook, Draft, group_by_case, lock_cases, record_of
from server.store.case_news import (
    TAKEN_AT_ONCE,
    AgentKey,
    has_news,
    read_behind,
    read_last_proof,
    read_news,
    read_terms,
)
from server.store.case_rules import (
    DEBOUNCE_US,
    LANDMARKS,
    REOPEN_US,
    RETURN_US,
    came_back,
    flapped,
    is_agent_down,
    scope_of,
    scope_of_ending,
)
from server.store.case_types import (
    CaseEntryKind,
    CaseEvent,
    CaseFinding,
    CaseNews,
    CaseState,
    Scope,
)
from server.store.counters import set_note
from server.store.exhibit_rows import unanswered
from server.store.schema import CASES
from server.store.watch_types import EndingLicense, SiteKey
from server.times import micros
from verifier.errors import Reason
from verifier.verdict import Severity

DUE_AT_ONCE = 1_000
"""Cases that one round looks at because their time has come."""


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether a round would do anything."""
    due = select(CASES.c.case_id).where(CASES.c.due_at <= micros(now)).limit(1)
    return has_news(connection) or connection.execute(due).first() is not None


def run_round(
    connection: Connection, now: datetime, short: Collection[SiteKey], limit: int = TAKEN_AT_ONCE
) -> tuple[CaseNews, bool]:
    """Take in up to `limit` changes of findings, then do what time brings; return also whether more waits.

    Args:
        connection: In a transaction that writes.
        now: The time.
        short: Sites whose presence too few domains could prove (docs/protocol.md CS2).
        limit: Of changes.
    """
    lock_cases(connection)
    return _Round(connection, micros(now), short).run(limit)


class _Round:
    """One transaction's work."""

    def __init__(self, connection: Connection, now_us: int, short: Collection[SiteKey]) -> None:
        self._connection: Final = connection
        self._now_us: Final = now_us
        self._short: Final = frozenset(short)
        self._book: Final = CaseBook(connection, now_us)
        self._opened: dict[int, Draft] = {}
        self._reopened: dict[int, Draft] = {}
        self._resolved: dict[int, Draft] = {}

    def run(self, limit: int) -> tuple[CaseNews, bool]:
        """Do all of it."""
        # 1. What ended, before what opened: what opens after an end came back.
        news = read_news(self._connection, limit)
        self._book.load(each.case_id for each in (*news.ended, *news.weighed) if each.case_id is not None)
        self._take_ended(news.ended)
        self._take_weighed(news.weighed)
        # 2. What opened.
        self._take_new(news.new)
        set_note(self._connection, "cased", news.last)
        self._book.write()
        # 3. What time brings, once all that happened before is known.
        if not news.more:
            self._look_at_due()
            self._book.write()
        told = CaseNews(
            opened=tuple(map(record_of, self._opened.values())),
            reopened=tuple(map(record_of, self._reopened.values())),
            resolved=tuple(map(record_of, self._resolved.values())),
            taken=news.count,
        )
        return told, news.more

    def _take_ended(self, ended: Iterable[CaseFinding]) -> None:
        for case_id, found in sorted(group_by_case(ended).items()):
            draft = self._book.get(case_id)
            if draft is None:
                continue
            self._book.end(draft, found)
            text = story.ended(len({each.pdi for each in found}), [f.reason.name for f in found], draft.devices_open)
            at_us = max(each.ended_at for each in found if each.ended_at is not None)
            self._book.tell(draft, CaseEntryKind.ENDED, text, at_us)

    def _take_weighed(self, weighed: Iterable[CaseFinding]) -> None:
        for case_id, found in sorted(group_by_case(weighed).items()):
            draft = self._book.get(case_id)
            worst = max(each.severity for each in found)
            if draft is None or worst <= draft.severity:
                continue
            draft.severity = int(worst)
            self._book.touch(draft)
            if draft.state == WAITING:
                self._book.load_scopes([draft.scope])
                self._raise(draft)

    def _take_new(self, new: Sequence[CaseFinding]) -> None:
        down = self._agents_down(new)
        by_scope: defaultdict[str, list[CaseFinding]] = defaultdict(list)
        scopes: dict[str, Scope] = {}
        for each in new:
            scope = scope_of(
                each,
                agent_down=each.ended_at is None and (each.licensee, each.agent) in down,
                landmarks_down=each.site in self._short,
            )
            scopes.setdefault(scope.key, scope)
            by_scope[scope.key].append(each)
        self._book.load_scopes(scopes.keys())
        for key, found in by_scope.items():
            self._take_scope(scopes[key], found)

    def _take_scope(self, scope: Scope, found: Sequence[CaseFinding]) -> None:
        """Let findings of one scope join what stands of it, or open what does not."""
        worst = max(each.severity for each in found)
        stands = self._book.standing(scope.key)
        draft = stands or self._book.open(scope, worst)
        if draft.state == WAITING:
            before = stands or self._book.resolved(scope.key)
            quiet_since = None if before is None else before.quiet_since
            back = flapped(found) or any(came_back(quiet_since, each.opened_at) for each in found)
            # docs/protocol.md CS3: a violation at once; a warning when it is the second within a day.
            if worst >= Severity.VIOLATION or back:
                draft = self._raise(draft)
                if worst < Severity.VIOLATION and draft.case_id in self._opened:
                    self._book.tell(draft, CaseEntryKind.RULE, story.flapping())
        elif draft.quiet_since is not None:
            self._tell_return(draft, min(each.opened_at for each in found) - draft.quiet_since)
        begins = draft is not stands
        if begins:
            self._tell_beginning(draft, scope, found)
        at_us = min(each.opened_at for each in found)
        self._book.tell(draft, CaseEntryKind.BROKE if begins else CaseEntryKind.JOINED, story.broke(found), at_us)
        self._book.join(draft, found)

    def _tell_return(self, draft: Draft, quiet_us: int) -> None:
        """Tell again of a case that returns after more than a day; before, nobody is told again (CS3)."""
        if quiet_us > RETURN_US:
            self._book.tell(draft, CaseEntryKind.RULE, story.returned(quiet_us))
            self._reopened[draft.case_id] = draft

    def _tell_beginning(self, draft: Draft, scope: Scope, found: Sequence[CaseFinding]) -> None:
        """Tell what was licensed and what was proven last when it began (docs/protocol.md CS5)."""
        began_at = min(each.opened_at for each in found)
        terms = read_terms(self._connection, found)
        licensed_at = began_at if terms is None else min(terms.revised_at, began_at)
        self._book.tell(draft, CaseEntryKind.LICENSED, story.licensed(scope, terms, began_at), licensed_at)
        last = read_last_proof(self._connection, found)
        never = len({each.pdi for each in found if each.last_proof_at is None})
        text = story.proven(len({each.pdi for each in found}), never, last)
        self._book.tell(draft, CaseEntryKind.PROVEN, text, began_at if last is None else last[1])

    def _raise(self, waiting: Draft) -> Draft:
        """Make a case of what waits: the one of its scope that was resolved lately, or its own. Somebody is told."""
        old = self._book.resolved(waiting.scope)
        # docs/protocol.md CS4: within 30 days it is the same case again, later one that names it.
        if old is not None and old.resolved_at is not None and self._now_us - old.resolved_at <= REOPEN_US:
            text = story.reopened(old.resolved_at, old.resolution)
            self._book.merge(waiting, old)
            self._book.reopen(old)
            self._book.tell(old, CaseEntryKind.RULE, text)
            self._reopened[old.case_id] = old
            return old
        waiting.state, waiting.opened_at = int(CaseState.OPEN), self._now_us
        self._book.touch(waiting)
        if old is not None and old.resolved_at is not None:
            text = story.earlier(old.case_id, old.resolved_at, old.resolution)
            self._book.tell(waiting, CaseEntryKind.RULE, text)
        self._opened[waiting.case_id] = waiting
        return waiting

    # Agents (docs/protocol.md CS2).

    def _agents_down(self, new: Iterable[CaseFinding]) -> frozenset[AgentKey]:
        """Return the agents whose event the silence of these devices is."""
        firsts: dict[AgentKey, CaseFinding] = {}
        for each in new:
            if each.reason is Reason.SILENT and each.ended_at is None and each.agent and each.licensee:
                firsts.setdefault((each.licensee, each.agent), each)
        if not firsts:
            return frozenset()
        scopes = {key: scope_of(each, agent_down=True) for key, each in firsts.items()}
        self._book.load_scopes([scope.key for scope in scopes.values()])
        down: set[AgentKey] = set()
        for key, behind in read_behind(self._connection, firsts.keys()).items():
            told = self._book.standing(scopes[key].key) is not None
            if not is_agent_down(behind.devices, self._now_us, told=told):
                continue
            down.add(key)
            if not told:
                self._make_agents(scopes[key], behind.cases, key[1])
        return frozenset(down)

    def _make_agents(self, scope: Scope, silent_in: Mapping[int, int], agent: str) -> None:
        """Let a young case of a site that holds this agent's devices alone become the agent's."""
        self._book.load(silent_in)
        for case_id, count in sorted(silent_in.items()):
            draft = self._book.get(case_id)
            if (
                draft is not None
                and draft.event == CaseEvent.SILENT_SITE
                and draft.state == CaseState.OPEN
                and draft.devices == count
                and draft.opened_at >= self._now_us - DEBOUNCE_US
            ):
                self._book.rescope(draft, scope)
                self._book.tell(draft, CaseEntryKind.RULE, story.agents(agent))
                return

    # Time.

    def _look_at_due(self) -> None:
        query = select(CASES.c.case_id).where(CASES.c.due_at <= self._now_us).order_by(CASES.c.due_at)
        due = list(self._connection.scalars(query.limit(DUE_AT_ONCE)))
        self._book.load(due)
        drafts = [draft for draft in map(self._book.get, due) if draft is not None]
        self._book.load_scopes({LANDMARKS.key, *(draft.scope for draft in drafts)})
        for draft in drafts:
            if self._book.get(draft.case_id) is not draft or draft.case_id in self._opened:
                continue  # another of this round has taken it along
            if draft.state == WAITING and draft.quiet_since is None:
                self._mature(draft)
            elif draft.state == WAITING:
                self._book.drop(draft)
            elif draft.quiet_since is not None and draft.severity < Severity.VIOLATION:
                # Only warnings, and quiet for a day (docs/protocol.md CS4).
                self._book.resolve(draft, story.quiet())
                self._book.tell(draft, CaseEntryKind.RULE, story.quiet())
                self._resolved[draft.case_id] = draft

    def _mature(self, draft: Draft) -> None:
        """Make a case of warnings that have stood for the debounce; whose event they are may be known only now."""
        waiting = draft
        if draft.event == CaseEvent.PRESENCE and (draft.license_number, draft.site_id) in self._short:
            stands = self._book.standing(LANDMARKS.key)
            if stands is None:
                self._book.rescope(draft, LANDMARKS)
            else:
                self._book.merge(draft, stands)
                if stands.state != WAITING:
                    return  # its findings have joined; nobody is told again
                waiting = stands
        self._book.tell(self._raise(waiting), CaseEntryKind.RULE, story.stood())


def has_ending_news(connection: Connection, endings: Sequence[EndingLicense]) -> bool:
    """Whether `tell_endings` would do anything."""
    wanted = {scope_of_ending(ending).key for ending in endings}
    of_endings = select(CASES.c.case_id, CASES.c.scope, CASES.c.resolved_at)
    rows = connection.execute(of_endings.where(CASES.c.event == int(CaseEvent.LICENSE_ENDING))).all()
    over = {row.case_id for row in rows if row.resolved_at is None and row.scope not in wanted}
    return bool(wanted - {row.scope for row in rows} or over - unanswered(connection, over).keys())


def tell_endings(connection: Connection, endings: Sequence[EndingLicense], now: datetime) -> CaseNews:
    """Open a case for each license that ends soon and was not told yet, and resolve those that no longer end.

    Args:
        connection: In a transaction that writes.
        endings: All licenses that end soon (docs/protocol.md W5).
        now: The time.
    """
    lock_cases(connection)
    book = CaseBook(connection, micros(now))
    scopes = {scope_of_ending(ending).key: (scope_of_ending(ending), ending) for ending in endings}
    book.load_scopes(scopes.keys())
    opened: list[Draft] = []
    for key, (scope, ending) in sorted(scopes.items()):
        if book.standing(key) is not None or book.resolved(key) is not None:
            continue  # one for each license and end
        draft = book.open(scope, Severity.NOTICE, int(CaseState.OPEN))
        days = (ending.valid_until - now).days
        ends = f"{ending.valid_until:%Y-%m-%d %H:%M} UTC"
        book.tell(draft, CaseEntryKind.BROKE, story.ending(days, ends))
        opened.append(draft)
    standing = select(CASES.c.case_id).where(
        CASES.c.event == int(CaseEvent.LICENSE_ENDING),
        CASES.c.resolved_at.is_(None),
    )
    ids = list(connection.scalars(standing))
    book.load(ids)
    held = unanswered(connection, ids)  # docs/protocol.md K4
    resolved: list[Draft] = []
    over = (draft for draft in map(book.get, ids) if draft is not None and draft.scope not in scopes)
    for draft in (draft for draft in over if draft.case_id not in held):
        book.resolve(draft, story.no_longer_ending())
        book.tell(draft, CaseEntryKind.RULE, story.no_longer_ending())
        resolved.append(draft)
    book.write()
    return CaseNews(opened=tuple(map(record_of, opened)), resolved=tuple(map(record_of, resolved)))
