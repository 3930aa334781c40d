"""The one loop of all that follow the event log: `handle` gets each event of a group once, in order per key.

    consumer = Consumer(bench.db, bench.log, bench.sight, "sealer", ("agent.audit",), handle)
    await consumer.run()    # until cancelled

`handle(tx, entries)` gets events of one partition, in order, in the transaction in which they count as done: what it
writes by `tx` is there once, however often an event is delivered; what it does elsewhere must bear being repeated. It
is cut off at the deadline. When it fails, all is rolled back and the batch cut into smaller ones, until the event that
fails is alone: that becomes a letter (letters.py), later ones of its key wait behind it, and all others go on. A letter
is tried again, later and later, and after its last attempt it is dead, with the reason, and its key goes on. An event
that this release cannot read, or whose handler calls it Hopeless, is dead at once.

While Postgres or the broker is away everything waits: an event has failed only if Postgres could write that down. A
handler that finds the disk full, or raises Away for something else, is no event's fault: its partition waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeAlias

from services.common import crash
from services.common.background import finished, pause_s
from services.common.caller import WORKERS
from services.common.consumer import letters, marks
from services.common.consumer.lanes import Lanes, Run
from services.common.consumer.letters import Letter
from services.common.consumer.readable import flaw
from services.common.db import Database, Transaction
from services.common.errors import Unavailable
from services.common.log.log import Entry, LeaseLost, Log, Reader
from services.common.postgres import is_full
from services.common.telemetry import Sight, log


class Away(Exception):  # noqa: N818 - what has happened
    """What the handler needs elsewhere is away. That is no fault of any event: none is put off."""


class Hopeless(ValueError):  # noqa: N818 - what an event is
    """No attempt will ever handle the event: it is dead at once."""


Handle: TypeAlias = Callable[[Transaction, Sequence[Entry]], Awaitable[None]]
Tally: TypeAlias = Counter[str]
"""Events by what became of them: done, repeated, waiting, dead."""

FETCH_S = 0.5
AGAIN_S, LONGEST_AGAIN_S = 0.4, 5.0
"""How long it takes to begin again when something is away."""
ROLL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often an event is tried. From one time to the next it waits twice as long as before."""

    attempts: int = 8
    first_s: float = 1.0
    longest_s: float = 300.0
    look_s: float = 0.5
    """How often is looked for what is due."""

    def after(self, attempt: int) -> float | None:
        """Seconds to the next attempt. None: that one, counted from 1, was the last."""
        return None if attempt >= self.attempts else min(self.first_s * 2.0 ** (attempt - 1), self.longest_s)


