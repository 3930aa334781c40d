"""`python -m services.local.model` serves models of this machine until SIGTERM, and needs no network.

On SOMA_LISTEN SmolLM2 (llama.py): /health, /v1/models, /v1/chat/completions. On SOMA_EMBEDDINGS_LISTEN MiniLM
(embeddings.py): /health, /v1/models, /v1/embeddings. Either may be empty. SmolLM2's port opens last, so that its health
speaks for both. They keep nothing, so the process ends at once. It logs that it serves, and llama.cpp's warnings; never
what was asked or answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from services.local.fault import Fault


def main() -> None:
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    try:
        asyncio.run(serve(address("SOMA_LISTEN"), address("SOMA_EMBEDDINGS_LISTEN")))
    except Fault as fault:
        sys.exit(str(fault))


async def serve(speech: tuple[str, int] | None, embeddings: tuple[str, int] | None) -> None:
    """What is not served is not loaded either."""
    if not speech and not embeddings:
        raise Fault("Nothing is to be served: set SOMA_LISTEN or SOMA_EMBEDDINGS_LISTEN to host:port.")
    kept: list[Any] = []
    if embeddings:
        kept.append(await serve_embeddings(*embeddings))
    if speech:
        kept.append(await serve_speech(*speech))
    await asyncio.Event().wait()


async def serve_embeddings(host: str, port: int) -> Any:
    from services.local.model import embeddings

    began = time.monotonic()
    server = await embeddings.serve(host, port)
    say_serving(embeddings.NAME, f"http://{host}:{port}", began)
    return server


async def serve_speech(host: str, port: int) -> Any:
    """It serves for as long as what is returned is kept."""
    from services.local.model import llama

    began = time.monotonic()
    server = await asyncio.to_thread(llama.serve, host, port)
    say_serving(llama.NAME, server.listening_address, began)
    return server


def address(name: str) -> tuple[str, int] | None:
    listen = os.environ.get(name, "")
    host, _, port = listen.rpartition(":")
    if listen and not port.isdecimal():
        raise Fault(f"{name} must be host:port.")
    return (host.strip("[]") or "127.0.0.1", int(port)) if listen else None


def say_serving(model: str, listen: str, began: float) -> None:
    line = {"room": "model", "level": "info", "event": "serving", "model": model, "listen": listen}
    print(json.dumps({**line, "start_s": round(time.monotonic() - began, 2)}), flush=True)


def leave(_number: int, _frame: FrameType | None) -> None:
    """End now: the models' threads would otherwise finish what they do."""
    os._exit(0)


if __name__ == "__main__":
    main()
