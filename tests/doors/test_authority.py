"""What the machine's own Workload API promises: who gets an identity, which one, and that it stays fresh."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from spiffe._proto import workload_pb2 as wire
from spiffe._proto.workload_pb2_grpc import SpiffeWorkloadAPIStub

from services.common.client import RoomChannel, open_channel
from services.common.errors import Denied, Unavailable
from services.common.identity import Identity, open_identity, peer_of
from services.local import process
from services.local.process import born_of, parent_of
from services.local.workload import attestation
from services.local.workload import authority as authority_module
from services.local.workload.attestation import Register
from services.local.workload.authority import Authority, open_authority
from services.local.workload.ca import Lives, Root, issue, load_roots, new_root, signer, trusted, wants_root
from services.local.workload.sds import put_sds, write_sds

DOMAIN = "soma.test"
AGENT = f"spiffe://{DOMAIN}/ns/soma/sa/agent"
HEADER = (("workload.spiffe.io", "true"),)
FETCH = """
import sys
from spiffe import WorkloadApiClient
try:
    print(WorkloadApiClient(sys.argv[1]).fetch_x509_svid(timeout=10).spiffe_id)
except Exception as error:
    print(error)
"""


@dataclass
class Place:
    """A folder with an authority in it."""

    folder: Path
    authority: Authority

    @property
    def socket(self) -> Path:
        return self.folder / "s"

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path) as place:
        yield place


# Who gets an identity


async def test_a_child_that_was_admitted_is_its_room_and_nothing_else(place: Place) -> None:
    child = await a_child(place)
    place.authority.admit(child.pid, "router")
    assert await told(child) == f"spiffe://{DOMAIN}/ns/soma/sa/router"


async def test_a_child_that_is_quicker_than_its_admission_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attestation, "HOLD_S", 60)
    place.authority.admit(os.getpid(), "local")
    child = await a_child(place)
    front = place.authority.front
    assert front is not None
    await until(lambda: front.asking == {child.pid}, within_s=20)
    place.authority.admit(child.pid, "router")
    assert await told(child) == f"spiffe://{DOMAIN}/ns/soma/sa/router"


async def test_a_child_of_an_admitted_process_has_no_identity(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attestation, "HOLD_S", 0.1)
    place.authority.admit(os.getpid(), "agent")
    assert "soma run ROOM" in await told(await a_child(place))


async def test_a_process_that_was_not_admitted_is_refused_in_one_sentence_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attestation, "HOLD_S", 60)
    async with asyncio.timeout(20):
        with pytest.raises(Denied, match=r"`soma up`.*`soma run ROOM`"):
            await identity_at(place)


async def test_a_process_number_that_came_back_is_another_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.authority.admit(os.getpid(), "agent")
    assert await identity_at(place) == AGENT
    await until(lambda: place.authority.front is not None and not place.authority.front.asking)
    monkeypatch.setattr(process, "born_of", lambda pid: f"later than {born_of(pid)}")
    with pytest.raises(Denied):
        await identity_at(place)


async def test_a_process_that_is_gone_is_not_admitted_and_has_no_room() -> None:
    register = Register()
    child = await asyncio.create_subprocess_exec("sleep", "30")
    register.admit(child.pid, "agent")
    assert register.room_of(child.pid) == "agent"
    child.kill()
    await child.wait()
    assert register.room_of(child.pid) is None
    with pytest.raises(ProcessLookupError):
        register.admit(child.pid, "agent")


def ticks(pid: int) -> int:
    return int((born_of(pid) or "").rpartition("/")[2])


async def test_a_program_cannot_lie_about_its_start_time_by_its_name(tmp_path: Path) -> None:
    liar = tmp_path / ") R 1 1 1"
    liar.symlink_to("/bin/sleep")
    child = await asyncio.create_subprocess_exec(liar, "30")
    assert parent_of(child.pid) == os.getpid()
    assert ticks(child.pid) >= ticks(os.getpid())
    child.kill()
    await child.wait()


async def test_a_process_that_is_forgotten_loses_its_stream_and_its_identity(place: Place) -> None:
    place.authority.admit(os.getpid(), "agent")
    async with workload_api(place) as api:
        stream = api.FetchX509SVID(wire.X509SVIDRequest(), metadata=HEADER)
        await stream.read()
        place.authority.forget(os.getpid())
        async with asyncio.timeout(20):
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                await stream.read()
        assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(Denied):
        await identity_at(place)


@pytest.mark.parametrize("room", ["", "Agent", "a/b", "..", "a.b", "*", "a" * 64])
async def test_a_room_has_a_plain_name(place: Place, room: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        place.authority.admit(os.getpid(), room)


# What is said on the wire


@pytest.mark.parametrize("headers", [(), (("workload.spiffe.io", "True"),), HEADER * 2], ids=["none", "True", "twice"])
@pytest.mark.parametrize("method", ["FetchX509SVID", "FetchX509Bundles"])
async def test_a_call_without_the_header_once_is_invalid(place: Place, method: str, headers: Any) -> None:
    place.authority.admit(os.getpid(), "agent")
    async with workload_api(place) as api:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(api, method)(wire.X509SVIDRequest(), metadata=headers, timeout=5).read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_jwt_svids_are_not_given_here(place: Place) -> None:
    place.authority.admit(os.getpid(), "agent")
    async with workload_api(place) as api:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await api.FetchJWTSVID(wire.JWTSVIDRequest(audience=["x"]), metadata=HEADER, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_svid_is_a_leaf_with_one_identity_one_dns_name_and_a_pkcs8_key(place: Place) -> None:
    place.authority.admit(os.getpid(), "agent")
    async with workload_api(place) as api:
        answer = await api.FetchX509SVID(wire.X509SVIDRequest(), metadata=HEADER, timeout=5).read()
    (svid,) = answer.svids
    leaf = x509.load_der_x509_certificate(svid.x509_svid)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert svid.spiffe_id == AGENT
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [AGENT]
    assert names.get_values_for_type(x509.DNSName) == [f"agent.{DOMAIN}"]
    assert leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME) == []
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.not_valid_before_utc <= datetime.now(UTC) - timedelta(seconds=5)
    assert b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01" in svid.x509_svid_key[:30]  # PKCS#8 names the kind of key first
    assert load_der_private_key(svid.x509_svid_key, None).public_key() == leaf.public_key()
    leaf.verify_directly_issued_by(x509.load_der_x509_certificate(svid.bundle))


async def test_the_bundle_is_named_by_its_trust_domain(place: Place) -> None:
    place.authority.admit(os.getpid(), "agent")
    async with workload_api(place) as api:
        answer = await api.FetchX509Bundles(wire.X509BundlesRequest(), metadata=HEADER, timeout=5).read()
    assert list(answer.bundles) == [f"spiffe://{DOMAIN}"]


async def test_a_stream_begins_with_the_full_set_and_brings_it_again_at_each_rotation(tmp_path: Path) -> None:
    async with a_place(tmp_path, leaf_life_s=2) as place, workload_api(place) as api:
        place.authority.admit(os.getpid(), "agent")
        stream = api.FetchX509SVID(wire.X509SVIDRequest(), metadata=HEADER)
        async with asyncio.timeout(20):
            answers = [await stream.read() for _ in range(4)]
    assert all(answer.svids[0].spiffe_id == AGENT and answer.svids[0].bundle for answer in answers)
    assert len({answer.svids[0].x509_svid for answer in answers}) >= 3
    assert len({answer.SerializeToString() for answer in answers}) == 4


# Roots


async def test_a_restart_keeps_the_root(tmp_path: Path) -> None:
    async with a_place(tmp_path) as place:
        before = place.authority.svid("agent")[2]
    async with a_place(tmp_path) as place:
        assert place.authority.svid("agent")[2] == before


async def test_a_root_that_ended_while_the_machine_was_off_is_replaced(tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=365)
    authority = Authority(tmp_path, DOMAIN, "soma", LIVES)
    authority.refresh(datetime.now(UTC) + timedelta(days=365))
    (root,) = load_roots(tmp_path)
    assert root.made > long_ago + timedelta(days=700)


async def test_a_root_file_that_is_no_root_is_named(tmp_path: Path) -> None:
    (tmp_path / "root-1.pem").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"root-1\.pem holds no root.*Move it away"):
        Authority(tmp_path, DOMAIN, "soma", LIVES)


async def test_a_root_that_cannot_be_kept_leaves_the_older_one_signing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    authority = Authority(tmp_path, DOMAIN, "soma", LIVES)
    before, svid = authority.bundle(), authority.issued("agent")
    with monkeypatch.context() as disk:
        disk.setattr(authority_module, "keep_root", full)
        authority.refresh(datetime.now(UTC) + LIVES.root / 2)
        assert (authority.bundle(), authority.issued("agent") != svid) == (before, True)
    authority.refresh(datetime.now(UTC) + LIVES.root / 2)
    assert len(authority.bundle()) == 2


async def test_keys_are_for_their_owner_alone(place: Place) -> None:
    put_sds(place.authority, "edge", place.folder / "sds")
    files = [*(place.folder / "authority").iterdir(), *(place.folder / "sds").iterdir(), place.socket]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (place.folder / "authority", place.folder / "sds")} == {0o700}


LIVES = Lives(timedelta(minutes=10), timedelta(minutes=60))


def test_a_root_is_known_before_it_signs_and_kept_until_its_last_leaf_has_ended() -> None:
    """Ten root lives in steps of ten seconds; each leaf is renewed as late as half its life allows."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    roots: list[Root] = []
    leaves: list[tuple[datetime, Root]] = []
    known: dict[datetime, tuple[Root, ...]] = {}
    seen = set()
    for _ in range(3600):
        if wants_root(roots, LIVES, now):
            roots.append(new_root(DOMAIN, LIVES, now))
        roots = list(known.setdefault(now, trusted(roots, LIVES, now)))
        signs = signer(roots, LIVES, now)
        assert signs is not None
        seen.add(signs.certificate.serial_number)
        ends = min(now + LIVES.leaf, signs.ends)
        leaves = [*[leaf for leaf in leaves if leaf[0] > now], (ends, signs)]
        assert ends == now + LIVES.leaf
        assert all(root in roots for _, root in leaves)
        assert signs in known.get(now - LIVES.settle + timedelta(seconds=10), [signs])
        assert len(roots) <= 2
        now += timedelta(seconds=10)
    assert len(seen) >= 18


