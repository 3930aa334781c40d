"""Decisions as a router takes and tells them, answered and thought of by rule: what tests of the trainer stand on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.common.clock import new_id, rfc3339
from services.common.learning.choose import pick, probabilities, score_of, weights_by
from services.common.learning.posterior import Posterior
from services.common.learning.prior import shipped
from services.common.schemas import to_json
from services.workers.trainer import facts
from services.workers.trainer.judge import Sample
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from soma.router.v1.policy_pb2 import Policy

PRIOR = shipped()
MODELS = {"acme/best": 0.72, "acme/usual": 0.7}
ENOUGH = 260
"""Decisions with feedback, to be sure of what is clear."""
EXPLORING = Policy(dial=1.0, most_explored=0.5)
"""It tries the one that seems worse as often as it may."""
LATENCY_MS, COST = 20, 100
PERSON = "p_ada"

Truth = Callable[[int, str], float]
"""How good the answer of a model is to the nth question."""


def usual_is_better(_n: int, model: str) -> float:
    return 1.0 if model == "acme/usual" else 0.0


def best_is_better(_n: int, model: str) -> float:
    return 1.0 if model == "acme/best" else 0.0


@dataclass(frozen=True, slots=True)
class Teller:
    """Takes decisions by a version of a policy, and by what is learned in it."""

    policy: Policy = field(default_factory=lambda: EXPLORING)
    version: int = 1
    tenant: str = "acme"
    posterior: Posterior = field(default_factory=lambda: Posterior(PRIOR, {}))
    is_learned: bool = False
    models: Mapping[str, float] = field(default_factory=lambda: MODELS)
    start: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=10))

    def decided(self, n: int, draws: random.Random) -> RoutingEvent:
        seen = PRIOR.features.of(f"Question {n}: what is {n} + {n}?")
        view, weights = self.posterior.view(self.models), weights_by(self.policy, is_learned=self.is_learned)
        qualities = view.predict(seen)
        chances = probabilities([score_of(q, COST, LATENCY_MS, weights) for q in qualities], weights)
        open_ = [
            (name, p, q, self.models[name]) for name, p, q in zip(self.models, chances, qualities, strict=True) if p
        ]
        name, chance, _, _ = open_[pick([one[1] for one in open_], draws.random())]
        return self.event(
            "routing.decided", name, self.decision(n), n,
            policy=f"policies/{self.version}", propensity=repr(chance), features=words(seen),
            candidates=" ".join(one[0] for one in open_), probabilities=words([one[1] for one in open_]),
            qualities=words([one[2] for one in open_]), catalogue=words([one[3] for one in open_]),
            costs=words([COST] * len(open_)), latencies=words([LATENCY_MS] * len(open_)), cost_microusd=COST,
        )  # fmt: skip

    def decision(self, n: int) -> str:
        """Ids sort by their questions."""
        ms = int((self.start + timedelta(milliseconds=n)).timestamp() * 1000)
        return str(UUID(int=ms << 80 | new_id().int & (1 << 80) - 1))

    def event(self, kind: str, name: str, decision: str, n: int, **more: Any) -> RoutingEvent:
        provider, _, model = name.partition("/")
        return RoutingEvent(
            id=str(new_id()), type=kind, version=1, time=rfc3339(self.start + timedelta(milliseconds=n)),
            tenant=self.tenant, subject=PERSON, decision=decision, requested_tier="auto", provider=provider,
            model=model, tier="standard", **more,
        )  # fmt: skip

    def settled(self, decided: RoutingEvent, n: int, by: str = "") -> RoutingEvent:
        name = by or name_of(decided)
        return self.event("routing.settled", name, decided.decision, n, cost_microusd=COST, first_token_ms=LATENCY_MS)

    def thought(self, decided: RoutingEvent, score: float, n: int = 0, source: str = "person") -> RoutingEvent:
        return self.event(
            "routing.feedback", name_of(decided), decided.decision, n, feedback=repr(score), source=source
        )

    def told(self, count: int, truth: Truth, seed: int = 0, first: int = 0) -> Iterator[list[RoutingEvent]]:
        """Decided, settled and thought of, question by question."""
        draws = random.Random(seed)
        for n in range(first, first + count):
            decided = self.decided(n, draws)
            yield [decided, self.settled(decided, n), self.thought(decided, truth(n, name_of(decided)), n)]


def name_of(event: RoutingEvent) -> str:
    return f"{event.provider}/{event.model}"


def body(event: RoutingEvent) -> dict[str, Any]:
    """As it stands in the log."""
    said: dict[str, Any] = json.loads(to_json(event))
    return said


def sample(events: Sequence[RoutingEvent]) -> Sample:
    """What the trainer keeps of a decision."""
    decided, settled, thought = (body(event) for event in events)
    found, ended, opinion = facts.decided(decided), facts.settled(settled), facts.opinion(thought)
    assert found
    return Sample(
        UUID(decided["decision"]), datetime.fromisoformat(found.time), found.policy, found.features, found.candidates,
        found.catalogue, found.costs, found.latencies, found.chosen, found.propensity, ended.answered,
        ended.cost_microusd, ended.first_token_ms, opinion.score,
    )  # fmt: skip


def samples(teller: Teller, count: int, truth: Truth, seed: int = 0, first: int = 0) -> list[Sample]:
    return [sample(events) for events in teller.told(count, truth, seed, first)]


def words(numbers: Sequence[float]) -> str:
    return " ".join(map(repr, numbers))
