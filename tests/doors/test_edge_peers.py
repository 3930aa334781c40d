"""The edge's port for programs: who gets in by which certificate, what a call meets there, and how trust changes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import ClientSession, UnixConnector
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from services.local.ports import free_port
from services.local.workload.authority import Authority
from services.local.workload.ca import LIVES, Root, Svid, drop_root, issue, keep_root, load_roots, new_root
from services.local.workload.federation import Peer, bundle_pem, drop_peer, keep_peer
from services.local.workload.sds import put_sds, put_trust
from soma.agent.v1.chat_service_pb2 import ChatRequest
from soma.agent.v1.chat_service_pb2_grpc import ChatServiceStub
from soma.agent.v1.conversation_service_pb2 import GetConversationRequest
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from soma.agent.v1.health_service_pb2 import CheckHealthRequest
from soma.agent.v1.health_service_pb2_grpc import HealthServiceStub
from tests.doors.edge import House, envoy, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
OURS, THEIRS = "soma.local", "peer.test"
ME = f"spiffe://{OURS}/ns/soma/sa/sdk"
FRIEND = f"spiffe://{THEIRS}/ns/soma/sa/agent"
NOW = datetime.now(UTC)
Metadata = tuple[tuple[str, str | bytes], ...]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    place = tmp_path_factory.mktemp("peers")
    (place / "authority").mkdir()
    keep_root(place / "authority", new_root(OURS, LIVES, NOW - timedelta(days=10)))
    async with open_house(place, grpc_port=free_port()) as opened:
        yield opened


@pytest.fixture(scope="module")
def friend() -> Root:
    """The root of another trust domain."""
    return new_root(THEIRS, LIVES, NOW)


def our_root(house: House) -> Root:
    return load_roots(house.settings.sds_dir.parent / "authority")[-1]


def an_svid(root: Root, spiffe_id: str, life: timedelta = timedelta(hours=1), begins: datetime = NOW) -> Svid:
    return issue(root, spiffe_id, "", life, begins)


@asynccontextmanager
async def calling(house: House, svid: Svid | None, ca: bytes = b"") -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own, which shows that SVID."""
    credentials = grpc.ssl_channel_credentials(*pems(house, svid, ca))
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    target = f"localhost:{house.settings.grpc_port}"
    async with grpc.aio.secure_channel(target, credentials, options) as channel:
        yield channel


def bearer(house: House) -> Metadata:
    return (("authorization", f"Bearer {house.token()}"),)


async def get(channel: grpc.aio.Channel, metadata: Metadata, name: str = "conversations/c") -> str:
    request = GetConversationRequest(name=name)
    answer = await ConversationServiceStub(channel).GetConversation(request, metadata=metadata, timeout=20)
    return str(answer.name)


async def outcome(house: House, svid: Svid | None) -> grpc.StatusCode:
    """How a call ends that comes with this certificate, and with a person's token."""
    async with calling(house, svid) as channel:
        return await code_of(get(channel, bearer(house)))


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def until(house: House, svid: Svid, code: grpc.StatusCode) -> None:
    async with asyncio.timeout(30):
        while await outcome(house, svid) is not code:
            await asyncio.sleep(0.02)


