"""`soma run ROOM`: a part in the caller's terminal, still a child of the supervisor, with the identity of any other."""

from __future__ import annotations

import asyncio

from services.local.child import Child, State
from services.local.control import Exchange
from services.local.mesh import Mesh
from services.local.process import stop

OVERRIDES = ("SOMA_", "SOMAGENT_", "PYTHON", "OTEL_", "GRPC_")


async def run(mesh: Mesh, name: str, exchange: Exchange) -> None:
    """Pause the managed part, run it with the caller's files until either side ends it, then manage it again."""
    child = mesh.children.get(name)
    if child is None:
        known = ", ".join(mesh.children)
        await exchange.say({"fault": f"There is no part {name!r}. There are {known}."})
        return
    if name in mesh.by_hand or len(exchange.files) != 3:
        await exchange.say({"fault": f"{name} already runs by hand."})
        return
    mesh.by_hand.add(name)
    try:
        await mesh.rest(name)
        await exchange.say({"exit": await by_hand(child, exchange)})
    finally:
        mesh.by_hand.discard(name)
        if not mesh.ending.is_set():
            mesh.keep(name)


async def by_hand(child: Child, exchange: Exchange) -> int:
    """Run the part on the caller's files; signals come as lines; a caller that goes away ends it."""
    given = exchange.request.get("environment", {})
    more = {str(k): str(v) for k, v in given.items() if str(k).startswith(OVERRIDES)}
    running = await child.start(exchange.files, more, exchange.request.get("folder"))
    child.become(State.BY_HAND, "part by hand", pid=running.pid)
    hearing = asyncio.create_task(obey(child, exchange))
    try:
        return await running.wait()
    finally:
        hearing.cancel()
        child.surroundings.died(child, running.pid)
        await child.end()


async def obey(child: Child, exchange: Exchange) -> None:
    while (line := await exchange.hear()) is not None:
        if child.process and isinstance(number := line.get("signal"), int):
            child.process.signal(number)
    if child.process:
        await stop(child.process, child.part.stop_signal, child.part.grace_s)
