"""Conversations and turns in Postgres. The schema is the tenant's: search_path and role are the transaction's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.agent.names import turn_name
from services.common import pages
from services.common.db import Database, Record, Transaction
from services.common.names import conversation_name
from soma.agent.v1.chat_event_pb2 import ChatEvent, Transcript
from soma.agent.v1.conversation_pb2 import Conversation, Turn
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision, Usage

STATES = {
    "running": Turn.STATE_RUNNING,
    "done": Turn.STATE_DONE,
    "failed": Turn.STATE_FAILED,
    "cancelled": Turn.STATE_CANCELLED,
}
LEASE_S = 5

ADD_CONVERSATION = """
INSERT INTO conversations (id, subject, title, create_time, update_time) VALUES ($1, $2, $3, $4, $4)
"""


async def add_conversation(tx: Transaction, conversation: UUID, title: str, now: datetime) -> None:
    await tx.execute(ADD_CONVERSATION, conversation, tx.caller.subject, title, now)


CONVERSATION = """
SELECT c.id, c.title, c.revision, c.create_time, c.update_time,
       (SELECT t.id FROM turns t WHERE t.conversation = c.id AND t.state = 'running') AS running
FROM conversations c WHERE c.subject = $1 AND c.id = $2
"""


async def conversation(tx: Transaction, conversation: UUID) -> Conversation | None:
    row = await tx.fetchrow(CONVERSATION, tx.caller.subject, conversation)
    return as_conversation(row) if row else None


CONVERSATIONS = """
SELECT c.id, c.title, c.revision, c.create_time, c.update_time,
       (SELECT t.id FROM turns t WHERE t.conversation = c.id AND t.state = 'running') AS running
FROM conversations c WHERE c.subject = $1 AND c.id < $2 ORDER BY c.id DESC LIMIT $3
"""


async def conversations(tx: Transaction, before: UUID, most: int) -> list[Conversation]:
    rows = await tx.fetch(CONVERSATIONS, tx.caller.subject, before, most)
    return [as_conversation(row) for row in rows]


LOCK_CONVERSATION = "SELECT title, revision FROM conversations WHERE subject = $1 AND id = $2 FOR UPDATE"
RETITLE = "UPDATE conversations SET title = $2, revision = revision + 1, update_time = $3 WHERE id = $1"
TOUCH = "UPDATE conversations SET title = $2, update_time = $3 WHERE id = $1"


async def locked(tx: Transaction, conversation: UUID) -> tuple[str, int] | None:
    """Title and revision of the caller's conversation, held until commit."""
    row = await tx.fetchrow(LOCK_CONVERSATION, tx.caller.subject, conversation)
    return (row["title"], row["revision"]) if row else None


async def retitle(tx: Transaction, conversation: UUID, title: str, now: datetime) -> None:
    await tx.execute(RETITLE, conversation, title, now)


async def touch(tx: Transaction, conversation: UUID, title: str, now: datetime) -> None:
    await tx.execute(TOUCH, conversation, title, now)


DROP_CONVERSATION = "DELETE FROM conversations WHERE subject = $1 AND id = $2"


async def drop_conversation(tx: Transaction, conversation: UUID) -> None:
    await tx.execute(DROP_CONVERSATION, tx.caller.subject, conversation)


ADD_TURN = """
INSERT INTO turns (id, conversation, subject, state, question, tier, last_sequence, events, create_time)
VALUES ($1, $2, $3, 'running', $4, $5, 1, $6, $7)
ON CONFLICT (conversation) WHERE state = 'running' DO NOTHING RETURNING true
"""
RUNNING = "SELECT id FROM turns WHERE conversation = $1 AND state = 'running'"
TAKE_LEASE = """
INSERT INTO soma.leases (tenant, resource, holder, expire_time)
VALUES ($1, $2, $3, now() + make_interval(secs => $4))
"""


async def add_turn(
    tx: Transaction, ids: tuple[UUID, UUID], question: str, tier: str, accepted: ChatEvent, now: datetime, holder: str
) -> UUID | None:
    """Write a running turn and its lease; or return the turn that is running in the conversation already."""
    conversation, turn = ids
    kept = Transcript(events=[accepted]).SerializeToString()
    values = (turn, conversation, tx.caller.subject, question, tier, kept, now)
    if not await tx.fetchval(ADD_TURN, *values):
        return await running(tx, conversation)
    await tx.execute(TAKE_LEASE, tx.caller.tenant, turn_name(*ids), holder, LEASE_S)
    return None


