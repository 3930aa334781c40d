"""What an identity promises: fresh or refused, never stale; and that both ends of a connection are looked at."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from spiffe._proto import workload_pb2 as wire

from services.common import client, identity, workload
from services.common.caller import Caller
from services.common.client import open_channel, passing, refusals_of
from services.common.errors import Conflict, Denied, Refusal, TooLate, Unavailable
from services.common.identity import Identity, open_identity, peer_of, service_account
from services.common.workload import Material
from services.local.workload.ca import Lives, Root, Svid, issue, new_root

DOMAIN = "soma.test"
LIVES = Lives(timedelta(hours=1), timedelta(hours=4))
AGENT, ROUTER = f"spiffe://{DOMAIN}/ns/soma/sa/agent", f"spiffe://{DOMAIN}/ns/soma/sa/router"
SERVING = health_pb2.HealthCheckResponse.SERVING
ECHO, COUNT = "/test.Echo/Echo", "/test.Echo/Count"


@pytest.fixture
def root() -> Root:
    return new_root(DOMAIN, LIVES, datetime.now(UTC))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Puppet]:
    async with open_puppet(tmp_path / "s") as puppet:
        yield puppet


# The Workload API: what it may do to us


async def test_an_open_identity_has_its_first_svid(api: Puppet, root: Root) -> None:
    api.say(answer(an_svid(root, AGENT), root))
    async with open_identity(api.address, DOMAIN) as me:
        assert (me.spiffe_id, me.room, me.version, me.expired) == (AGENT, "agent", 1, False)


async def test_a_workload_api_that_starts_late_is_waited_for(tmp_path: Path, root: Root) -> None:
    opening = asyncio.create_task(spiffe_id_from(tmp_path / "s", start_s=10))
    await asyncio.wait([opening], timeout=0.5)
    assert not opening.done()
    async with open_puppet(tmp_path / "s") as api:
        api.say(answer(an_svid(root, AGENT), root))
        assert await opening == AGENT


async def test_a_missing_socket_is_one_clear_sentence_within_the_deadline(tmp_path: Path) -> None:
    async with asyncio.timeout(8):
        with pytest.raises(Unavailable, match=r"not there.*soma up"):
            await spiffe_id_from(tmp_path / "s", start_s=0.3)


async def test_a_workload_api_that_says_nothing_is_one_clear_sentence_within_the_deadline(api: Puppet) -> None:
    async with asyncio.timeout(8):
        with pytest.raises(Unavailable, match="deadline_exceeded"):
            await spiffe_id_from(api.path, start_s=0.5)


async def test_a_refusal_is_told_at_once_in_the_apis_own_words(api: Puppet) -> None:
    api.say(grpc.StatusCode.PERMISSION_DENIED)
    async with asyncio.timeout(20):
        with pytest.raises(Denied, match="The puppet says no"):
            await spiffe_id_from(api.path, start_s=30)


@pytest.mark.parametrize("address", ["/run/agent.sock", "tcp://127.0.0.1:80", ""])
async def test_an_address_that_is_no_unix_socket_is_refused_at_once(address: str) -> None:
    with pytest.raises(Unavailable, match="unix:///path"):
        async with open_identity(address, DOMAIN):
            pass


async def test_an_identity_of_another_trust_domain_is_refused(api: Puppet) -> None:
    other = new_root("other.test", LIVES, datetime.now(UTC))
    api.say(answer(an_svid(other, "spiffe://other.test/ns/soma/sa/agent"), other))
    with pytest.raises(Denied, match=re.escape(DOMAIN)):
        await spiffe_id_from(api.path)


async def test_an_svid_that_has_expired_is_refused_at_the_start(
    api: Puppet, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "AGAIN_S", 10)  # one attempt, with its whole time
    api.say(answer(an_svid(root, AGENT, life_s=-5), root))
    with pytest.raises(Unavailable, match="expired"):
        await spiffe_id_from(api.path, start_s=5)


async def test_a_rotation_is_taken_over_and_told(api: Puppet, root: Root) -> None:
    api.say(answer(an_svid(root, AGENT), root))
    async with open_identity(api.address, DOMAIN) as me:
        before = me.material
        api.say(answer(an_svid(root, AGENT), root))
        async with asyncio.timeout(20):
            assert await me.rotated(after=1) == 2
        assert me.material.chain_pem != before.chain_pem


@pytest.mark.parametrize(
    "fault",
    [
        wire.X509SVIDResponse(),
        wire.X509SVIDResponse(svids=[wire.X509SVID(spiffe_id=AGENT, x509_svid=b"rubbish")]),
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.PERMISSION_DENIED,
        None,
    ],
    ids=["no SVID", "rubbish", "INVALID_ARGUMENT", "UNAVAILABLE", "PERMISSION_DENIED", "a quiet end"],
)
async def test_a_stream_that_breaks_is_followed_by_a_new_one(api: Puppet, root: Root, fault: Saying) -> None:
    api.say(answer(an_svid(root, AGENT), root))
    async with open_identity(api.address, DOMAIN) as me:
        await until(lambda: api.streams == 2)
        api.say(fault)
        await until(lambda: api.streams - api.open >= 2)
        api.say(answer(an_svid(root, AGENT), root))
        async with asyncio.timeout(20):
            await me.rotated(after=1)
        assert not me.expired


async def test_a_stream_that_brings_nothing_in_time_is_replaced_before_the_svid_ends(
    api: Puppet, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "CHECK_S", 0.1)
    api.say(answer(an_svid(root, AGENT, life_s=4), root))
    async with open_identity(api.address, DOMAIN) as me:
        await until(lambda: api.streams == 2)
        api.deaf = True
        api.say(answer(an_svid(root, AGENT), root))
        async with asyncio.timeout(20):
            await me.rotated(after=1)
        assert not me.expired


async def test_an_identity_that_stays_refused_is_no_longer_used(
    api: Puppet, root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "WITHDRAWN_AFTER_S", 0.2)
    api.say(answer(an_svid(root, AGENT), root))
    async with open_identity(api.address, DOMAIN) as me:
        await until(lambda: api.streams == 2)
        api.say(grpc.StatusCode.PERMISSION_DENIED)
        await until(lambda: me.expired)
        with pytest.raises(Unavailable, match="withdrawn"):
            me.check()


async def test_an_expired_svid_is_never_used_by_a_caller(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        assert await say(channel, b"?") == AGENT.encode()
        agent.accept(a_material(an_svid(root, AGENT, life_s=1), [root]))
        await until(lambda: agent.expired)
        with pytest.raises(Unavailable, match="expired") as refused:
            await say(channel, b"?")
        assert refused.value.reason == "ROOM_UNAVAILABLE"


async def test_an_expired_svid_is_never_taken_from_a_server_nor_from_a_client(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER, life_s=2)
    await until(lambda: time.time() > router.material.expires_at + 1)  # X.509 counts whole seconds, the last included
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        with pytest.raises(Unavailable), refusals_of("router"):
            await say(channel, b"?")
    async with serving(agent) as address, bare_channel(router.material, address, "agent") as channel:
        with pytest.raises(Unavailable), refusals_of("agent"):
            await say(channel, b"?")


# The two ends of a connection


async def test_each_handshake_shows_the_newest_svid_of_the_server(root: Root) -> None:
    second = new_root(DOMAIN, LIVES, datetime.now(UTC))
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address:
        async with open_channel(agent, address, "router") as channel:
            await say(channel, b"?")
        router.accept(a_material(an_svid(second, ROUTER), [root, second]))
        async with open_channel(agent, address, "router") as channel:
            with pytest.raises(Unavailable), refusals_of("router"):
                await say(channel, b"?")
        agent.accept(a_material(an_svid(root, AGENT), [root, second]))
        async with open_channel(agent, address, "router") as channel:
            assert await say(channel, b"?") == AGENT.encode()


async def test_a_room_that_shows_another_rooms_name_is_not_spoken_to(root: Root) -> None:
    agent, edge = an_identity(root, AGENT), an_identity(root, f"spiffe://{DOMAIN}/ns/soma/sa/edge")
    async with serving(edge) as address, open_channel(agent, address, "router") as channel:
        with pytest.raises(Unavailable, match="The router is not answering"), refusals_of("router"):
            await say(channel, b"?")


async def test_no_certificate_and_no_tls_get_nowhere(root: Root) -> None:
    router = an_identity(root, ROUTER)
    async with serving(router) as address:
        nameless = grpc.ssl_channel_credentials(router.material.bundle_pem)
        options = (("grpc.ssl_target_name_override", f"router.{DOMAIN}"),)
        for channel in (grpc.aio.secure_channel(address, nameless, options), grpc.aio.insecure_channel(address)):
            with pytest.raises(Unavailable), refusals_of("router"):
                await say(channel, b"?")
            await channel.close()


STRANGERS: dict[str, dict[str, Any]] = {
    "a CA": {"ca": True},
    "one that may sign certificates": {"key_cert_sign": True},
    "one that may sign revocations": {"crl_sign": True},
    "another trust domain, signed by our own root": {"uris": ["spiffe://other.test/ns/soma/sa/agent"]},
    "our trust domain in capitals": {"uris": ["spiffe://SOMA.TEST/ns/soma/sa/agent"]},
    "a trust domain that begins like ours": {"uris": [f"spiffe://{DOMAIN}.other.test/ns/soma/sa/agent"]},
    "another namespace": {"uris": [f"spiffe://{DOMAIN}/ns/other/sa/agent"]},
    "two identities": {"uris": [AGENT, ROUTER]},
    "no identity": {"uris": []},
    "an address of the web": {"uris": ["https://soma.test/ns/soma/sa/agent"]},
    "a trust domain alone": {"uris": [f"spiffe://{DOMAIN}"]},
    "no service account": {"uris": [f"spiffe://{DOMAIN}/ns/soma/agent"]},
    "a longer path": {"uris": [f"{AGENT}/more"]},
}


@pytest.mark.parametrize("shown", STRANGERS.values(), ids=STRANGERS.keys())
async def test_a_stranger_that_tls_lets_in_is_refused_by_name(root: Root, shown: dict[str, Any]) -> None:
    stranger = a_material(odd_svid(root, **shown), [root])
    async with serving(an_identity(root, ROUTER)) as address, bare_channel(stranger, address, "router") as channel:
        assert await say(channel, b"?") == b"WORKLOAD_REFUSED"


async def test_the_same_certificate_without_oddities_is_let_in(root: Root) -> None:
    friend = a_material(odd_svid(root), [root])
    async with serving(an_identity(root, ROUTER)) as address, bare_channel(friend, address, "router") as channel:
        assert await say(channel, b"?") == AGENT.encode()


@pytest.mark.parametrize("context", [{}, {"peer_spiffe_id": [AGENT.encode()]}, {"x509_pem_cert": [b""]}])
def test_a_connection_without_a_certificate_has_no_peer(context: dict[str, list[bytes]]) -> None:
    with pytest.raises(Denied):
        peer_of(context, DOMAIN, "soma")


def test_a_service_account_is_the_last_part() -> None:
    assert service_account(AGENT) == "agent"


# Rotation under calls


async def test_a_rotation_moves_new_calls_and_leaves_running_ones_alone(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        count = channel.stream_stream(COUNT)(metadata=())
        await count.write(b"1")
        assert await count.read() == b"1"
        old = channel.line
        agent.accept(a_material(an_svid(root, AGENT), [root]))
        await until(lambda: channel.line is not old)
        assert await say(channel, b"?") == AGENT.encode()
        await count.write(b"2")
        assert await count.read() == b"2"
        assert (old.running, channel.line.running) == (1, 0)
        await count.done_writing()
        assert await count.code() is grpc.StatusCode.OK
        await until(lambda: is_closed(old.channel))


async def test_an_old_connection_is_kept_while_no_new_one_can_be_made(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "READY_S", 0.2)
    unknown = new_root(DOMAIN, LIVES, datetime.now(UTC))
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        await say(channel, b"?")
        old = channel.line
        agent.accept(a_material(an_svid(unknown, AGENT), [root]))
        async with asyncio.timeout(9):  # fifty calls that each waited for READY_S would take ten
            for _ in range(50):
                assert await say(channel, b"?") == AGENT.encode()
                await asyncio.sleep(0.01)
        assert channel.line is old
        router.accept(a_material(an_svid(root, ROUTER), [root, unknown]))
        await until(lambda: channel.line is not old)
        assert await say(channel, b"?") == AGENT.encode()


async def test_a_room_that_comes_back_is_found_again_soon(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        await say(channel, b"?")
    async with open_channel(agent, address, "router") as channel:
        with pytest.raises(Unavailable), refusals_of("router"):
            await say(channel, b"?")
        async with serving(router, address), asyncio.timeout(10):
            assert await say(channel, b"?", wait_for_ready=True) == AGENT.encode()


async def test_a_closed_channel_takes_no_calls_and_leaves_none_running(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address:
        async with open_channel(agent, address, "router") as channel:
            count = channel.stream_stream(COUNT)(metadata=())
            await count.write(b"1")
            assert await count.read() == b"1"
            agent.accept(a_material(an_svid(root, AGENT), [root]))
            await until(lambda: channel.line.running == 0)
        assert count.done()


async def test_a_generated_stub_takes_it_for_a_channel_before_and_after_a_rotation(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == SERVING
        old = channel.line
        agent.accept(a_material(an_svid(root, AGENT), [root]))
        await until(lambda: channel.line is not old)
        assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == SERVING


# What other rooms answer


async def test_a_refusal_crosses_a_room_as_it_was_meant(root: Root) -> None:
    meant = Conflict("TURN_RUNNING", "Wait for the answer.", retry_after_s=2, turn="conversations/a/turns/b")
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router, refusal=meant) as address, open_channel(agent, address, "router") as channel:
        with pytest.raises(Conflict) as told, refusals_of("router"):
            await say(channel, b"?")
    assert (told.value.reason, told.value.message, told.value.retry_after_s) == ("TURN_RUNNING", meant.message, 2)
    assert told.value.metadata == {"turn": "conversations/a/turns/b"}


async def test_a_room_that_is_too_slow_is_too_late(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        with pytest.raises(TooLate) as late, refusals_of("router"):
            await channel.stream_stream(COUNT)(metadata=(), timeout=0.1).read()
    assert late.value.reason == "DEADLINE_EXCEEDED"


async def test_a_method_that_a_room_has_not_is_a_room_that_does_not_answer(root: Root) -> None:
    agent, router = an_identity(root, AGENT), an_identity(root, ROUTER)
    async with serving(router) as address, open_channel(agent, address, "router") as channel:
        with pytest.raises(Unavailable) as refused, refusals_of("router"):
            await channel.unary_unary("/test.Echo/Nothing")(b"")
    assert refused.value.metadata == {"room": "router", "status": "UNIMPLEMENTED"}


def test_what_is_passed_along_is_the_persons_token_and_the_trace() -> None:
    person = Caller("acme", "member@acme", frozenset(), frozenset(), token="a.b.c")
    assert passing(person, trace="00-1-2-01") == (("authorization", "Bearer a.b.c"), ("traceparent", "00-1-2-01"))
    assert passing(Caller.system("agent", "acme")) == ()


# A Workload API that says what it is told to


Saying = wire.X509SVIDResponse | grpc.StatusCode | None


class Puppet:
    """Each stream begins with what was said last; None ends it. Those that are open when it goes deaf hear no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams = 0
        self.open = 0
        self.deaf = False
        self._sayings: list[Saying] = []

    @property
    def address(self) -> str:
        return f"unix://{self.path}"

    def say(self, saying: Saying) -> None:
        self._sayings.append(saying)

    async def stream(self, _request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.streams += 1
        self.open += 1
        born_deaf = self.deaf
        try:
            for heard in itertools.count(max(len(self._sayings) - 1, 0)):
                while len(self._sayings) <= heard or self.deaf != born_deaf:
                    await asyncio.sleep(0.01)
                saying = self._sayings[heard]
                if saying is None:
                    return
                if isinstance(saying, grpc.StatusCode):
                    await context.abort(saying, "The puppet says no.")
                else:
                    yield saying.SerializeToString()
        finally:
            self.open -= 1


@asynccontextmanager
async def open_puppet(path: Path) -> AsyncIterator[Puppet]:
    puppet = Puppet(path)
    server = grpc.aio.server()
    methods: dict[str, Any] = {"FetchX509SVID": grpc.unary_stream_rpc_method_handler(puppet.stream)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", methods),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    yield puppet
    await server.stop(None)


async def spiffe_id_from(path: Path, start_s: float = 5) -> str:
    async with open_identity(f"unix://{path}", DOMAIN, start_s=start_s) as me:
        return me.spiffe_id


def answer(svid: Svid, *roots: Root) -> wire.X509SVIDResponse:
    entry = wire.X509SVID(
        spiffe_id=svid.spiffe_id,
        x509_svid=svid.leaf.public_bytes(Encoding.DER),
        x509_svid_key=svid.key_der,
        bundle=b"".join(root.certificate.public_bytes(Encoding.DER) for root in roots),
    )
    return wire.X509SVIDResponse(svids=[entry])


# Identities, and a room to call


def an_svid(root: Root, spiffe_id: str, life_s: float = 3600) -> Svid:
    dns = f"{service_account(spiffe_id)}.{DOMAIN}"
    return issue(root, spiffe_id, dns, timedelta(seconds=life_s), datetime.now(UTC))


def a_material(svid: Svid, trusted: Sequence[Root]) -> Material:
    key = load_der_private_key(svid.key_der, password=None)
    return Material(
        spiffe_id=svid.spiffe_id,
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        chain_pem=svid.leaf.public_bytes(Encoding.PEM),
        bundle_pem=b"".join(root.certificate.public_bytes(Encoding.PEM) for root in trusted),
        expires_at=svid.leaf.not_valid_after_utc.timestamp(),
    )


def an_identity(root: Root, spiffe_id: str, life_s: float = 3600) -> Identity:
    return Identity(DOMAIN, a_material(an_svid(root, spiffe_id, life_s), [root]))


def odd_svid(
    root: Root,
    *,
    uris: Sequence[str] = (AGENT,),
    ca: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> Svid:
    """A leaf that our own authority would never sign."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    names = [*map(x509.UniformResourceIdentifier, uris), x509.DNSName(f"agent.{DOMAIN}")]
    usage = x509.KeyUsage(True, False, False, False, False, key_cert_sign, crl_sign, False, False)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "odd")]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(root.key, hashes.SHA256())
    )
    return replace(an_svid(root, AGENT), leaf=leaf, key_der=der_of(key))


def der_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@asynccontextmanager
async def serving(me: Identity, address: str = "127.0.0.1:0", refusal: Refusal | None = None) -> AsyncIterator[str]:
    """A room that answers each call with the caller's SPIFFE ID, or with why it refuses the caller."""

    async def echo(_request: bytes, context: Any) -> bytes:
        if refusal:
            details = refusal.status().SerializeToString()
            code = next(code for code in grpc.StatusCode if code.value[0] == refusal.code)
            await context.abort(code, refusal.message, ((client.STATUS_KEY, details),))
        try:
            return peer_of(context.auth_context(), DOMAIN, "soma").encode()
        except Denied as denied:
            return denied.reason.encode()

    async def count(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = grpc.aio.server()
    methods: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.stream_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    health = health_aio.HealthServicer()
    await health.set("", SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_secure_port(address, me.server_credentials())
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@asynccontextmanager
async def bare_channel(shown: Material, address: str, room: str) -> AsyncIterator[grpc.aio.Channel]:
    """A client of the plainest kind, which shows whatever it is given."""
    credentials = grpc.ssl_channel_credentials(shown.bundle_pem, shown.key_pem, shown.chain_pem)
    options = (("grpc.ssl_target_name_override", f"{room}.{DOMAIN}"), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield channel


async def say(channel: grpc.aio.Channel, words: bytes, *, wait_for_ready: bool = False) -> bytes:
    call: Callable[..., Awaitable[bytes]] = channel.unary_unary(ECHO)
    return await call(words, timeout=5, wait_for_ready=wait_for_ready)


def is_closed(channel: grpc.aio.Channel) -> bool:
    try:
        return channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    except grpc.aio.UsageError:
        return True


async def until(true: Callable[[], bool], within_s: float = 15) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)
