"""The one writer thread, and the group commit: attestations that come together share one transaction.

A durable transaction costs one flush of the disk, whatever is in it, so throughput comes from putting many attestations
into one. While a group is being made durable, the next one gathers.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection, Engine

from server.store.errors import StoreUnavailableError
from server.store.sqlite import is_outage, run_in_transaction
from server.store.types import AttestationRecord, Unwritten

GATHER_SECONDS = 0.002
"""How long the first waits for others. Much below a disk's flush, much above the time between callers under load."""

GROUP_RECORDS = 256
"""Enough to make the flush's share small; a larger group would only delay its first caller."""

Result = TypeVar("Result")


@dataclass(slots=True)
class _Commit:
    records: tuple[AttestationRecord, ...]
    done: "Future[Unwritten]"


@dataclass(slots=True)
class _Change(Generic[Result]):
    work: Callable[[Connection], Result]
    done: "Future[Result]"

    def run(self, engine: Engine, on_outage: Callable[[], None]) -> None:
        """Run in a transaction of its own and settle."""
        if not self.done.set_running_or_notify_cancel():
            return
        try:
            self.done.set_result(run_in_transaction(engine, self.work))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the caller, not to this thread
            if is_outage(error):
                on_outage()
            self.done.set_exception(error)


class Writer:
    """Runs all that writes, one transaction at a time, in a thread of its own.

    Args:
        engine: Its connection.
        write: Writes records in an open transaction and returns those that it did not write.
        on_outage: Called in the writer's thread when the database did not work, before the caller hears of it.
    """

    def __init__(
        self,
        engine: Engine,
        write: Callable[[Connection, Sequence[AttestationRecord]], Unwritten],
        on_outage: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._write = write
        self._on_outage = on_outage
        self._jobs: queue.SimpleQueue[_Commit | _Change[object] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def commit(self, records: tuple[AttestationRecord, ...]) -> "Future[Unwritten]":
        """Write the records in a shared transaction; the result is set once it is durable."""
        done: Future[Unwritten] = Future()
        self._put(_Commit(records, done))
        return done

    def run(self, work: Callable[[Connection], Result]) -> "Future[Result]":
        """Run `work` in a transaction of its own; the result is set once it is durable."""
        done: Future[Result] = Future()
        self._put(_Change(work, done))  # type: ignore[arg-type]  # the thread settles the future and never looks at the result
        return done

    def close(self) -> None:
        """Finish all that was put, then end the thread."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _put(self, job: "_Commit | _Change[object]") -> None:
        # Under the lock, so that nothing can come to lie behind the end mark, where nobody would settle it.
        with self._closing:
            if self._closed:
                raise StoreUnavailableError("the store is closed")
            self._jobs.put(job)

    def _run(self) -> None:
        job = self._jobs.get()
        while job is not None:
            if isinstance(job, _Commit):
                job = self._run_group(job)
            else:
                job.run(self._engine, self._on_outage)
                job = self._jobs.get()

    def _run_group(self, first: _Commit) -> "_Commit | _Change[object] | None":
        """Gather a group, write it, settle it; return the job that comes after it."""
        group = [first]
        count = len(first.records)
        until = time.monotonic() + GATHER_SECONDS
        following: _Commit | _Change[object] | None
        while True:
            try:
                following = (
                    self._jobs.get(timeout=max(0.0, until - time.monotonic()))
                    if count < GROUP_RECORDS
                    else self._jobs.get_nowait()
                )
            except queue.Empty:
                self._write_group(group)
                return self._jobs.get()
            if not isinstance(following, _Commit) or count + len(following.records) > GROUP_RECORDS:
                self._write_group(group)
                return following
            group.append(following)
            count += len(following.records)

    def _write_group(self, group: Sequence[_Commit]) -> None:
        running = [commit for commit in group if commit.done.set_running_or_notify_cancel()]
        if running:
            self._write_running(running)

    def _write_running(self, running: Sequence[_Commit]) -> None:
        records = [record for commit in running for record in commit.records]
        try:
            unwritten = run_in_transaction(self._engine, lambda connection: self._write(connection, records))
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the callers, not to this thread
            outage = is_outage(error)
            if outage:
                self._on_outage()
            if len(running) > 1 and not outage:
                # The database works: one record that cannot be written must not take the others with it.
                for commit in running:
                    self._write_running([commit])
            else:
                for commit in running:
                    commit.done.set_exception(error)
            return
        for commit in running:
            own = {record.verdict.challenge for record in commit.records}
            commit.done.set_result(unwritten.among(own))
