"""Forgetting a person: the key to what they wrote and to what they are called goes."""

from __future__ import annotations

from typing import Any

from services.common import acts

VACUUM_S = 3600.0
"""How long going through a large table of a tenant may take."""

OWN_TABLES = "SELECT to_regclass($1) IS NOT NULL AS decisions, to_regclass($2) IS NOT NULL AS requests"
FORGET = """
UPDATE soma.subjects SET subject = NULL, wrapped = NULL, forget_time = now() WHERE tenant = $1 AND subject = $2
RETURNING pseudonym
"""


async def forget(conn: Any, tenant: str, subject: str) -> str | None:
    """Forget a person of a tenant, on the administrator's connection, outside of a transaction: what is sealed with
    their key is nobody's to open within a minute, in the log, in archives and in the audit trail, whose proofs hold all
    the same. Returns the pseudonym that stays in their events; None when nobody of that name has a key.

    What the router decided for them goes on under the pseudonym, and what their requests were answered with is deleted:
    both name the person beside turns that their events name. Their conversations do so too, until they are deleted by
    them or by their rooms. If they come back they are somebody else. The key is wrapped, and the rows are vacuumed
    here; copies of the database's pages, in its write-ahead log and in backups, go when those do.
    """
    async with conn.transaction():
        pseudonym: str | None = await conn.fetchval(FORGET, tenant, subject)
        if pseudonym is None:
            return None
        changed = await unname(conn, f"t_{tenant}", subject, pseudonym)
        await acts.tell(conn, "subject.forgotten", f"subjects/{pseudonym}", tenant)
    await conn.execute(f"VACUUM {', '.join(['soma.subjects', *changed])}", timeout=VACUUM_S)
    return pseudonym


async def unname(conn: Any, schema: str, subject: str, pseudonym: str) -> list[str]:
    """Take the person's name out of what rooms keep for themselves. Returns the tables."""
    decisions, requests = f"{schema}.decisions", f"{schema}.requests"
    found = await conn.fetchrow(OWN_TABLES, decisions, requests)
    if found["decisions"]:
        unnamed = f"UPDATE {decisions} SET subject = $2 WHERE subject = $1"  # noqa: S608 - the name of a schema
        await conn.execute(unnamed, subject, pseudonym, timeout=VACUUM_S)
    if found["requests"]:
        await conn.execute(f"DELETE FROM {requests} WHERE subject = $1", subject)  # noqa: S608 - the same
    return [table for table, is_there in ((decisions, found["decisions"]), (requests, found["requests"])) if is_there]