async def refused(call: Any, code: grpc.StatusCode, reason: str) -> status_pb2.Status:
    """The call ends with that status, and says why in its details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert error.code() is code, error
    details: dict[str, Any] = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(details["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, status.code) == (reason, "soma", code.value[0])
    assert error.details()
    return status


def trust(house: House, *roots: Root) -> None:
    """Let these roots, and no others, vouch for the other trust domain."""
    peers = house.settings.sds_dir.parent / "peers"
    if roots:
        keep_peer(peers, Peer("friend", THEIRS, [root.certificate for root in roots]))
    else:
        drop_peer(peers, "friend")
    put_trust(house.authority, peers, house.settings.sds_dir)


@pytest_asyncio.fixture(loop_scope="module")
async def befriended(house: House, friend: Root) -> AsyncIterator[Svid]:
    """The other trust domain is known; an SVID of it."""
    trust(house, friend)
    svid = an_svid(friend, FRIEND)
    await until(house, svid, grpc.StatusCode.OK)
    yield svid
    if list((house.settings.sds_dir.parent / "peers").glob("*.json")):
        trust(house)


async def test_a_program_with_an_svid_of_ours_calls_a_method_by_its_name(house: House) -> None:
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        events = [
            event async for event in ChatServiceStub(channel).Chat(ChatRequest(text="hi"), metadata=bearer(house))
        ]
        assert [event.sequence for event in events] == [1, 2, 0, 3]
        assert await get(channel, bearer(house)) == "conversations/c"


async def test_a_public_method_asks_for_no_token_but_for_the_certificate(house: House) -> None:
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        assert (await HealthServiceStub(channel).CheckHealth(CheckHealthRequest(), timeout=5)).status == "ok"
    async with calling(house, None) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await HealthServiceStub(channel).CheckHealth(CheckHealthRequest(), timeout=5)


async def test_a_first_event_does_not_wait_for_the_next(house: House) -> None:
    house.agent.go_on.clear()
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        stream = ChatServiceStub(channel).Chat(ChatRequest(text="wait"), metadata=bearer(house))
        events = aiter(stream)
        async with asyncio.timeout(15):
            assert (await anext(events)).sequence == 1
        house.agent.go_on.set()
        assert [event.sequence async for event in events] == [2, 0, 3]


async def test_a_client_that_hangs_up_is_noticed_by_the_room(house: House) -> None:
    house.agent.cancelled.clear()
    house.agent.go_on.clear()
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        stream = ChatServiceStub(channel).Chat(ChatRequest(text="hang"), metadata=bearer(house))
        await stream.read()
        stream.cancel()
        async with asyncio.timeout(15):
            await house.agent.cancelled.wait()


STRANGERS: dict[str, Callable[[House, Root], Svid | None]] = {
    "no certificate": lambda house, friend: None,
    "another CA for our trust domain": lambda house, friend: an_svid(new_root(OURS, LIVES, NOW), ME),
    "an unknown trust domain": lambda house, friend: an_svid(new_root("evil.test", LIVES, NOW), "spiffe://evil.test/x"),
    "a known peer's CA for our trust domain": lambda house, friend: an_svid(friend, ME),
    "our CA for a known peer": lambda house, friend: an_svid(our_root(house), FRIEND),
    "a name that only begins like a peer's": lambda house, friend: an_svid(friend, f"spiffe://{THEIRS}.evil.test/x"),
    "no SPIFFE ID": lambda house, friend: an_svid(our_root(house), f"https://{OURS}/ns/soma/sa/sdk"),
    "an ID without a path": lambda house, friend: an_svid(our_root(house), f"spiffe://{OURS}"),
    "expired": lambda house, friend: an_svid(our_root(house), ME, timedelta(hours=1), NOW - timedelta(hours=2)),
    "not yet good": lambda house, friend: an_svid(our_root(house), ME, timedelta(hours=1), NOW + timedelta(hours=2)),
    "a CA's own certificate": lambda house, friend: as_svid(friend),
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_a_stranger_is_refused_at_the_handshake(
    house: House, friend: Root, befriended: Svid, stranger: str
) -> None:
    house.agent.heard = {}
    assert await outcome(house, STRANGERS[stranger](house, friend)) is grpc.StatusCode.UNAVAILABLE
    assert house.agent.heard == {}


async def test_a_certificate_with_two_ids_is_refused(house: House, friend: Root, befriended: Svid) -> None:
    assert await outcome(house, with_ids(friend, FRIEND)) is grpc.StatusCode.OK
    for second in (ME, f"spiffe://{THEIRS}/other", "https://peer.test"):
        async with calling(house, with_ids(friend, FRIEND, second)) as channel:
            await refused(get(channel, bearer(house)), grpc.StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED")
        assert await outcome(house, with_ids(friend, second, FRIEND)) is not grpc.StatusCode.OK


async def test_a_known_peer_with_a_persons_token_is_let_in(house: House, befriended: Svid) -> None:
    async with calling(house, befriended) as channel:
        assert await get(channel, bearer(house)) == "conversations/c"


async def test_a_peer_without_a_token_or_with_a_wrong_one_is_refused_before_the_room(
    house: House, befriended: Svid
) -> None:
    wrong = (house.token(ttl_s=-30), house.token(audience="else"), house.token(issuer="http://evil.test"), "x")
    house.agent.heard = {}
    async with calling(house, befriended) as channel:
        for metadata in ((), *((("authorization", f"Bearer {token}"),) for token in wrong)):
            await refused(get(channel, metadata), grpc.StatusCode.UNAUTHENTICATED, "TOKEN_REFUSED")
    assert house.agent.heard == {}


async def test_a_peer_that_is_taken_away_is_refused_also_on_a_connection_that_is_open(
    house: House, befriended: Svid
) -> None:
    async with calling(house, befriended) as channel:
        assert await get(channel, bearer(house)) == "conversations/c"
        trust(house)
        async with asyncio.timeout(30):
            while await code_of(get(channel, bearer(house))) is grpc.StatusCode.OK:
                await asyncio.sleep(0.02)
        await refused(get(channel, bearer(house)), grpc.StatusCode.PERMISSION_DENIED, "WORKLOAD_REFUSED")
    await until(house, befriended, grpc.StatusCode.UNAVAILABLE)


async def test_a_stream_outlives_a_change_of_trust(house: House, friend: Root) -> None:
    house.agent.go_on.clear()
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        stream = ChatServiceStub(channel).Chat(ChatRequest(text="wait"), metadata=bearer(house))
        events = aiter(stream)
        await anext(events)
        trust(house, friend)
        await until(house, an_svid(friend, FRIEND), grpc.StatusCode.OK)
        trust(house)
        await until(house, an_svid(friend, FRIEND), grpc.StatusCode.UNAVAILABLE)
        house.agent.go_on.set()
        assert [event.sequence async for event in events] == [2, 0, 3]


async def test_a_connection_grows_not_old_and_takes_no_stream_with_it(house: House, tmp_path: Path) -> None:
    settings = replace(
        house.settings, port=free_port(), grpc_port=free_port(), admin=str(tmp_path / "a.sock"), connection_age_s=0.5
    )
    house.agent.go_on.clear()
    async with envoy(settings, tmp_path / "edge.yaml"):
        other = replace(house, settings=settings)
        async with calling(other, an_svid(our_root(house), ME)) as channel:
            stream = ChatServiceStub(channel).Chat(ChatRequest(text="wait"), metadata=bearer(house))
            events = aiter(stream)
            await anext(events)
            async with asyncio.timeout(10):
                while await connections(other) < 2:
                    assert await code_of(get(channel, bearer(house))) is grpc.StatusCode.OK
            house.agent.go_on.set()
            assert [event.sequence async for event in events] == [2, 0, 3]


async def test_what_is_not_for_the_edge_is_not_there(house: House) -> None:
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        methods = (
            "/soma.router.v1.RouterService/Generate", "/grpc.health.v1.Health/Check", "/soma.agent.v1.ChatService/No",
            "/soma.agent.v1.ChatService/chat", "/soma.agent.v1.ChatService/Chat/", "//soma.agent.v1.ChatService/Chat",
            "/v1/conversations", "/oidc/jwks", "/healthz", "/",
        )  # fmt: skip
        for method in methods:
            for metadata in (bearer(house), ()):
                await refused(raw(channel, method, metadata), grpc.StatusCode.UNIMPLEMENTED, "PATH_UNKNOWN")


async def test_a_rooms_refusal_arrives_with_its_reason(house: House) -> None:
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        stream = ChatServiceStub(channel).Chat(ChatRequest(text="refuse"), metadata=bearer(house))
        status = await refused(stream.read(), grpc.StatusCode.ABORTED, "TURN_RUNNING")
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        assert info.metadata["turn"] == "conversations/c/turns/t"


async def test_no_session_is_resumed_past_the_certificate(house: House, tmp_path: Path) -> None:
    believed, key, chain = pems(house, an_svid(our_root(house), ME))
    (tmp_path / "me.pem").write_bytes((key or b"") + (chain or b""))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cadata=believed.decode())
        context.load_cert_chain(tmp_path / "me.pem")
        context.set_alpn_protocols(["h2"])
        context.minimum_version = context.maximum_version = version
        assert not await asyncio.to_thread(resumes, house, context)


async def test_the_rooms_hear_the_token_the_trace_and_the_deadline_and_nothing_that_could_lie(house: House) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    lies: Metadata = (
        ("x-forwarded-client-cert", "By=x"), ("x-soma-tenant", "globex"), ("x-envoy-max-retries", "9"),
        ("cookie", "a=b"), ("evil-bin", b"never"), ("x-forwarded-for", "1.2.3.4"),
    )  # fmt: skip
    metadata = (*bearer(house), ("traceparent", trace), *lies)
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        async for _ in ChatServiceStub(channel).Chat(ChatRequest(text="x"), metadata=metadata, timeout=30):
            pass
    heard = house.agent.heard
    assert heard["authorization"] == metadata[0][1]
    assert heard["traceparent"].split("-")[1] == trace.split("-")[1]
    assert not {name for name, _ in lies} & set(heard) - {"x-forwarded-for"}
    assert "1.2.3.4" not in heard.get("x-forwarded-for", "")
    assert house.agent.left_s is not None and 25 < house.agent.left_s <= 30


async def test_two_mebibytes_are_too_large(house: House) -> None:
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        stream = ChatServiceStub(channel).Chat(ChatRequest(text="x" * 2 * 1024 * 1024), metadata=bearer(house))
        await refused(stream.read(), grpc.StatusCode.INVALID_ARGUMENT, "BODY_TOO_LARGE")


async def test_an_answer_that_does_not_come_ends_in_time(house: House) -> None:
    async with calling(house, an_svid(our_root(house), ME)) as channel:
        call = get(channel, bearer(house), "conversations/slow")
        await refused(call, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_room_or_an_issuer_that_is_away_is_said_at_once(house: House, tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = replace(
        house.settings, port=free_port(), grpc_port=free_port(), admin=str(tmp_path / "a.sock"), issuer=nowhere,
        rooms={"agent": nowhere}, reflects=False,
    )  # fmt: skip
    async with envoy(settings, tmp_path / "edge.yaml"):
        other = replace(house, settings=settings)
        async with calling(other, an_svid(our_root(house), ME)) as channel:
            health = HealthServiceStub(channel).CheckHealth(CheckHealthRequest(), timeout=5)
            status = await refused(health, grpc.StatusCode.UNAVAILABLE, "ROOM_UNAVAILABLE")
            assert status.details[1].Is(error_details_pb2.RetryInfo.DESCRIPTOR)
            status = await refused(get(channel, bearer(house)), grpc.StatusCode.UNAVAILABLE, "ROOM_UNAVAILABLE")
            assert "sign-in service" in status.message
            for service in ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"):
                await refused(
                    raw(channel, f"/{service}/ServerReflectionInfo", ()), grpc.StatusCode.UNIMPLEMENTED, "PATH_UNKNOWN"
                )
            decide = raw(channel, "/soma.router.v1.RouterService/Decide", bearer(house))
            await refused(decide, grpc.StatusCode.UNIMPLEMENTED, "PATH_UNKNOWN")


async def test_the_contract_is_told_by_reflection_without_a_token(house: House) -> None:
    credentials = grpc.ssl_channel_credentials(*pems(house, an_svid(our_root(house), ME)))
    found = await asyncio.to_thread(reflected, f"localhost:{house.settings.grpc_port}", credentials)
    assert "soma.agent.v1.ChatService" in found
    assert "soma.canvas.v1.CanvasService" in found
    assert "soma.delegation.v1alpha1.DelegationService" not in found


async def test_plain_text_and_old_tls_get_nothing(house: House) -> None:
    async with grpc.aio.insecure_channel(f"localhost:{house.settings.grpc_port}") as channel:
        assert await code_of(get(channel, bearer(house))) is grpc.StatusCode.UNAVAILABLE


async def test_our_own_roots_are_renewed_without_a_lost_call(house: House) -> None:
    """Last: the room's own certificate stays as it was made."""
    folder, first = house.settings.sds_dir.parent / "authority", our_root(house)
    before, peers = an_svid(first, ME), house.settings.sds_dir.parent / "peers"
    async with calling(house, before) as open_before:
        assert await get(open_before, bearer(house)) == "conversations/c"
        second = new_root(OURS, LIVES, NOW - timedelta(hours=1))
        keep_root(folder, second)
        renewed = Authority(folder, OURS, "soma", LIVES)
        put_trust(renewed, peers, house.settings.sds_dir)
        both = bundle_pem([first.certificate, second.certificate])
        async with asyncio.timeout(30):
            while await outcome(house, an_svid(second, ME)) is not grpc.StatusCode.OK:
                assert await outcome(house, before) is grpc.StatusCode.OK
        put_sds(renewed, "edge", house.settings.sds_dir)
        async with asyncio.timeout(30):
            while await shown(house, an_svid(second, ME), bundle_pem([second.certificate])) is not grpc.StatusCode.OK:
                assert await shown(house, before, both) is grpc.StatusCode.OK
        assert await get(open_before, bearer(house)) == "conversations/c"
        drop_root(folder, first)
        put_trust(Authority(folder, OURS, "soma", LIVES), peers, house.settings.sds_dir)
        async with asyncio.timeout(30):
            while await shown(house, before, both) is grpc.StatusCode.OK:
                assert await shown(house, an_svid(second, ME), both) is grpc.StatusCode.OK


