"""A turn: from a question to an answer that is written down. It runs by itself; streams only follow it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from services.agent import prompt, store, told
from services.agent.canvas import Canvas
from services.agent.feed import Feed, key_of
from services.agent.names import turn_name
from services.agent.panes import Closing, Opening, Piece, Splitter
from services.agent.sheets import Sheets
from services.agent.transcript import Transcript
from services.common import events
from services.common.cache import Cache
from services.common.call import current
from services.common.caller import Caller
from services.common.client import passing, refusals_of
from services.common.db import Database
from services.common.errors import Refusal, Unavailable
from services.common.telemetry import Sight, log
from soma.agent.v1.chat_event_pb2 import AnswerPane, ChatEvent, Done
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.router_service_pb2_grpc import RouterServiceStub
from soma.router.v1.routing_pb2 import GenerateEvent, Message, Outcome

TURN_S = 300.0
DECISION_S = 12.0
CHECKPOINT_S = 1.0
RECORD_S = 60.0
RECORD_AGAIN_S = 0.25
UNKEEPABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands for NUL, which Postgres keeps in no text."""

TOO_LONG = Failure(reason="TURN_TIMEOUT", message="The answer took over five minutes. Ask for less.", retryable=True)
STOPPED = Failure(reason="INTERRUPTED", message="The agent was restarted in mid-answer. Ask again.", retryable=True)
CUT = Failure(reason="INTERRUPTED", message="The router broke off in mid-answer. Ask again.", retryable=True)


@dataclass(slots=True)
class Turn:
    """A turn that this room runs."""

    ids: tuple[UUID, UUID]
    """Of the conversation and of the turn."""
    caller: Caller
    question: str
    tier: str
    transcript: Transcript
    sheets: Sheets
    """The panes of the answer."""
    splitter: Splitter = field(default_factory=Splitter)
    decision: Decision = field(default_factory=Decision)
    outcome: Outcome = field(default_factory=Outcome)
    begun: float = field(default_factory=time.monotonic)
    first_token_ms: int = 0
    ours: bool = True
    """False once another agent has ended the turn, or its end could not be written."""
    ending: str = ""
    """Why it was stopped: "cancelled" by its person, "interrupted" by the room's end, "lost" to another agent."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the end is written down and said."""
    _scope: asyncio.Timeout | None = None

    def stop(self, ending: str) -> None:
        """Break off at the next await. The first reason counts."""
        self.ending = self.ending or ending
        if self._scope and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def stoppable(self) -> AsyncIterator[None]:
        """What runs inside ends with TimeoutError at the deadline, or when the turn is stopped."""
        async with asyncio.timeout(0 if self.ending else TURN_S) as self._scope:
            try:
                yield
            finally:
                self._scope = None

    @property
    def name(self) -> str:
        return turn_name(*self.ids)


