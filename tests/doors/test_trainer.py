"""The trainer on a real Postgres: what it keeps of the log, and when it changes a tenant's policy by it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from services.common import policies, schema
from services.common.caller import Caller
from services.common.clock import SystemClock, new_id
from services.common.consumer.consumer import Consumer
from services.common.learning.posterior import posterior_of
from services.common.log.log import Entry
from services.common.schemas import to_json
from services.workers.trainer import samples, trainer
from services.workers.trainer.samples import Keeper
from services.workers.trainer.trainer import Trainer
from soma.events.v1alpha1.routing_pb2 import RoutingEvent
from soma.router.v1.policy_pb2 import Policy
from tests.consuming import HASTY, World, open_world, running
from tests.stores import running_postgres
from tests.training import ENOUGH, EXPLORING, MODELS, PRIOR, Teller, best_is_better, usual_is_better

pytestmark = pytest.mark.asyncio(loop_scope="module")

TENANTS = ("acme", "globex")
DRAWS = random.Random(3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("trainer")
    async with running_postgres(folder / "postgres") as url, open_world(url, folder / "keys") as world:
        for tenant in TENANTS:
            await schema.add_tenant(url, tenant, ())
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(postgres: World) -> World:
    """With nothing in it."""
    async with schema.administering(postgres.admin_url) as conn:
        await conn.execute(
            "TRUNCATE soma.outbox, soma.log, soma.log_heads, soma.log_groups, soma.log_members, soma.handled, "
            "soma.retries, soma.samples, soma.trainings, soma.policies, soma.learned, soma.active_policies"
        )
    await postgres.log.make_topics()
    return postgres


def trained(world: World) -> Trainer:
    return Trainer(world.db, world.sight, PRIOR)


async def follow(world: World, *events: RoutingEvent) -> None:
    """Put them into the log, and wait until the trainer has read them."""
    for n in range(0, len(events), 500):
        await world.put(*events[n : n + 500])  # type: ignore[arg-type]
    consumer = Consumer(
        world.db, world.log, world.sight, trainer.GROUP, trainer.TOPICS, Keeper(PRIOR.features.size).keep,
        patience=HASTY,
    )  # fmt: skip

    async def through() -> bool:
        standing, ends = await world.log.standing(trainer.GROUP), await world.log.ends("agent.routing")
        waiting = await world.db.look("SELECT 1 FROM soma.retries WHERE state = 'waiting'")
        return not waiting and all(standing.get(place, first) >= end for place, (first, end) in ends.items())

    async with running(consumer):
        await world.until(through)


async def kept(world: World) -> list[Any]:
    return list(await world.db.look("SELECT * FROM soma.samples ORDER BY tenant, decision"))


async def news(world: World) -> dict[str, int]:
    return {row["tenant"]: row["news"] for row in await world.db.look("SELECT tenant, news FROM soma.trainings")}


async def dead(world: World) -> int:
    return len(await world.db.look("SELECT 1 FROM soma.retries WHERE state = 'dead'"))


def admin_of(tenant: str) -> Caller:
    return Caller(tenant, "ada", frozenset({"admin"}), frozenset())


async def by_admin(world: World, policy: Policy = EXPLORING, tenant: str = "acme") -> int:
    """An admin's new version, which holds."""
    async with world.db.upkeep(admin_of(tenant)) as tx:
        held = await policies.hold(tx)
        version = await policies.add(tx, policy)
        await policies.switch(tx, version, held)
    return version


async def roll_back(world: World, tenant: str = "acme") -> int:
    async with world.db.upkeep(admin_of(tenant)) as tx:
        held = await policies.hold(tx)
        await policies.switch_back(tx, len(held.before) - 1, held)
        return held.before[-1]


async def active(world: World, tenant: str = "acme") -> Any:
    async with world.db.upkeep(Caller.system("workers", tenant)) as tx:
        version = (await policies.active(tx)).version
        return await policies.find(tx, version)


async def versions(world: World) -> list[tuple[str, int]]:
    rows = await world.db.look("SELECT tenant, version FROM soma.policies ORDER BY tenant, version")
    return [(row["tenant"], row["version"]) for row in rows]


