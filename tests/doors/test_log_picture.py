"""`soma log`: what it says of a real log, and how that looks on a terminal of a hundred columns."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from services.common.clock import rfc3339
from services.common.log.postgres.log import open_postgres_log
from services.local.commands.log import drawn
from services.local.log_picture import picture
from tests.asking import ask
from tests.house import House
from tests.sealing import ROOM, seal, workers_database

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def look(house: House) -> dict[str, Any]:
    async with workers_database(house) as db, open_postgres_log(db) as log:
        return await picture(db, log, "postgres")


def by(name: str, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row[name]: row for row in rows}


async def test_what_waits_is_in_the_outbox_and_then_in_its_topics_and_under_a_head(house: House) -> None:
    await seal(house)
    empty = await look(house)
    assert empty["outbox"] == {"events": 0, "oldest": None, "aside": 0}
    said = await ask(house.person(), "hello")
    await house.until_settled(said[0].accepted.turn)
    waiting = await look(house)
    assert waiting["outbox"]["events"] > 0
    assert age_s(waiting["outbox"]["oldest"]) < 60

    await seal(house)

    now, before = await look(house), by("topic", empty["topics"])
    moved = {row["topic"]: row["events"] - before[row["topic"]]["events"] for row in now["topics"]}
    assert sum(moved.values()) == waiting["outbox"]["events"]
    assert by("topic", now["topics"])["agent.audit"]["last_minute"] >= moved["agent.audit"] > 0
    sealed = by("tenant", now["trails"])["acme"]
    assert sealed["size"] - by("tenant", empty["trails"]).get("acme", {"size": 0})["size"] == moved["agent.audit"]
    assert age_s(sealed["time"]) < 60


async def test_a_group_is_behind_by_what_it_has_not_committed(house: House) -> None:
    await ask(house.person(), "hello")
    await seal(house)
    async with workers_database(house) as db, open_postgres_log(db) as log:
        ends = await log.ends("agent.audit")
        await log.stand("behind", {place: max(first, after - 1) for place, (first, after) in ends.items()})
        filled = sum(first < after for first, after in ends.values())
        async with db.own(ROOM) as tx:
            await tx.execute(LETTER)

    group = by("group", (await look(house))["groups"])["behind"]

    assert group["lag"] == {"agent.audit": filled}
    assert age_s(group["oldest"]) >= 0
    assert (group["retries"], group["dead"]) == (0, 1)


async def test_the_picture_fits_into_a_hundred_columns() -> None:
    long_ago = rfc3339(datetime.now(UTC) - timedelta(days=3))
    groups = [
        {"group": name, "lag": {"agent.audit": 12_345_678}, "oldest": long_ago, "retries": 12, "dead": 3}
        for name in ("archiver", "a-group-with-a-longer-name")
    ]
    now = {
        "engine": "kafka",
        "topics": [{"topic": "enterprise.mode.changed", "parts": 8, "events": 987_654_321, "last_minute": 54_321}],
        "groups": groups,
        "trails": [{"tenant": f"tenant{n}", "size": n, "time": long_ago, "key": "00112233"} for n in range(1, 21)],
        "outbox": {"events": 1_000_000, "oldest": long_ago, "aside": 2},
        "archive": {"objects": 5, "bytes": 2**30, "newest": long_ago},
    }
    screen = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard", highlight=False)

    screen.print(drawn(now))

    text = screen.file.getvalue()  # type: ignore[attr-defined]
    plain = Console(file=io.StringIO(), width=100)
    plain.print(drawn(now))
    lines = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 100
    shown = "\n".join(lines)
    for words in ("987,654,321", "a-group-with-a-longer-name", "and 8 more", "1,000,000 wait, the oldest for 3 d",
                  "2 set aside", "5 objects, 1024.0 MB, the newest 3 d ago, behind by 3 d"):  # fmt: skip
        assert words in shown
    assert "\x1b[31m3\x1b[0m" in text


def age_s(told: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(told)).total_seconds()


LETTER = """
INSERT INTO soma.retries ("group", id, state, attempt, due_time, reason, topic, part, "offset", tenant, key, type,
    payload, traceparent, log_time)
VALUES ('behind', gen_random_uuid(), 'dead', 5, now(), 'why', 'agent.audit', 0, 1, 'acme', 'acme/x', 'x', '', '', now())
"""
