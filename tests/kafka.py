"""A real Kafka broker in a folder of its own. Its jars come by Maven once and stay under .venv."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from services.common.workload import Material
from services.local import kafka
from services.local.fault import Fault
from services.local.ports import free_port
from services.local.process import Process, stop
from services.local.ready import is_ready
from services.local.workload.ca import Lives, Root, issue, new_root

JARS = Path(__file__).resolve().parents[1] / ".venv/kafka"
START_S = 100.0
DOMAIN = "soma.test"
LIVES = Lives(timedelta(hours=1), timedelta(hours=4))
FOR_TESTS = """
# tests wait for the end of sessions
group.min.session.timeout.ms=300
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
"""
TLS = """
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},TLS://localhost:{tls}
listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT,TLS:SSL
listener.name.tls.ssl.keystore.type=PEM
listener.name.tls.ssl.keystore.location={folder}/broker.pem
listener.name.tls.ssl.truststore.type=PEM
listener.name.tls.ssl.truststore.location={folder}/ca.pem
listener.name.tls.ssl.client.auth=required
"""


@dataclass(slots=True)
class Broker:
    """One broker, which may be killed and started again where it was."""

    folder: Path
    port: int = field(default_factory=free_port)
    controller: int = field(default_factory=free_port)
    tls: int = field(default_factory=free_port)
    root: Root = field(default_factory=lambda: new_root(DOMAIN, LIVES, datetime.now(UTC)))
    """Who signs the certificates of those that come by TLS."""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    server: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return kafka.url(self.port, self.password)

    @property
    def tls_url(self) -> str:
        return f"kafka+ssl://localhost:{self.tls}"

    def svid(self, name: str, root: Root | None = None, dns: str = "") -> Material:
        """What the Workload API would give a room of that name."""
        root = root or self.root
        svid = issue(root, f"spiffe://{DOMAIN}/ns/soma/sa/{name}", dns, LIVES.leaf, datetime.now(UTC))
        key = load_der_private_key(svid.key_der, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = svid.leaf.public_bytes(Encoding.PEM)
        bundle = root.certificate.public_bytes(Encoding.PEM)
        return Material(svid.spiffe_id, key, chain, bundle, svid.ends.timestamp())

    def tls_settings(self) -> str:
        own = self.svid("kafka", dns="localhost")
        (self.folder / "broker.pem").write_bytes(own.key_pem + own.chain_pem)
        (self.folder / "ca.pem").write_bytes(own.bundle_pem)
        return TLS.format(port=self.port, controller=self.controller, tls=self.tls, folder=self.folder)

    async def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.server = await asyncio.create_subprocess_exec(
                *kafka.command(self.folder), stdout=log, stderr=log, start_new_session=True
            )
        async with asyncio.timeout(START_S):
            while not await is_ready(kafka.ready(self.port)):
                assert self.server.returncode is None, (self.folder / "broker.log").read_text()[-2000:]
                await asyncio.sleep(0.05)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.server and self.server.returncode is None:
            process = Process.of(self.server.pid)
            if process:
                await stop(process, how)
            await self.server.wait()

    def send(self, number: signal.Signals) -> None:
        assert self.server
        self.server.send_signal(number)


def share_jars(folder: Path) -> None:
    """Give a broker's folder the jars; or the test is skipped, and says what is missing."""
    try:
        kafka.fetch(JARS, print)
    except Fault as fault:
        pytest.skip(f"no Kafka here: {fault}")
    for place in (folder.parent, folder):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not kafka.jars_of(folder).exists():
        kafka.jars_of(folder).symlink_to(kafka.jars_of(JARS))


@asynccontextmanager
async def running_kafka(folder: Path) -> AsyncIterator[Broker]:
    await asyncio.to_thread(share_jars, folder)
    broker = Broker(folder)
    await asyncio.to_thread(kafka.prepare, folder, broker.port, broker.controller, broker.password)
    with kafka.settings_of(folder).open("a") as settings:  # of two lines with one name the later counts
        settings.write(FOR_TESTS + broker.tls_settings())
    try:
        await broker.start()
        yield broker
    finally:
        await broker.end()
        shutil.rmtree(folder, ignore_errors=True)