async def connections(house: House) -> int:
    """How many there have been at the port for programs."""
    async with ClientSession(connector=UnixConnector(house.settings.admin)) as admin:
        told = await (await admin.get("http://admin/stats?filter=http.peers.downstream_cx_total&format=json")).json()
    return sum(stat.get("value", 0) for stat in told["stats"])


def resumes(house: House, context: ssl.SSLContext) -> bool:
    """Whether a second connection goes on with the first one's session."""
    session = None
    for _ in range(2):
        plain = socket.create_connection(("127.0.0.1", house.settings.grpc_port), 5)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as line:
            line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            assert line.recv(9)
            session = line.session
            resumed = bool(line.session_reused)
    return resumed


def raw(channel: grpc.aio.Channel, method: str, metadata: Metadata) -> Any:
    """A call with no bytes to whatever has that name."""
    call: Any = channel.unary_unary(method)
    return call(b"", metadata=metadata, timeout=5)


async def shown(house: House, svid: Svid, ca: bytes) -> grpc.StatusCode:
    """How a public call ends when only these roots are believed."""
    async with calling(house, svid, ca) as channel:
        return await code_of(HealthServiceStub(channel).CheckHealth(CheckHealthRequest(), timeout=5))


def reflected(target: str, credentials: grpc.ChannelCredentials) -> set[str]:
    """The services that reflection lists, and one message of each kind that it can describe."""
    with grpc.secure_channel(target, credentials) as channel:
        told = ProtoReflectionDescriptorDatabase(channel)
        assert told.FindFileContainingSymbol("soma.agent.v1.ChatEvent").package == "soma.agent.v1"
        assert told.FindFileContainingSymbol("google.rpc.ErrorInfo").package == "google.rpc"
        return set(told.get_services())


# Certificates, also such as no authority of ours would make.


def pems(house: House, svid: Svid | None, ca: bytes = b"") -> tuple[bytes, bytes | None, bytes | None]:
    """Whom to believe, key and chain."""
    believed = ca or house.authority.svid("edge")[2]
    if svid is None:
        return believed, None, None
    key = load_der_private_key(svid.key_der, None)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return believed, key_pem, svid.leaf.public_bytes(Encoding.PEM)


def as_svid(root: Root) -> Svid:
    """A CA that shows its own certificate."""
    der = root.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Svid("", der, root.certificate, NOW)


def with_ids(root: Root, *ids: str) -> Svid:
    """With as many URIs as one likes."""
    usage = an_svid(root, ids[0]).leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(minutes=1))
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(one) for one in ids]), critical=True)
        .sign(root.key, hashes.SHA256())
    )
    return Svid(ids[0], key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), leaf, NOW)
