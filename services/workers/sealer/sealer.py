"""The sealer: what the audit trail is told gets its place in the tenant's tree, its link in the chain, and a signed
head over all, in the transaction in which it is marked as done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.common import audit
from services.common.call import current
from services.common.caller import Caller
from services.common.clock import Clock
from services.common.consumer.consumer import Away, Consumer, Hopeless
from services.common.db import Database, Transaction
from services.common.errors import Denied
from services.common.log.log import Entry
from services.common.people.wrapping import KeyAway
from services.common.schemas import is_canonical, to_json
from services.common.telemetry import Sight
from services.common.trail.checkpoint import Checkpoint, Note, origin
from services.common.trail.merkle import leaf_hash, links
from services.common.trail.signing import KeyGone, Signer, SigningKeys, VerifierKey, open_signing_keys
from services.workers.bench import Bench
from services.workers.sealer import trees
from services.workers.sealer.trees import Sealed, Told, Tree

GROUP, TOPIC = "sealer", "agent.audit"
ROTATED = "audit.key.rotated"
GATHER_S = 0.5
"""Each run of a tenant has a head to sign."""
LONGEST_EVENT = 64 * 1024
"""Bytes. Whoever looks through the trail gets events whole, a page of them at once."""
IS_SERVED = "SELECT true FROM soma.tenants WHERE name = $1"


async def work(bench: Bench) -> None:
    """Seal what comes, until cancelled. While a key cannot be used, everything waits for it."""
    async with open_signing_keys(bench.keys_url) as keys:
        sealer = Sealer(keys, bench.db.clock)

        async def seal(tx: Transaction, entries: Sequence[Entry]) -> None:
            try:
                sealed = await sealer.seal(tx, entries)
            except KeyAway as fault:
                raise Away(str(fault)) from fault
            for each in sealed:
                show(bench.sight, each)

        await Consumer(bench.db, bench.log, bench.sight, GROUP, (TOPIC,), seal, gather_s=GATHER_S).run()


@dataclass(frozen=True, slots=True)
class Sealer:
    """Any number of them may work: at each tenant's tree they wait for each other."""

    keys: SigningKeys
    clock: Clock

    async def seal(self, tx: Transaction, entries: Iterable[Entry]) -> Sequence[Sealed]:
        """Append, in the order given, what has no leaf yet, and sign one head a tenant. Raises ValueError when an entry
        is not the audit event that it says, or of a tenant that the mesh does not serve; KeyAway."""
        told = [checked(entry) for entry in entries]
        tenants = sorted({each.event.tenant for each in told})
        held = await trees.lock(tx, tenants)
        if strange := [tenant for tenant in tenants if tenant not in held]:
            raise ValueError(f"This mesh does not serve the tenant {strange[0]}, so it keeps no trail of it.")
        fresh = await trees.unsealed(tx, told)
        sealed = [await self._append(tx, held[tenant], events) for tenant, events in fresh.items()]
        await trees.write(tx, sealed)
        return sealed

    async def rotate(self, db: Database, caller: Caller) -> VerifierKey:
        """Make a new key for the caller's tenant, which signs every head from now on. The head that tells of it is
        signed by the key before as well, so that who trusts that one may trust the new one; unless it is gone. The
        caller is a room. Raises Denied TENANT_UNKNOWN."""
        async with db.own(caller) as tx:
            if not await tx.fetchval(IS_SERVED, caller.tenant):
                raise Denied("TENANT_UNKNOWN", f"This mesh does not serve the tenant {caller.tenant}.")
            tree = (await trees.lock(tx, [caller.tenant]))[caller.tenant]
            key = await self._new_key(tx, tree, tree.edge.size + 1)
            resource = f"audit/keys/{key.id.hex()}"
            event = audit.event(caller, None, ROTATED, current.get(), self.clock.now(), resource=resource)
            tx.tell(event)  # when it comes by the log it has its leaf
            before = await self._signer_if_there(tree.key)
            signers = [await self.keys.signer(key), *before]
            sealed = await self._signed(tree, [trees.read(to_json(event).encode())], signers)
            await trees.write(tx, [sealed])
        return key

    async def _append(self, tx: Transaction, tree: Tree, told: Sequence[Told]) -> Sealed:
        key = tree.key or await self._new_key(tx, tree, 1)
        return await self._signed(tree, told, [await self.keys.signer(key)])

    async def _signed(self, tree: Tree, told: Sequence[Told], signers: Sequence[Signer]) -> Sealed:
        leaves = [leaf_hash(each.canonical) for each in told]
        chain = links(tree.chain, leaves)
        edge, grown = tree.edge.grow(leaves)
        head = Checkpoint(origin(tree.tenant), edge.size, edge.root, chain[-1], self.clock.now())
        note = Note(head.text, tuple([await signer.sign(head.text) for signer in signers]))
        key = signers[0].key
        return Sealed(Tree(tree.tenant, edge, chain[-1], key), told, leaves, chain, grown, head, str(note), key)

    async def _new_key(self, tx: Transaction, tree: Tree, first_size: int) -> VerifierKey:
        key = await self.keys.make(origin(tree.tenant))
        await trees.add_key(tx, tree.tenant, key, first_size, self.clock.now())
        return key

    async def _signer_if_there(self, key: VerifierKey | None) -> Sequence[Signer]:
        try:
            return [await self.keys.signer(key)] if key else []
        except KeyGone:
            return []


def show(sight: Sight, sealed: Sealed) -> None:
    head = sealed.head
    sight.audit_sealed.inc(len(sealed.told))
    sight.audit_head_size.labels(sealed.tree.tenant).set(head.size)
    sight.audit_head_time.labels(sealed.tree.tenant).set(head.time.timestamp())
    oldest = min(each.event.time for each in sealed.told)
    sight.audit_seal_seconds.observe((head.time - oldest).total_seconds())


def checked(entry: Entry) -> Told:
    """The event as it will be sealed for good: such that every later reader can read it. Raises Hopeless."""
    if len(entry.payload) > LONGEST_EVENT:
        raise Hopeless(f"An audit event has {LONGEST_EVENT} bytes at most; this one has {len(entry.payload)}.")
    try:
        told = trees.read(entry.payload)
    except ValueError as fault:
        raise Hopeless(str(fault)) from fault
    if (told.event.tenant, told.event.id) != (entry.tenant, entry.id):
        raise Hopeless(f"Entry {entry.id} of {entry.tenant} carries event {told.event.id} of {told.event.tenant}.")
    if not is_canonical(entry.payload):
        raise Hopeless(f"Event {entry.id} is not canonical JSON (RFC 8785), and only such bytes can be sealed.")
    return told
