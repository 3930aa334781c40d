"""How a Kafka is reached, and how its absence looks from here.

kafka://host:port,host:port               plain, for one machine
kafka://name:password@host:port           with SASL PLAIN
kafka+ssl://host:port                     mutual TLS with this room's SVID; a password may come on top
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from services.common.background import alongside
from services.common.errors import Unavailable
from services.common.identity import Identity
from services.common.telemetry import log
from services.common.workload import Material

REQUEST_S = 5.0
"""A broker that stands still holds its connections open: what was asked of it is asked elsewhere after this."""
STOP_S = 5.0
LOAD_AGAIN_S = 5.0
ASKED_S, AGAIN_S = 15.0, 0.1
COMING = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupLoadInProgressError)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """What every client of the brokers is made with."""

    servers: tuple[str, ...]
    security: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": list(self.servers),
            "request_timeout_ms": int(REQUEST_S * 1000),
            "client_id": "soma",
            **self.security,
        }


class kafka_errors:  # noqa: N801 - reads as a phrase: with kafka_errors()
    """Turns the brokers' absence, slowness and refusals into Unavailable STORE_UNAVAILABLE."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, fault: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(fault, KafkaError | OSError | TimeoutError):
            message = f"The event log does not answer: {fault or type(fault).__name__}."
            raise Unavailable("STORE_UNAVAILABLE", message, retry_after_s=1) from fault


async def patiently(question: Callable[[], Awaitable[T]]) -> T:
    """Ask until the group's broker is known and has read what it must: at the first group of all, after an election."""
    while True:
        try:
            return await question()
        except COMING:
            await asyncio.sleep(AGAIN_S)


@dataclass(slots=True, eq=False)
class Kept:
    """One client for questions that come now and then. After a fault the next question makes another."""

    make: Callable[[], Any]
    _client: Any = None
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        """The answer, from the client, which has one question at a time. Raises Unavailable, within ASKED_S."""
        with kafka_errors():
            async with asyncio.timeout(ASKED_S), self._alone:
                try:
                    if self._client is None:
                        self._client = self.make()
                        await self._client.start()
                    return await patiently(lambda: question(self._client))
                except BaseException:
                    await self.close()
                    raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client:
            await (client.stop() if hasattr(client, "stop") else client.close())


@asynccontextmanager
async def open_link(url: str, identity: Identity | None) -> AsyncIterator[Link]:
    """Nothing is connected yet. ValueError for an address that is none, or TLS without an identity."""
    parts = urlsplit(url)
    logins, _, hosts = parts.netloc.rpartition("@")
    servers = tuple(hosts.split(","))
    if parts.scheme not in ("kafka", "kafka+ssl") or not all(is_server(server) for server in servers):
        raise ValueError("The log's address must look like kafka://host:port,… or kafka+ssl://host:port,…")
    if parts.scheme == "kafka":
        yield Link(servers, security(logins, None))
        return
    if identity is None:
        raise ValueError("kafka+ssl:// needs an identity from the Workload API.")
    context = ssl.create_default_context(cadata=identity.material.bundle_pem.decode())
    version = identity.version
    load(context, identity.material)
    async with alongside(renew(context, identity, version), name="kafka-tls"):
        yield Link(servers, security(logins, context))


def is_server(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdigit())


def security(logins: str, context: ssl.SSLContext | None) -> dict[str, Any]:
    """aiokafka's words for it."""
    name, _, password = logins.partition(":")
    protocol = ("SASL_" if name else "") + ("SSL" if context else "PLAINTEXT")
    login = {"sasl_plain_username": unquote(name), "sasl_plain_password": unquote(password)} if name else {}
    return {"security_protocol": protocol, **({"ssl_context": context} if context else {}), **login}


async def renew(context: ssl.SSLContext, identity: Identity, version: int) -> None:
    """Use each new SVID for new connections; what is open goes on."""
    while True:
        new = await identity.rotated(version)
        try:
            context.load_verify_locations(cadata=identity.material.bundle_pem.decode())
            await asyncio.to_thread(load, context, identity.material)
        except (OSError, ValueError) as fault:  # a full disk, or a bundle that is none
            log().error("the new SVID cannot be shown to the brokers yet", fault=str(fault))
            await asyncio.sleep(LOAD_AGAIN_S)
        else:
            version = new


def load(context: ssl.SSLContext, material: Material) -> None:
    """Python's TLS takes a key from a file only: one for the owner's eyes, gone at once."""
    with TemporaryDirectory(prefix="soma-") as folder:
        file = Path(folder) / "svid.pem"
        file.touch(mode=0o600)
        file.write_bytes(material.key_pem + material.chain_pem)
        context.load_cert_chain(file)


async def stop(client: Any) -> None:
    """Close a producer or a consumer. It flushes, or takes its leave, first, unless the broker is away."""
    with suppress(KafkaError):
        try:
            async with asyncio.timeout(STOP_S):
                await client.stop()
        except TimeoutError:  # then its tasks would try for ever, and nothing public ends them
            sender = getattr(client, "_sender", None)
            if sender:
                await sender.close()
            await (client.client if sender else client._client).close()
