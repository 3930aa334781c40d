"""Events as Kafka's records: the payload is the value; id, tenant, type and traceparent are headers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from services.common.log.log import Entry
from services.common.postgres import UUID
from services.common.telemetry import log


def headers(row: Any) -> list[tuple[str, bytes]]:
    """Of a row of the outbox; Debezium's router sets the same."""
    named = {"id": str(row["id"]), "tenant": row["tenant"], "type": row["type"], "traceparent": row["traceparent"]}
    return [(name, value.encode()) for name, value in named.items()]


def entries(records: Sequence[Any]) -> tuple[Entry, ...]:
    """What others wrote into our topics is passed over, and told."""
    return tuple(filter(None, map(read, records)))


def read(record: Any) -> Entry | None:
    try:
        if record.value is None:
            raise ValueError("it has no payload")
        id, tenant, kind, traceparent = told(record.headers)
        key, tenant, kind = names(record.key, tenant, kind)
        return Entry(
            record.topic, record.partition, record.offset, UUID(id.decode()), tenant, key, kind, record.value,
            text(traceparent), moment(record.timestamp),
        )  # fmt: skip
    except (KeyError, ValueError, AttributeError, OverflowError, OSError) as fault:
        where = {"topic": record.topic, "part": record.partition, "offset": record.offset}
        log().error("a record is no event of ours", **where, why=str(fault))
        return None


def told(headers: Sequence[tuple[str, bytes]]) -> tuple[Any, ...]:
    """Id, tenant, type and traceparent: in this order from us, in any, and among others, from Debezium."""
    if len(headers) == 4:
        (one, id), (two, tenant), (three, kind), (four, traceparent) = headers
        if one == "id" and two == "tenant" and three == "type" and four == "traceparent":
            return id, tenant, kind, traceparent
    named = dict(headers)
    return named["id"], named["tenant"], named["type"], named.get("traceparent", b"")


@lru_cache(maxsize=4096)
def names(key: bytes, tenant: bytes, kind: bytes) -> tuple[str, str, str]:
    """They come again and again."""
    return text(key), text(tenant), text(kind)


def text(said: bytes) -> str:
    """ValueError for what no text of the outbox can be. A str is searched far faster than bytes."""
    words = said.decode()
    if "\0" in words:
        raise ValueError("no text of Postgres can hold NUL")
    return words


@lru_cache(maxsize=64)
def moment(milliseconds: int) -> datetime:
    """Records of a batch have one time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
