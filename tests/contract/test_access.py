"""Deny tests made from the contract: who is not in a method's access option is refused, for each method."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from grpc import StatusCode

from services.common.access import Rule, rule_of
from services.common.testing import refused
from services.local.workload.ca import BACKDATE, Lives, Root, issue, new_root
from soma.agent.v1 import chat_service_pb2, conversation_service_pb2, health_service_pb2
from soma.router.v1 import router_service_pb2
from tests.house import ROOMS, TRUST_DOMAIN, House

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILES = (chat_service_pb2, conversation_service_pb2, health_service_pb2, router_service_pb2)
WORKLOADS = ("edge", "agent", "router", "local", "canvas")
ROLES = ("member", "admin", "operator", "nobody")


@dataclass(frozen=True)
class Method:
    path: str
    room: str
    streams: bool
    rule: Rule

    def __str__(self) -> str:
        return self.path.rpartition("/")[2]


METHODS = [
    Method(
        path := f"/{service.full_name}/{method.name}",
        service.full_name.split(".")[1],
        method.server_streaming,
        rule_of(path),
    )
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
GUARDED = [method for method in METHODS if not method.rule.public]


async def call(channel: grpc.aio.Channel, method: Method, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    """Send an empty request: enough to be refused by whoever stands before the handler."""
    begin: Any = channel.unary_stream(method.path) if method.streams else channel.unary_unary(method.path)
    answer = begin(b"", metadata=metadata, timeout=10)
    if method.streams:
        async for _ in answer:
            pass
    else:
        await answer


@pytest.mark.parametrize(
    ("method", "workload"),
    [(m, w) for m, w in itertools.product(METHODS, WORKLOADS) if w not in m.rule.workloads],
    ids=str,
)
async def test_a_room_that_is_not_named_is_refused(house: House, method: Method, workload: str) -> None:
    with refused(StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED"):
        await call(house.channel(method.room, workload), method, house.person(roles=ROLES).metadata)


@pytest.mark.parametrize("method", GUARDED, ids=str)
async def test_without_a_token_nobody_is_served(house: House, method: Method) -> None:
    workload = min(method.rule.workloads)
    for metadata in ((), (("authorization", "Basic eA=="),), (("authorization", "Bearer x.y.z"),)):
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_REFUSED"):
            await call(house.channel(method.room, workload), method, metadata)


@pytest.mark.parametrize(
    ("method", "role"), [(m, r) for m, r in itertools.product(GUARDED, ROLES) if r not in m.rule.roles], ids=str
)
async def test_a_role_that_is_not_named_is_refused(house: House, method: Method, role: str) -> None:
    channel = house.channel(method.room, min(method.rule.workloads))
    with refused(StatusCode.PERMISSION_DENIED, "ROLE_REFUSED"):
        await call(channel, method, house.person(roles=(role,)).metadata)


@pytest.mark.parametrize(("method", "role"), [(m, r) for m in GUARDED for r in sorted(m.rule.roles)], ids=str)
async def test_every_room_and_role_that_is_named_gets_past_the_guard(house: House, method: Method, role: str) -> None:
    for workload in method.rule.workloads:
        try:
            await call(house.channel(method.room, workload), method, house.person(roles=(role,)).metadata)
        except grpc.aio.AioRpcError as error:
            assert error.code() in (StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND), error.details()


@pytest.mark.parametrize("method", METHODS, ids=str)
async def test_plaintext_is_refused(house: House, method: Method) -> None:
    async with grpc.aio.insecure_channel(house.environment[method.room]["SOMA_LISTEN"]) as channel:
        await is_cut_off(channel, method)


@pytest.mark.parametrize("room", ROOMS)
async def test_a_caller_without_a_certificate_is_refused(house: House, room: str) -> None:
    _, _, bundle = house.authority.svid("edge")
    await is_cut_off(dial(house, room, grpc.ssl_channel_credentials(bundle)), first_of(room))


@pytest.mark.parametrize("room", ROOMS)
async def test_a_caller_of_another_authority_is_refused(house: House, room: str) -> None:
    foreign = new_root(TRUST_DOMAIN, LIVES, datetime.now(UTC) - BACKDATE)
    _, _, bundle = house.authority.svid("edge")
    key, chain = identity(foreign, f"spiffe://{TRUST_DOMAIN}/ns/soma/sa/edge")
    await is_cut_off(dial(house, room, grpc.ssl_channel_credentials(bundle, key, chain)), first_of(room))


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("id", ["spiffe://other.local/ns/soma/sa/edge", f"spiffe://{TRUST_DOMAIN}/edge"])
async def test_an_id_of_another_trust_domain_or_form_is_refused_though_our_authority_signed_it(
    house: House, room: str, id: str
) -> None:
    _, _, bundle = house.authority.svid("edge")
    key, chain = identity(house.authority.bundle()[0], id)
    channel = dial(house, room, grpc.ssl_channel_credentials(bundle, key, chain))
    with refused(StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED"):
        await call(channel, first_of(room), house.person().metadata)
    await channel.close()


@pytest.mark.parametrize("room", ROOMS)
async def test_a_caller_takes_no_other_room_for_the_one_it_calls(house: House, room: str) -> None:
    key, chain, bundle = house.authority.svid("edge")
    credentials = grpc.ssl_channel_credentials(bundle, key, chain)
    await is_cut_off(dial(house, room, credentials, name="canvas"), first_of(room))


def first_of(room: str) -> Method:
    return next(method for method in METHODS if method.room == room)


LIVES = Lives(timedelta(hours=1), timedelta(days=1))


def identity(root: Root, spiffe_id: str) -> tuple[bytes, bytes]:
    """Key and chain as PEM, signed by that root."""
    svid = issue(root, spiffe_id, f"edge.{TRUST_DOMAIN}", timedelta(minutes=5), datetime.now(UTC))
    key = load_der_private_key(svid.key_der, password=None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, svid.leaf.public_bytes(Encoding.PEM)


def dial(house: House, room: str, credentials: grpc.ChannelCredentials, name: str = "") -> grpc.aio.Channel:
    options = (
        ("grpc.ssl_target_name_override", f"{name or room}.{TRUST_DOMAIN}"),
        ("grpc.use_local_subchannel_pool", 1),
    )
    return grpc.aio.secure_channel(house.environment[room]["SOMA_LISTEN"], credentials, options)


async def is_cut_off(channel: grpc.aio.Channel, method: Method) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        await call(channel, method)
    assert cut.value.code() == StatusCode.UNAVAILABLE
    await channel.close()
