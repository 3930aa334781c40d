"""What events of agent.routing say of a decision. Pure. Raises ValueError for what no event of ours can say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NEAR = 1e-6
MOST_CANDIDATES, MOST_FEATURES, MOST_SEEN = 1000, 1000, 1e6
MOST_MICROUSD, MOST_MS = 10**12, 2**32


@dataclass(frozen=True, slots=True)
class Decided:
    """Lists are in the order of the candidates."""

    time: str
    policy: str
    features: Sequence[float]
    candidates: Sequence[str]
    probabilities: Sequence[float]
    qualities: Sequence[float]
    catalogue: Sequence[float]
    costs: Sequence[int]
    latencies: Sequence[int]
    chosen: str
    propensity: float


@dataclass(frozen=True, slots=True)
class Settled:
    answered: str
    cost_microusd: int
    first_token_ms: int


@dataclass(frozen=True, slots=True)
class Opinion:
    """`said` sorts by when it was given."""

    source: str
    said: str
    score: float


def decided(event: Mapping[str, Any]) -> Decided | None:
    """None where there was nothing to see of the question, or to choose from."""
    if not event.get("features") or not event.get("candidates"):
        return None
    candidates = event["candidates"].split(" ")
    found = Decided(
        time=event["time"],
        policy=event.get("policy", ""),
        features=numbers(event, "features", -MOST_SEEN, MOST_SEEN),
        candidates=candidates,
        probabilities=numbers(event, "probabilities", 0.0, 1.0),
        qualities=numbers(event, "qualities", 0.0, 1.0),
        catalogue=numbers(event, "catalogue", 0.0, 1.0),
        costs=[round(cost) for cost in numbers(event, "costs", 0, MOST_MICROUSD)],
        latencies=[round(ms) for ms in numbers(event, "latencies", 0, MOST_MS)],
        chosen=model_of(event),
        propensity=number(event, "propensity", 0.0, 1.0),
    )
    check(found)
    return found


def check(found: Decided) -> None:
    size = len(found.candidates)
    lists = (found.probabilities, found.qualities, found.catalogue, found.costs, found.latencies)
    if size > MOST_CANDIDATES or len(found.features) > MOST_FEATURES:
        raise ValueError("A decision has too many candidates, or features.")
    if len(set(found.candidates)) < size or any(len(one) != size for one in lists):
        raise ValueError("What is said of a decision's candidates does not fit their number.")
    if min(found.probabilities) <= 0 or abs(sum(found.probabilities) - 1) > NEAR:
        raise ValueError("A decision's probabilities do not add up to 1, or one of them is 0.")
    chances = dict(zip(found.candidates, found.probabilities, strict=True))
    if abs(chances.get(found.chosen, 0.0) - found.propensity) > NEAR:
        raise ValueError("The chosen model's propensity is not its probability among the candidates.")


def settled(event: Mapping[str, Any]) -> Settled:
    cost, first_token_ms = int(event.get("costMicrousd", 0)), int(event.get("firstTokenMs", 0))
    if not (0 <= cost <= MOST_MICROUSD and 0 <= first_token_ms <= MOST_MS):
        raise ValueError("What an answer cost, or how long it took, is out of range.")
    return Settled(model_of(event), cost, first_token_ms)


def opinion(event: Mapping[str, Any]) -> Opinion:
    said = f"{event['time']} {event['id']}"
    return Opinion(str(event.get("source", "person")), said, number(event, "feedback", 0.0, 1.0))


def score_of(said: Mapping[str, Sequence[Any]]) -> float:
    """Each source counts alike, by its last word."""
    return sum(float(score) for _, score in said.values()) / len(said)


def model_of(event: Mapping[str, Any]) -> str:
    return f"{event['provider']}/{event['model']}"


def numbers(event: Mapping[str, Any], name: str, least: float, most: float) -> list[float]:
    return [bounded(word, name, least, most) for word in str(event.get(name, "")).split(" ")]


def number(event: Mapping[str, Any], name: str, least: float, most: float) -> float:
    return bounded(event.get(name, ""), name, least, most)


def bounded(word: str, name: str, least: float, most: float) -> float:
    value = float(word)
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{name} has {word[:40]}, which it cannot be.")
    return value
