"""Samples in Postgres: what events say of decisions is brought together here, in whatever order and however often they
come; and what is to be learned from is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

from services.common.consumer.consumer import Hopeless
from services.common.db import Record, Transaction
from services.common.log.log import Entry
from services.workers.trainer import facts
from services.workers.trainer.facts import Decided, Opinion, Settled
from services.workers.trainer.judge import Sample

MOST_LEARNED = 10_000
"""Of a tenant, the newest: what came before has been forgotten by then."""
MOST_KEPT = 200_000
"""Of a tenant, with feedback or waiting for it."""
AT_ONCE = 10_000
NUL = rb"\u0000"

Key: TypeAlias = tuple[str, UUID]
"""A tenant and a decision."""


@dataclass(slots=True)
class Said:
    """What a run of events says of one decision."""

    decided: Decided | None = None
    bare: bool = False
    """It was decided, and there is nothing to learn from it."""
    settled: Settled | None = None
    opinions: list[Opinion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Keeper:
    features: int
    """How many a question has. Where there are others, another prior saw it: nothing is learned from that."""

    async def keep(self, tx: Transaction, entries: Sequence[Entry]) -> None:
        """The handler. Raises Hopeless for what no event of ours can say."""
        said: dict[Key, Said] = {}
        for entry in entries:
            try:
                if NUL in entry.payload:
                    raise ValueError("The event has a NUL, which Postgres does not take.")
                self.hear(said, entry.tenant, json.loads(entry.payload))
            except (ValueError, KeyError, TypeError, AttributeError) as fault:
                raise Hopeless(str(fault)) from fault
        if said:
            await write(tx, said)

    def hear(self, said: dict[Key, Said], tenant: str, event: Mapping[str, Any]) -> None:
        known = said.setdefault((tenant, UUID(event["decision"])), Said())
        if event["type"] == "routing.settled":
            known.settled = known.settled or facts.settled(event)
        elif event["type"] == "routing.feedback":
            known.opinions.append(facts.opinion(event))
        else:
            found = facts.decided(event)
            known.bare = found is None or len(found.features) != self.features
            known.decided = known.decided or (None if known.bare else found)


MAKE = """
INSERT INTO soma.samples (tenant, decision) SELECT * FROM unnest($1::text[], $2::uuid[]) ON CONFLICT DO NOTHING
"""
HOLD = """
SELECT tenant, decision, said FROM soma.samples
JOIN unnest($1::text[], $2::uuid[]) AS given (tenant, decision) USING (tenant, decision)
ORDER BY tenant, decision FOR UPDATE OF samples
"""
DECIDE = """
UPDATE soma.samples AS kept
SET decided_time = new.time, policy = new.policy, features = new.features, candidates = new.candidates,
    probabilities = new.probabilities, qualities = new.qualities, catalogue = new.catalogue, costs = new.costs,
    latencies = new.latencies, chosen = new.chosen, propensity = new.propensity
FROM jsonb_to_recordset($1::jsonb) AS new (tenant text, decision uuid, time timestamptz, policy text, features real[],
    candidates text[], probabilities float8[], qualities float8[], catalogue float8[], costs bigint[],
    latencies bigint[], chosen text, propensity float8)
WHERE kept.tenant = new.tenant AND kept.decision = new.decision AND kept.features IS NULL
"""
SETTLE = """
UPDATE soma.samples AS kept
SET answered = new.answered, cost_microusd = new.cost_microusd, first_token_ms = new.first_token_ms
FROM jsonb_to_recordset($1::jsonb) AS new (tenant text, decision uuid, answered text, cost_microusd bigint,
    first_token_ms bigint)