async def running(tx: Transaction, conversation: UUID) -> UUID | None:
    """The turn that runs in a conversation."""
    turn: UUID | None = await tx.fetchval(RUNNING, conversation)
    return turn


EARLIER = """
SELECT question, answer FROM (
    SELECT id, question, answer, sum(octet_length(question) + octet_length(answer)) OVER (ORDER BY id DESC) AS so_far
    FROM turns WHERE conversation = $1 AND state <> 'running' ORDER BY id DESC LIMIT 200
) AS newest WHERE so_far <= $2 ORDER BY id DESC
"""


async def earlier(tx: Transaction, conversation: UUID, most_bytes: int) -> list[tuple[str, str]]:
    """Questions and answers of the conversation, newest first, at most so many bytes of them."""
    return [(row["question"], row["answer"]) for row in await tx.fetch(EARLIER, conversation, most_bytes)]


CHECKPOINT = """
WITH held AS (
    UPDATE soma.leases SET expire_time = now() + make_interval(secs => $9)
    WHERE tenant = $6 AND resource = $7 AND holder = $8 RETURNING true
)
UPDATE turns SET answer = $2, decision = $3, last_sequence = $4, events = $5
WHERE id = $1 AND state = 'running' AND EXISTS (SELECT FROM held) RETURNING cancel
"""


async def checkpoint(
    tx: Transaction, ids: tuple[UUID, UUID], holder: str, answer: str, decision: Decision, events: Sequence[ChatEvent]
) -> bool | None:
    """Keep the text so far and hold the lease. Returns whether the turn is to be cancelled, None if it is not ours."""
    kept = Transcript(events=events).SerializeToString()
    lease = (tx.caller.tenant, turn_name(*ids), holder, LEASE_S)
    cancel: bool | None = await tx.fetchval(
        CHECKPOINT, ids[1], answer, decision.SerializeToString(), len(events), kept, *lease
    )
    return cancel


END_TURN = """
UPDATE turns SET state = $2, answer = $3, decision = $4, usage = $5, cost_microusd = $6, finish_reason = $7, error = $8,
    first_token_ms = $9, last_sequence = $10, events = $11, end_time = $12
WHERE id = $1 AND state = 'running' RETURNING true
"""
DROP_LEASE = "DELETE FROM soma.leases WHERE tenant = $1 AND resource = $2 AND holder = $3"
MOVE_CONVERSATION = "UPDATE conversations SET update_time = $2 WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a turn ended: all that is written down of it."""

    state: str
    answer: str
    transcript: Transcript
    decision: Decision
    usage: Usage
    cost_microusd: int
    finish_reason: str
    error: Failure | None
    first_token_ms: int


async def end_turn(tx: Transaction, ids: tuple[UUID, UUID], holder: str, ended: Ended, now: datetime) -> bool:
    """Write the end of a running turn. False when it had ended before, or is gone. Like all who hold more than one of
    them, it takes the conversation first, then the lease, then the turn."""
    values = (
        ended.state,
        ended.answer,
        ended.decision.SerializeToString(),
        ended.usage.SerializeToString(),
        ended.cost_microusd,
        ended.finish_reason,
        ended.error.SerializeToString() if ended.error else None,
        ended.first_token_ms,
        len(ended.transcript.events),
        ended.transcript.SerializeToString(),
        now,
    )
    await tx.execute(MOVE_CONVERSATION, ids[0], now)
    await tx.execute(DROP_LEASE, tx.caller.tenant, turn_name(*ids), holder)
    return bool(await tx.fetchval(END_TURN, ids[1], *values))


TURN_COLUMNS = """
SELECT id, conversation, state, question, answer, tier, decision, usage, cost_microusd, finish_reason, error,
       first_token_ms, last_sequence, create_time, end_time
FROM turns
"""
TURN = TURN_COLUMNS + "WHERE subject = $1 AND conversation = $2 AND id = $3"
SIZES = """
SELECT id, octet_length(question) + octet_length(answer) + coalesce(octet_length(decision), 0) AS size
FROM turns WHERE subject = $1 AND conversation = $2 AND id < $3 ORDER BY id DESC LIMIT $4
"""
TURNS = TURN_COLUMNS + "WHERE subject = $1 AND conversation = $2 AND id < $3 AND id >= $4 ORDER BY id DESC"
ASK_CANCEL = "UPDATE turns SET cancel = true WHERE subject = $1 AND conversation = $2 AND id = $3 AND state = 'running'"


