"""What the supervisor answers on its socket: status, watch, down, peers, run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.local import by_hand
from services.local.child import Child, State
from services.local.control import Exchange
from services.local.mesh import Mesh
from services.local.process import memory_of
from services.local.ready import is_ready, why_not_whole

LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Desk:
    """Where commands ask about the mesh."""

    mesh: Mesh

    async def answer(self, exchange: Exchange) -> None:
        match exchange.request:
            case {"do": "status"}:
                await exchange.say(await self.status())
            case {"do": "watch"}:
                await self.show(exchange, lambda: self.mesh.verdict() != "starting")
            case {"do": "down"}:
                self.mesh.ending.set()
                await self.show(exchange, lambda: self.mesh.is_down)
            case {"do": "peers"}:
                await exchange.say(self.mesh.trust_peers())
            case {"do": "run", "part": str(name)}:
                await by_hand.run(self.mesh, name, exchange)
            case _:
                await exchange.say({"fault": "The supervisor does not know this request. Is it of another release?"})

    async def show(self, exchange: Exchange, is_over: Callable[[], bool]) -> None:
        """Send how the mesh stands now and after each change, until it is over."""
        while True:
            news = self.mesh.news
            await exchange.say(self.snapshot())
            if is_over():
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await news.wait()

    def snapshot(self) -> dict[str, Any]:
        return {
            "url": self.mesh.stack.url,
            "grpc": self.mesh.stack.grpc,
            "https_ca": self.mesh.stack.https_ca,
            "home": str(self.mesh.stack.home),
            "mode": self.mesh.stack.mode,
            "pid": os.getpid(),
            "verdict": self.mesh.verdict(),
            "trouble": self.mesh.trouble,
            "missing": self.mesh.missing,
            "disk_free_bytes": shutil.disk_usage(self.mesh.stack.home).free,
            "parts": [child.snapshot() for child in self.mesh.children.values()],
        }

    async def status(self) -> dict[str, Any]:
        """The snapshot, with each part's health asked for now, and its memory."""
        snapshot = self.snapshot()
        pids = [part["pid"] for part in snapshot["parts"]]
        (own, *memories), missing, *healths = await asyncio.gather(
            asyncio.to_thread(
                lambda: [memory_of(os.getpid(), alone=True), *(memory_of(pid) if pid else 0 for pid in pids)]
            ),
            why_not_whole(self.mesh.stack.ports["edge"], self.mesh.stack.https),
            *(self.health(child) for child in self.mesh.children.values()),
        )
        for part, memory, health in zip(snapshot["parts"], memories, healths, strict=True):
            part.update(memory_bytes=memory, health=health)
        return snapshot | {"memory_bytes": own, "missing": missing}

    async def health(self, child: Child) -> str:
        """well, silent, or the state of a part that cannot be asked."""
        if child.state not in (State.READY, State.BY_HAND):
            return child.state
        return "well" if await is_ready(child.part.ready, self.mesh.ask_health) else "silent"
