"""What every deed of the room stands on: whose canvas it is, one transaction, and the bell that tells who watches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from services.canvas import history, store
from services.canvas.bells import Bells
from services.canvas.conversations import Conversations
from services.canvas.etags import version_of
from services.canvas.limits import Limits, check_text
from services.canvas.names import PaneIds, no_pane, pane_ids, version_name
from services.common.caller import Caller
from services.common.db import Database, Transaction
from services.common.errors import Conflict, NotFound
from soma.canvas.v1.canvas_pb2 import Pane


@dataclass(frozen=True, slots=True)
class Canvas:
    db: Database
    conversations: Conversations
    bells: Bells
    limits: Limits

    @asynccontextmanager
    async def reading(self, caller: Caller, conversation: UUID, missing: NotFound) -> AsyncIterator[Transaction]:
        """A transaction that reads the canvas of a conversation of the caller's. Raises `missing` for any other."""
        await self.conversations.check(caller, conversation, missing)
        async with self.db.tenant(caller) as tx:
            yield tx

    @asynccontextmanager
    async def changing(self, caller: Caller, conversation: UUID, missing: NotFound) -> AsyncIterator[Transaction]:
        """The same to write; who watches is told at commit."""
        await self.conversations.check(caller, conversation, missing)
        async with self.trusting(caller, conversation) as tx:
            yield tx

    @asynccontextmanager
    async def trusting(self, caller: Caller, conversation: UUID) -> AsyncIterator[Transaction]:
        """The same for the agent, which has asked itself."""
        async with self.db.tenant(caller) as tx:
            yield tx
        self.bells.ring(caller.tenant, conversation)


async def hold(tx: Transaction, conversation: UUID, missing: NotFound) -> int:
    """The revision that this transaction makes; the canvas is held until commit. Raises `missing` when it was deleted
    just now."""
    revision = await store.hold(tx, conversation)
    if revision is None:
        raise missing
    return revision


def known(kept: store.Kept | None, missing: NotFound) -> store.Kept:
    """The pane. Raises `missing` when there is none."""
    if kept is None:
        raise missing
    return kept


async def now(tx: Transaction, name: str) -> Pane:
    """The pane as it is now: also what a repeated request gets, since no text is kept with the first answer. Raises
    NotFound PANE_UNKNOWN."""
    return known(await store.pane(tx, pane_ids(name)), no_pane(name)).pane


async def begin_version(tx: Transaction, kept: store.Kept, new: Pane, revision: int, limits: Limits) -> None:
    """A person's new version of a pane. It ends what a turn writes there. Raises Precondition CANVAS_FULL."""
    ids, size_bytes = pane_ids(kept.pane.name), len(new.text.encode())
    check_text(await store.held(tx, ids[0]), kept.size_bytes, size_bytes, limits)
    renamed = (new.title, new.language) != (kept.pane.title, kept.pane.language)
    await store.renew(tx, ids, new, revision, tx.clock.now(), named=kept.named or renamed)
    await history.prune(tx, ids, size_bytes, limits)


async def check_etag(tx: Transaction, ids: PaneIds, sent: str, newest: Pane) -> None:
    """Raise Conflict ETAG_STALE when an etag was sent that is not the newest."""
    if sent and sent != newest.etag:
        raise await stale(tx, ids, sent, newest)


async def stale(tx: Transaction, ids: PaneIds, sent: str, newest: Pane) -> Conflict:
    """ETAG_STALE. Both versions can be read: the metadata name the newest, and the one that the sent etag was of, if it
    is still kept."""
    facts, base = {"etag": newest.etag, "newest": version_name(ids, newest.version)}, version_of(sent)
    if base and await history.version(tx, ids, base):
        facts["base"] = version_name(ids, base)
    message = "The pane was changed meanwhile. Read the newest version, bring both together, and send it again."
    return Conflict("ETAG_STALE", message, retry_after_s=None, **facts)
