"""Our OpenAI front door against LiteLLM's proxy: the same fake upstream, the same load, one worker each, in one run.

Ours is the whole mesh behind its edge, with an API key, budgets that hold for each call, and an audit trail of each.
LiteLLM's proxy checks its master key and keeps nothing. They take turns, a few seconds each, and each begins when what
it was asked before is done. What is compared is measured from outside: by wrk, and the first token by a bare socket.

    python -m tests.bench.gateway [--scale 0.5] [--side litellm|soma|straight]    the figures of some sides, as they are
    python -m tests.bench.gateway --profile                                       where the time of a call goes
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.bench import litellm_proxy
from tests.bench import load as loading
from tests.bench.figure import Figure
from tests.bench.load import Door, Heard, first_tokens, load, together, wrk, wrk_program
from tests.bench.spent import percentile
from tests.bench.upstream import CHUNKS, MODEL, Upstream, running_upstream
from tests.system.mesh import Mesh, running_mesh

LASTS_S = {1: 5, 16: 6, 64: 8}
"""Seconds of load, by calls in flight."""
STREAMS, STREAMS_S, FIRST_S, WARM_S = 16, 8, 5, 3
TURNS = 3
BUDGET_USD = 1_000_000
CATALOGUE = f"""
[[provider]]
name = "bench"
base_url = "{{base_url}}"
needs_key = false
running = 256
  [[provider.model]]
  name = "{MODEL}"
  tier = "standard"
  price_in = 100_000
  price_out = 400_000
  latency_ms = 1
  window = 100_000
"""


@dataclass(frozen=True, slots=True)
class Side:
    """A gateway that runs. `server` is the process that does the work of LiteLLM's."""

    name: str
    door: Door
    server: int
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """What was measured of one side."""

    calls: Mapping[int, Heard]
    streams: Heard
    joined: Heard
    first_ms: Sequence[float]
    rss_mb: float
    all_mb: float

    @property
    def heard(self) -> list[Heard]:
        return [*self.calls.values(), self.streams, self.joined]


Opened = Callable[[Upstream], AbstractContextManager[Side]]


def measure(scale: float) -> list[Figure]:
    wrk_program()
    with ExitStack() as stack:
        upstreams = [stack.enter_context(running_upstream()) for _ in (litellm_side, soma_side)]
        sides = [stack.enter_context(litellm_side(upstreams[0])), stack.enter_context(soma_side(upstreams[1]))]
        theirs, ours = seen_of(sides, upstreams, scale)
        with straight_side(upstreams[0]) as side:
            straight = load(side.door, STREAMS, 2, side.pids, stream=True)
    return figures(theirs, ours, straight)


def seen_of(sides: Sequence[Side], upstreams: Sequence[Upstream], scale: float) -> list[Seen]:
    """Of each side, which take turns."""
    for side in sides:
        for stream in (False, True):
            wrk(side.door, STREAMS, WARM_S, stream=stream)
    calls = {n: in_turns(sides, n, lasts_s * scale) for n, lasts_s in LASTS_S.items()}
    streams = in_turns(sides, STREAMS, STREAMS_S * scale, stream=True)
    for upstream in upstreams:
        upstream.speak(joined=True)
    joined = in_turns(sides, STREAMS, STREAMS_S * scale, stream=True)
    for upstream in upstreams:
        upstream.speak(joined=False)
    first_ms = [first_tokens(until_idle(side).door, FIRST_S * scale) for side in sides]
    return [
        Seen(
            {n: heard[at] for n, heard in calls.items()}, streams[at], joined[at], first_ms[at], rss_mb(side.server),
            shared_out_mb(pid for name, pid in side.pids.items() if name != "upstream"),
        )
        for at, side in enumerate(sides)
    ]  # fmt: skip


def in_turns(sides: Sequence[Side], at_once: int, lasts_s: float, *, stream: bool = False) -> list[Heard]:
    """One after the other, several times over: a machine that is slower for a while is so for all."""
    each = lasts_s / TURNS
    turns = [
        [load(until_idle(side).door, at_once, each, side.pids, stream=stream) for side in sides] for _ in range(TURNS)
    ]
    return [together(parts) for parts in zip(*turns, strict=True)]


