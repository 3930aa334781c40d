"""What is sealed in a real Postgres leaves it as a file that proves itself, and whoever touches the rows is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.common import audit, outbox, schema
from services.common.call import NOBODY
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.log.log import Entry
from services.common.trail.checkpoint import Checkpoint, Note
from services.common.trail.signing import FileSigningKeys, VerifierKey
from services.local.audit.export import measure
from services.local.audit.file import write_file
from services.local.audit.finding import Kind
from services.local.audit.verify import Known, Verdict, verify
from services.local.fault import Fault
from services.workers.sealer.sealer import Sealer
from tests.consuming import World, open_world
from tests.stores import running_postgres

pytestmark = pytest.mark.asyncio(loop_scope="module")

BATCHES = (1, 2, 700, 1500, 3)
BEFORE = sum(BATCHES)
"""Then the key is rotated, which is an event too, and all of it comes once more."""
SIZE = 2 * BEFORE + 1


@dataclass(frozen=True, slots=True)
class Sealed:
    """A trail of `acme` whose key was rotated."""

    admin: Any
    old: VerifierKey
    new: VerifierKey
    folder: Path

    async def export(self, first: int = 0) -> Path:
        out = self.folder / f"{first}.zst"
        await write_file(self.admin, await measure(self.admin, "acme", first), out, lambda _: None)
        return out

    async def judged(self, first: int = 0, *, head: Note | None = None) -> Verdict:
        with (await self.export(first)).open("rb") as file:
            return verify(file, Known([self.old], head, Checkpoint.parse(head.text) if head else None))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("export")
    async with running_postgres(folder / "postgres") as url, open_world(url, folder / "keys") as world:
        for tenant in ("acme", "globex"):
            await schema.add_tenant(url, tenant, ())
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sealed(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sealed]:
    sealer = Sealer(FileSigningKeys(tmp_path_factory.mktemp("audit")), SystemClock())
    await seal(world, sealer)
    async with schema.connected(world.admin_url) as admin:
        [row] = await admin.fetch("SELECT name, public FROM soma.audit_keys")
        new = await sealer.rotate(world.db, Caller.system("operator", "acme"))
        await seal(world, sealer)
        old = VerifierKey(row["name"], row["public"])
        yield Sealed(admin, old, new, tmp_path_factory.mktemp("exports"))


async def seal(world: World, sealer: Sealer) -> None:
    for size in BATCHES:
        entries = [entry() for _ in range(size)]
        async with world.db.own(Caller.system("workers", "")) as tx:
            await sealer.seal(tx, entries)


def entry() -> Entry:
    """An audit event as it comes out of the log."""
    now = SystemClock().now()
    event = audit.event(Caller.system("agent", "acme"), None, "turn.ended", NOBODY, now, resource="conversations/ü")
    row = outbox.row(event, "")
    return Entry(row.topic, 0, 0, UUID(row.id), "acme", row.key, row.type, row.payload.encode(), "", now)


async def test_an_export_proves_itself_to_who_trusts_the_first_key(sealed: Sealed) -> None:
    verdict = await sealed.judged()
    assert verdict.finding is None
    assert (verdict.first, verdict.size, verdict.trusted) == (0, SIZE, [sealed.old, sealed.new])


@pytest.mark.parametrize("first", [1, 2, 3, 1000, 1023, 1024, BEFORE - 1, BEFORE])
async def test_an_export_may_begin_anywhere(sealed: Sealed, first: int) -> None:
    verdict = await sealed.judged(first)
    assert verdict.finding is None
    assert (verdict.first, verdict.size) == (first, SIZE)


async def test_heads_are_few_and_each_thousand_has_one_where_there_is(sealed: Sealed) -> None:
    verdict = await sealed.judged()
    assert 5 <= verdict.heads <= 8


async def test_an_old_head_lies_on_a_newer_export(sealed: Sealed) -> None:
    for row in await sealed.admin.fetch("SELECT checkpoint FROM soma.tree_heads"):
        assert (await sealed.judged(head=Note.parse(row["checkpoint"]))).finding is None


@pytest.mark.parametrize(
    ("statement", "kind", "index"),
    [
        ("UPDATE soma.audit SET canonical = '{}' WHERE index = 1234", Kind.ALTERED, 1234),
        ("UPDATE soma.audit SET chain = sha512(chain) WHERE index = 1234", Kind.ALTERED, 1234),
        ("DELETE FROM soma.audit WHERE index = 1234", Kind.MISSING, 1234),
        (f"DELETE FROM soma.audit WHERE index >= {SIZE - 2}", Kind.MISSING, SIZE - 2),
        ("DELETE FROM soma.tree_heads WHERE size > 3000", Kind.CUT_TAIL, None),
    ],
)
async def test_whoever_touches_the_rows_is_found(sealed: Sealed, statement: str, kind: Kind, index: int | None) -> None:
    newest = await sealed.admin.fetchval("SELECT checkpoint FROM soma.tree_heads ORDER BY size DESC LIMIT 1")
    change = sealed.admin.transaction()
    await change.start()
    try:
        await sealed.admin.execute(statement)
        finding = (await sealed.judged(head=Note.parse(newest))).finding
    finally:
        await change.rollback()
    assert finding and finding.kind is kind
    assert index is None or finding.index == index


async def test_what_cannot_be_exported_is_said_in_a_sentence(sealed: Sealed) -> None:
    with pytest.raises(Fault, match="trail of globex is empty"):
        await measure(sealed.admin, "globex", 0)
    with pytest.raises(Fault, match="does not serve the tenant initech"):
        await measure(sealed.admin, "initech", 0)
    with pytest.raises(Fault, match=f"ends with event {SIZE - 1}"):
        await measure(sealed.admin, "acme", SIZE)


async def test_an_export_that_fails_leaves_the_file_before_it(sealed: Sealed) -> None:
    out = await sealed.export()
    before = out.read_bytes()

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await write_file(sealed.admin, await measure(sealed.admin, "acme", 0), out, stop)
    assert out.read_bytes() == before
    assert [each.name for each in sealed.folder.iterdir() if each.name.startswith(".")] == []
