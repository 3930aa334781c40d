"""Every other provider, through litellm in a process of its own. Its chunks are OpenAI's, so they are read the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import msgspec

from services.router.models import Broken, End, Piece, Prompt
from services.router.models.arriving import MOST_ANSWER_BYTES, asked, too_long
from services.router.models.chunks import Chunks
from services.router.models.conversing import Bounds, Notices
from services.router.models.litellm_process import Gone, Line, Processes
from services.router.models.openai_request import question
from services.router.models.refusals import refusal


class Fault(msgspec.Struct):
    """What the process tells of a call that failed."""

    status: int = 0
    kind: str = ""
    headers: Mapping[str, str] = {}
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class LiteLLM:
    """The adapter."""

    processes: Processes = field(default_factory=Processes)
    most_answer_bytes: int = MOST_ANSWER_BYTES
    notices: Notices = field(default_factory=Notices)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        limits, name = prompt.offer.provider.limits, prompt.offer.provider.name
        began = monotonic()
        over_by = began + limits.total_s
        answer, bounds = Chunks(*asked(prompt)), Bounds(self.most_answer_bytes)
        line = await self._begun(prompt, began + limits.first_text_s)
        try:
            while not answer.is_over:
                idle_by = monotonic() + limits.idle_s if answer.has_said else began + limits.first_text_s
                for piece in await heard(line, answer, min(over_by, idle_by)):
                    bounded = bounds.within(piece)
                    if bounded:
                        yield bounded
                    if bounds.is_full:
                        answer.finish_reason, answer.is_over, answer.broken = "length", True, None
                        break
                if answer.broken:
                    raise answer.broken
        except Gone as fault:
            raise gone(name) from fault
        finally:
            self.processes.leave(line)
        self.notices.add_from(answer)
        yield answer.end()

    async def _begun(self, prompt: Prompt, first_by: float) -> Line:
        name, order = prompt.offer.provider.name, order_of(prompt)
        try:
            async with asyncio.timeout(first_by - monotonic()):
                return await self.processes.call(order)
        except TimeoutError as fault:
            raise Broken(f"{name} did not answer in time.") from fault
        except Gone as fault:
            raise gone(name) from fault


def gone(name: str) -> Broken:
    return Broken(f"The process that speaks to {name} ended.", blames_model=False)


def order_of(prompt: Prompt) -> dict[str, Any]:
    """The call as litellm takes it. Raises Broken for a schema that is none."""
    provider = prompt.offer.provider
    call = question(prompt) | {"model": f"{provider.litellm}/{prompt.offer.model}"}
    if provider.base_url:
        call["api_base"] = provider.base_url
    if provider.key:
        call["api_key"] = provider.key
    return {"call": call, "connect_s": provider.limits.connect_s, "total_s": provider.limits.total_s}


async def heard(line: Line, answer: Chunks, due: float) -> list[Piece]:
    """What has come. A fault is left in the answer, after the pieces before it. Raises Gone."""
    try:
        async with asyncio.timeout(due - monotonic()):
            taken = await line.take()
        for kind, body in taken:
            if kind == b"chunk":
                answer.hear(body)
            elif kind == b"end":
                answer.finish()
            else:
                raise meaning(answer, msgspec.json.decode(body, type=Fault))
    except TimeoutError:
        what = "fell silent" if answer.has_said else "did not answer in time"
        answer.broken = Broken(f"{answer.provider} {what}.")
    except Broken as broken:
        answer.broken = broken
    return list(answer.said())


def meaning(answer: Chunks, fault: Fault) -> Broken:
    name = answer.provider
    if fault.kind == "ContextWindowExceededError":
        return too_long(name)
    if fault.is_cut or answer.has_said or answer.texts or answer.pieces:
        return Broken(f"{name} ended the answer in the middle.")
    if fault.kind == "Timeout":
        return Broken(f"{name} did not answer in time.")
    if fault.kind in ("APIConnectionError", "") and fault.status in (0, 500):
        return Broken(f"{name} cannot be reached.")
    if fault.kind == "RateLimitError":
        return refusal(name, 429, fault.headers)
    return refusal(name, fault.status, fault.headers)


@asynccontextmanager
async def open_litellm(processes: Processes | None = None) -> AsyncIterator[LiteLLM]:
    """The adapter; its process ends with it."""
    adapter = LiteLLM(processes or Processes())
    try:
        yield adapter
    finally:
        await adapter.processes.end()
