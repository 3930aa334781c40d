"""The fake provider in a process of its own, and the catalogue file that makes it everybody's first choice."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.ports import free_port

CATALOGUE = """
[[provider]]
name = "fake"
base_url = "http://127.0.0.1:{port}/v1"
needs_key = false
running = 256
  [[provider.model]]
  name = "fake-1"
  tier = "standard"
  price_in = 0
  price_out = 0
  latency_ms = 1
  window = 100_000
"""


class Fake:
    """A running fake provider."""

    def __init__(self, port: int, pid: int) -> None:
        self.port, self.pid = port, pid

    def behave(self, **manners: float) -> None:
        """Change how it answers: fields of tests.fake_provider.Behaviour."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/behave", json.dumps(manners).encode())
        urllib.request.urlopen(request, timeout=5).close()

    def write_catalogue(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(CATALOGUE.format(port=self.port))


@contextmanager
def running_fake() -> Iterator[Fake]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_provider", "--port", str(port)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout
        assert process.stdout.readline(), "the fake provider did not start"
        yield Fake(port, process.pid)
    finally:
        process.terminate()
        process.wait(5)
        if process.stdout:
            process.stdout.close()
