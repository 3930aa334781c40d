"""Where the time of a call goes: CPU by process, by thread of the router, by library of its machine code (where Linux
has perf), by Python function of its event loop's thread; and what one call alone waits for."""

from __future__ import annotations

import json
import os
import pstats
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.gateway import STREAMS, Side, side_of, soma_mesh
from tests.bench.load import load, until_idle, wrk
from tests.bench.spent import percentile
from tests.bench.upstream import Upstream
from tests.system.mesh import Mesh, wait_until

LASTS_S, MOST_S = 5, 30.0
TOP, TOP_MACHINE = 25, 12
SAMPLED = Path(__file__).parent / "sampled"
PERF_HZ = 999
OF_TYPE = re.compile(r"of '([\w.]+)'|built-in method ([\w.]+)")


def profile(upstream: Upstream, scale: float) -> None:
    with tempfile.TemporaryDirectory(prefix="soma-profile-") as folder, soma_mesh(Path(folder), upstream) as mesh:
        side = side_of(mesh, upstream)
        lasts_s = max(1.0, LASTS_S * scale)
        for stream in (False, True):
            wrk(side.door, STREAMS, 2, stream=stream)
            until_idle([side.server])
            tell_parts(side, lasts_s, stream=stream)
            tell_machine(side, lasts_s, stream=stream)
        with router_by_hand(mesh, Path(folder) / "profile") as (pid, file):
            for stream in (False, True):
                until_answered(side, stream=stream)
                tell_functions(pid, file, side, lasts_s, stream=stream)
            tell_stages(pid, file, side, lasts_s)


def kind(stream: bool) -> str:
    return "stream of 64 chunks" if stream else "call"


def tell_parts(side: Side, lasts_s: float, *, stream: bool) -> None:
    before = threads_ns(side.server)
    heard = load(side.door, STREAMS, lasts_s, side.pids, stream=stream)
    after = threads_ns(side.server)
    print(f"\n== a {kind(stream)}, {STREAMS} in flight: {heard.told}, {heard.errors} errors {heard.sample}")
    show("ms of CPU by process", heard.cpu_ms)
    spent: defaultdict[str, float] = defaultdict(float)
    for thread, (name, ns) in after.items():
        spent[name] += ns - before.get(thread, ("", 0))[1]
    show("ms of CPU by thread of the router", {name: ns / 1e6 / heard.answers for name, ns in spent.items()})


def show(title: str, figures: Mapping[str, float], top: int = TOP_MACHINE) -> None:
    """The largest; without a title they do not add up."""
    if title:
        print(f"-- {title}; {sum(figures.values()):.3f} in all")
    for name, value in sorted(figures.items(), key=lambda figure: -figure[1])[:top]:
        print(f"{value:9.3f}  {name}")


