"""The ways into a mesh that are no browser: programs by gRPC, peers of other trust domains, curl over HTTPS."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from services.local.commands import peers, svid
from services.local.commands.token import mint
from services.local.fault import Fault
from services.local.ports import free_port
from services.local.stack import load_stack
from services.local.workload.ca import LIVES, Root, issue, new_root
from services.local.workload.federation import bundle_json, bundle_pem
from soma.agent.v1.conversation_service_pb2 import ListConversationsRequest
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from tests.system.mesh import Mesh, check_whole, wait_until

README = Path(__file__).parents[2] / "README.md"
GRPCURL = "v1.9.4"
LINE = (
    "grpcurl -cacert .soma/sdk/ca.pem -cert .soma/sdk/cert.pem -key .soma/sdk/key.pem "
    """-H "authorization: Bearer $TOKEN" -d '{"text": "Hi"}' localhost:8443 soma.agent.v1.ChatService/Chat"""
)
THEIRS = "peer.test"
NOW = datetime.now(UTC)


@pytest.mark.timeout(400)  # where it must be built first
def test_the_grpcurl_line_chats_by_reflection_alone(mesh: Mesh, tmp_path: Path) -> None:
    program = grpcurl()
    mesh.soma("svid", "--out", str(tmp_path))
    line = in_the_readme("grpcurl ") or LINE
    line = line.replace("grpcurl ", f"{program} ", 1).replace(".soma/sdk", str(tmp_path))
    line = line.replace("localhost:8443", mesh.status()["grpc"])
    said = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "TOKEN": mesh.token()}, cwd=tmp_path,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert '"accepted"' in said.stdout
    assert '"done"' in said.stdout


def test_a_program_gets_an_identity_of_its_own_for_its_owners_eyes(scripted_mesh: Mesh, tmp_path: Path) -> None:
    said = scripted_mesh.soma("svid", "--out", str(tmp_path / "sdk"), "--name", "my-program", "--hours", "1").stdout
    assert "spiffe://soma.local/ns/soma/sa/my-program" in said
    assert {path.name for path in (tmp_path / "sdk").iterdir()} == {"key.pem", "cert.pem", "ca.pem"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "sdk").iterdir())
    leaf = x509.load_pem_x509_certificate((tmp_path / "sdk/cert.pem").read_bytes())
    assert leaf.not_valid_after_utc <= datetime.now(UTC) + timedelta(hours=1)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://soma.local/ns/soma/sa/my-program"]
    assert outcome(scripted_mesh, *pems(tmp_path / "sdk")) is grpc.StatusCode.OK


def test_a_rooms_identity_is_given_to_nobody(scripted_mesh: Mesh, tmp_path: Path) -> None:
    rooms = {"agent", "router", "canvas", "edge", "local", "delegation"}
    assert rooms <= svid.reserved()
    for name in (*svid.reserved(), "Agent", "a/b", "", "x" * 80, "agent\n", "../agent", "*"):
        with pytest.raises(Fault) as caught:
            svid.svid(scripted_mesh.home, tmp_path / "out", name, 1)
        assert "Choose another" in str(caught.value) or "cannot be" in str(caught.value)
    assert not (tmp_path / "out").exists()
    refused = scripted_mesh.soma("svid", "--out", str(tmp_path / "out"), "--name", "agent", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_an_identity_lasts_a_day_at_most(scripted_mesh: Mesh, tmp_path: Path) -> None:
    assert scripted_mesh.soma("svid", "--out", str(tmp_path), "--hours", "25", check=False).returncode == 2


def test_our_bundle_is_pem_or_a_spiffe_bundle_of_the_same_roots(scripted_mesh: Mesh) -> None:
    roots = x509.load_pem_x509_certificates(scripted_mesh.soma("bundle").stdout.encode())
    told = json.loads(scripted_mesh.soma("bundle", "--json").stdout)
    assert [key["x5c"] for key in told["keys"]] == [key["x5c"] for key in bundle_json(roots)["keys"]]
    assert {key["use"] for key in told["keys"]} == {"x509-svid"}


@pytest.mark.parametrize("kind", ["pem", "json"])
def test_a_peer_may_call_from_the_moment_it_is_added_until_it_is_removed(
    scripted_mesh: Mesh, tmp_path: Path, kind: str
) -> None:
    root = new_root(THEIRS, LIVES, NOW)
    bundle = tmp_path / f"bundle.{kind}"
    content = bundle_pem([root.certificate]) if kind == "pem" else json.dumps(bundle_json([root.certificate])).encode()
    bundle.write_bytes(content)
    shown = (scripted_mesh.soma("bundle").stdout.encode(), *identity(root, f"spiffe://{THEIRS}/ns/x/sa/agent"))
    edge = scripted_mesh.status()["parts"]["edge"]["pid"]
    assert outcome(scripted_mesh, *shown) is grpc.StatusCode.UNAVAILABLE
    with peer(scripted_mesh, "friend", bundle):
        wait_until(lambda: outcome(scripted_mesh, *shown) is grpc.StatusCode.OK, 5, "the peer is let in")
        listed = scripted_mesh.soma("peer", "list").stdout
        assert listed.split()[:2] == ["friend", THEIRS]
        assert outcome(scripted_mesh, *shown, signed_in=False) is grpc.StatusCode.UNAUTHENTICATED
    wait_until(lambda: outcome(scripted_mesh, *shown) is grpc.StatusCode.UNAVAILABLE, 5, "the peer is refused")
    assert scripted_mesh.status()["parts"]["edge"]["pid"] == edge


def test_a_peers_new_roots_take_the_place_of_the_old(scripted_mesh: Mesh, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    old, new = new_root(THEIRS, LIVES, NOW), new_root(THEIRS, LIVES, NOW)
    ca, spiffe_id = scripted_mesh.soma("bundle").stdout.encode(), f"spiffe://{THEIRS}/x"
    bundle.write_bytes(bundle_pem([old.certificate]))
    with peer(scripted_mesh, "friend", bundle):
        bundle.write_bytes(bundle_pem([new.certificate]))
        peers.add(scripted_mesh.home, "friend", THEIRS, bundle)
        wait_until(
            lambda: outcome(scripted_mesh, ca, *identity(new, spiffe_id)) is grpc.StatusCode.OK, 5, "the new root"
        )
        assert outcome(scripted_mesh, ca, *identity(old, spiffe_id)) is grpc.StatusCode.UNAVAILABLE


BUNDLES: dict[str, Callable[[Mesh], bytes]] = {
    "nothing": lambda mesh: b"",
    "no PEM": lambda mesh: b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n",
    "broken JSON": lambda mesh: b'{"keys": [',
    "JSON without keys": lambda mesh: b'{"keys": []}',
    "JSON with a wrong certificate": lambda mesh: b'{"keys": [{"use": "x509-svid", "x5c": ["AAAA"]}]}',
    "too large": lambda mesh: b"#" * 200_000 + bundle_pem([new_root(THEIRS, LIVES, NOW).certificate]),
    "too many": lambda mesh: bundle_pem([new_root(THEIRS, LIVES, NOW).certificate] * 17),
    "an SVID": lambda mesh: identity(new_root(THEIRS, LIVES, NOW), f"spiffe://{THEIRS}/x")[1],
    "expired": lambda mesh: bundle_pem([new_root(THEIRS, LIVES, NOW - timedelta(days=40)).certificate]),
    "another domain's": lambda mesh: bundle_pem([new_root("else.test", LIVES, NOW).certificate]),
    "our own": lambda mesh: mesh.soma("bundle").stdout.encode(),
}


@pytest.mark.parametrize("wrong", BUNDLES)
def test_a_bundle_that_cannot_be_trusted_is_one_sentence(scripted_mesh: Mesh, tmp_path: Path, wrong: str) -> None:
    (tmp_path / "bundle").write_bytes(BUNDLES[wrong](scripted_mesh))
    refuse(scripted_mesh, "friend", THEIRS, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("name", "trust_domain"),
    [
        *(("friend", domain) for domain in ("soma.local", "Peer.Test", "spiffe://peer.test", "a/b", "", "peer.test\n")),
        *((name, THEIRS) for name in ("../friend", "Friend", "", "friend\n")),
    ],
)
def test_our_own_trust_domain_and_what_is_none_are_refused(
    scripted_mesh: Mesh, tmp_path: Path, name: str, trust_domain: str
) -> None:
    (tmp_path / "bundle").write_bytes(bundle_pem([new_root(THEIRS, LIVES, NOW).certificate]))
    refuse(scripted_mesh, name, trust_domain, tmp_path / "bundle")


def test_a_trust_domain_has_one_name_and_a_peer_that_is_not_there_cannot_go(
    scripted_mesh: Mesh, tmp_path: Path
) -> None:
    (tmp_path / "bundle").write_bytes(bundle_pem([new_root(THEIRS, LIVES, NOW).certificate]))
    with peer(scripted_mesh, "friend", tmp_path / "bundle"), pytest.raises(Fault, match="known as friend"):
        peers.add(scripted_mesh.home, "other", THEIRS, tmp_path / "bundle")
    with pytest.raises(Fault, match="no peer friend"):
        peers.remove(scripted_mesh.home, "friend")


@pytest.mark.timeout(300)
def test_the_ways_in_are_kept_until_others_are_asked_for(own_mesh: Callable[[], Mesh]) -> None:
    mesh, port = own_mesh(), free_port()
    token = mesh.token()
    mesh.down()
    said = mesh.soma("up", "--https", "--grpc-port", str(port)).stdout
    ca, url = mesh.home / "https/ca.pem", f"https://localhost:{mesh.port}"
    assert url in said
    assert f"localhost:{port}" in said
    assert f"curl --cacert {ca} {url}/healthz" in said
    assert curl(ca, f"{url}/healthz") == (200, "2")
    assert curl(ca, f"{url}/v1/conversations", mesh.token()) == (200, "2")
    assert curl(ca, f"{url}/v1/conversations", token) == (401, "2")  # its issuer was http://…
    assert mesh.soma("chat", "hello").stdout == "You said: hello\n"
    mesh.down()
    mesh.soma("up")
    status = mesh.status()
    assert (status["url"], status["grpc"]) == (url, f"localhost:{port}")
    check_whole(mesh)
    assert curl(ca, f"{url}/healthz") == (200, "2")
    mesh.down()
    mesh.soma("up", "--http")
    status = mesh.status()
    assert (status["url"], status["grpc"]) == (f"http://localhost:{mesh.port}", f"localhost:{port}")
    assert mesh.soma("chat", "hello").stdout == "You said: hello\n"


@pytest.mark.parametrize(
    "words",
    [("--cert", "x.pem"), ("--key", "x.pem"), ("--http", "--cert", "x.pem", "--key", "x.pem"),
     ("--cert", "none.pem", "--key", "none.pem"), ("--port", "29876", "--grpc-port", "29876")],
    ids=" ".join,
)  # fmt: skip
def test_ways_in_that_cannot_be_are_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    mesh = Mesh(tmp_path / "soma", free_port())
    first = () if "--port" in words else ("--port", str(mesh.port))
    refused = mesh.soma("up", *first, *words, check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "Traceback" not in refused.stderr
    assert not mesh.processes()


# The other programs, and what a peer would show.


def grpcurl() -> Path:
    """The program that the line calls: the system's own, or built once where Go is."""
    built = Path(sys.prefix) / f"grpcurl-{GRPCURL}" / "grpcurl"
    if found := shutil.which("grpcurl"):
        return Path(found)
    if not built.exists():
        if not shutil.which("go"):
            pytest.skip("neither grpcurl nor Go, which would build it, is here")
        source = f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{GRPCURL}"
        made = subprocess.run(
            ["go", "install", source], capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "GOBIN": str(built.parent), "CGO_ENABLED": "0"},
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"grpcurl {GRPCURL} could not be built: {made.stderr.strip().splitlines()[-1:]}")
    return built


