"""The trainer: brings decisions and feedback together, fits what is learned of each tenant's models, and lets it hold
as a new version of the tenant's policy when it is surely better than the present one. Routers go by it within a second.

One trains a tenant at a time, by a lock of its transaction: a second trainer does nothing twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError

from services.common import policies
from services.common.background import alongside
from services.common.cache import Cache, open_cache
from services.common.caller import WORKERS, Caller
from services.common.consumer.consumer import Consumer
from services.common.db import Database, Transaction
from services.common.errors import Refusal, Unavailable
from services.common.learning.posterior import Posterior, posterior_of
from services.common.learning.prior import Prior, shipped
from services.common.telemetry import Sight, log
from services.workers.bench import Bench
from services.workers.trainer import samples
from services.workers.trainer.judge import Present, Verdict, judge
from soma.router.v1.policy_pb2 import Policy

GROUP, TOPICS = "trainer", ("agent.routing",)
LEAST_NEWS = 20
"""Scores that must have changed since the last training."""
WITHIN_S = 120.0
SWEEP_S = 3600.0
TELL_S = 0.5
GATHER_S = 1.0

DUE = "SELECT tenant FROM soma.trainings WHERE news >= $1 ORDER BY tenant"
TENANTS = "SELECT tenant FROM soma.trainings ORDER BY tenant"
ALONE = "SELECT pg_try_advisory_xact_lock(hashtextextended('soma.trainer ' || $1, 0))"
NEWS = "SELECT news FROM soma.trainings WHERE tenant = $1"
READ = "UPDATE soma.trainings SET news = news - $2 WHERE tenant = $1"
OURS = """
SELECT version, create_time FROM soma.policies WHERE tenant = $1 AND author = $2 ORDER BY version DESC
"""


class Unfit(Exception):  # noqa: N818 - a word for the log
    """Nothing is learned for the policy that holds. Its text says why, in a word or two."""


async def work(bench: Bench) -> None:
    async with opened(bench) as trainer, alongside(trainer.watch(), name="trainer: watch"):
        keeper = samples.Keeper(trainer.prior.features.size)
        await Consumer(bench.db, bench.log, bench.sight, GROUP, TOPICS, keeper.keep, gather_s=GATHER_S).run()


@asynccontextmanager
async def opened(bench: Bench) -> AsyncIterator[Trainer]:
    if not bench.cache_url:
        yield Trainer(bench.db, bench.sight, shipped(), every_s=bench.train_s)
        return
    async with open_cache(bench.cache_url, connections=2) as cache:
        yield Trainer(bench.db, bench.sight, shipped(), cache, bench.train_s)


@dataclass(frozen=True, slots=True)
class Held:
    """The version that holds as it was read, and what judging needs to know of it."""

    version: int
    present: Present


@dataclass(frozen=True, slots=True)
class Trainer:
    db: Database
    sight: Sight
    prior: Prior
    cache: Cache | None = None
    """None: routers find out by themselves."""
    every_s: float = 5.0
    least_news: int = LEAST_NEWS

    async def watch(self) -> None:
        """Train what there is news for, and forget what is old, until cancelled."""
        swept = float("-inf")
        while True:
            now = asyncio.get_running_loop().time()
            try:
                if now - swept >= SWEEP_S:
                    await self.sweep()
                    swept = now
                await self.step()
            except Unavailable as away:
                log().warning("the trainer waits", why=str(away.__cause__ or away))
            await asyncio.sleep(self.every_s)

    async def step(self) -> dict[str, str]:
        """Train each tenant with enough news. What came of it, by tenant: "activated", or why nothing was changed."""
        due = [row["tenant"] for row in await self.db.look(DUE, self.least_news)]
        return {tenant: await self._train_alone(tenant) for tenant in due}

    async def _train_alone(self, tenant: str) -> str:
        """What is wrong with one tenant holds up no other."""
        try:
            return await self.train(tenant)
        except Unavailable:
            raise
        except Exception as fault:
            log().error("a training has failed", tenant=tenant, exc_info=fault)
            return "failed"

    async def train(self, tenant: str) -> str:
        """Alone at the tenant. "busy" when another is at it, "changed" when somebody changed the policy meanwhile:
        then it is tried again at the next step."""
        async with self.db.own(WORKERS, within_s=WITHIN_S) as tx:
            if not await tx.fetchval(ALONE, tenant):
                return "busy"
            news = await tx.fetchval(NEWS, tenant) or 0
            if news < self.least_news:
                return "no news"
            known = await samples.to_learn_from(tx, tenant, self.prior.features.size)
            try:
                held = await self._held(tenant)
                verdict = await asyncio.to_thread(judge, self.prior, known, held.present)
                why = verdict.why or await self._activate(tenant, held, verdict)
            except Unfit as unfit:
                verdict, why = None, str(unfit)
            self._tell(tenant, why, verdict)
            if why != "changed":
                await tx.execute(READ, tenant, news)
        if not why and self.cache:
            with suppress(Refusal, TimeoutError):
                async with asyncio.timeout(TELL_S):
                    await self.cache.publish(policies.channel_of(tenant), b"")
        return why or "activated"

    async def sweep(self) -> None:
        """Forget what is older than 90 days, and of each tenant what is too much."""
        while await self._in_own(samples.forget_old):
            pass
        for row in await self.db.look(TENANTS):
            while await self._in_own(partial(samples.forget_many, tenant=row["tenant"])):
                pass

    async def _in_own(self, deed: Callable[[Transaction], Awaitable[bool]]) -> bool:
        async with self.db.own(WORKERS) as tx:
            return await deed(tx)

    async def _held(self, tenant: str) -> Held:
        """Raises Unfit "corrupt"."""
        async with self.db.upkeep(Caller.system("workers", tenant)) as tx:
            active = await policies.active(tx)
            ours = {row["version"]: row["create_time"] for row in await tx.fetch(OURS, tenant, tx.caller.subject)}
            policy, posterior = await self._read(tx, active.version)
        versions = {active.version}
        for version in reversed([*active.before, active.version]):
            versions.add(version)
            if version not in ours:
                break
        later = [time for version, time in ours.items() if version > active.version]
        is_learned = posterior is not None
        present = Present(
            policy, posterior or Posterior(self.prior, {}), is_learned,
            frozenset(f"policies/{version}" for version in versions), max(later, default=None),
        )  # fmt: skip
        return Held(active.version, present)

    async def _read(self, tx: Transaction, version: int) -> tuple[Policy, Posterior | None]:
        if version == policies.BUILT_IN:
            return Policy(), None
        row = await policies.find(tx, version)
        try:
            if row is None or hashlib.sha256(row["body"]).digest() != row["digest"]:
                raise Unfit("corrupt")
            policy, learned = Policy.FromString(row["body"]), row["learned_body"]
            return policy, posterior_of(learned, self.prior) if row["learned"] else None
        except (DecodeError, ValueError, TypeError) as fault:
            raise Unfit("corrupt") from fault

    async def _activate(self, tenant: str, base: Held, verdict: Verdict) -> str:
        """Empty when it holds now, else why not."""
        learned = verdict.learned.to_bytes()
        async with self.db.upkeep(Caller.system("workers", tenant)) as tx:
            held = await policies.hold(tx)
            if held.version != base.version:
                return "changed"
            if await policies.has_learned(tx, hashlib.sha256(learned).digest()):
                return "the same again"
            policy = Policy()
            policy.CopyFrom(base.present.policy)
            policy.learned, policy.note = await policies.keep_learned(tx, learned), verdict.note
            version = await policies.add(tx, policy)
            await policies.switch(tx, version, held)
            for action in ("policy.created", "policy.activated"):
                await tx.audit(action, resource=f"policies/{version}")
        return ""

    def _tell(self, tenant: str, why: str, verdict: Verdict | None) -> None:
        self.sight.trainings.labels(why or "activated").inc()
        about = verdict.note if verdict else ""
        if why == "corrupt":
            log().error("nothing is learned: the policy that holds cannot be read", tenant=tenant)
        elif why:
            log().info("the policy stays as it is", tenant=tenant, why=why, about=about)
        else:
            log().info("a new policy holds by what was learned", tenant=tenant, about=about)
