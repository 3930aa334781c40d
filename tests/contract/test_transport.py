"""Who is no workload of this mesh does not even get to ask: plaintext, no certificate, foreign authorities and ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from grpc import StatusCode

from services.common.testing import refused
from services.local.workload.ca import BACKDATE, Lives, Root, issue, new_root
from tests.contract.table import METHODS, Metadata
from tests.house import ROOMS, TRUST_DOMAIN, House

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIVES = Lives(timedelta(hours=1), timedelta(days=1))


@pytest.mark.parametrize("room", ROOMS)
async def test_plaintext_is_refused(house: House, room: str) -> None:
    await is_cut_off(grpc.aio.insecure_channel(house.environment[room]["SOMA_LISTEN"]), first_of(room))


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
    async with dial(house, room, grpc.ssl_channel_credentials(bundle, key, chain)) as channel:
        with refused(StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED"):
            await ask(channel, first_of(room), house.person().metadata)


@pytest.mark.parametrize("room", ROOMS)
async def test_a_caller_takes_no_other_room_for_the_one_it_calls(house: House, room: str) -> None:
    key, chain, bundle = house.authority.svid("edge")
    credentials = grpc.ssl_channel_credentials(bundle, key, chain)
    await is_cut_off(dial(house, room, credentials, name="local"), first_of(room))


async def ask(channel: grpc.aio.Channel, method: str, metadata: Metadata = ()) -> None:
    begin: Any = channel.unary_unary(method)
    await begin(b"", metadata=metadata, timeout=10)


def first_of(room: str) -> str:
    return next(method for method in METHODS if room_of(method) == room)


def room_of(method: str) -> str:
    return method.split(".")[1]


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


async def is_cut_off(channel: grpc.aio.Channel, method: str) -> None:
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await ask(channel, method)
    assert cut.value.code() == StatusCode.UNAVAILABLE