def all_of(told: Sequence[Sequence[RoutingEvent]]) -> list[RoutingEvent]:
    return [event for events in told for event in events]


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "scored_time"} for row in rows]


async def test_a_decision_its_answer_and_what_was_thought_of_it_are_one_sample(world: World) -> None:
    [[decided, settled, thought]] = Teller().told(1, usual_is_better)
    await follow(world, decided, settled, thought)
    [row] = await kept(world)
    assert (row["tenant"], str(row["decision"]), row["policy"]) == ("acme", decided.decision, "policies/1")
    assert row["chosen"] == row["answered"] == f"{decided.provider}/{decided.model}"
    assert " ".join(row["candidates"]) == decided.candidates
    assert row["propensity"] == float(decided.propensity)
    assert [f"{number:.4f}" for number in row["features"]] == [f"{float(w):.4f}" for w in decided.features.split()]
    assert (row["cost_microusd"], row["first_token_ms"]) == (100, 20)
    assert row["score"] == float(thought.feedback)
    assert await news(world) == {"acme": 1}


async def test_samples_are_the_same_in_whatever_order_and_however_often_events_come(world: World) -> None:
    events = all_of(list(Teller().told(8, usual_is_better)))
    await follow(world, *events)
    first = plain(await kept(world))
    for _ in range(3):
        async with schema.administering(world.admin_url) as conn:
            await conn.execute("TRUNCATE soma.samples, soma.trainings")
        mixed = [*events, *events]
        DRAWS.shuffle(mixed)
        for n in range(0, len(mixed), 7):
            async with world.db.own(Caller.system("workers", "")) as tx:
                await Keeper(PRIOR.features.size).keep(tx, entries(mixed[n : n + 7]))
        assert plain(await kept(world)) == first
        assert await news(world) == {"acme": 8}


def entries(events: Sequence[RoutingEvent]) -> list[Entry]:
    now = SystemClock().now()
    return [
        Entry("agent.routing", 0, n, new_id(), e.tenant, "", e.type, to_json(e).encode(), "", now)
        for n, e in enumerate(events)
    ]


async def test_feedback_given_again_takes_the_earlier_ones_place_and_sources_count_alike(world: World) -> None:
    teller = Teller()
    [[decided, settled, _]] = teller.told(1, usual_is_better)
    await follow(world, decided, settled, teller.thought(decided, 0.0, 1))
    await follow(world, teller.thought(decided, 1.0, 9), teller.thought(decided, 0.2, 5))
    [row] = await kept(world)
    assert row["score"] == 1.0
    await follow(world, teller.thought(decided, 0.0, 3, "judge"))
    [row] = await kept(world)
    assert row["score"] == 0.5
    assert await news(world) == {"acme": 3}


async def test_feedback_that_comes_before_or_long_after_its_decision_joins_it(world: World) -> None:
    teller = Teller()
    early, late = teller.told(2, usual_is_better)
    await follow(world, early[2])
    await follow(world, late[0], early[0], late[1], early[1])
    async with world.db.own(Caller.system("workers", "")) as tx:
        learned = await samples.to_learn_from(tx, "acme", PRIOR.features.size)
    assert [str(one.decision) for one in learned] == [early[0].decision]
    await follow(world, late[2])
    async with world.db.own(Caller.system("workers", "")) as tx:
        learned = await samples.to_learn_from(tx, "acme", PRIOR.features.size)
    assert [str(one.decision) for one in learned] == [early[0].decision, late[0].decision]


async def test_a_foreign_tenants_word_on_a_decision_is_never_mixed_with_its_own(world: World) -> None:
    [[decided, settled, thought]] = Teller().told(1, usual_is_better)
    foreign = replace(Teller(), tenant="globex").thought(decided, 1.0 - float(thought.feedback), 99)
    await follow(world, decided, settled, thought, foreign)
    async with world.db.own(Caller.system("workers", "")) as tx:
        [own] = await samples.to_learn_from(tx, "acme", PRIOR.features.size)
        assert await samples.to_learn_from(tx, "globex", PRIOR.features.size) == []
    assert own.score == float(thought.feedback)