def test_a_root_too_short_for_its_leaves_is_refused() -> None:
    with pytest.raises(ValueError, match="four times"):
        Lives(timedelta(hours=1), timedelta(hours=3))


def test_a_leaf_never_outlives_its_root() -> None:
    now = datetime.now(UTC)
    root = new_root(DOMAIN, LIVES, now)
    assert issue(root, AGENT, "agent", timedelta(days=9), now).ends == root.ends


# The socket


async def test_a_socket_path_too_long_for_the_kernel_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter path"):
        async with open_authority(tmp_path / "authority", tmp_path / ("s" * 107), DOMAIN):
            pass


async def test_a_socket_left_by_a_killed_authority_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))
    async with a_place(tmp_path) as place:
        place.authority.admit(os.getpid(), "agent")
        assert await identity_at(place) == AGENT
    assert not place.socket.exists()


# Envoy's files


async def test_envoys_secrets_are_whole_and_follow_each_rotation(tmp_path: Path) -> None:
    async with a_place(tmp_path, leaf_life_s=2) as place:
        writing = asyncio.create_task(write_sds(place.authority, "edge", tmp_path / "sds", tmp_path / "peers"))
        await until(lambda: (tmp_path / "sds" / "svid.yaml").exists())
        chains: set[str] = set()
        async with asyncio.timeout(20):
            while len(chains) < 3:
                svid, bundle = secret(tmp_path, "svid"), secret(tmp_path, "bundle")
                chain = svid["tls_certificate"]["certificate_chain"]["inline_string"]
                assert "PRIVATE KEY" in svid["tls_certificate"]["private_key"]["inline_string"]
                assert "CERTIFICATE" in bundle["validation_context"]["trusted_ca"]["inline_string"]
                assert (
                    b"edge"
                    in x509.load_pem_x509_certificate(chain.encode())
                    .extensions.get_extension_for_class(x509.SubjectAlternativeName)
                    .value.public_bytes()
                )
                chains.add(chain)
                await asyncio.sleep(0.05)
        writing.cancel()


