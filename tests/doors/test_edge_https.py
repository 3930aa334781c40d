"""The edge by HTTPS: which protocols it speaks, many streams on one connection, and which certificates it takes."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import h2.connection
import h2.events
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from services.local.edge.files import hosts
from services.local.fault import Fault
from services.local.https import Given, Https, load, settle
from services.local.ports import free_port
from services.local.ready import why_not_whole
from services.local.workload.sds import put_https
from tests.doors.edge import House, envoy, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
STREAMS = 20


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Https:
    return of_this_machine(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, dev: Https) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("https")) as plain:
        put_https(dev.cert, dev.key, plain.settings.sds_dir)
        place = tmp_path_factory.mktemp("edge")
        settings = replace(plain.settings, port=free_port(), admin=str(place / "admin.sock"), https=True)
        async with envoy(settings, place / "edge.yaml"):
            yield replace(plain, settings=settings)


def of_this_machine(home: Path) -> Https:
    home.mkdir(exist_ok=True)
    made = settle(home, True)
    assert made is not None
    return made


def shake_hands(house: House, context: ssl.SSLContext, *protocols: str, name: str = "localhost") -> ssl.SSLSocket:
    if protocols:
        context.set_alpn_protocols(list(protocols))
    plain = socket.create_connection(("127.0.0.1", house.settings.port), 5)
    return context.wrap_socket(plain, server_hostname=name)


async def test_browsers_get_http_2_and_old_clients_http_1(house: House, dev: Https) -> None:
    for offered, taken in ((("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1")):
        with shake_hands(house, dev.context(), *offered) as line:
            assert line.selected_alpn_protocol() == taken
            assert line.version() == "TLSv1.3"
    assert (await house.http.get(url(house, "/healthz"), ssl=dev.context())).status == 200


async def test_the_certificate_holds_for_each_name_of_this_machine_and_for_no_other(house: House, dev: Https) -> None:
    for name in ("localhost", "127.0.0.1", "::1"):
        shake_hands(house, dev.context(), name=name).close()
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(house, dev.context(), name="evil.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(house, ssl.create_default_context())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_before_1_2_is_refused(house: House, dev: Https) -> None:
    context = dev.context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        shake_hands(house, context)


async def test_plain_http_is_sent_to_https_for_now(house: House) -> None:
    answer = await house.http.get(f"http://localhost:{house.settings.port}/docs?x=1", allow_redirects=False)
    assert answer.status == 307
    assert answer.headers["location"] == f"https://localhost:{house.settings.port}/docs?x=1"


async def test_no_promise_is_made_that_outlives_https(house: House, dev: Https) -> None:
    answer = await house.http.get(url(house, "/"), ssl=dev.context())
    assert "strict-transport-security" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_one_connection_carries_twenty_streams_that_all_flow(house: House, dev: Https) -> None:
    house.agent.go_on.clear()
    async with asyncio.timeout(20):
        line = await Line.open(house, dev)
        for _ in range(STREAMS):
            line.ask("/v1/chat:stream", house.token(), {"text": "wait"})
        await line.until(lambda: sum(b'"accepted"' in body for body in line.bodies.values()) == STREAMS)
        assert not line.ended
        house.agent.go_on.set()
        await line.until(lambda: len(line.ended) == STREAMS)
    assert all(b'"done"' in body for body in line.bodies.values())
    assert line.statuses == [b"200"] * STREAMS
    line.close()


async def test_a_renewed_certificate_is_shown_without_a_restart(house: House, dev: Https, tmp_path: Path) -> None:
    first = dev.cert.read_bytes()
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((dev.cert.parent / name).read_bytes())
    put_https(tmp_path / "cert.pem", tmp_path / "key.pem", house.settings.sds_dir)
    new_key, new_cert = a_pair(tmp_path / "new", "localhost")
    new = new_cert.read_bytes()
    new_key.replace(tmp_path / "key.pem")
    new_cert.replace(tmp_path / "cert.pem")
    await until_shown(house, new)
    put_https(dev.cert, dev.key, house.settings.sds_dir)
    await until_shown(house, first)


async def test_readiness_is_asked_by_https_too(house: House, dev: Https) -> None:
    assert await why_not_whole(house.settings.port, dev) == ""
    stranger = replace(dev, trust=of_this_machine(dev.cert.parent.parent / "other").trust)
    assert "certificate" in await why_not_whole(house.settings.port, stranger)


async def test_the_ca_of_this_machine_can_vouch_for_this_machine_alone(dev: Https) -> None:
    ca = x509.load_pem_x509_certificate(dev.trust.read_bytes())
    allowed = ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert allowed.critical
    assert {str(name.value) for name in allowed.value.permitted_subtrees or ()} == {
        "localhost", "127.0.0.1/32", "::1/128"
    }  # fmt: skip
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    for secret in ("key.pem", "ca-key.pem"):
        assert (dev.key.parent / secret).stat().st_mode & 0o077 == 0


async def test_the_same_certificate_and_ca_serve_until_their_end_is_near(tmp_path: Path) -> None:
    made = of_this_machine(tmp_path)
    cert, ca = made.cert.read_bytes(), made.trust.read_bytes()
    assert of_this_machine(tmp_path).cert.read_bytes() == cert
    a_pair(tmp_path / "https", "localhost", days=20)
    assert of_this_machine(tmp_path).cert.read_bytes() != cert
    assert made.trust.read_bytes() == ca


async def test_what_was_chosen_holds_until_it_is_taken_back(tmp_path: Path) -> None:
    assert settle(tmp_path, None) is None
    dev = settle(tmp_path, True)
    assert dev is not None
    assert settle(tmp_path, None) == dev == load(tmp_path)
    key, cert = a_pair(tmp_path / "mine", "soma.example", "localhost", "10.0.0.7")
    mine = settle(tmp_path, Given(cert, key))
    assert mine is not None
    assert (mine.host, set(mine.names)) == ("localhost", {"localhost", "soma.example", "10.0.0.7"})
    assert settle(tmp_path, None) == mine == load(tmp_path)
    assert "soma.example" in hosts(mine)
    assert settle(tmp_path, False) is None
    assert settle(tmp_path, None) is None
    assert settle(tmp_path, True) == dev


@pytest.mark.parametrize(
    "wrong", ["missing", "no pem", "swapped", "expired", "early", "another key", "locked", "nameless"]
)
async def test_a_certificate_that_cannot_be_used_is_one_sentence(tmp_path: Path, wrong: str) -> None:
    key, cert = a_pair(tmp_path / "a", "localhost")
    other_key, _ = a_pair(tmp_path / "b", "localhost")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    match wrong:
        case "missing":
            cert = tmp_path / "none.pem"
        case "no pem":
            cert = nothing
        case "swapped":
            key, cert = cert, key
        case "expired":
            key, cert = a_pair(tmp_path / "c", "localhost", days=-1)
        case "early":
            key, cert = a_pair(tmp_path / "c", "localhost", begins=3)
        case "another key":
            key = other_key
        case "locked":
            key, cert = a_pair(tmp_path / "c", "localhost", password=b"secret")
        case "nameless":
            key, cert = a_pair(tmp_path / "c", "*.example")
    with pytest.raises(Fault) as caught:
        settle(tmp_path, Given(cert, key))
    assert "\n" not in str(caught.value)
    assert load(tmp_path) is None


# A browser's half of HTTP/2, and certificates that someone else made.


class Line:
    """One connection and what came on its streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.statuses: list[bytes] = []
        self.ended: set[int] = set()

    @classmethod
    async def open(cls, house: House, dev: Https) -> Line:
        context = dev.context()
        context.set_alpn_protocols(["h2"])
        there = await asyncio.open_connection(
            "127.0.0.1", house.settings.port, ssl=context, server_hostname="localhost"
        )
        return cls(*there)

    def ask(self, path: str, token: str, body: object) -> None:
        number = self.http.get_next_available_stream_id()
        headers = {":method": "POST", ":scheme": "https", ":authority": "localhost", ":path": path}
        headers |= {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self.http.send_headers(number, list(headers.items()))
        self.http.send_data(number, json.dumps(body).encode(), end_stream=True)

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.writer.write(self.http.data_to_send())
            for event in self.http.receive_data(await self.reader.read(65536)):
                match event:
                    case h2.events.ResponseReceived(headers=headers):
                        self.statuses.append(dict(headers)[b":status"])
                    case h2.events.DataReceived(stream_id=number, data=data, flow_controlled_length=size):
                        self.bodies[number] += data
                        self.http.acknowledge_received_data(size, number)
                    case h2.events.StreamEnded(stream_id=number):
                        self.ended.add(number)

    def close(self) -> None:
        self.writer.close()


def url(house: House, path: str) -> str:
    return f"https://localhost:{house.settings.port}{path}"


async def until_shown(house: House, certificate: bytes) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(shown, house) != certificate:
            await asyncio.sleep(0.02)


def shown(house: House) -> bytes:
    return ssl.get_server_certificate(("127.0.0.1", house.settings.port)).encode()


def a_pair(
    folder: Path, *names: str, days: int = 90, begins: int = -100, password: bytes | None = None
) -> tuple[Path, Path]:
    """Key and certificate, good from and until so many days from now."""
    folder.mkdir(parents=True, exist_ok=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([])
    said = [x509.IPAddress(ip_address(n)) if n[0].isdigit() else x509.DNSName(n) for n in names]
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(said), critical=True)
        .sign(key, hashes.SHA256())
    )
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    (folder / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    return folder / "key.pem", folder / "cert.pem"
