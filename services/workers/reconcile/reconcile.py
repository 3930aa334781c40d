"""Reconciliation: the log held against Postgres, the archive and Valkey, tenant by tenant. What follows from a row that
is there is told again; everything else is only said, with what a person can do.

It looks as far back as the log goes, and no nearer than a minute: what happens now is on its way. All that it finds it
looks for a second time, in what was told meanwhile, before it says so.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.common.cache import Cache, open_cache
from services.common.caller import TENANT, Caller
from services.common.db import Database
from services.common.errors import Unavailable
from services.common.log.log import Log
from services.common.log.topics import TOPICS as KEPT
from services.common.names import UUID_TEXT
from services.common.telemetry import Sight, log
from services.workers.bench import Bench
from services.workers.reconcile import findings as f
from services.workers.reconcile import gaps, mending, rows
from services.workers.reconcile.findings import Finding, Span
from services.workers.reconcile.told import TOPICS, Heard, Told, TooMuchWaits

GRACE = timedelta(minutes=1)
LATELY = timedelta(hours=2)
SLACK = timedelta(minutes=15)
"""So much later than it should an event may be in the archive."""
STREAM_KEPT = timedelta(minutes=70)
"""The agent's streams of turns are forgotten an hour after they began."""
AGAIN_S = 15.0
"""How long it waits when something is away."""
STREAM = re.compile(rf"\{{({TENANT.pattern})\}}:turn:{UUID_TEXT}:events")
MOST_SAID = 50
"""Lines of one comparison in the room's log."""
MOST_REPAIRS = 500
"""When more than this is missing of a tenant, it is the log that was lost, and no event."""

TENANTS = "SELECT name FROM soma.tenants WHERE $1 IN ('', name) ORDER BY name"
ALONE = "SELECT pg_advisory_xact_lock(hashtext('soma.reconcile ' || $1))"
UNSEALED = """
SELECT id FROM unnest($1::uuid[]) AS given (id)
WHERE NOT EXISTS (SELECT FROM soma.audit AS leaf WHERE leaf.id = given.id AND leaf.tenant = $2)
"""
SEALED = """
SELECT id, time FROM soma.audit WHERE tenant = $1 AND (time, id) > ($2, $3) AND time < $4 ORDER BY time, id LIMIT $5
"""
PAGE = 5000


async def work(bench: Bench) -> None:
    """At first as far back as the log goes, then every few minutes what happened lately."""
    lately: timedelta | None = None
    async with opened(bench) as reconciler:
        while True:
            try:
                show(bench.sight, await reconciler.compare(repair=True, lately=lately))
                lately = LATELY
            except Unavailable as away:
                log().warning("reconciliation waits", why=away.message)
                await asyncio.sleep(min(AGAIN_S, bench.reconcile_s))
            else:
                await asyncio.sleep(bench.reconcile_s)


@asynccontextmanager
async def opened(bench: Bench) -> AsyncIterator[Reconciler]:
    archived = archived_within(bench.archive_age) if bench.archive_url else None
    if not bench.cache_url:
        yield Reconciler(bench.db, bench.log, None, archived)
        return
    async with open_cache(bench.cache_url, connections=2) as cache:
        yield Reconciler(bench.db, bench.log, cache, archived)


def archived_within(age: timedelta) -> timedelta:
    """By when an event is in the archive that the archiver may let wait so long."""
    return age + SLACK


def show(sight: Sight, report: Report) -> None:
    open_, repaired = Counter[str](), Counter[str]()
    for n, one in enumerate(report.findings):
        (repaired if one.repaired else open_)[one.kind] += 1
        if n >= MOST_SAID:
            continue
        tell = log().warning if one.repaired else log().error
        tell("the log and the stores disagree", tenant=one.tenant, kind=one.kind, resource=one.resource,
             says=one.says, repaired=one.repaired)  # fmt: skip
    for kind in f.ADVICE:
        sight.reconcile_findings.labels(kind).set(open_[kind])
        sight.reconcile_repaired.labels(kind).inc(repaired[kind])
    sight.reconcile_time.set(report.span.until.timestamp())