# All of it at once


async def test_leaf_and_root_rotate_under_calls_and_long_streams_and_none_fails(tmp_path: Path) -> None:
    """Leaves of 8 s and roots of 32 s; streams of 6 s on connections that may live 0.5 s."""
    async with a_place(tmp_path, leaf_life_s=8, ca_life_s=32) as place:
        place.authority.admit(os.getpid(), "agent")
        async with (
            open_identity(place.address, DOMAIN) as me,
            serving(me) as address,
            open_channel(me, address, "agent") as channel,
        ):
            first_root, traffic = me.material.bundle_pem, Traffic(channel)
            lines: set[object] = set()
            watching = asyncio.create_task(traffic.watch())
            streams = [asyncio.create_task(traffic.stream(6)) for _ in range(3)]
            calls = [asyncio.create_task(traffic.calls()) for _ in range(4)]
            async with asyncio.timeout(110):
                while (
                    first_root in me.material.bundle_pem
                    or not all(stream.done() for stream in streams)
                    or min(me.version - 5, len(lines) - 4, traffic.called - 500) <= 0
                ):
                    lines.add(channel.line)
                    await asyncio.sleep(0.05)
            traffic.over = True
            await asyncio.gather(watching, *calls, *streams)
    assert traffic.faults() == []
    assert (traffic.streamed, traffic.called > 500) == (3, True)
    assert me.version >= 6
    assert len(lines) >= 5


