"""One of the open offers is drawn and the decision filled in, for the first time, after a failure, or in a replay."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

from services.common.learning.choose import Weights, pick, probabilities, score_of
from services.router.decide.examine import Rated, Rating
from services.router.decide.field import in_order
from services.router.decide.question import AUTO
from services.router.offers import TIERS
from soma.common.v1.model_pb2 import Candidate, Decision

TRIED = "tried"
"""The filter of those that were asked, and failed."""
TIER = Rated._fields.index("tier")


def replay(recorded: Decision) -> Decision:
    """The decision again, from its candidates' figures, its weights and its draw."""
    again, weights = copied(recorded), weights_in(recorded)
    del again.candidates[:]
    choose(again, rated(recorded.candidates, weights), [c for c in recorded.candidates if c.filter], weights)
    again.why = why_moved(again) or again.why
    return again


def next_after(decision: Decision, closed: str, filter: str = TRIED) -> Decision | None:
    """The decision among what is left, after the chosen candidate failed, or was found closed by another filter, with
    that sentence. None without one."""
    again, weights = copied(decision), weights_in(decision)
    gone = Candidate()
    gone.CopyFrom(decision.candidates[0])
    gone.filter, gone.closed, gone.score, gone.probability = filter, closed, 0.0, 0.0
    shut = in_order([gone, *(c for c in decision.candidates if c.filter)])
    left = rated(decision.candidates[1:], weights)
    del again.candidates[:]
    if not choose(again, left, shut, weights):
        return None
    again.why = why_moved(again)
    return again


def choose(decision: Decision, open_: list[Rating], closed: Iterable[Candidate], weights: Weights) -> bool:
    """Draw one of the first tier, and fill the decision in. False when none is open."""
    if not open_:
        return False
    open_.sort()
    first = open_
    if decision.requested_tier != AUTO:
        open_.sort(key=by_tier)
        first = [rating for rating in open_ if by_tier(rating) == by_tier(open_[0])]
    if weights.most_explored > 0:
        chances = probabilities([-minus_score for minus_score, *_ in first], weights)
    else:
        chances = [1.0, *repeat(0.0, len(first) - 1)]
    at = pick(chances, decision.draw)
    best, chosen, chance = Rated(*open_[0]), Rated(*open_.pop(at)), chances.pop(at)
    add = decision.candidates.add
    for rating, probability in zip((chosen, *open_), (chance, *chances, *repeat(0.0, len(open_))), strict=False):
        minus_score, cost, latency_ms, _, _, _, quality, held, seen = rating
        candidate = add()
        candidate.CopyFrom(seen)
        candidate.score, candidate.quality = -minus_score, quality
        candidate.cost_microusd, candidate.latency_ms, candidate.held_microusd = cost, latency_ms, held
        candidate.probability = probability
    decision.candidates.extend(closed)
    decision.provider, decision.model, decision.tier = chosen.provider, chosen.model, chosen.tier
    decision.estimated_cost_microusd, decision.held_microusd = chosen.cost_microusd, chosen.held_microusd
    decision.window_tokens, decision.propensity = chosen.seen.window_tokens, chance
    decision.why = why(decision, chosen, best, len(chances) + 1)
    return True


def by_tier(rating: Rating) -> int:
    return TIERS.index(rating[TIER])


def rated(candidates: Iterable[Candidate], weights: Weights) -> list[Rating]:
    """The open ones as they were seen, scored again."""
    return [
        (
            -score_of(c.quality, c.cost_microusd, c.latency_ms, weights), c.cost_microusd, c.latency_ms, c.provider,
            c.model, c.tier, c.quality, c.held_microusd, c,
        )
        for c in candidates if not c.filter
    ]  # fmt: skip


def why(decision: Decision, chosen: Rated, best: Rated, rivals: int) -> str:
    tier = "of all tiers" if decision.requested_tier == AUTO else f"of the {chosen.tier} tier"
    if chosen != best:
        return f"{chosen.model} is tried out, to learn how good it is: {best.model} has the better score."
    if decision.requested_tier not in (AUTO, chosen.tier):
        return f"{chosen.model} answers because no model of the {decision.requested_tier} tier is open."
    if rivals == 1:
        return f"{chosen.model} is the only open model {tier}."
    return f"{chosen.model} has the best balance of quality, cost and wait among {rivals} open models {tier}."


def why_moved(decision: Decision) -> str:
    """Who was tried before the one that answers, and what became of it; empty when nobody was."""
    tried = " Nor did ".join(
        f"{c.model}{'' if n else ' did not'}: {c.closed}"
        for n, c in enumerate(c for c in decision.candidates if c.filter == TRIED)
    )
    return tried and f"{decision.model} answers because {tried}"


def weights_in(decision: Decision) -> Weights:
    w = decision.weights
    return Weights(w.per_usd, w.per_s, w.sharpness, w.most_explored)


def copied(decision: Decision) -> Decision:
    again = Decision()
    again.CopyFrom(decision)
    return again