def until_idle(side: Side) -> Side:
    loading.until_idle(side.pids.values())
    return side


def figures(theirs: Seen, ours: Seen, straight: Heard) -> list[Figure]:
    first, their_first = statistics.median(ours.first_ms), statistics.median(theirs.first_ms)
    first_note = f"{first:.2f} ms, LiteLLM {their_first:.1f} ms; p95 {percentile(ours.first_ms, 95):.1f} ms"
    p50 = ours.calls[1].p50_us / theirs.calls[1].p50_us
    streams = f"streams/s of {CHUNKS} chunks / LiteLLM's, {STREAMS} in flight"
    whole = f"{ours.rss_mb:.0f} MB, LiteLLM {theirs.rss_mb:.0f} MB; our whole mesh {ours.all_mb:.0f} MB with its models"
    errors = sum(run.errors for run in (*ours.heard, *theirs.heard))
    return [
        *(
            Figure(f"calls/s / LiteLLM's, {n} in flight", ours.calls[n].rate / theirs.calls[n].rate, "x", goal,
                   note=both(ours.calls[n], theirs.calls[n]))
            for n, goal in ((16, 8), (64, 12))
        ),
        Figure("p50 / LiteLLM's, 1 in flight", p50, "x", 1 / 3, True, note=both(ours.calls[1], theirs.calls[1])),
        Figure("p50 to the first token / LiteLLM's", first / their_first, "x", 1 / 5, at_most=True, note=first_note),
        Figure(streams, ours.streams.rate / theirs.streams.rate, "x", 20, note=both(ours.streams, theirs.streams)),
        Figure(
            f"the same, {CHUNKS - 1} chunks in one write", ours.joined.rate / theirs.joined.rate, "x",
            note=both(ours.joined, theirs.joined),
        ),
        Figure("RSS of the router / LiteLLM's", ours.rss_mb / theirs.rss_mb, "x", 1 / 4, at_most=True, note=whole),
        Figure("errors, both sides", errors, "", 0, at_most=True, note=complaint([*ours.heard, *theirs.heard])),
        *(cpu(f"CPU a call, {n} in flight", ours.calls[n], theirs.calls[n]) for n in (16, 64)),
        cpu(f"CPU a stream of {CHUNKS} chunks", ours.streams, theirs.streams),
        Figure("streams/s of the upstream alone", straight.rate, "/s", note="ours keeps budgets and audit on disk; "
               "LiteLLM has no database and keeps nothing"),
    ]  # fmt: skip


def both(ours: Heard, theirs: Heard) -> str:
    return f"{ours.told}; LiteLLM {theirs.told}"


def cpu(name: str, ours: Heard, theirs: Heard) -> Figure:
    return Figure(name, sum(ours.cpu_ms.values()), "ms", note=f"{ours.where}; beside LiteLLM: {theirs.where}")


def complaint(runs: list[Heard]) -> str:
    broken, cut, late = (sum(getattr(run, kind) for run in runs) for kind in ("broken", "cut", "late"))
    said = next((run.sample for run in runs if run.sample), "")
    return f"{broken} broken, {cut} cut, {late} late. {said}" if broken or cut or late else ""


def rss_mb(pid: int) -> float:
    """Of the process and its children."""
    return sum(member.memory_info().rss for member in family(pid)) / 1e6


def shared_out_mb(pids: Iterable[int]) -> float:
    """Of processes and their children, what they share counted once, where the system tells."""
    infos = [member.memory_full_info() for pid in pids for member in family(pid)]
    return float(sum(getattr(info, "pss", info.uss) for info in infos)) / 1e6


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@contextmanager
def litellm_side(upstream: Upstream) -> Iterator[Side]:
    with litellm_proxy.running_litellm(upstream) as proxy:
        door = Door(proxy.port, litellm_proxy.KEY, MODEL)
        yield Side("litellm", door, proxy.pid, {"litellm": proxy.pid, "upstream": upstream.pid})