@dataclass(frozen=True, slots=True)
class Report:
    span: Span
    findings: list[Finding] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)
    """How many of what."""
    skipped: list[str] = field(default_factory=list)
    """What could not be looked at."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    db: Database
    log: Log
    cache: Cache | None
    archived: timedelta | None
    """By when an event is in the archive. None: there is none."""
    grace: timedelta = GRACE

    async def compare(self, tenant: str = "", *, repair: bool = False, lately: timedelta | None = None) -> Report:
        """Of one tenant or of all. Raises Unavailable."""
        now = self.db.clock.now()
        told = Told(self.db, self.log, tenant, await self._since(now, lately), self._archived_by(now))
        await told.begin()
        span = Span(told.since, now - self.grace)
        report = Report(span)
        try:
            await told.read_on()
            for row in await self.db.look(TENANTS, tenant):
                report.compared["tenants"] += 1
                report.findings.extend(await self._tenant(row["name"], told, report, repair=repair))
            report.findings.extend(f.unread(told.unread))
        except TooMuchWaits:
            report.findings.append(Finding(tenant, f.BEHIND, "soma.outbox", "Too much waits to get into the log."))
        try:
            report.findings.extend(await self._streams(tenant, repair=repair))
        except Unavailable:
            report.skipped.append("The streams of turns: Valkey does not answer.")
        return report

    async def _since(self, now: datetime, lately: timedelta | None) -> datetime:
        """From when on everything that was told must be in this log."""
        kept = now - timedelta(days=min(KEPT[name].days for name in TOPICS)) + timedelta(hours=1)
        other = await gaps.other_log(self.db, self.log.name) or kept
        return max(kept, min(other, now), now - lately if lately else kept)

    def _archived_by(self, now: datetime) -> datetime | None:
        return None if self.archived is None else now - self.archived

    async def _tenant(self, tenant: str, told: Told, report: Report, *, repair: bool) -> Sequence[Finding]:
        found = await self._tables(tenant, told, report.span, report.compared)
        if found:
            await told.read_on()
            found = await self._tables(tenant, told, report.span, Counter())
        if repair and any(one.kind == f.MISSING for one in found):
            found = await self._repaired(tenant, told, report.span)
        heard = told.tenants[tenant]
        found += await self._trail(tenant, heard, report.span, report.compared)
        found += await gaps.find(self.db, self.log, tenant, heard.offsets, report.span.since)
        return found

    async def _tables(self, tenant: str, told: Told, span: Span, compared: Counter[str]) -> list[Finding]:
        """Rows and events, one by one. A span that has not begun holds nothing."""
        heard, found = told.tenants[tenant], list[Finding]()
        async for page in rows.told(self.db, tenant, span.since):
            compared[page[0].name.split("/")[-2]] += sum(any(span.has(time) for time, _ in row.told) for row in page)
            found += f.untold(tenant, page, heard, span) + f.others(tenant, page, heard)
        return found + await self._rowless(tenant, heard, span)

    async def _rowless(self, tenant: str, heard: Heard, span: Span) -> list[Finding]:
        """What was told of rows that are not there, and what was deleted and is."""
        deleted = set(heard.times.get("conversation.deleted", {}))
        born = f.mentioned(heard, ["conversation.created"], span) - deleted
        turns = f.mentioned(heard, ["turn.asked", *f.ENDS.values()], span)
        turns = {turn for turn in turns & set(heard.conversations) if heard.conversations[turn] not in deleted}
        lost = await rows.gone(self.db, tenant, "conversations", born | {heard.conversations[t] for t in turns})
        turns = {turn for turn in turns if heard.conversations[turn] not in lost}
        decisions = f.mentioned(heard, ["routing.decided", "routing.settled"], span)
        there = deleted - await rows.gone(self.db, tenant, "conversations", deleted)
        says = "The log tells of it, and not that it was deleted; Postgres does not have it."
        return [
            *(Finding(tenant, f.ROWLESS, f"conversations/{id}", says) for id in sorted(lost)),
            *(
                Finding(tenant, f.ROWLESS, f"conversations/{heard.conversations[id]}/turns/{id}", says)
                for id in sorted(await rows.gone(self.db, tenant, "turns", turns))
            ),
            *(
                Finding(tenant, f.ROWLESS, f"decisions/{id}", says)
                for id in sorted(await rows.gone(self.db, tenant, "decisions", decisions))
            ),
            *(
                Finding(tenant, f.LEFT, f"conversations/{id}", "The log says that it was deleted; Postgres has it.")
                for id in sorted(there)
            ),
        ]

    async def _repaired(self, tenant: str, told: Told, span: Span) -> list[Finding]:
        """Tell again what is missing, alone at it: what somebody else has told meanwhile is not missing any more."""
        async with self.db.upkeep(Caller.system("workers", tenant)) as tx:
            await tx.execute(ALONE, tenant)
            await told.read_on()
            found = await self._tables(tenant, told, span, Counter())
            missing = [one for one in found if one.kind == f.MISSING]
            if len(missing) > MOST_REPAIRS:
                log().error("too much is missing to be repaired", tenant=tenant, missing=len(missing))
                return found
            mended = [one for one in missing if await mending.mend(tx, one)]
        self.db.bell.ring()
        return [one.mended() if one in mended else one for one in found]

    async def _trail(self, tenant: str, heard: Heard, span: Span, compared: Counter[str]) -> list[Finding]:
        """Audit events in the log, and leaves."""
        old = [id for id, time in heard.audited.items() if time < span.until]
        compared["audit events"] += len(old)
        unsealed = set[UUID]()
        for n in range(0, len(old), PAGE):
            unsealed |= {row["id"] for row in await self.db.look(UNSEALED, old[n : n + PAGE], tenant)}
        unlogged, after = set[UUID](), (span.since, UUID(int=0))
        while page := await self.db.look(SEALED, tenant, *after, span.until, PAGE):
            unlogged |= {row["id"] for row in page if row["id"] not in heard.hashes}
            after = page[-1]["time"], page[-1]["id"]
        return [
            *(Finding(tenant, f.UNSEALED, f"audit/{id}", "It is in the log, and has no leaf.") for id in unsealed),
            *(Finding(tenant, f.ALTERED, f"audit/{id}", "The log has it twice, differently.") for id in heard.doubled),
            *(Finding(tenant, f.UNLOGGED, f"audit/{id}", "It has a leaf, and is not in the log.") for id in unlogged),
        ]

    async def _streams(self, tenant: str, *, repair: bool) -> list[Finding]:
        """Streams of turns that ended long ago. Nobody needs them: what they said is in Postgres."""
        keys = defaultdict[str, dict[UUID, str]](dict)
        if self.cache is not None:
            async for key in self.cache.keys(f"{{{tenant or '*'}}}:turn:*:events"):
                if stream := STREAM.fullmatch(key):
                    keys[stream[1]][UUID(stream[2])] = key
        served = {row["name"] for row in await self.db.look(TENANTS, tenant)}
        return [one for name in sorted(served & set(keys)) for one in await self._stale(name, keys[name], repair)]

    async def _stale(self, tenant: str, keys: Mapping[UUID, str], repair: bool) -> list[Finding]:
        stale = await rows.long_ended(self.db, tenant, list(keys), self.db.clock.now() - STREAM_KEPT)
        found = [Finding(tenant, f.STALE, keys[id], "A stream of a turn that ended long ago.") for id in sorted(stale)]
        if not (found and repair and self.cache):
            return found
        await self.cache.forget([one.resource for one in found])
        async with self.db.upkeep(Caller.system("workers", tenant)) as tx:
            for one in found:
                await tx.audit("reconcile.repaired", resource=one.resource)
        self.db.bell.ring()
        return [one.mended() for one in found]