async def test_an_event_that_no_router_tells_is_given_up_and_those_behind_it_go_on(world: World) -> None:
    told = list(Teller().told(6, usual_is_better))
    told[1][0].features = "rubbish"
    told[2][0].probabilities = "0.9 0.9"
    told[3][2].feedback = "7"
    told[4][0].model = "m\0"
    await follow(world, *all_of(told))
    assert await dead(world) == 4
    async with world.db.own(Caller.system("workers", "")) as tx:
        learned = await samples.to_learn_from(tx, "acme", PRIOR.features.size)
    assert [str(one.decision) for one in learned] == [told[0][0].decision, told[5][0].decision]


async def test_what_another_prior_saw_and_what_had_no_choice_is_not_kept(world: World) -> None:
    other, blind = Teller().told(2, usual_is_better)
    other[0].features = "0.5 0.5"
    blind[0].ClearField("features")
    await follow(world, other[0], blind[0])
    assert await kept(world) == []
    assert await dead(world) == 0


async def test_the_oldest_samples_are_forgotten_first_and_bare_ones_after_a_day(world: World) -> None:
    told = list(Teller().told(5, usual_is_better))
    await follow(world, *all_of(told), Teller(tenant="globex").event("routing.settled", "a/b", OLD, 0))
    async with world.db.own(Caller.system("workers", "")) as tx:
        assert not await samples.forget_old(tx)
        assert not await samples.forget_many(tx, "acme", 3)
    assert {str(row["decision"]) for row in await kept(world)} == {one[0].decision for one in told[2:]}


OLD = "01890000-0000-7000-8000-000000000001"
"""Of 2023."""


async def test_enough_feedback_makes_a_new_version_hold_that_is_the_old_one_with_what_was_learned(world: World) -> None:
    first = await by_admin(world, Policy(dial=1.0, most_explored=0.5, denied_models=["acme/never"], note="mine"))
    await follow(world, *all_of(list(Teller().told(ENOUGH, usual_is_better))))
    assert await trained(world).step() == {"acme": "activated"}
    row = await active(world)
    assert (row["version"], row["author"]) == (first + 1, "system:workers")
    assert "gain" in row["note"]
    policy = Policy.FromString(row["body"])
    assert (policy.dial, policy.most_explored, list(policy.denied_models)) == (1.0, 0.5, ["acme/never"])
    view = posterior_of(row["learned_body"], PRIOR).view(MODELS)
    best, usual = view.predict(PRIOR.features.of("Question 7"))
    assert usual > best
    said = await world.db.look(
        "SELECT type, payload::jsonb AS body FROM soma.outbox WHERE aggregatetype = 'agent.audit' ORDER BY seq"
    )
    assert [row["type"] for row in said][-2:] == ["policy.created", "policy.activated"]
    assert '"subject": "system:workers"' in said[-1]["body"]
    assert await trained(world).step() == {}


async def test_a_policy_that_is_no_better_is_not_switched_on(world: World) -> None:
    await by_admin(world)
    await follow(world, *all_of(list(Teller().told(ENOUGH, usual_is_better))))
    assert await trained(world).step() == {"acme": "activated"}
    row = await active(world)
    learned = Teller(version=2, posterior=posterior_of(row["learned_body"], PRIOR), is_learned=True)
    await follow(world, *all_of(list(learned.told(ENOUGH, usual_is_better, seed=5, first=1000))))
    assert await trained(world).step() == {"acme": "not better"}
    assert (await active(world))["version"] == 2


async def test_a_policy_that_is_perhaps_better_is_not_switched_on(world: World) -> None:
    luck = random.Random(100)
    await by_admin(world)
    alike = list(Teller().told(400, lambda _n, _model: float(luck.random() < 0.7)))
    await follow(world, *all_of(alike))
    assert await trained(world).step() == {"acme": "not better"}
    assert await versions(world) == [("acme", 1)]


async def test_the_built_in_policy_learns_as_well_once_there_is_something_to_judge_by(world: World) -> None:
    built_in = Teller(Policy(dial=1.0, most_explored=0.5), version=0)
    await follow(world, *all_of(list(built_in.told(ENOUGH, usual_is_better))))
    assert await trained(world).step() == {"acme": "activated"}
    assert (await active(world))["version"] == 1


