"""A repeated request gets the answer of the first one, for a day."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from google.protobuf.message import Message

from services.common.db import Transaction
from services.common.errors import Exists

A = TypeVar("A", bound=Message)

CLAIM = """
WITH forgotten AS (
    DELETE FROM requests WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM requests
        WHERE create_time < now() - interval '1 day' AND (subject, request_id) <> ($1, $2::uuid)
        LIMIT 100 FOR UPDATE SKIP LOCKED
    ))
)
INSERT INTO requests (subject, request_id, body_hash) VALUES ($1, $2, $3)
ON CONFLICT (subject, request_id) DO UPDATE SET body_hash = excluded.body_hash, answer = NULL, create_time = now()
WHERE requests.create_time < now() - interval '1 day'
RETURNING true
"""
RECALL = "SELECT body_hash, answer FROM requests WHERE subject = $1 AND request_id = $2"
KEEP = "UPDATE requests SET answer = $3 WHERE subject = $1 AND request_id = $2"
REUSED = "This request_id was used for another request. Choose a new UUID for each new request."


class Answer(Generic[A]):
    """What a request was answered with, if it was; and where the first answer is kept."""

    def __init__(self, known: A | None) -> None:
        self.known = known
        self.kept: A | None = None

    def keep(self, answer: A) -> A:
        self.kept = answer
        return answer


@asynccontextmanager
async def once(tx: Transaction, request_id: str, request: Message, kind: type[A]) -> AsyncIterator[Answer[A]]:
    """`answer.known` is the earlier answer. Two at the same moment: the second waits for the first to commit.

    An empty request_id is never a repeat. A repeat leaves no audit row: nothing is done by it. What is kept outlives
    what it speaks of, so keep names, not what people wrote. Raises Exists REQUEST_ID_REUSED for another request under
    the same id.
    """
    if not request_id:
        yield Answer(None)
        return
    person, body_hash = tx.caller.subject, fingerprint(request)
    if not await tx.fetchval(CLAIM, person, request_id, body_hash):
        row = await tx.fetchrow(RECALL, person, request_id)
        if row is None or row["body_hash"] != body_hash:
            raise Exists("REQUEST_ID_REUSED", REUSED, request_id=request_id)
        tx.about_nothing()
        yield Answer(kind.FromString(row["answer"]))
        return
    answer: Answer[A] = Answer(None)
    yield answer
    if answer.kept is None:
        raise RuntimeError("a first request ended without keeping its answer")
    await tx.execute(KEEP, person, request_id, answer.kept.SerializeToString())


def fingerprint(request: Message) -> bytes:
    """SHA-256 over the kind of request and its canonical bytes."""
    body = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + body).digest()
