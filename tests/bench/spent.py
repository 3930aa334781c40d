"""What processes have spent: CPU time, and memory of their own."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import psutil


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has spent, to the nanosecond where Linux tells."""
    if sys.platform == "linux":
        return time.clock_gettime(~pid << 3 | 2)  # the kernel's name for that process' clock
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def family_cpu_s(pid: int) -> float:
    """Seconds of CPU that a process and its children have spent, those that ended included. In hundredths."""
    family = [psutil.Process(pid)]
    family += family[0].children(recursive=True)
    total = 0.0
    for member in family:
        with suppress(psutil.NoSuchProcess):
            times = member.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def own_memory_mb(pid: int) -> float:
    """MB that nobody shares with the process."""
    return float(psutil.Process(pid).memory_full_info().uss) / 1e6


@contextmanager
def spending(pids: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Seconds of CPU by name, of what runs inside; filled in at the end."""
    before = {name: family_cpu_s(pid) for name, pid in pids.items()}
    spent: dict[str, float] = {}
    yield spent
    spent.update({name: family_cpu_s(pid) - before[name] for name, pid in pids.items()})


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
