"""Forgetting a person: the key to what they wrote and to what they are called goes."""

from __future__ import annotations

from typing import Any

from services.common import acts

VACUUM_S = 3600.0
"""How long going through a large table of a tenant may take."""

NAMED = {
    "{schema}.decisions": "UPDATE {schema}.decisions SET subject = $2 WHERE subject = $1",
    "{schema}.feedback": "UPDATE {schema}.feedback SET subject = $2 WHERE subject = $1",
    "{schema}.requests": "DELETE FROM {schema}.requests WHERE subject = $1 AND $2 <> ''",
    "soma.ledgers": "SELECT FROM soma.ledgers WHERE tenant = '{tenant}' AND $1::text <> $2::text FOR UPDATE",
    "soma.ledger": "UPDATE soma.ledger SET subject = $2 WHERE tenant = '{tenant}' AND subject = $1",
    "soma.holds": "UPDATE soma.holds SET subject = $2 WHERE tenant = '{tenant}' AND subject = $1",
    "soma.budget_spend": """
        WITH mine AS (
            SELECT a.* FROM soma.accounts a JOIN soma.budgets b ON b.tenant = a.tenant AND b.id = a.budget
            WHERE a.tenant = '{tenant}' AND b.scope = 'user' AND a.whose = $1),
        made AS (
            INSERT INTO soma.accounts (tenant, budget, whose, held_microusd, held_tokens, held_requests)
            SELECT tenant, budget, $2, held_microusd, held_tokens, held_requests FROM mine)
        UPDATE soma.budget_spend s SET whose = $2 FROM mine
        WHERE s.tenant = mine.tenant AND s.budget = mine.budget AND s.whose = $1
    """,
    "soma.accounts": """
        DELETE FROM soma.accounts a USING soma.budgets b
        WHERE b.tenant = '{tenant}' AND b.scope = 'user' AND a.tenant = b.tenant AND a.budget = b.id AND a.whose = $1
            AND $2 <> ''
    """,
    "soma.budgets": "UPDATE soma.budgets SET whose = $2 WHERE tenant = '{tenant}' AND scope = 'user' AND whose = $1",
    "soma.keys": """
        UPDATE soma.keys SET person = $2, revoke_time = coalesce(revoke_time, now())
        WHERE tenant = '{tenant}' AND person = $1
    """,
}
"""What becomes of the person's name, $1, in each table where rooms keep it: mostly their pseudonym, $2. The ledger's
lock comes before its tables."""
FORGET = """
UPDATE soma.subjects SET subject = NULL, wrapped = NULL, forget_time = now() WHERE tenant = $1 AND subject = $2
RETURNING pseudonym
"""


async def forget(conn: Any, tenant: str, subject: str) -> str | None:
    """Forget a person of a tenant, on the administrator's connection, outside of a transaction: what is sealed with
    their key is nobody's to open within a minute, in the log, in archives and in the audit trail, whose proofs hold all
    the same. Returns the pseudonym that stays in their events; None when nobody of that name has a key.

    What the router decided for them, what that cost and what bounds it goes on under the pseudonym; what their requests
    were answered with is deleted, their API keys are revoked. Their conversations name them until they are deleted by
    them or by their rooms. If they come back they are somebody else. The key is wrapped, and the rows are vacuumed
    here; copies of the database's pages, in its write-ahead log and in backups, go when those do.
    """
    async with conn.transaction():
        pseudonym: str | None = await conn.fetchval(FORGET, tenant, subject)
        if pseudonym is None:
            return None
        changed = await unname(conn, tenant, subject, pseudonym)
        await acts.tell(conn, "subject.forgotten", f"subjects/{pseudonym}", tenant)
    await conn.execute(f"VACUUM {', '.join(['soma.subjects', *changed])}", timeout=VACUUM_S)
    return pseudonym


async def unname(conn: Any, tenant: str, subject: str, pseudonym: str) -> list[str]:
    """Take the person's name out of what rooms keep for themselves. Returns the tables."""
    names = {"schema": f"t_{tenant}", "tenant": tenant}
    changed = []
    for table, statement in NAMED.items():
        place = table.format(**names)
        if await conn.fetchval("SELECT to_regclass($1) IS NOT NULL", place):
            await conn.execute(statement.format(**names), subject, pseudonym, timeout=VACUUM_S)
            changed.append(place)
    return changed