@contextmanager
def straight_side(upstream: Upstream) -> Iterator[Side]:
    yield Side("straight", Door(upstream.port, "", MODEL), upstream.pid, {"upstream": upstream.pid})


@contextmanager
def soma_side(upstream: Upstream) -> Iterator[Side]:
    """The mesh; at the end its books must have each call that the upstream answered."""
    with tempfile.TemporaryDirectory(prefix="soma-gateway-") as folder, soma_mesh(Path(folder), upstream) as mesh:
        before = upstream.told().calls
        yield side_of(mesh, upstream)
        check_books(mesh, upstream.told().calls - before)


@contextmanager
def soma_mesh(folder: Path, upstream: Upstream) -> Iterator[Mesh]:
    home = folder / "soma"
    home.mkdir(mode=0o700)
    (home / "providers.toml").write_text(CATALOGUE.format(base_url=upstream.base_url))
    with running_mesh(home, "DEVELOPER") as mesh:
        bound(mesh)
        yield mesh


def side_of(mesh: Mesh, upstream: Upstream) -> Side:
    key = mesh.soma("key", "create", "--tenant", "acme", "--person", "member", "--budget-usd", str(BUDGET_USD))
    pids = {name: facts["pid"] for name, facts in mesh.status()["parts"].items() if facts["pid"]}
    door = Door(mesh.port, key.stdout.strip(), MODEL)
    return Side("soma", door, pids["router"], pids | {"upstream": upstream.pid})


def bound(mesh: Mesh) -> None:
    """A budget of the tenant's and one of each person's, beside the key's own, all too large to be spent."""
    limit = {"costMicrousd": str(BUDGET_USD * 1_000_000)}
    for scope, of in (("tenant", ""), ("user", "*")):
        ask(mesh, "/v1/budgets", {"scope": scope, "of": of, "window": "month", "limit": limit})


def ask(mesh: Mesh, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
    """As an admin."""
    headers = {"authorization": f"Bearer {mesh.token('acme', 'admin')}", "content-type": "application/json"}
    data = json.dumps(body).encode() if body else None
    with urllib.request.urlopen(urllib.request.Request(f"{mesh.url}{path}", data, headers), timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def check_books(mesh: Mesh, calls: int) -> None:
    """Every call was decided by the router, written down, and held for or charged."""
    found = mesh.rows("SELECT provider, count(*) FROM t_acme.decisions GROUP BY provider")
    assert [row["provider"] for row in found] == ["bench"] and found[0]["count"] >= calls, (found, calls)
    state = next(one["state"] for one in ask(mesh, "/v1/budgets")["budgets"] if one["scope"] == "tenant")
    counted = int(state.get("settledRequests", 0)) + int(state.get("heldRequests", 0))
    assert counted >= calls, (state, calls)


SIDES: Mapping[str, Opened] = {"litellm": litellm_side, "soma": soma_side, "straight": straight_side}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.gateway")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--side", choices=SIDES, action="append")
    parser.add_argument("--profile", action="store_true", help="Where the time of a call goes, for developers.")
    words = parser.parse_args()
    with running_upstream() as upstream:
        if words.profile:
            from tests.bench.profiled import profile

            return profile(upstream, words.scale)
        for name in words.side or SIDES:
            with SIDES[name](upstream) as side:
                tell(name, *seen_of([side], [upstream], words.scale))
    return None


def tell(name: str, seen: Seen) -> None:
    runs = [(f"{n} in flight", run) for n, run in seen.calls.items()]
    for what, run in [*runs, ("streams", seen.streams), ("streams, joined", seen.joined)]:
        print(f"{name}, {what}: {run.told}, {run.errors} errors {run.sample}; CPU {run.where}", flush=True)
    first = f"p50 {statistics.median(seen.first_ms):.2f} and p95 {percentile(seen.first_ms, 95):.2f} ms"
    print(f"{name}: first token {first}; RSS {seen.rss_mb:.0f} MB, all {seen.all_mb:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
