"""Events as Kafka's records: the payload is the value; id, tenant, type and traceparent are headers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from services.common.log.log import Entry
from services.common.telemetry import log


def headers(row: Any) -> list[tuple[str, bytes]]:
    """Of a row of the outbox; Debezium's router sets the same."""
    named = {"id": str(row["id"]), "tenant": row["tenant"], "type": row["type"], "traceparent": row["traceparent"]}
    return [(name, value.encode()) for name, value in named.items()]


def entries(records: Sequence[Any]) -> tuple[Entry, ...]:
    """What others wrote into our topics is passed over, and told."""
    return tuple(entry for record in records if (entry := read(record)))


@lru_cache(maxsize=64)
def moment(milliseconds: int) -> datetime:
    """Records of a batch have one time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def read(record: Any) -> Entry | None:
    told = dict(record.headers)
    try:
        check(record, told)
        return Entry(
            record.topic, record.partition, record.offset, UUID(told["id"].decode()), told["tenant"].decode(),
            record.key.decode(), told["type"].decode(), record.value, told.get("traceparent", b"").decode(),
            moment(record.timestamp),
        )  # fmt: skip
    except (KeyError, ValueError, AttributeError, OverflowError, OSError) as fault:
        where = {"topic": record.topic, "part": record.partition, "offset": record.offset}
        log().error("a record is no event of ours", **where, why=str(fault))
        return None


def check(record: Any, told: Mapping[str, bytes | None]) -> None:
    """ValueError for what no event of the outbox can be."""
    if record.value is None:
        raise ValueError("it has no payload")
    if any(b"\0" in (said or b"") for said in (record.key, *told.values())):
        raise ValueError("no text of Postgres can hold NUL")