WHERE kept.tenant = new.tenant AND kept.decision = new.decision AND kept.answered IS NULL
"""
SCORE = """
UPDATE soma.samples AS kept SET said = new.said, score = new.score, scored_time = now()
FROM jsonb_to_recordset($1::jsonb) AS new (tenant text, decision uuid, said jsonb, score float8)
WHERE kept.tenant = new.tenant AND kept.decision = new.decision
"""
DROP = """
DELETE FROM soma.samples AS kept USING unnest($1::text[], $2::uuid[]) AS given (tenant, decision)
WHERE kept.tenant = given.tenant AND kept.decision = given.decision AND kept.features IS NULL
"""
COUNT = """
INSERT INTO soma.trainings AS kept (tenant, news) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (tenant) DO UPDATE SET news = kept.news + excluded.news
"""


async def write(tx: Transaction, said: Mapping[Key, Said]) -> None:
    """Who writes the same ones is waited for, in order."""
    bare = {key: one for key, one in said.items() if one.bare and not one.decided}
    keys = sorted(said.keys() - bare.keys())
    if keys:
        await tx.execute(MAKE, *columns(keys))
        held = await tx.fetch(HOLD, *columns(keys))
        await update(tx, DECIDE, {key: asdict(found) for key in keys if (found := said[key].decided)})
        await update(tx, SETTLE, {key: asdict(ended) for key in keys if (ended := said[key].settled)})
        await score(tx, {(row["tenant"], row["decision"]): json.loads(row["said"]) for row in held}, said)
    if bare:
        await tx.execute(DROP, *columns(sorted(bare)))


async def score(tx: Transaction, before: Mapping[Key, Mapping[str, Any]], said: Mapping[Key, Said]) -> None:
    changed: dict[Key, dict[str, Any]] = {}
    for key, old in before.items():
        words = with_opinions(old, said[key].opinions)
        if words != old:
            changed[key] = {"said": words, "score": facts.score_of(words)}
    await update(tx, SCORE, changed)
    news = Counter(tenant for tenant, _ in changed)
    if news:
        tenants = sorted(news)
        await tx.execute(COUNT, tenants, [news[tenant] for tenant in tenants])


def with_opinions(words: Mapping[str, Any], opinions: Sequence[Opinion]) -> dict[str, Any]:
    """Of each source the last word, by when it was given."""
    kept = dict(words)
    for one in opinions:
        if one.source not in kept or kept[one.source][0] < one.said:
            kept[one.source] = [one.said, one.score]
    return kept


async def update(tx: Transaction, statement: str, rows: Mapping[Key, Mapping[str, Any]]) -> None:
    if rows:
        given = [{"tenant": tenant, "decision": str(id), **rows[tenant, id]} for tenant, id in sorted(rows)]
        await tx.execute(statement, json.dumps(given))


def columns(keys: Sequence[Key]) -> tuple[list[str], list[UUID]]:
    return [tenant for tenant, _ in keys], [decision for _, decision in keys]


LEARN = """
SELECT * FROM (
    SELECT decision, decided_time, policy, features, candidates, catalogue, costs, latencies, chosen, propensity,
           answered, cost_microusd, first_token_ms, score
    FROM soma.samples
    WHERE tenant = $1 AND score IS NOT NULL AND answered IS NOT NULL AND features IS NOT NULL
      AND cardinality(features) = $2
    ORDER BY decision DESC LIMIT $3) AS newest
ORDER BY decision
"""


async def to_learn_from(tx: Transaction, tenant: str, features: int) -> list[Sample]:
    """Oldest first."""
    return [sample(row) for row in await tx.fetch(LEARN, tenant, features, MOST_LEARNED)]


def sample(row: Record) -> Sample:
    return Sample(**{name: row[name] for name in Sample.__slots__})


FORGET_OLD = """
WITH gone AS (DELETE FROM soma.samples WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM soma.samples
    WHERE decision < soma.id_at(now() - interval '90 days')
       OR features IS NULL AND decision < soma.id_at(now() - interval '1 day') LIMIT $1)) RETURNING 1)
SELECT count(*) FROM gone
"""
FORGET_MANY = """
WITH gone AS (DELETE FROM soma.samples WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM soma.samples AS kept WHERE tenant = $2 AND decision < (
        SELECT decision FROM soma.samples WHERE tenant = $2 ORDER BY decision DESC OFFSET $3 LIMIT 1)
    LIMIT $1)) RETURNING 1)
SELECT count(*) FROM gone
"""


async def forget_old(tx: Transaction) -> bool:
    """Whether there is more."""
    return int(await tx.fetchval(FORGET_OLD, AT_ONCE)) == AT_ONCE


async def forget_many(tx: Transaction, tenant: str, most: int = MOST_KEPT) -> bool:
    """Beyond so many of a tenant, the oldest. Whether there is more."""
    return int(await tx.fetchval(FORGET_MANY, AT_ONCE, tenant, most - 1)) == AT_ONCE
