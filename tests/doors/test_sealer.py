"""What the audit trail is told gets one leaf, and an outsider can prove every head over it; on a real Postgres."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha3_512, sha256
from itertools import combinations, count, pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from services.common import audit, outbox, schema
from services.common.background import alongside
from services.common.call import NOBODY
from services.common.caller import Caller
from services.common.clock import SystemClock
from services.common.db import Database, Transaction, open_database
from services.common.errors import Denied, Unavailable
from services.common.log.log import Entry
from services.common.people.wrapping import FileTenantKeys
from services.common.schemas import canonical
from services.common.trail import trail
from services.common.trail.checkpoint import Checkpoint, Note
from services.common.trail.merkle import leaf_hash, verify_consistency, verify_inclusion
from services.common.trail.signing import FileSigningKeys, KeyGone, signer_of
from services.workers.bench import Bench
from services.workers.sealer import sealer
from services.workers.sealer.sealer import ROTATED, Sealer
from tests.consuming import World, open_world, renamed
from tests.stores import running_postgres
from tests.unit.test_merkle import mth

pytestmark = pytest.mark.asyncio(loop_scope="module")

TENANTS = ("acme", "globex")
SEALED = ("audit", "audit_hashes", "audit_keys", "tree_heads")
ROOM = Caller.system("workers", "")
offsets = count()


@dataclass
class Sealing:
    """A world with a sealer in it."""

    world: World
    console: Database
    """With the login of the room that shows trails."""
    keys: FileSigningKeys
    sealer: Sealer

    async def seal(self, *entries: Entry) -> None:
        async with self.world.db.own(ROOM) as tx:
            await self.sealer.seal(tx, entries)

    async def rows(self, tenant: str = "acme") -> Sequence[Any]:
        return await self.world.db.look("SELECT * FROM soma.audit WHERE tenant = $1 ORDER BY index", tenant)

    async def ids(self, tenant: str = "acme") -> list[Any]:
        return [row["id"] for row in await self.rows(tenant)]

    @asynccontextmanager
    async def tenant(self, tenant: str = "acme") -> AsyncIterator[Transaction]:
        """What a person of the tenant may see."""
        async with self.console.tenant(Caller.system("console", tenant)) as tx:
            yield tx

    async def heads(self, tenant: str = "acme") -> list[trail.Head]:
        """The oldest first."""
        async with self.tenant(tenant) as tx:
            return [*reversed(await trail.heads(tx, tenant, most=1000))]

    @asynccontextmanager
    async def administrator(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        conn = await asyncpg.connect(self.world.admin_url)
        try:
            yield conn
        finally:
            await conn.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("sealer")
    async with running_postgres(folder / "postgres") as url, open_world(url, folder / "keys") as world:
        for tenant in TENANTS:
            await schema.add_tenant(url, tenant, ())
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    await schema.set_room_password(world.admin_url, "console", "test")
    url = world.url.replace("soma_workers", "soma_console")
    async with open_database(url, tmp_path_factory.mktemp("console").as_uri(), SystemClock()) as db:
        yield db


@pytest_asyncio.fixture(loop_scope="module")
async def sealing(world: World, console: Database, tmp_path: Path) -> Sealing:
    """With empty trees."""
    keys = FileSigningKeys(tmp_path / "audit")
    sealing = Sealing(renamed(world), console, keys, Sealer(keys, SystemClock()))
    async with sealing.administrator() as conn:
        await conn.execute(f"TRUNCATE soma.outbox, soma.audit_trees, {', '.join(f'soma.{name}' for name in SEALED)}")
    return sealing


def entry(tenant: str = "acme", who: str = "somebody") -> Entry:
    """An audit event as it comes out of the log."""
    event = audit.event(
        Caller.system(who, tenant), None, "chat.asked", NOBODY, SystemClock().now(), resource="conversations/é"
    )
    row = outbox.row(event, "")
    return Entry(
        row.topic,
        0,
        next(offsets),
        UUID(row.id),
        tenant,
        row.key,
        row.type,
        row.payload.encode(),
        "",
        SystemClock().now(),
    )


def entries(number: int, tenant: str = "acme") -> list[Entry]:
    return [entry(tenant) for _ in range(number)]


def batches(of: Sequence[Entry], chance: random.Random) -> Iterator[Sequence[Entry]]:
    while of:
        size = chance.randint(1, 40)
        yield of[:size]
        of = of[size:]


async def test_a_head_is_what_a_stranger_computes_from_the_events_and_the_public_key(sealing: Sealing) -> None:
    told = entries(23)
    await sealing.seal(*told[:3])
    await sealing.seal(*told[3:4])
    await sealing.seal(*told[4:])

    async with sealing.tenant() as tx:
        [span] = await trail.keys(tx, "acme")
    name, hexid, public = span.key.line.split("+", 2)
    raw = base64.b64decode(public)
    assert hexid == sha256(name.encode() + b"\n" + raw).digest()[:4].hex()
    leaves = [sha256(b"\x00" + each.payload).digest() for each in told]
    heads = await sealing.heads()
    assert [head.size for head in heads] == [3, 4, 23]
    for head in heads:
        chain = bytes(64)
        for leaf in leaves[: head.size]:
            chain = sha3_512(chain + leaf).digest()
        text, _, signature = head.checkpoint.partition("\n\n")
        signed = base64.b64decode(signature.split(" ")[2])
        assert signature.split(" ")[:2] == ["\u2014", "soma.local/audit/acme"] and signed[:4].hex() == hexid
        Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signed[4:], f"{text}\n".encode())
        assert text.split("\n")[:4] == [
            "soma.local/audit/acme",
            str(head.size),
            base64.b64encode(mth(leaves[: head.size])).decode(),
            f"chain {base64.b64encode(chain).decode()}",
        ]


async def test_the_rows_are_the_events_to_the_byte_in_the_order_of_the_tree(sealing: Sealing) -> None:
    told = entries(9)
    await sealing.seal(*told[:5])
    await sealing.seal(*told[5:])

    rows = await sealing.rows()
    assert [row["index"] for row in rows] == list(range(9))
    assert [row["canonical"] for row in rows] == [each.payload for each in told]
    for row in rows:
        said = json.loads(row["canonical"])
        assert canonical(said) == row["canonical"]
        assert row["leaf"] == leaf_hash(row["canonical"])
        assert [said[name] for name in ("id", "action", "subject", "resource", "outcome")] == [
            str(row["id"]), row["action"], row["subject"], row["resource"], row["outcome"],
        ]  # fmt: skip


async def test_stored_hashes_prove_every_event_under_every_head_and_every_head_begins_with_the_ones_before(
    sealing: Sealing,
) -> None:
    chance = random.Random(7)
    for batch in batches(entries(700), chance):
        await sealing.seal(*batch)

    heads, rows = await sealing.heads(), await sealing.rows()
    assert heads[-1].size == len(rows) == 700
    async with sealing.tenant() as tx:
        for head in chance.sample(heads, 12):
            for index in chance.sample(range(head.size), min(20, head.size)):
                path = await trail.inclusion(tx, "acme", index, head.size)
                assert verify_inclusion(index, head.size, rows[index]["leaf"], path, head.root)
        for old, new in [*pairwise(heads), *chance.sample([*combinations(heads, 2)], 60)]:
            path = await trail.consistency(tx, "acme", old.size, new.size)
            assert verify_consistency(old.size, new.size, path, old.root, new.root)


async def test_an_event_gets_one_leaf_however_often_and_wherever_it_comes(sealing: Sealing) -> None:
    first, second, third = entries(3)
    await sealing.seal(first, second, first)
    await sealing.seal(replace(second, part=3), first)
    await sealing.seal(second, third, third)

    assert await sealing.ids() == [first.id, second.id, third.id]
    assert [head.size for head in await sealing.heads()] == [2, 3]


async def test_a_batch_of_several_tenants_has_one_head_for_each(sealing: Sealing) -> None:
    mixed = [entry("acme"), entry("globex"), entry("acme"), entry("globex"), entry("acme")]
    await sealing.seal(*mixed)

    for tenant in TENANTS:
        theirs = [each for each in mixed if each.tenant == tenant]
        assert await sealing.ids(tenant) == [each.id for each in theirs]
        [head] = await sealing.heads(tenant)
        assert head.root == mth([leaf_hash(each.payload) for each in theirs])
        assert Checkpoint.parse(Note.parse(head.checkpoint).text).origin == f"soma.local/audit/{tenant}"


async def test_sealers_side_by_side_make_one_tree_without_gap_fork_or_double(sealing: Sealing) -> None:
    told = [entry(tenant) for _ in range(150) for tenant in TENANTS]
    chance = random.Random(3)

    async def one() -> None:
        other = Sealer(FileSigningKeys(sealing.keys.folder), SystemClock())
        mine = chance.sample(told, 200)
        for batch in batches(mine, chance):
            async with sealing.world.db.own(ROOM) as tx:
                await other.seal(tx, batch)

    await asyncio.gather(*(one() for _ in range(4)))
    await sealing.seal(*told)

    for tenant in TENANTS:
        rows, heads = await sealing.rows(tenant), await sealing.heads(tenant)
        assert sorted(row["id"] for row in rows) == sorted(each.id for each in told if each.tenant == tenant)
        assert [row["index"] for row in rows] == list(range(150))
        leaves = [row["leaf"] for row in rows]
        assert [head.root for head in heads] == [mth(leaves[: head.size]) for head in heads]
        async with sealing.tenant(tenant) as tx:
            assert len(await trail.keys(tx, tenant)) == 1


async def test_what_is_cut_off_before_its_commit_never_was(sealing: Sealing) -> None:
    told = entries(6)

    async def cut_off() -> None:
        async with sealing.world.db.own(ROOM) as tx, sealing.administrator() as conn:
            await sealing.sealer.seal(tx, told[:4])
            await conn.execute("SELECT pg_terminate_backend($1)", await tx.fetchval("SELECT pg_backend_pid()"))

    with pytest.raises((Unavailable, asyncpg.InternalClientError)):
        await cut_off()

    assert (await sealing.rows(), await sealing.heads()) == ([], [])
    await sealing.seal(*told)
    assert await sealing.ids() == [each.id for each in told]
    [head] = await sealing.heads()
    async with sealing.tenant() as tx:
        [span] = await trail.keys(tx, "acme")
    assert signer_of(Note.parse(head.checkpoint), [span.key]) == span.key


async def test_a_new_key_signs_from_its_rotation_on_and_the_one_before_hands_over(sealing: Sealing) -> None:
    await sealing.seal(*entries(3))
    await sealing.sealer.rotate(sealing.world.db, Caller.system("workers", "acme"))
    await sealing.seal(*entries(2))
    new = await sealing.sealer.rotate(sealing.world.db, Caller.system("operator", "acme"))
    await sealing.seal(*entries(2))

    async with sealing.tenant() as tx:
        spans = await trail.keys(tx, "acme")
    assert [(span.first_size, span.last_size) for span in spans] == [(1, 4), (4, 7), (7, None)]
    first, second, third = (span.key for span in spans)
    assert third == new
    signed = {head.size: Note.parse(head.checkpoint) for head in await sealing.heads()}
    assert {
        size: [key for key in (first, second, third) if signer_of(note, [key])] for size, note in signed.items()
    } == {3: [first], 4: [first, second], 6: [second], 7: [second, third], 9: [third]}
    assert len({key.id for key in (first, second, third)}) == 3
    assert {file.stem for file in sealing.keys.folder.rglob("*.key")} == {span.key.id.hex() for span in spans}


async def test_a_rotation_is_told_and_has_one_leaf_when_it_comes_by_the_log(sealing: Sealing) -> None:
    await sealing.seal(*entries(2))
    key = await sealing.sealer.rotate(sealing.world.db, Caller.system("operator", "acme"))
    async with sealing.administrator() as conn:
        [told] = await conn.fetch("SELECT * FROM soma.outbox")
    assert (told["type"], told["aggregatetype"], told["aggregateid"]) == (
        ROTATED,
        "agent.audit",
        "acme/system:operator",
    )

    payload = told["payload"].encode()
    await sealing.seal(replace(entry(), id=told["id"], payload=payload), entry())
    rows = await sealing.rows()
    assert len(rows) == 4
    assert rows[2]["canonical"] == payload
    assert (rows[2]["action"], rows[2]["resource"]) == (ROTATED, f"audit/keys/{key.id.hex()}")


async def test_a_first_rotation_makes_the_first_key(sealing: Sealing) -> None:
    key = await sealing.sealer.rotate(sealing.world.db, Caller.system("workers", "acme"))
    async with sealing.tenant() as tx:
        [span] = await trail.keys(tx, "acme")
    assert (span.key, span.first_size, span.last_size) == (key, 1, None)
    assert [head.size for head in await sealing.heads()] == [1]


async def test_a_lost_key_stops_the_sealing_until_it_is_back_or_replaced(sealing: Sealing) -> None:
    told = entries(4)
    await sealing.seal(told[0])
    [file] = sealing.keys.folder.rglob("*.key")
    away = file.rename(file.with_suffix(".away"))
    with pytest.raises(Unavailable) as refused:
        await sealing.seal(told[1])
    assert isinstance(refused.value.__cause__, KeyGone)
    assert await sealing.ids() == [told[0].id]

    away.rename(file)
    await sealing.seal(told[1])
    file.unlink()
    new = await sealing.sealer.rotate(sealing.world.db, Caller.system("operator", "acme"))
    await sealing.seal(*told)
    heads = await sealing.heads()
    assert [head.size for head in heads] == [1, 2, 3, 5]
    assert all(signer_of(Note.parse(head.checkpoint), [new]) for head in heads[2:])
    assert len(Note.parse(heads[2].checkpoint).signatures) == 1


async def test_no_key_is_made_for_a_tenant_that_is_not_served(sealing: Sealing) -> None:
    with pytest.raises(Denied, match="does not serve the tenant initech"):
        await sealing.sealer.rotate(sealing.world.db, Caller.system("operator", "initech"))
    assert not sealing.keys.folder.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda each: replace(each, tenant="globex"),
        lambda each: replace(each, id=entry().id),
        lambda each: replace(each, payload=b"{}"),
        lambda each: replace(each, payload=each.payload[:-1]),
        lambda each: replace(each, payload=each.payload.replace(b'"outcome":"done"', b'"outcome":null')),
        lambda each: replace(
            each, payload=each.payload.replace(b'Z","trace', b'","trace').replace(b'Z","ver', b'","ver')
        ),
    ],
)
async def test_what_is_no_audit_event_of_its_tenant_is_refused_with_its_batch(sealing: Sealing, change: Any) -> None:
    with pytest.raises(ValueError, match=r"carries event|Object missing|truncated|Expected `str`|timezone"):
        await sealing.seal(entry(), change(entry()))
    assert (await sealing.rows(), await sealing.rows("globex")) == ([], [])


NOT_CANONICAL = [
    lambda raw: raw.replace(b'"outcome":"done"', b'"outcome": "done"'),
    lambda raw: raw.replace(b'"outcome":"done"', b'"outcome":"refused","outcome":"done"'),
    lambda raw: raw.replace("é".encode(), b"\\u00e9"),
    lambda raw: raw.replace(b'"outcome":"done"', b'"outcome":"\\u0064one"'),
    lambda raw: raw + b"\n",
    lambda raw: b"{" + b",".join(reversed(raw[1:-1].split(b","))) + b"}",
]


@pytest.mark.parametrize("change", NOT_CANONICAL)
async def test_what_is_not_canonical_is_not_sealed_since_no_export_could_show_it(sealing: Sealing, change: Any) -> None:
    told = entry()
    changed = change(told.payload)
    assert json.loads(changed) == json.loads(told.payload)
    assert changed != told.payload
    with pytest.raises(ValueError, match=r"not canonical JSON \(RFC 8785\)"):
        await sealing.seal(replace(told, payload=changed))
    assert await sealing.rows() == []


async def test_an_event_is_as_long_as_a_page_can_hold(sealing: Sealing) -> None:
    def of_size(size: int) -> Entry:
        told = entry()
        return replace(told, payload=told.payload.replace("é".encode(), b"x" * (size - len(told.payload) + 2)))

    await sealing.seal(of_size(sealer.LONGEST_EVENT))
    with pytest.raises(ValueError, match="65536 bytes at most; this one has 65537"):
        await sealing.seal(of_size(sealer.LONGEST_EVENT + 1))
    assert len(await sealing.rows()) == 1


@pytest.mark.parametrize("tenant", ["initech", "../acme", "a b", "", "acme/x"])
async def test_a_tenant_that_is_not_served_gets_neither_tree_nor_key(sealing: Sealing, tenant: str) -> None:
    told = entry()
    payload = told.payload.replace(b'"tenant":"acme"', f'"tenant":"{tenant}"'.encode())
    with pytest.raises(ValueError, match="This mesh does not serve the tenant"):
        await sealing.seal(entry(), replace(told, tenant=tenant, payload=payload))
    trees = await sealing.world.db.look("SELECT tenant FROM soma.audit_trees WHERE tenant = $1", tenant)
    assert (await sealing.rows(), trees, sealing.keys.folder.exists()) == ([], [], False)


@pytest.mark.parametrize("name", ["..", "../x", "/x", "soma.local/audit/..", "soma.local/audit/a/", "a b", "a\0", ".x"])
async def test_a_key_file_is_called_like_a_tenants_trail_or_not_at_all(sealing: Sealing, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a key"):
        await sealing.keys.make(name)
    with pytest.raises(ValueError, match="cannot be a tenant"):
        await FileTenantKeys(sealing.keys.folder).wrap(name, b"", is_first=True)
    assert not sealing.keys.folder.exists()


@pytest.mark.parametrize("table", SEALED)
async def test_nobody_but_the_administrator_could_change_what_is_sealed(sealing: Sealing, table: str) -> None:
    await sealing.seal(*entries(20))
    for statement in (f"UPDATE soma.{table} SET tenant = 'x'", f"DELETE FROM soma.{table}", f"TRUNCATE soma.{table}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with sealing.world.db.own(ROOM) as tx:
                await tx.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with sealing.world.db.upkeep(Caller.system("agent", "acme")) as tx:
                await tx.execute(statement)


@pytest.mark.parametrize("table", SEALED)
async def test_a_tenant_sees_its_own_trail_and_adds_nothing(sealing: Sealing, table: str) -> None:
    await sealing.seal(*entries(20), *entries(20, "globex"))
    async with sealing.tenant() as tx:
        assert {row["tenant"] for row in await tx.fetch(f"SELECT tenant FROM soma.{table}")} == {"acme"}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with sealing.world.db.upkeep(Caller.system("agent", "acme")) as tx:
            await tx.execute(f"INSERT INTO soma.{table} SELECT * FROM soma.{table} LIMIT 1")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE soma.audit SET canonical = canonical || ' ' WHERE index = 7",
        "UPDATE soma.audit SET leaf = sha256('\\x00'::bytea || 'forged'), canonical = 'forged' WHERE index = 7",
        "UPDATE soma.audit SET chain = set_byte(chain, 0, get_byte(chain, 0) # 1) WHERE index = 7",
        "DELETE FROM soma.audit WHERE index = 19",
        "UPDATE soma.audit SET index = CASE index WHEN 7 THEN -8 WHEN 8 THEN 7 ELSE index END",
    ],
)
async def test_a_row_that_was_changed_is_found_by_computing_anew(sealing: Sealing, change: str) -> None:
    await sealing.seal(*entries(20))
    [head] = await sealing.heads()
    checkpoint = Checkpoint.parse(Note.parse(head.checkpoint).text)
    assert holds(await sealing.rows(), checkpoint)

    async with sealing.administrator() as conn:
        changing = conn.transaction()
        await changing.start()
        await conn.execute("ALTER TABLE soma.audit DROP CONSTRAINT audit_index_check, DROP CONSTRAINT audit_pkey")
        await conn.execute(change)
        rows = await conn.fetch("SELECT * FROM soma.audit ORDER BY index")
        await changing.rollback()
    assert not holds(rows, checkpoint)


def holds(rows: Sequence[Any], head: Checkpoint) -> bool:
    chain = bytes(64)
    for index, row in enumerate(rows):
        chain = sha3_512(chain + sha256(b"\x00" + row["canonical"]).digest()).digest()
        if row["index"] != index or row["chain"] != chain:
            return False
    leaves = [sha256(b"\x00" + row["canonical"]).digest() for row in rows]
    return len(rows) == head.size and chain == head.chain and mth(leaves) == head.root


async def test_what_rooms_tell_is_under_a_head_within_a_second_or_so(sealing: Sealing, tmp_path: Path) -> None:
    world = sealing.world
    bench = Bench(world.db, world.log, world.sight, tmp_path.as_uri())
    value = world.registry.get_sample_value

    async def tell(number: int) -> None:
        async with world.db.own(Caller.system("agent", "acme")) as tx:
            for _ in range(number):
                await tx.audit("chat.asked", resource="conversations/1")
        await world.relay()

    async def sealed(number: int) -> bool:
        return len(await sealing.rows()) == number and value("soma_audit_sealed_total") == number

    def late() -> float:
        within = value("soma_audit_seal_seconds_bucket", {"le": "2.5"})
        counted = value("soma_audit_seal_seconds_count")
        assert within is not None
        assert counted
        return counted - within

    async with alongside(sealer.work(bench), name="sealer"):
        await tell(1)  # the first waits for the sealer to start and for its key
        await world.until(lambda: sealed(1))
        told = 1
        for _ in range(5):  # once: a machine that stands still is no sealer that is late
            before = late()
            for number in (1, 40, 7):
                await tell(number)
                told += number
            await world.until(partial(sealed, told))
            if late() == before:
                break
        else:
            pytest.fail("each time something was sealed late")
    head = (await sealing.heads())[-1]
    leaves = [row["leaf"] for row in await sealing.rows()]
    assert (head.size, head.root) == (told, mth(leaves))
    assert value("soma_audit_sealed_total") == told
    assert value("soma_audit_head_size", {"tenant": "acme"}) == told


async def test_while_the_key_is_away_no_event_is_given_up_and_then_all_are_sealed(
    sealing: Sealing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world, said = sealing.world, ""
    await sealing.seal(entry())
    [file] = sealing.keys.folder.rglob("*.key")
    away = file.rename(file.with_suffix(".away"))
    async with world.db.own(Caller.system("agent", "acme")) as tx:
        await tx.audit("chat.asked", resource="conversations/1")
    await world.relay()

    async def tried() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return said.count("should hold the key") >= 2

    async def sealed() -> bool:
        return len(await sealing.rows()) == 2

    bench = Bench(world.db, world.log, world.sight, tmp_path.as_uri())
    async with alongside(sealer.work(bench), name="sealer"):
        await world.until(tried)
        away.rename(file)
        await world.until(sealed)
    count = world.registry.get_sample_value
    assert count("soma_consumer_events_total", {"group": "sealer", "outcome": "done"}) == 1
    assert not count("soma_consumer_events_total", {"group": "sealer", "outcome": "waiting"})
