"""Hints to the router that a client puts into `metadata`, whose values are strings. Pure.

metadata={"soma.max_cost_usd": "0.02", "soma.max_latency_ms": "800", "soma.task": "mails"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_FLOOR, Decimal

from services.router.front.errors import wrong
from soma.router.v1.router_service_pb2 import GenerateRequest

OURS = "soma."
MICRO = 1_000_000
MOST_MICROUSD, MOST_MS = 10**15, 2**32 - 1


def put_hints(request: GenerateRequest, metadata: Mapping[str, str]) -> None:
    """Those of `metadata` that are ours. The others are the client's own affair."""
    for key, value in metadata.items():
        if key.startswith(OURS):
            if key not in WAYS:
                raise wrong("metadata", f"{key[:100]} is no hint. There are: {', '.join(WAYS)}.")
            try:
                WAYS[key](request, value)
            except (ValueError, ArithmeticError) as fault:
                raise wrong(f"metadata.{key}", "The value cannot be read. Send a plain value as a string.") from fault


def most_cost(request: GenerateRequest, value: str) -> None:
    request.hints.max_cost_microusd = whole(Decimal(plain(value)) * MICRO, MOST_MICROUSD)


def most_latency(request: GenerateRequest, value: str) -> None:
    request.hints.max_latency_ms = whole(Decimal(plain(value)), MOST_MS)


def least_quality(request: GenerateRequest, value: str) -> None:
    request.hints.min_quality = float(plain(value))


def task(request: GenerateRequest, value: str) -> None:
    request.task = printable(value)


def task_class(request: GenerateRequest, value: str) -> None:
    request.task_class = printable(value)


def sensitivity(request: GenerateRequest, value: str) -> None:
    request.hints.sensitivity = value


def jurisdictions(request: GenerateRequest, value: str) -> None:
    request.hints.jurisdictions.extend(value.replace(",", " ").split())


def plain(value: str) -> str:
    """Python reads more than others take for a number: 1_0 as ten, digits of any script."""
    if not value.isascii() or "_" in value:
        raise ValueError("not plain")
    return value


def whole(number: Decimal, most: int) -> int:
    """A hint of less than one is one: 0 would be no bound at all."""
    if not number.is_finite() or not 0 < number <= most:
        raise ValueError("out of range")
    return max(1, int(number.to_integral_value(ROUND_FLOOR)))


def printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("not printable")
    return value


WAYS: Mapping[str, Callable[[GenerateRequest, str], None]] = {
    "soma.max_cost_usd": most_cost,
    "soma.max_latency_ms": most_latency,
    "soma.min_quality": least_quality,
    "soma.task": task,
    "soma.task_class": task_class,
    "soma.sensitivity": sensitivity,
    "soma.jurisdictions": jurisdictions,
}
