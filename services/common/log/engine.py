"""Which engine keeps the log: Postgres, unless a Kafka is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.db import Database
from services.common.identity import Identity
from services.common.log.log import Log
from services.common.log.postgres.log import open_postgres_log


@asynccontextmanager
async def open_log(url: str, db: Database, identity: Identity | None) -> AsyncIterator[Log]:
    """Empty: the outbox' own Postgres. `kafka://host:port,…`: brokers. ValueError for anything else."""
    if not url:
        async with open_postgres_log(db) as log:
            yield log
    elif url.startswith(("kafka://", "kafka+ssl://")):
        from services.common.log.kafka.log import open_kafka_log

        async with open_kafka_log(url, identity) as kafka:
            yield kafka
    else:
        raise ValueError(f"SOMA_LOG_URL is {url!r}; it must be empty, or kafka://host:port,…")
