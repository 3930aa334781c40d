"""How a room is served: its doors opened, its methods guarded, its end orderly."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from services.common.background import alongside
from services.common.clock import SystemClock
from services.common.config import Misconfigured, RoomConfig
from services.common.db import Database, open_database
from services.common.errors import Refusal
from services.common.identity import Identity, open_identity
from services.common.interceptors import ApiKeys, Guard, GuardInterceptor
from services.common.modes import ALLOWS
from services.common.people.wrapping import KeyAway
from services.common.telemetry import Sight, log, open_telemetry
from services.common.tokens import Verifier, open_verifier

C = TypeVar("C", bound=RoomConfig)
STOP_S = 2.0
ABLE_S = 1.0
NEW_OBJECTS = 10_000
"""Python's own bound is 700."""
OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_metadata_size", 48 * 1024),  # the edge takes 32 KiB from whoever calls, and adds some of its own
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True)
class Ground:
    """The doors that every room has."""

    identity: Identity
    verifier: Verifier
    db: Database
    sight: Sight


@dataclass(frozen=True, slots=True)
class Served:
    """One service: its full name, the generated function that adds it, and who answers."""

    name: str
    add: Callable[[Any, aio.Server], None]
    servicer: object


def run(main: Callable[[C], Coroutine[Any, Any, None]], config: type[C]) -> None:
    """Run a room until it is told to stop. A wrong environment or a door that stays shut ends it in one sentence."""
    try:
        settings = config.told()
    except Misconfigured as fault:
        sys.exit(f"The room's environment is wrong: {fault}. `soma run ROOM` sets all of it.")
    try:
        uvloop.run(main(settings))
    except* (Refusal, OSError, TimeoutError, KeyAway) as faults:
        sys.exit(f"The room cannot start: {faults.exceptions[0]}")


@asynccontextmanager
async def open_ground(config: RoomConfig, room: str) -> AsyncIterator[Ground]:
    clock = SystemClock()
    async with AsyncExitStack() as doors:
        sight = doors.enter_context(open_telemetry(config, room))
        identity, db, verifier = await asyncio.gather(
            doors.enter_async_context(open_identity(config.spiffe_socket, config.trust_domain)),
            doors.enter_async_context(open_database(config.database_url, config.keys_url, clock)),
            doors.enter_async_context(open_verifier(config.issuer, config.audience, config.jwks_url, clock)),
        )
        yield Ground(identity, verifier, db, sight)


async def nothing() -> None:
    """A room with nothing to bring to an end."""


def always() -> bool:
    """A room that can do its work whenever it serves."""
    return True


async def serve(
    config: RoomConfig,
    ground: Ground,
    services: Sequence[Served],
    drain: Callable[[], Awaitable[None]] = nothing,
    able: Callable[[], bool] = always,
    keys: ApiKeys | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Then say NOT_SERVING, `drain` (streams end in band), and close what is left.

    Health answers for the room as a whole (""), and for each service whether the room is `able` to do its work now.
    `keys` are asked where a method takes API keys.
    """
    mode = ALLOWS[config.mode]
    guard = Guard(
        config.trust_domain, config.namespace, ground.verifier, ground.sight, ground.db,
        audits_reads=mode.audits_reads, keys=keys,
    )  # fmt: skip
    options = (*OPTIONS, *ground.identity.server_options(config.longest_call_s))
    server = aio.server(interceptors=[GuardInterceptor(guard)], options=options)
    ways: Any = ByName(server)
    for service in services:
        service.add(service.servicer, ways)
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, ways)
    if mode.reflection:
        from services.common.reflection import reflect

        reflect(server)
    server.add_secure_port(config.listen, ground.identity.server_credentials())
    stop = stop_signal()
    await server.start()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    log().info("serving", listen=config.listen)
    collect_seldom()
    async with alongside(tell_health(health, services, able), name="health"):
        await stop.wait()
    await health.enter_graceful_shutdown()
    await drain()
    await server.stop(STOP_S)


class ByName:
    """A server whose methods are looked up by name at each call. grpcio 1.85 keeps a task a method that was announced
    to it beforehand, and at every call waits for all of them anew (grpc/grpc#43461)."""

    def __init__(self, server: aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, methods: object) -> None:
        """Left out: they are among the generic ones."""


def collect_seldom() -> None:
    """Leave alone what the room was built of, and look for cycles once in so many new objects: most of a call's go with
    it by themselves."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)


async def tell_health(health: Any, services: Sequence[Served], able: Callable[[], bool]) -> None:
    """Look once a second whether the room is able, until cancelled."""
    while True:
        state = health_pb2.HealthCheckResponse.SERVING if able() else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in services:
            await health.set(service.name, state)
        await asyncio.sleep(ABLE_S)


def stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
