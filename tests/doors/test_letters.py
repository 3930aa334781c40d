"""Letters on a real Postgres: to wake the next of a key costs the same however many wait, and to wake the first of each
key costs as much as there are letters, not their square."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from services.common import schema
from services.common.consumer import letters
from tests.consuming import World, open_world, with_group
from tests.stores import running_postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEYS, OF_KEY = 6, 100
WAITING = """
INSERT INTO soma.retries ("group", id, state, attempt, due_time, reason, topic, part, "offset", tenant, key, type,
    payload, traceparent, log_time)
SELECT $1, gen_random_uuid(), 'waiting', 0, 'infinity', '', 'agent.messages', 0, n, 'acme', 'acme/' || n % $2::int,
    'turn.asked', '', '', now() FROM generate_series(1, $2::int * $3::int) AS n
"""
DUE = 'SELECT "offset" FROM soma.retries WHERE "group" = $1 AND due_time <> \'infinity\' ORDER BY "offset"'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("letters")
    async with running_postgres(folder / "postgres") as url, open_world(url, folder / "keys") as world:
        yield await with_group(world)


@pytest.mark.parametrize(
    ("wakes", "next_to", "most"),
    [(letters.WAKE_ALL, (), 10 * KEYS * OF_KEY), (letters.WAKE_NEXT, ("agent.messages", "acme/1"), 20)],
)
async def test_the_first_of_a_key_is_found_at_once_though_postgres_believes_that_no_letter_waits(
    world: World, wakes: str, next_to: tuple[str, ...], most: int
) -> None:
    """A table that is mostly empty is analyzed when it is, and many letters come at once after something was away."""
    async with schema.administering(world.admin_url) as conn:
        await conn.execute(WAITING, world.group, KEYS, OF_KEY)
        await conn.execute("DELETE FROM soma.retries; ANALYZE soma.retries")
        await conn.execute(WAITING, world.group, KEYS, OF_KEY)
        told = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {wakes}", world.group, *next_to)
        due = [row["offset"] for row in await conn.fetch(DUE, world.group)]
    assert due == ([1] if next_to else [1, 2, 3, 4, 5, 6])
    assert visits(json.loads(told)[0]["Plan"]) < most


def visits(node: Mapping[str, Any]) -> float:
    """How many rows the steps of a plan have looked at, together."""
    passed_over = sum(node.get(f"Rows Removed by {filter}", 0) for filter in ("Filter", "Join Filter"))
    here = (node["Actual Rows"] + passed_over) * node["Actual Loops"]
    return float(here + sum(visits(below) for below in node.get("Plans", ())))