async def turn(tx: Transaction, ids: tuple[UUID, UUID]) -> Turn | None:
    row = await tx.fetchrow(TURN, tx.caller.subject, *ids)
    return as_turn(row) if row else None


async def turns(tx: Transaction, conversation: UUID, before: UUID, most: int) -> tuple[list[Turn], bool]:
    """A page, newest first, of what fits into one; and whether there are more."""
    sizes = await tx.fetch(SIZES, tx.caller.subject, conversation, before, most + 1)
    count = pages.fitting([row["size"] for row in sizes[:most]])
    if not count:
        return [], False
    rows = await tx.fetch(TURNS, tx.caller.subject, conversation, before, sizes[count - 1]["id"])
    return [as_turn(row) for row in rows], count < len(sizes)


async def ask_cancel(tx: Transaction, ids: tuple[UUID, UUID]) -> None:
    await tx.execute(ASK_CANCEL, tx.caller.subject, *ids)


SAID = "SELECT state, events FROM turns WHERE subject = $1 AND conversation = $2 AND id = $3"


async def said(tx: Transaction, ids: tuple[UUID, UUID]) -> tuple[bool, list[ChatEvent]] | None:
    """Whether the turn still runs, and its events: all when it has ended, else those of the last checkpoint."""
    row = await tx.fetchrow(SAID, tx.caller.subject, *ids)
    if row is None:
        return None
    return row["state"] == "running", list(Transcript.FromString(row["events"]).events)


EXPIRED = """
SELECT tenant, resource FROM soma.leases
WHERE expire_time NOT BETWEEN now() AND now() + interval '1 minute'
  AND pg_postmaster_start_time() NOT BETWEEN now() - make_interval(secs => $1) AND now()
ORDER BY expire_time LIMIT 100
"""
SHORTEN = """
UPDATE soma.leases SET expire_time = now() + make_interval(secs => $3)
WHERE tenant = $1 AND resource = $2 AND expire_time > now() + interval '1 minute'
"""
TAKE_EXPIRED = """
DELETE FROM soma.leases WHERE tenant = $1 AND resource = $2 AND expire_time < now() RETURNING holder
"""
HOLD_CONVERSATION = "SELECT FROM conversations WHERE id = $1 FOR UPDATE"
ORPHAN = "SELECT subject, answer, decision, events FROM turns WHERE id = $1 AND state = 'running' FOR UPDATE"


async def expired(db: Database) -> list[tuple[str, str]]:
    """Tenants and names of turns whose lease ran out, or lasts for longer than leases do since Postgres' clock has gone
    back. None while Postgres itself has only just come back: then whoever holds a lease gets as long as a lease lasts
    to say so."""
    return [(row["tenant"], row["resource"]) for row in await db.look(EXPIRED, LEASE_S)]


async def take_orphan(tx: Transaction, ids: tuple[UUID, UUID]) -> Record | None:
    """The turn of an expired lease, if it still runs and nobody else took it. A lease that lasts too long is made as
    long as leases are: who is alive holds it anew before it ends."""
    await tx.execute(HOLD_CONVERSATION, ids[0])
    lease = (tx.caller.tenant, turn_name(*ids))
    await tx.execute(SHORTEN, *lease, LEASE_S)
    if await tx.fetchval(TAKE_EXPIRED, *lease) is None:
        return None
    return await tx.fetchrow(ORPHAN, ids[1])


def as_conversation(row: Record) -> Conversation:
    name = conversation_name(row["id"])
    found = Conversation(name=name, title=row["title"], etag=str(row["revision"]))
    found.create_time.FromDatetime(row["create_time"])
    found.update_time.FromDatetime(row["update_time"])
    if row["running"]:
        found.running_turn = turn_name(row["id"], row["running"])
    return found


def as_turn(row: Record) -> Turn:
    found = Turn(
        name=turn_name(row["conversation"], row["id"]),
        state=STATES[row["state"]],
        text=row["question"],
        answer=row["answer"],
        tier=row["tier"],
        cost_microusd=row["cost_microusd"],
        finish_reason=row["finish_reason"],
        first_token_ms=row["first_token_ms"],
        last_sequence=row["last_sequence"],
    )
    found.create_time.FromDatetime(row["create_time"])
    if row["end_time"]:
        found.end_time.FromDatetime(row["end_time"])
    if row["decision"]:
        found.decision.ParseFromString(row["decision"])
    if row["usage"]:
        found.usage.ParseFromString(row["usage"])
    if row["error"]:
        found.error.ParseFromString(row["error"])
    return found
