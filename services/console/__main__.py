"""The console room: opens its doors, serves until it is told to stop."""

from __future__ import annotations

from contextlib import AsyncExitStack

from services.common.config import RoomConfig
from services.common.server import Served, open_ground, run, serve
from services.console.proofs import Proofs
from services.console.service import AuditService
from services.console.trail import Trail
from soma.console.v1.audit_service_pb2_grpc import add_AuditServiceServicer_to_server


async def main(config: RoomConfig) -> None:
    async with AsyncExitStack() as doors:
        ground = await doors.enter_async_context(open_ground(config, "console"))
        audit = AuditService(Trail(ground.db), Proofs(ground.db))
        services = [Served("soma.console.v1.AuditService", add_AuditServiceServicer_to_server, audit)]
        await serve(config, ground, services)


if __name__ == "__main__":
    run(main, RoomConfig)
