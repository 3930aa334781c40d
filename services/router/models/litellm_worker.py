"""The process that litellm lives in: its memory, its import and its work a chunk stay out of the router.

    python -m services.router.models.litellm_worker

Lines of JSON come by stdin, many calls at once: {"id": 1, "call": {what litellm.acompletion takes}, "connect_s": 3.0,
"total_s": 280.0}, or {"id": 1} to hang up. Lines go by stdout, `ID KIND JSON`: "chunk" with a chunk as OpenAI's wire
has it, then one "end", or one "broken" with status and headers. The first is `0 ready {…}`. It ends with its stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from services.router.models.arriving import TOO_LONG

MOST_LINE_BYTES = 32 * 1024 * 1024
MOST_CALLS = 1024
MOST_LOOKED_AT = 16 * 1024
HEADERS = ("retry-after", "date")
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "CRITICAL",
    "DO_NOT_TRACK": "1",
}
"""Nothing is fetched, told or printed, and no .env file is read."""

ONCE = {"stream": True, "max_retries": 0, "num_retries": 0, "_skip_mcp_handler": True}
"""No second try: that is the router's. Its gateway for tools of MCP servers wants a package that is not here."""

Say = Callable[[int, str, bytes], Awaitable[None]]


class Order(msgspec.Struct):
    id: int
    call: dict[str, Any] | None = None
    connect_s: float = 3.0
    total_s: float = 280.0


def load() -> Any:
    """litellm, which needs seconds, made to keep still."""
    os.environ.update(QUIET)
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    litellm.drop_params = True
    litellm.modify_params = False
    return litellm


async def answer(litellm: Any, order: Order, say: Say) -> None:
    """One call, from its beginning to its last line."""
    try:
        await speak(litellm, order, say)
    except asyncio.CancelledError:
        raise
    except Exception as fault:
        await say(order.id, "broken", msgspec.json.encode(reasons(fault)))


async def speak(litellm: Any, order: Order, say: Say) -> None:
    import httpx

    patience = httpx.Timeout(order.total_s, connect=order.connect_s)
    call = {**(order.call or {}), **ONCE, "timeout": patience}
    stream = await litellm.acompletion(**call, stream_options={"include_usage": True})
    try:
        async for chunk in stream:
            if is_made_up(stream, chunk):
                return await say(order.id, "broken", b'{"is_cut": true}')
            told = chunk.model_dump(exclude_none=True)
            if "usage" in told and not has_counted(stream):
                del told["usage"]
            await say(order.id, "chunk", msgspec.json.encode(told))
        await say(order.id, "end", b"{}")
    finally:
        with contextlib.suppress(Exception):
            await stream.aclose()


def is_made_up(stream: Any, chunk: Any) -> bool:
    """litellm ends a stream that was cut with a "stop" of its own: then the provider gave no reason to finish."""
    if not any(choice.finish_reason for choice in chunk.choices):
        return False
    return not (getattr(stream, "received_finish_reason", "") or getattr(stream, "intermittent_finish_reason", ""))


def has_counted(stream: Any) -> bool:
    """The provider gave figures: where it gave none, litellm counts by itself."""
    return any(getattr(chunk, "usage", None) for chunk in getattr(stream, "chunks", ()))


def reasons(fault: Exception) -> dict[str, Any]:
    """What of a fault may go further: never its words, which may hold the key or the question."""
    fault = getattr(fault, "original_exception", None) or fault
    headers = getattr(fault, "litellm_response_headers", None) or {}
    headers = headers or getattr(getattr(fault, "response", None), "headers", None) or {}
    kind = type(fault).__name__
    if any(word in str(fault)[:MOST_LOOKED_AT].lower() for word in TOO_LONG):
        kind = "ContextWindowExceededError"
    return {
        "status": getattr(fault, "status_code", 0) or 0,
        "kind": kind,
        "headers": {name: str(headers[name]) for name in HEADERS if name in headers},
    }


async def serve(litellm: Any, reader: asyncio.StreamReader, say: Say) -> None:
    """Take orders until stdin ends."""
    running: dict[int, asyncio.Task[None]] = {}
    read = msgspec.json.Decoder(Order).decode
    while line := await reader.readline():
        order = read(line)
        if order.call is None:
            if task := running.get(order.id):
                task.cancel()
        elif len(running) >= MOST_CALLS:
            await say(order.id, "broken", b'{"status": 429}')
        else:
            running[order.id] = asyncio.create_task(answer(litellm, order, say))
            running[order.id].add_done_callback(partial(forget, running, order.id))


def forget(running: dict[int, asyncio.Task[None]], id: int, _: asyncio.Task[None]) -> None:
    del running[id]


async def main(litellm: Any, out: int, began: float) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MOST_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(out, "wb"))
    writer = asyncio.StreamWriter(transport, protocol, None, loop)

    async def say(id: int, kind: str, body: bytes) -> None:
        writer.write(b"%d %s %s\n" % (id, kind.encode(), body))
        await writer.drain()

    await say(0, "ready", json.dumps({"start_s": round(time.monotonic() - began, 3)}).encode())
    await serve(litellm, reader, say)


def begin() -> None:
    """What libraries print goes to stderr: stdout is for answers alone."""
    began = time.monotonic()
    out = os.dup(1)
    os.dup2(2, 1)
    litellm = load()
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError, ConnectionError):
        asyncio.run(main(litellm, out, began))
    os._exit(0)  # litellm's own threads would be waited for


if __name__ == "__main__":
    begin()
