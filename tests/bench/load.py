"""Load by wrk, a compiled generator: one in Python would measure itself. The first token is found by a bare socket."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.chats import Asked
from tests.bench.figure import Missing
from tests.bench.spent import cpu_s, spending

SCRIPT = Path(__file__).with_suffix(".lua")
WARM_S = 2.0
"""Until as many calls are in flight as are wanted, at each of their steps."""
ANSWER_S, INSTALL_S, QUIET_S = 20, 120, 20.0
LOOK_S, IDLE = 0.3, 0.1
FIRST = re.compile(rb'"content":\s*"[^"]')
LAST = b"0\r\n\r\n"
LEAST_PROBES = 10


@dataclass(frozen=True, slots=True)
class Door:
    """Where to ask, and what: the same for each gateway but for port, key and model."""

    port: int
    key: str
    model: str
    content: str = "How much is it, and when does it come?"

    def asked(self, *, stream: bool) -> dict[str, object]:
        body: dict[str, object] = {"model": self.model, "messages": [{"role": "user", "content": self.content}]}
        return body | {"stream": True} if stream else body


@dataclass(frozen=True, slots=True)
class Heard:
    """What a run of wrk heard."""

    answers: int
    counted: int
    """Good ones, within the seconds that count."""
    broken: int
    """Not 200, or not whole."""
    cut: int
    """Connections refused or lost."""
    late: int
    p50_us: int
    p95_us: int
    p99_us: int
    sample: str
    """The first broken answer."""
    lasted_s: int = 0
    """The seconds that count."""
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    """The CPU of an answer by process."""

    @property
    def rate(self) -> float:
        return self.counted / self.lasted_s

    @property
    def errors(self) -> int:
        return self.broken + self.cut + self.late

    @property
    def told(self) -> str:
        return f"{self.rate:,.0f}/s, p50 {self.p50_us / 1e3:.1f} and p99 {self.p99_us / 1e3:.1f} ms"

    @property
    def where(self) -> str:
        """The CPU of an answer by process, the largest first."""
        parts = sorted(self.cpu_ms.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {ms:.2f}" for name, ms in parts if ms >= 0.02)


def wrk_program() -> str:
    """Raises Missing when there is no wrk and it cannot be installed."""
    if not shutil.which("wrk") and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "--yes", "--no-install-recommends", "wrk"]
        subprocess.run(command, capture_output=True, check=False, timeout=INSTALL_S, stdin=subprocess.DEVNULL)
    program = shutil.which("wrk")
    if program is None:
        raise Missing("The load generator wrk is not installed. On Debian: apt-get install wrk")
    return program


def load(door: Door, at_once: int, lasts_s: float, pids: Mapping[str, int], *, stream: bool = False) -> Heard:
    """Ask as fast as answers come, with so many in flight. `pids` are the processes whose CPU is told."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with spending(pids) as spent:
        heard = wrk(door, at_once, max(1, round(lasts_s)), stream=stream)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    each = {name: s * 1e3 / max(1, heard.answers) for name, s in {**spent, "wrk": own_s}.items()}
    return replace(heard, cpu_ms=each)


def wrk(door: Door, at_once: int, lasts_s: int, *, stream: bool = False) -> Heard:
    words = (json.dumps(door.asked(stream=stream)), f"Bearer {door.key}", f"localhost:{door.port}")
    whole = "[DONE]" if stream else '"choices"'
    command = [
        wrk_program(), "--threads", "1", "--connections", str(at_once), "--duration", f"{WARM_S + lasts_s:.0f}s",
        "--timeout", f"{ANSWER_S}s", "--script", str(SCRIPT), f"http://127.0.0.1:{door.port}/v1/chat/completions",
        "--", *words, whole, str(WARM_S), str(lasts_s),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WARM_S + lasts_s + ANSWER_S)
    return Heard(**json.loads(done.stderr.splitlines()[-1]), lasted_s=lasts_s)


def together(runs: Sequence[Heard]) -> Heard:
    """Several runs as one: of their percentiles the median."""
    answers = sum(run.answers for run in runs)
    cpu_ms = {
        name: sum(run.cpu_ms.get(name, 0.0) * run.answers for run in runs) / max(1, answers) for name in runs[0].cpu_ms
    }
    p50, p95, p99 = (
        round(statistics.median(at)) for at in zip(*((r.p50_us, r.p95_us, r.p99_us) for r in runs), strict=True)
    )
    broken, cut, late = (sum(at) for at in zip(*((r.broken, r.cut, r.late) for r in runs), strict=True))
    return Heard(
        answers, sum(run.counted for run in runs), broken, cut, late, p50, p95, p99,
        next((run.sample for run in runs if run.sample), ""), sum(run.lasted_s for run in runs), cpu_ms,
    )  # fmt: skip


def until_idle(pids: Iterable[int]) -> None:
    """Wait until the processes have done what was left of the last run: callers who went are not noticed at once."""
    deadline = time.monotonic() + QUIET_S
    while time.monotonic() < deadline:
        before = {pid: cpu_s(pid) for pid in pids}
        time.sleep(LOOK_S)
        if all(cpu_s(pid) - spent_s < IDLE * LOOK_S for pid, spent_s in before.items()):
            return


def first_tokens(door: Door, lasts_s: float) -> list[float]:
    """Milliseconds from the request to the first text, one stream at a time over one connection."""
    request = Asked.of(door.port, "/v1/chat/completions", door.asked(stream=True), door.key).request
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", door.port), ANSWER_S) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = time.monotonic() + lasts_s
        while len(took) < LEAST_PROBES or time.monotonic() < end:
            took.append(first_token_ms(line, request))
    return took[LEAST_PROBES // 2 :]


def first_token_ms(line: socket.socket, request: bytes) -> float:
    """Read to the end all the same: the connection is used again."""
    began, first, got = time.perf_counter(), 0.0, b""
    line.sendall(request)
    while not got.endswith(LAST):
        came = line.recv(65536)
        assert came, f"cut off: {got[-500:]!r}"
        got += came
        if not first and FIRST.search(got):
            first = time.perf_counter()
    assert got.startswith(b"HTTP/1.1 200") and first and b"data: [DONE]" in got, got[:1000]
    return (first - began) * 1e3