@dataclass
class Traffic:
    """Calls without a pause, and streams of one message each 50 ms."""

    channel: RoomChannel
    over: bool = False
    called: int = 0
    streamed: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    """When, and what."""
    stood_still: list[tuple[float, float]] = field(default_factory=list)
    """From when to when, with the moment in which what ran out meanwhile is renewed."""

    def faults(self) -> list[str]:
        """But for those of a machine that stood still, which a certificate of seconds does not outlast."""
        return [what for at, what in self.failures if not any(start <= at <= end for start, end in self.stood_still)]

    async def watch(self) -> None:
        while not self.over:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            if time.monotonic() - began > 1:
                self.stood_still.append((began, time.monotonic() + 2))

    async def calls(self) -> None:
        echo = self.channel.unary_unary("/test.Echo/Echo")
        while not self.over:
            try:
                assert await echo(b"?", timeout=5) == AGENT.encode()
                self.called += 1
            except (grpc.aio.AioRpcError, Unavailable) as error:
                self.failures.append((time.monotonic(), f"call: {error}"))
            await asyncio.sleep(0.005)

    async def stream(self, for_s: float) -> None:
        count = self.channel.stream_stream("/test.Echo/Count")(timeout=for_s * 4)
        loop = asyncio.get_running_loop()
        end = loop.time() + for_s
        try:
            while loop.time() < end:
                await count.write(b"1")
                assert await count.read() == b"1"
                await asyncio.sleep(0.05)
            await count.done_writing()
            assert await count.code() is grpc.StatusCode.OK
            self.streamed += 1
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self.failures.append((time.monotonic(), f"stream: {error}"))


@asynccontextmanager
async def a_place(folder: Path, *, leaf_life_s: float = 3600, ca_life_s: float = 24 * 3600) -> AsyncIterator[Place]:
    where = (folder / "authority", folder / "s", DOMAIN)
    async with open_authority(*where, leaf_life_s=leaf_life_s, ca_life_s=ca_life_s) as authority:
        yield Place(folder, authority)


@asynccontextmanager
async def workload_api(place: Place) -> AsyncIterator[Any]:
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"unix:{place.socket}", options) as channel:
        stub: Callable[[grpc.aio.Channel], Any] = SpiffeWorkloadAPIStub
        yield stub(channel)


@asynccontextmanager
async def serving(me: Identity) -> AsyncIterator[str]:
    async def echo(_request: bytes, context: Any) -> bytes:
        return peer_of(context.auth_context(), DOMAIN, "soma").encode()

    async def count(requests: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = grpc.aio.server(options=me.server_options(longest_call_s=60))
    methods: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.stream_stream_rpc_method_handler(count),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", methods),))
    port = server.add_secure_port("127.0.0.1:0", me.server_credentials())
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def identity_at(place: Place) -> str:
    async with open_identity(place.address, DOMAIN, start_s=5) as me:
        return me.spiffe_id


async def a_child(place: Place) -> asyncio.subprocess.Process:
    arguments = (sys.executable, "-c", FETCH, place.address)
    return await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)


async def told(child: asyncio.subprocess.Process) -> str:
    async with asyncio.timeout(30):
        words, _ = await child.communicate()
    return words.decode().strip()


def secret(folder: Path, name: str) -> dict[str, Any]:
    (resource,) = json.loads((folder / "sds" / f"{name}.yaml").read_text())["resources"]
    assert resource["name"] == name
    found: dict[str, Any] = resource
    return found


async def until(true: Callable[[], bool], within_s: float = 15) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)