async def test_tenants_learn_apart(world: World) -> None:
    for tenant in TENANTS:
        await by_admin(world, tenant=tenant)
    opposite = all_of(list(Teller(tenant="globex").told(40, best_is_better)))
    await follow(world, *all_of(list(Teller().told(ENOUGH, usual_is_better))), *opposite)
    assert await trained(world).step() == {"acme": "activated", "globex": "too few"}
    assert await versions(world) == [("acme", 1), ("acme", 2), ("globex", 1)]
    row = await active(world)
    assert set(posterior_of(row["learned_body"], PRIOR).of) == set(MODELS)
    best, usual = posterior_of(row["learned_body"], PRIOR).view(MODELS).predict(PRIOR.features.of("Question 7"))
    assert usual > 0.8 > best


async def test_two_trainers_at_once_switch_on_one_version(world: World) -> None:
    await by_admin(world)
    await follow(world, *all_of(list(Teller().told(ENOUGH, usual_is_better))))
    came = await asyncio.gather(*(trained(world).train("acme") for _ in range(4)))
    assert came.count("activated") == 1
    assert set(came) <= {"activated", "busy", "no news"}
    assert await versions(world) == [("acme", 1), ("acme", 2)]


async def test_a_change_of_the_admins_meanwhile_stays_and_the_next_step_begins_from_it(world: World) -> None:
    await by_admin(world)
    await follow(world, *all_of(list(Teller().told(ENOUGH, usual_is_better))))
    one = trained(world)

    async def trainer_waits() -> bool:
        return bool(await world.db.look("SELECT 1 FROM pg_locks WHERE NOT granted"))

    async with world.db.upkeep(admin_of("acme")) as tx:
        held = await policies.hold(tx)
        await policies.switch(tx, await policies.add(tx, Policy(dial=0.9, most_explored=0.5)), held)
        training = asyncio.create_task(one.train("acme"))
        await world.until(trainer_waits)
    assert await training == "changed"
    assert Policy.FromString((await active(world))["body"]).dial == 0.9
    assert await one.train("acme") == "too few"
    assert (await active(world))["version"] == 2


async def test_what_was_rolled_back_is_not_switched_on_again_by_the_same_answers(world: World) -> None:
    first = await by_admin(world)
    told = list(Teller().told(ENOUGH + 40, usual_is_better))
    await follow(world, *all_of(told[:ENOUGH]))
    assert await trained(world).step() == {"acme": "activated"}
    assert await roll_back(world) == first
    await follow(world, *all_of(told[ENOUGH:]))
    assert await trained(world).step() == {"acme": "too few"}
    again = [Teller().thought(one[0], 0.5, 5000) for one in told[:30]]
    await follow(world, *again)
    assert await trained(world).step() == {"acme": "too few"}
    assert (await active(world))["version"] == first


async def test_the_very_same_learned_part_is_never_switched_on_twice(world: World) -> None:
    await by_admin(world)
    told = all_of(list(Teller().told(ENOUGH, usual_is_better)))
    await follow(world, *told)
    assert await trained(world).step() == {"acme": "activated"}
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.active_policies SET version = 1, before = '{}'")
        await conn.execute("UPDATE soma.policies SET author = 'ada' WHERE version = 2")
        await conn.execute("UPDATE soma.trainings SET news = 400")
    assert await trained(world).step() == {"acme": "the same again"}
    assert await versions(world) == [("acme", 1), ("acme", 2)]


async def test_a_corrupt_policy_is_left_alone_and_said(world: World) -> None:
    await by_admin(world)
    async with schema.administering(world.admin_url) as conn:
        await conn.execute("UPDATE soma.policies SET body = body || '\\x00'::bytea")
    await follow(world, *all_of(list(Teller().told(30, usual_is_better))))
    assert await trained(world).step() == {"acme": "corrupt"}
    assert await versions(world) == [("acme", 1)]


async def test_few_scores_start_no_training(world: World) -> None:
    await follow(world, *all_of(list(Teller().told(trainer.LEAST_NEWS - 1, usual_is_better))))
    assert await trained(world).step() == {}
