"""The deny table, gen/access.csv, read; and how a row of it is asked of a room."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc.aio import AioRpcError

from services.common.errors import Conflict, Invalid, Precondition, Refusal
from services.common.testing import sent
from tests.contract.requests import DESCRIPTORS, method_of
from tests.house import House

Metadata = tuple[tuple[str, str], ...]

OTHER_ROLES = ("visitor", "nobody")
NO_TOKENS: tuple[Metadata, ...] = ((), (("authorization", "Basic eA=="),), (("authorization", "Bearer x.y.z"),))
ASKER = "asker"


@dataclass(frozen=True)
class Row:
    """A line of the table. `*` stands for all: an earlier check has decided."""

    method: str
    workload: str
    role: str
    resource: str
    answer: str

    @property
    def room(self) -> str:
        return self.method.split(".")[1]

    @property
    def descriptor(self) -> MethodDescriptor:
        return method_of(self.method)

    def __str__(self) -> str:
        return "-".join((self.method.rpartition("/")[2], self.workload, self.role, self.resource))


with DESCRIPTORS.with_name("access.csv").open() as _file:
    TABLE = [Row(**line) for line in csv.DictReader(_file)]
METHODS = list(dict.fromkeys(row.method for row in TABLE))
ROLES = tuple(sorted({row.role for row in TABLE} - {"*", "none", "other"}))


def tokens(house: House, row: Row) -> list[Metadata]:
    """What the asker may show, for each of the cases that the row stands for."""
    if row.role == "none":
        return list(NO_TOKENS)
    if row.role == "*":
        return [*NO_TOKENS, house.person(name=ASKER, roles=ROLES).metadata]
    tenant = "initech" if row.resource == "tenant not served" else "acme"
    roles = OTHER_ROLES if row.role == "other" else (row.role,)
    return [house.person(tenant, ASKER, (role,)).metadata for role in roles]


async def refusal_of(house: House, row: Row, metadata: Metadata, request: Message) -> Refusal | None:
    """How the room refuses. None when it answers; of a stream the first event is enough."""
    channel, streams = house.channel(row.room, row.workload), row.descriptor.server_streaming
    begin: Any = channel.unary_stream(row.method) if streams else channel.unary_unary(row.method)
    call = begin(request.SerializeToString(), metadata=metadata, timeout=10)
    try:
        await (call.read() if streams else call)
    except AioRpcError as error:
        return sent(error)
    call.cancel()
    return None


async def answer(house: House, row: Row, metadata: Metadata, request: Message) -> str:
    """OK when the call got past all that guards it: it was answered, or refused for its content or its moment."""
    refusal = await refusal_of(house, row, metadata, request)
    passed = refusal is None or isinstance(refusal, Invalid | Precondition | Conflict)
    return "OK" if passed or refusal is None else refusal.reason