def in_the_readme(beginning: str) -> str:
    """The first command there that begins so, with the lines that go on from it."""
    text = re.sub(r"\\\n\s*", "", README.read_text())
    return next((line.strip() for line in text.splitlines() if line.startswith(f"    {beginning}")), "")


def curl(ca: Path, url: str, token: str = "") -> tuple[int, str]:
    """Status, and version of HTTP."""
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    words = ["-H", f"authorization: Bearer {token}"] if token else []
    asked = ["curl", "--silent", "--show-error", "--cacert", str(ca), "--output", "/dev/null"]
    done = subprocess.run(
        [*asked, "--write-out", "%{http_code} %{http_version}", *words, url],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, version = done.stdout.split()
    return int(status), version


@contextmanager
def peer(mesh: Mesh, name: str, bundle: Path) -> Iterator[None]:
    """A trust domain that is known for as long as the block."""
    mesh.soma("peer", "add", name, "--trust-domain", THEIRS, "--bundle", str(bundle))
    try:
        yield
    finally:
        mesh.soma("peer", "remove", name)


def refuse(mesh: Mesh, name: str, trust_domain: str, bundle: Path) -> None:
    with pytest.raises(Fault) as caught:
        peers.add(mesh.home, name, trust_domain, bundle)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(load_stack(mesh.home).peers.iterdir())


def outcome(mesh: Mesh, ca: bytes, key: bytes, chain: bytes, *, signed_in: bool = True) -> grpc.StatusCode:
    """How a call ends that shows this certificate."""
    stack = load_stack(mesh.home)
    credentials = grpc.ssl_channel_credentials(ca, key, chain)
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    metadata = (("authorization", f"Bearer {mint(stack, 'acme', 'member')}"),) if signed_in else ()
    with grpc.secure_channel(stack.grpc, credentials, options) as channel:
        stub: Any = ConversationServiceStub(channel)  # type: ignore[arg-type]  # whose types are those of asyncio
        try:
            stub.ListConversations(ListConversationsRequest(), metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def pems(folder: Path) -> tuple[bytes, bytes, bytes]:
    ca, key, chain = ((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    return ca, key, chain


def identity(root: Root, spiffe_id: str) -> tuple[bytes, bytes]:
    svid = issue(root, spiffe_id, "", timedelta(hours=1), datetime.now(UTC))
    key = load_der_private_key(svid.key_der, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key, svid.leaf.public_bytes(Encoding.PEM)
