"""What people do with API keys. One method a deed, one transaction a method."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from services.common import pages
from services.common.api_keys import new_secret
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.db import Database, Transaction
from services.common.errors import Invalid, NotFound
from services.common.once import once
from services.router.covers import is_name
from services.router.keys import store
from services.router.keys.bound import bound
from services.router.offers import Offer
from soma.router.v1 import key_service_pb2 as wire
from soma.router.v1.key_pb2 import Key

LISTING = "keys"
SHOWN = 100


@dataclass(frozen=True, slots=True)
class Keys:
    db: Database
    offers: Callable[[], Collection[Offer]]
    """The catalogue as it is now."""

    async def create(self, caller: Caller, request: wire.CreateKeyRequest) -> Key:
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Key) as answer:
            if answer.known is not None:
                return await found(tx, answer.known.name)
            key = await issue(tx, request.key, [offer.key for offer in self.offers()])
            tx.about(answer.keep(Key(name=key.name)).name)
            return key

    async def get(self, caller: Caller, name: str) -> Key:
        async with self.db.tenant(caller) as tx:
            return await found(tx, name)

    async def page(self, caller: Caller, request: wire.ListKeysRequest) -> wire.ListKeysResponse:
        before = pages.before(request.page_token, LISTING)
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.db.tenant(caller) as tx:
            found = await store.page(tx, before, size + 1)
        keys, token = pages.cut(found, size, LISTING, lambda key: id_of(key.name))
        return wire.ListKeysResponse(keys=keys, next_page_token=token)

    async def revoke(self, caller: Caller, request: wire.RevokeKeyRequest) -> Key:
        async with self.db.tenant(caller) as tx, once(tx, request.request_id, request, Key) as answer:
            if answer.known is not None:
                return await found(tx, answer.known.name)
            tx.about(answer.keep(Key(name=request.name)).name)
            return await revoke(tx, request.name)


async def issue(tx: Transaction, asked: Key, models: Collection[tuple[str, str]]) -> Key:
    """A new key in the transaction, with its secret: nobody can show it later. `models` are all that there are, by
    provider and name. Raises Invalid REQUEST_INVALID."""
    check_person(asked)
    check_models(asked, models)
    check_end(asked, tx.clock.now())
    id, secret = new_id(), new_secret()
    await store.add(tx, id, asked, secret)
    key = await found(tx, store.name_of(id))
    await bound(tx, key)
    key.secret = secret
    return key


async def revoke(tx: Transaction, name: str) -> Key:
    """Raises NotFound KEY_UNKNOWN."""
    await store.revoke(tx, id_of(name))
    return await found(tx, name)


async def found(tx: Transaction, name: str) -> Key:
    """Raises NotFound KEY_UNKNOWN."""
    key = await store.find(tx, id_of(name))
    if key is None:
        raise unknown(name)
    return key


def check_person(key: Key) -> None:
    if key.person.startswith("system:"):
        raise Invalid("REQUEST_INVALID", "The field key.person is wrong: it names a room.", field="key.person")


def check_models(key: Key, models: Collection[tuple[str, str]]) -> None:
    """A name that means nothing would make a key that opens nothing, or one day more than was meant."""
    for name in key.models:
        if not is_name(name, models):
            message = (
                f"The field key.models is wrong: {name[:SHOWN]!r} names nothing here. "
                "GET /v1/models lists what can be named; soma/auto is every model that answers."
            )
            raise Invalid("REQUEST_INVALID", message, field="key.models")


def check_end(key: Key, now: datetime) -> None:
    if not key.HasField("expire_time"):
        return
    try:
        ends = key.expire_time.ToDatetime(UTC)
    except (ValueError, OverflowError):
        ends = now
    if ends <= now:
        message = "The field key.expire_time is wrong: a key ends in the future, or has no end."
        raise Invalid("REQUEST_INVALID", message, field="key.expire_time")


def id_of(name: str) -> UUID:
    """Raises NotFound KEY_UNKNOWN."""
    id = store.id_of(name)
    if id is None:
        raise unknown(name)
    return id


def unknown(name: str) -> NotFound:
    return NotFound("KEY_UNKNOWN", "Your tenant has no such key.", name=name[:200])