@dataclass(frozen=True, slots=True)
class Agent:
    """Runs turns with these doors."""

    holder: str
    """Names this process in leases."""
    db: Database
    cache: Cache
    router: RouterServiceStub
    canvas: Canvas
    sight: Sight

    def begin(self, ids: tuple[UUID, UUID], caller: Caller, question: str, tier: str, accepted: ChatEvent) -> Turn:
        """An admitted turn, before its first step."""
        feed = Feed(self.cache, key_of(caller.tenant, ids[1]))
        transcript = Transcript(feed)
        turn = Turn(ids, caller, question, tier, transcript, self.canvas.sheets(ids, caller, transcript.say))
        turn.transcript.say(accepted)
        return turn

    async def answer(self, turn: Turn) -> None:
        """The whole of a turn, whatever happens in it. Its streams are let go in any case."""
        self.sight.turns_running.inc()
        try:
            await self._answer(turn)
        finally:
            self.sight.turns_running.dec()
            turn.transcript.leave()
            turn.over.set()

    async def _answer(self, turn: Turn) -> None:
        async with asyncio.TaskGroup() as beside:
            works = [turn.transcript.publish(), turn.sheets.write(), self._keep(turn)]
            tasks = [beside.create_task(work) for work in works]
            failure = await self._attempt(turn)
            say(turn, turn.splitter.end())
            if turn.ours:
                await turn.sheets.settled()
            await turn.transcript.settled()
            for task in tasks:
                task.cancel()
        if turn.ours:
            await self._finish(turn, failure)

    async def _attempt(self, turn: Turn) -> Failure | None:
        """Assemble and generate, within the deadline. Returns why it did not come to an end by itself."""
        try:
            async with turn.stoppable():
                messages = await self._assemble(turn)
                await self._generate(turn, messages)
        except TimeoutError:
            return {"cancelled": None, "interrupted": STOPPED}.get(turn.ending, TOO_LONG)
        except Refusal as refusal:
            return refusal.failure()
        return turn.outcome.failure if turn.outcome.HasField("failure") else None

    async def _assemble(self, turn: Turn) -> list[Message]:
        async with self.db.upkeep(turn.caller) as tx:
            earlier = await store.earlier(tx, turn.ids[0], prompt.MOST_BYTES)
        return prompt.assemble(earlier, turn.question)

    async def _generate(self, turn: Turn, messages: list[Message]) -> None:
        request = GenerateRequest(messages=messages, tier=turn.tier, turn=turn.name)
        metadata = passing(turn.caller, trace=current.get().traceparent)
        with refusals_of("router"):
            said = aiter(self.router.Generate(request, metadata=metadata, timeout=TURN_S))
            take(turn, await first_of(said))
            async for event in said:
                take(turn, event)
        if not turn.outcome.finish_reason and not turn.outcome.HasField("failure"):
            turn.outcome.failure.CopyFrom(CUT)

    async def _keep(self, turn: Turn) -> None:
        """Once a second: write the text down, hold the lease, and hear whether the turn is to stop."""
        while turn.ours:
            await asyncio.sleep(CHECKPOINT_S)
            said = list(turn.transcript.events)
            try:
                async with self.db.upkeep(turn.caller) as tx:
                    cancel = await store.checkpoint(
                        tx, turn.ids, self.holder, turn.transcript.text, turn.decision, said
                    )
            except Unavailable:
                continue
            if cancel is None:
                turn.ours = False
                turn.stop("lost")
            elif cancel:
                turn.stop("cancelled")

    async def _finish(self, turn: Turn, failure: Failure | None) -> None:
        """Write the end down, then say it. What cannot be written within a minute is left to the lease's expiry."""
        ended, last = conclude(turn, failure)
        try:
            async with asyncio.timeout(RECORD_S):
                while not await self._record(turn, ended):
                    await asyncio.sleep(RECORD_AGAIN_S)
        except TimeoutError:
            log().error("turn not recorded", turn=turn.name)
            turn.ours = False
        self.sight.turns_ended.labels(ended.state).inc()
        if turn.ours:
            await turn.transcript.close(last)

    async def _record(self, turn: Turn, ended: store.Ended) -> bool:
        action = told.TURN_ENDED[ended.state]
        try:
            async with self.db.tenant(turn.caller, action=action) as tx:
                tx.about(turn.name)
                if await store.end_turn(tx, turn.ids, self.holder, ended, tx.clock.now()):
                    await events.append(tx, told.ended(turn.ids, ended), text=ended.answer)
                else:  # by another agent; or by us, when Postgres went away between the commit and its answer
                    tx.about_nothing()
                    turn.ours = await store.said(tx, turn.ids) == (False, list(ended.transcript.events))
        except Unavailable:
            return False
        return True


async def first_of(said: AsyncIterator[GenerateEvent]) -> GenerateEvent:
    """The decision. A router that stands still is found out by it, long before its connection is."""
    try:
        async with asyncio.timeout(DECISION_S):
            return await anext(said)
    except TimeoutError as late:
        message = "The router does not answer. Try again in a moment."
        raise Unavailable("ROOM_UNAVAILABLE", message, retry_after_s=2) from late


def take(turn: Turn, event: GenerateEvent) -> None:
    """What the router said, into the turn."""
    match event.WhichOneof("event"):
        case "decision":
            turn.decision = event.decision
            turn.transcript.say(ChatEvent(decision=event.decision))
        case "text" | "refusal":  # the model's own words, either way
            turn.first_token_ms = turn.first_token_ms or max(1, int((time.monotonic() - turn.begun) * 1000))
            delta = event.text.delta or event.refusal.delta
            say(turn, turn.splitter.take(delta.replace("\0", UNKEEPABLE)))
        case "outcome":
            turn.outcome = event.outcome


def say(turn: Turn, pieces: Iterable[Piece]) -> None:
    """Pieces of the answer, to those who watch and into their panes."""
    for piece in pieces:
        match piece:
            case str():
                turn.transcript.say_text(piece)
                turn.sheets.add(piece)
            case Opening():
                say_pane(turn, turn.sheets.open(piece))
            case Closing():
                say_pane(turn, turn.sheets.close())


def say_pane(turn: Turn, pane: AnswerPane | None) -> None:
    if pane:
        turn.transcript.say(ChatEvent(pane=pane))


def conclude(turn: Turn, failure: Failure | None) -> tuple[store.Ended, ChatEvent]:
    """How the turn ended, to be written; and its last event, to be said."""
    outcome = turn.outcome
    cancelled = turn.ending == "cancelled" and not outcome.finish_reason
    reason = "cancelled" if cancelled else "" if failure else outcome.finish_reason
    if failure and not cancelled:
        last = ChatEvent(error=failure)
    else:
        done = Done(
            usage=outcome.usage,
            cost_microusd=outcome.cost_microusd,
            finish_reason=reason,
            first_token_ms=turn.first_token_ms,
        )
        last = ChatEvent(done=done)
    ended = store.Ended(
        state="cancelled" if cancelled else "failed" if failure else "done",
        answer=turn.transcript.text,
        transcript=turn.transcript.closing(last),
        decision=turn.decision,
        usage=outcome.usage,
        cost_microusd=outcome.cost_microusd,
        finish_reason=reason,
        error=None if cancelled else failure,
        first_token_ms=turn.first_token_ms,
    )
    return ended, last
