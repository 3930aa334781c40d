"""LiteLLM's proxy, of the version that requirements.lock names, in an environment of its own: one worker, a master key,
one model, no database, no telemetry. The network is used once, to install it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.local.ports import free_port
from tests.bench.figure import Missing
from tests.bench.upstream import MODEL, Upstream
from tests.system.mesh import wait_until

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv/bench-litellm"
LOCKED = re.compile(r"^litellm==(\S+)((?: \\\n +--hash=\S+)+)", re.MULTILINE)
KEY = "sk-bench"
INSTALL_S, START_S, END_S = 240.0, 90.0, 20.0
CONFIGURATION = """
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/{model}
      api_base: {base_url}
      api_key: none
      input_cost_per_token: 0.0000001
      output_cost_per_token: 0.0000004
litellm_settings:
  telemetry: false
general_settings:
  master_key: {key}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    port: int
    pid: int
    version: str


def locked() -> tuple[str, str]:
    """The version, and the line that installs it and nothing else by its name."""
    found = LOCKED.search((ROOT / "requirements.lock").read_text())
    assert found, "requirements.lock has no litellm"
    return found[1], f"litellm[proxy]=={found[1]}{found[2]}\n"


def installed() -> tuple[Path, str]:
    """Its program and version, installed when it is not there yet. Raises Missing when that fails."""
    version, wanted = locked()
    made, program = ENVIRONMENT / "made.txt", ENVIRONMENT / "bin/litellm"
    if not program.exists() or not made.exists() or made.read_text() != wanted:
        install(wanted)
        made.write_text(wanted)
    return program, version


def install(wanted: str) -> None:
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    uv = str(Path(sys.executable).parent / "uv")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(wanted)
        requirements.flush()
        into = ["--python", str(ENVIRONMENT / "bin/python")]
        for command in (
            [uv, "venv", "--quiet", "--python", sys.executable, str(ENVIRONMENT)],
            [uv, "pip", "install", "--quiet", *into, "--compile-bytecode", "--requirement", requirements.name],
        ):
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S, stdin=subprocess.DEVNULL)
            except (OSError, subprocess.SubprocessError) as fault:
                said = getattr(fault, "stderr", None) or str(fault).encode()
                words = " ".join(said.decode(errors="replace").split())[-300:]
                raise Missing(f"LiteLLM's proxy cannot be installed beside ours. uv says: {words}") from fault


@contextmanager
def running_litellm(upstream: Upstream) -> Iterator[Proxy]:
    program, version = installed()
    with tempfile.TemporaryDirectory(prefix="soma-litellm-") as folder:
        home, port = Path(folder), free_port()
        file, log = home / "config.yaml", home / "litellm.log"
        file.write_text(CONFIGURATION.format(model=MODEL, base_url=upstream.base_url, key=KEY))
        command = [
            str(program),
            "--config",
            str(file),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--num_workers",
            "1",
        ]
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=home, env=surroundings(home)
            )
        try:
            wait_until(lambda: is_up(port, process, log), START_S, what="LiteLLM's proxy")
            yield Proxy(port, process.pid, version)
        finally:
            end(process)


def surroundings(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_TELEMETRY": "False",
        "NO_PROXY": "*",
    }


def is_up(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"LiteLLM's proxy ended: {log.read_text(errors='replace')[-2000:]}"
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_S)
