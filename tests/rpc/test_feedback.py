"""Feedback over a real socket: whose it is, what it changes, how long it is taken, and what is told of it."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from grpc import StatusCode

from services.common.testing import refused
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.feedback_pb2 import Feedback
from soma.router.v1.feedback_service_pb2 import GiveFeedbackRequest
from soma.router.v1.key_pb2 import Key
from soma.router.v1.key_service_pb2 import CreateKeyRequest
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import Message
from tests.governing import new_admin
from tests.house import House, Person

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Answered:
    """Someone who has been answered once, in a tenant of their own."""

    def __init__(self, admin: Person, person: Person, decision: Decision, turn: str) -> None:
        self.house, self.admin, self.person, self.turn = person.house, admin, person, turn
        self.decision = f"decisions/{decision.id}"

    async def give(self, by: Person | None = None, request_id: str = "", **fields: Any) -> Feedback:
        by = by or self.person
        fields = fields if fields.keys() & {"decision", "turn"} else {"decision": self.decision} | fields
        request = GiveFeedbackRequest(feedback=Feedback(**fields), request_id=request_id or None)
        said: Feedback = await by.feedback.GiveFeedback(request, metadata=by.metadata, timeout=10)
        return said

    async def kept(self) -> list[tuple[str, float]]:
        sql = f"SELECT source, score FROM t_{self.person.tenant}.feedback ORDER BY source, score"
        return [(row["source"], row["score"]) for row in await self.house.rows(sql)]

    async def told(self) -> list[tuple[str, str]]:
        """The events of the outbox."""
        rows = await self.house.rows(
            "SELECT body FROM soma.told WHERE type = 'routing.feedback' AND body->>'decision' = $1 ORDER BY id",
            self.decision.removeprefix("decisions/"),
        )
        said = [json.loads(row["body"]) for row in rows]
        return [(one["source"], one["feedback"]) for one in said]

    async def grow_old(self, interval: str) -> None:
        await self.house.rows(
            f"UPDATE t_{self.person.tenant}.decisions SET create_time = now() - $1::text::interval",
            interval,
        )


async def asked(person: Person, turn: str) -> Decision:
    stub = RouterServiceStub(person.house.channel("router", "agent"))
    request = GenerateRequest(messages=[Message(role="user", text="script:words=1")], turn=turn)
    events = [event async for event in stub.Generate(request, metadata=person.metadata, timeout=30)]
    return Decision.FromString(events[0].decision.SerializeToString())


@pytest_asyncio.fixture(loop_scope="session")
async def ann(house: House) -> Answered:
    admin = await new_admin(house, "feed")
    person, turn = house.person(admin.tenant, "ann"), f"conversations/{uuid4()}/turns/{uuid4()}"
    return Answered(admin, person, await asked(person, turn), turn)


@pytest.mark.parametrize(("fields", "score"), [({"thumb": "up"}, 1), ({"thumb": "down"}, 0), ({"score": 0.25}, 0.25)])
async def test_a_thumb_or_a_score_is_kept_by_decision_and_by_turn(
    ann: Answered, fields: dict[str, Any], score: float
) -> None:
    for named in ({"decision": ann.decision}, {"turn": ann.turn}):
        said = await ann.give(**fields | named)
        assert (said.decision, said.turn, said.score, said.source) == (ann.decision, ann.turn, score, "person")
        assert (said.HasField("score"), said.thumb) == (True, fields.get("thumb", ""))
        assert await ann.kept() == [("person", score)]


async def test_a_turn_means_its_last_decision(ann: Answered) -> None:
    last = await asked(ann.person, ann.turn)
    assert (await ann.give(turn=ann.turn, thumb="up")).decision == f"decisions/{last.id}" != ann.decision


async def test_given_again_it_takes_the_earlier_ones_place_and_each_time_one_event_is_told(ann: Answered) -> None:
    first = await ann.give(thumb="up")
    second = await ann.give(score=0.5)
    assert await ann.kept() == [("person", 0.5)]
    assert second.create_time == first.create_time
    assert second.update_time.ToNanoseconds() > first.update_time.ToNanoseconds()
    assert await ann.told() == [("person", "1.0"), ("person", "0.5")]


async def test_a_repeat_with_its_id_changes_and_tells_nothing(ann: Answered) -> None:
    once = str(uuid4())
    assert await ann.give(request_id=once, thumb="up") == await ann.give(request_id=once, thumb="up")
    assert await ann.told() == [("person", "1.0")]


async def test_another_persons_answer_and_another_tenants_are_unknown(house: House, ann: Answered) -> None:
    stranger = await new_admin(house, "feed")
    for by in (house.person(ann.person.tenant, "bob"), ann.admin, stranger):
        for named in ({"decision": ann.decision}, {"turn": ann.turn}):
            with refused(StatusCode.NOT_FOUND, "DECISION_UNKNOWN"):
                await ann.give(by, thumb="up", **named)
    with refused(StatusCode.NOT_FOUND, "DECISION_UNKNOWN"):
        await ann.give(stranger, source="judge", score=1)
    assert (await ann.kept(), await ann.told()) == ([], [])


@pytest.mark.parametrize("source", ["judge", "somabrain"])
async def test_who_speaks_for_others_needs_the_role_and_stands_beside_the_person(ann: Answered, source: str) -> None:
    with refused(StatusCode.PERMISSION_DENIED, "ROLE_REFUSED"):
        await ann.give(source=source, score=0.25)
    await ann.give(thumb="up")
    operator = ann.house.person(ann.person.tenant, "judge", ("operator",))
    assert (await ann.give(operator, source=source, score=0.25)).source == source
    assert await ann.kept() == sorted([(source, 0.25), ("person", 1.0)])


async def test_after_30_days_it_is_too_late(ann: Answered) -> None:
    await ann.grow_old("29 days 23 hours")
    await ann.give(thumb="up")
    await ann.grow_old("30 days 1 minute")
    with refused(StatusCode.FAILED_PRECONDITION, "DECISION_EXPIRED"):
        await ann.give(thumb="down")
    assert await ann.kept() == [("person", 1.0)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"decision": "", "thumb": "up"}, "decision"),
        ({"decision": f"decisions/{uuid4()}", "turn": "t", "thumb": "up"}, "decision"),
        ({}, "score"), ({"thumb": "up", "score": 1}, "score"), ({"score": 1.5}, "feedback.score"),
    ],
)  # fmt: skip
async def test_neither_or_both_is_refused_with_its_field(ann: Answered, fields: dict[str, Any], field: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID") as held:
        await ann.give(**fields)
    assert held[0].metadata.get("field") == field


async def test_a_key_speaks_of_its_persons_answers_alone_and_never_as_a_judge(house: House, ann: Answered) -> None:
    async def keyed(name: str) -> Person:
        request = CreateKeyRequest(key=Key(person=f"{name}@{ann.person.tenant}"))
        key = await ann.admin.keys.CreateKey(request, metadata=ann.admin.metadata, timeout=10)
        person = house.person(ann.person.tenant, name)
        object.__setattr__(person, "metadata", (("authorization", f"Bearer {key.secret}"),))
        return person

    of_ann, of_bob = await keyed("ann"), await keyed("bob")
    assert (await ann.give(of_ann, thumb="down")).score == 0
    with refused(StatusCode.NOT_FOUND, "DECISION_UNKNOWN"):
        await ann.give(of_bob, thumb="up")
    with refused(StatusCode.PERMISSION_DENIED, "ROLE_REFUSED"):
        await ann.give(of_ann, source="judge", score=1)
    assert await ann.kept() == [("person", 0.0)]