@dataclass(frozen=True, slots=True)
class Consumer:
    db: Database
    log: Log
    sight: Sight
    group: str
    topics: Sequence[str]
    handle: Handle
    batch: int = 500
    """The most events of one transaction."""
    at_once: int = 2
    """How many partitions are worked at once, each on a connection. As many letters are tried at once."""
    deadline_s: float = 10.0
    slack_s: float = 2.0
    """So long after the deadline Postgres itself ends a transaction, such as that of a process that stands still."""
    patience: Patience = Patience()
    grace_s: float = 3.0
    """How long what is under way may take when the consumer is told to end."""
    measure_s: float = 5.0
    gather_s: float = 0.0
    """What comes gathers for so long, unless it comes after a silence or the group is behind: few large transactions in
    place of many small ones, where nobody waits for what the handler does."""

    async def run(self) -> None:
        """Until cancelled: then what is under way comes to its end, as far as the grace lets it."""
        async with asyncio.TaskGroup() as tasks:
            for step in (self._follow, *[self._retry] * self.at_once, self._measure, self._make_room):
                tasks.create_task(self._steadily(step), name=f"{self.group}: {step.__name__}")

    async def _steadily(self, step: Callable[[], Awaitable[None]]) -> None:
        """Step after step. One that fails is made again, later and later: something is away."""
        failed = 0
        while True:
            try:
                await step()
                failed = 0
            except Exception as fault:
                failed += 1
                log().warning("a consumer waits", group=self.group, step=step.__name__, reason=reason_of(fault))
                await asyncio.sleep(pause_s(failed, AGAIN_S, LONGEST_AGAIN_S))

    async def _follow(self) -> None:
        """Join the group and work what comes, until something is away."""
        async with self._transaction() as tx:
            await marks.roll(tx)
        async with self.log.reader(self.group, self.topics, gather_s=self.gather_s) as reader:
            lanes = Lanes(lambda run: self._work(reader, run), self.at_once, self.batch)
            try:
                while True:
                    for run in await reader.fetch(await lanes.room(), lanes.opening_s(FETCH_S)):
                        lanes.put(run)
                    for place in lanes.broken():
                        await reader.rewind(place)
            finally:
                await lanes.end(self.grace_s)

    async def _work(self, reader: Reader, run: Run) -> bool:
        """Whether all of the run is done, put off or dead, and the group stands behind it. If not, it comes again."""
        try:
            if fault := await self._attempt(reader, run):
                await self._by_parts(reader, run, fault)
        except LeaseLost:
            log().info("a partition went to another reader", group=self.group, topic=run[0].topic, part=run[0].part)
            return False
        except Exception as fault:
            log().warning("a run is read again", group=self.group, topic=run[0].topic, reason=reason_of(fault))
            return False
        return True

    async def _by_parts(self, reader: Reader, run: Run, fault: Exception) -> None:
        """Halve what fails down to one event, which is put off. What took too long is taken apart at once."""
        size = 1 if isinstance(fault, TimeoutError) else (len(run) + 1) // 2
        for first in range(0, len(run), size):
            part = run[first : first + size]
            failed = await self._attempt(reader, part)
            if failed and len(part) > 1:
                await self._by_parts(reader, part, failed)
            elif failed:
                await self._put_off(reader, part, failed)

    async def _attempt(self, reader: Reader, run: Run) -> Exception | None:
        """None: the run is done, and the group stands behind it."""

        async def sifted(tx: Transaction, tally: Tally) -> Sequence[Entry]:
            return await self._sift(tx, run, tally)

        async def held(tx: Transaction) -> None:
            await reader.hold(tx, run)

        fault = await self._once(sifted, held)
        if fault is None:
            crash.here("consumer: done")
            await reader.commit(run)
            crash.here("consumer: committed")
        return fault

    async def _once(
        self,
        begin: Callable[[Transaction, Tally], Awaitable[Sequence[Entry]]],
        close: Callable[[Transaction], Awaitable[None]],
    ) -> Exception | None:
        """One transaction: what `begin` gives is handled, then comes `close`. Returns what it failed with, first of all
        the handler's fault. Raises LeaseLost; Away; Unavailable when Postgres is away."""
        failed: Exception | None = None
        tally: Tally = Counter()
        try:
            async with asyncio.timeout(self.deadline_s), self._transaction() as tx:
                entries = await begin(tx, tally)
                crash.here("consumer: marked")
                try:
                    if entries:
                        await self.handle(tx, entries)
                        crash.here("consumer: handled")
                except Exception as fault:
                    failed = fault
                    raise
                await close(tx)
                crash.here("consumer: held")
        except LeaseLost:
            raise
        except Exception as fault:
            if isinstance(failed, Away):
                raise failed from fault
            if is_full(failed):
                raise Away(reason_of(failed)) from fault
            if failed is None and isinstance(fault, Unavailable):
                raise
            return failed or fault
        self._count(tally)
        return None

    async def _sift(self, tx: Transaction, run: Run, tally: Tally) -> Sequence[Entry]:
        """Mark the run as done. Returns what the handler has to see for that: what was not marked before, can be read,
        and has no letter of its key before it."""
        fresh = await marks.mark(tx, self.group, [entry.id for entry in run])
        first = {entry.id: n for n, entry in reversed(list(enumerate(run)))}
        new = [entry for n, entry in enumerate(run) if entry.id in fresh and first[entry.id] == n]
        if len(first) < len(run):
            self._tell_apart(run, [run[first[entry.id]] for entry in run])
        flaws = {entry.id: why for entry in new if (why := flaw(entry))}
        blocked = await letters.blocked(tx, self.group, run[0].topic, {entry.key for entry in new})
        todo, behind = list[Entry](), list[Entry]()
        for entry in new:
            if entry.id not in flaws:
                (behind if entry.key in blocked else todo).append(entry)
        await letters.bury(tx, self.group, [(entry, flaws[entry.id]) for entry in new if entry.id in flaws])
        await letters.queue(tx, self.group, behind)
        tally.update(repeated=len(run) - len(new), dead=len(flaws), waiting=len(behind), done=len(todo))
        return todo

    def _tell_apart(self, run: Run, firsts: Run) -> None:
        """Say which events have another's id: the first of them alone is handled, though they are no repeats."""
        for entry, first in zip(run, firsts, strict=True):
            if (entry.tenant, entry.key, entry.payload) != (first.tenant, first.key, first.payload):
                where = {"topic": entry.topic, "part": entry.part, "offset": entry.offset, "first": first.offset}
                log().error("two events have one id", group=self.group, id=str(entry.id), **where)

    async def _put_off(self, reader: Reader, run: Run, fault: Exception) -> None:
        """The one event of the run becomes a letter."""
        tally: Tally = Counter()
        async with asyncio.timeout(self.deadline_s), self._transaction() as tx:
            for entry in await self._sift(tx, run, tally):
                delay_s = self._delay_s(1, fault)
                await letters.put_off(tx, self.group, entry, delay_s, reason_of(fault))
                tally = Counter(dead=1) if delay_s is None else Counter(waiting=1)
            await reader.hold(tx, run)
        crash.here("consumer: put off")
        await reader.commit(run)
        self._count(tally)

    async def _retry(self) -> None:
        """Try the letter that has been due for the longest, or look again a little later."""
        letter = await self._claim() if await letters.is_due(self.db, self.group) else None
        if letter is None:
            await asyncio.sleep(self.patience.look_s)
        else:
            await finished(self._try(letter), self.grace_s)

    async def _claim(self) -> Letter | None:
        async with self._transaction() as tx:
            letter = await letters.claim(tx, self.group, self.deadline_s + 2 * self.slack_s)
        crash.here("consumer: claimed")
        return letter

    async def _try(self, letter: Letter) -> None:
        async def begin(_tx: Transaction, tally: Tally) -> Sequence[Entry]:
            tally.update(done=1)
            return [letter.entry]

        async def close(tx: Transaction) -> None:
            await letters.done(tx, self.group, letter)

        try:
            why = flaw(letter.entry)
            fault = None if why else await self._once(begin, close)
        except LeaseLost:
            return
        except Away:
            async with self._transaction() as tx:
                await letters.put_back(tx, self.group, letter)
            raise
        if why or fault:
            delay_s = None if why else self._delay_s(letter.attempt, fault)
            async with self._transaction() as tx:
                await letters.failed(tx, self.group, letter, delay_s, why or reason_of(fault))
            self._count(Counter(dead=1) if delay_s is None else Counter(failed=1))

    def _delay_s(self, attempt: int, fault: Exception | None) -> float | None:
        """To the next attempt after this one. None: there is none."""
        return None if isinstance(fault, Hopeless) else self.patience.after(attempt)

    async def _measure(self) -> None:
        """What the metrics say; and whatever letter waits for nothing is made due."""
        standing = await self.log.standing(self.group)
        for topic in self.topics:
            ends = await self.log.ends(topic)
            lag = sum(max(0, end - standing.get(place, first)) for place, (first, end) in ends.items())
            self.sight.consumer_lag.labels(self.group, topic).set(lag)
        async with self._transaction() as tx:
            await letters.wake(tx, self.group)
            waiting, dead = await letters.count(tx, self.group)
        self.sight.consumer_retries.labels(self.group).set(waiting)
        self.sight.consumer_dead.labels(self.group).set(dead)
        await asyncio.sleep(self.measure_s)

    async def _make_room(self) -> None:
        await asyncio.sleep(ROLL_S)
        async with self._transaction() as tx:
            await marks.roll(tx)

    def _transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self.db.own(WORKERS, within_s=self.deadline_s + self.slack_s)

    def _count(self, tally: Tally) -> None:
        for outcome, number in tally.items():
            self.sight.consumer_events.labels(self.group, outcome).inc(number)


def reason_of(fault: BaseException | None) -> str:
    return f"{type(fault).__name__}: {fault}"