def threads_ns(pid: int) -> dict[str, tuple[str, int]]:
    """By id: the name of a thread, and the nanoseconds that it ran."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*"):
        name = (task / "comm").read_text().strip()
        found[task.name] = (name if task.name != str(pid) else "main", int((task / "schedstat").read_text().split()[0]))
    return found


def tell_machine(side: Side, lasts_s: float, *, stream: bool) -> None:
    """By perf: machine code is where gRPC, TLS and protobuf are."""
    perf = shutil.which("perf")
    if not perf:
        print("-- by library: skipped, there is no perf here")
        return
    with tempfile.NamedTemporaryFile() as data:
        command = [perf, "record", "--freq", str(PERF_HZ), "--pid", str(side.server), "--output", data.name]
        recording = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        heard = load(side.door, STREAMS, lasts_s, side.pids, stream=stream)
        recording.send_signal(signal.SIGINT)
        recording.wait(MOST_S)
        each_ms = heard.cpu_ms["router"]
        for sort in ("dso", "dso,symbol"):
            shares = perf_shares(perf, data.name, sort)
            title = f"ms of the router's CPU by {sort.replace(',', ' and ')}, a {kind(stream)}"
            show(title, {name: share / 100 * each_ms for name, share in shares.items()}, TOP)


def perf_shares(perf: str, file: str, sort: str) -> dict[str, float]:
    """Percent by name."""
    command = [perf, "report", "--input", file, "--stdio", "--sort", sort, "--percent-limit", "0.3"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=MOST_S, check=False).stdout
    rows = [line.split() for line in said.splitlines() if line.strip() and not line.startswith("#")]
    found = [row for row in rows if row[0].endswith("%")]
    return {" ".join(word for word in row[1:] if word != "-"): float(row[0].rstrip("%")) for row in found}


@contextmanager
def router_by_hand(mesh: Mesh, file: Path) -> Iterator[tuple[int, Path]]:
    """The router in place of the managed one, able to be profiled. Its pid."""
    words = mesh.surroundings({"PYTHONPATH": str(SAMPLED), "SOMA_PROFILE_FILE": str(file)})
    with (file.parent / "by-hand.log").open("wb") as log:
        hand = subprocess.Popen(
            mesh.command("run", "router"), env=words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

        def router() -> dict[str, Any]:
            found: dict[str, Any] = mesh.status()["parts"]["router"]
            return found

        try:
            wait_until(lambda: router()["state"] == "by hand", MOST_S, what="the router by hand")
            yield router()["pid"], file
        finally:
            hand.send_signal(signal.SIGTERM)
            hand.wait(MOST_S)


def until_answered(side: Side, *, stream: bool) -> None:
    wait_until(lambda: wrk(side.door, 1, 1, stream=stream).counted > 0, MOST_S, what="an answer through the router")


def tell_functions(pid: int, file: Path, side: Side, lasts_s: float, *, stream: bool) -> None:
    os.kill(pid, signal.SIGUSR1)
    answers = load(side.door, STREAMS, lasts_s, {}, stream=stream).answers
    written(pid, signal.SIGUSR2, file)
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]]
    stats = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]
    packages: defaultdict[str, float] = defaultdict(float)
    functions: dict[str, float] = {}
    with_callees: dict[str, float] = {}
    for (path, line, function), (_, calls, own_s, whole_s, _) in stats.items():
        package = package_of(path, function)
        name = f"{package}  {function}:{line}, {calls / answers:.1f} times"
        packages[package] += own_s * 1e3 / answers
        functions[name] = own_s * 1e3 / answers
        if "/services/" in path:
            with_callees[name] = whole_s * 1e3 / answers
    print(f"\n== the router's event loop under cProfile, which makes Python's own calls dearer: a {kind(stream)}")
    show("own ms by package", packages, TOP)
    show("own ms by function", functions, TOP)
    print("-- ms of ours with all that they call")
    show("", with_callees, TOP)


def tell_stages(pid: int, file: Path, side: Side, lasts_s: float) -> None:
    """What a caller waits for, one call at a time."""
    os.kill(pid, signal.SIGRTMIN)
    heard = [wrk(side.door, 1, max(1, round(lasts_s)), stream=stream) for stream in (False, True)]
    written(pid, signal.SIGRTMIN + 1, file)
    print(f"\n== one call at a time: {heard[0].told}; one stream at a time: {heard[1].told}")
    print("-- p50 and p95 in ms of what it waits for, one within the other; how often a call")
    total = sum(run.answers for run in heard)
    for stage, took in json.loads(file.read_text()).items():
        p50, p95 = statistics.median(took), percentile(took, 95)
        print(f"{p50:9.2f} {p95:9.2f}  {stage}, {len(took) / total:.1f} times")


def written(pid: int, number: int, file: Path) -> None:
    """Ask for the file and wait for it."""
    file.unlink(missing_ok=True)
    os.kill(pid, number)
    wait_until(file.exists, MOST_S, what="the profile")


def package_of(path: str, function: str) -> str:
    """A library by its name, ours by file."""
    if path == "~":
        found = OF_TYPE.search(function)
        owner = (found[1] or found[2]) if found else "builtins"
        return owner.rsplit(".", 1)[0] if "." in owner else "builtins"
    for mark in ("site-packages/", "/lib/python3.11/"):
        if mark in path:
            return path.split(mark)[1].split("/")[0].removesuffix(".py")
    return "/".join(path.split("/")[-3:]) if "/" in path else path
