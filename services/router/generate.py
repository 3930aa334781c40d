"""What the router does for a request: decide, write down, let a model speak, settle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from services.common.call import current
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.errors import Exhausted, Unavailable
from services.common.telemetry import Sight, log
from services.router.answer import Answer
from services.router.catalog import Catalog
from services.router.decide import Question, decide, next_after
from services.router.live import Lane, Live, Place
from services.router.models import Adapter, Broken, End
from services.router.settle import Settlements
from services.router.shelf import Shelf
from services.router.store import Ledger
from services.router.window import size_of
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import DecideRequest, GenerateRequest
from soma.router.v1.routing_pb2 import GenerateEvent, Message, TextDelta

END_S = 1.0


@dataclass(slots=True, eq=False)
class Running:
    """An answer with its place in the model's lane, and the task to be woken when the room stops."""

    answer: Answer
    place: Place
    catalog: Catalog
    """As it was when the decision was made."""
    waiting: asyncio.Task[object] | None = None
    is_interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Router:
    """The deeds of the room. Its fields are the doors."""

    ledger: Ledger
    settlements: Settlements
    shelf: Shelf
    live: Live
    adapters: Mapping[str, Adapter]
    sight: Sight
    running: set[Running] = field(default_factory=set)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def decide(self, caller: Caller, request: DecideRequest) -> Decision:
        """What Generate would decide now. Spends nothing, writes nothing."""
        await self.ledger.check_tenant(caller)
        return self._decide(Question(request.tier, size_of([Message(role="user", text=request.text)])))

    async def generate(self, caller: Caller, request: GenerateRequest) -> AsyncGenerator[GenerateEvent]:
        """The decision, the text as it comes, the outcome. Refusals are raised before the first event."""
        run = self._begin(request)
        answer = run.answer
        try:
            await self.ledger.decided(caller, request.turn, answer.decision)
        except BaseException:
            self._leave(run)
            self.settlements.begin(caller, answer.settlement())  # it may stand there all the same
            raise
        try:
            while not answer.is_over:
                yield GenerateEvent(decision=answer.decision)
                async with aclosing(self._attempt(run)) as pieces:
                    async for piece in pieces:
                        yield GenerateEvent(text=TextDelta(delta=piece))
        finally:
            self._leave(run)
            settling = self.settlements.begin(caller, answer.settlement())
            self._count(answer)
        await self.settlements.wait(settling)
        yield GenerateEvent(outcome=answer.outcome())

    def is_able(self) -> bool:
        """Whether any model is open."""
        return any(not offer.closed and not self.live.figures(offer).closed for offer in self.shelf.catalog.offers)

    async def drain(self, within_s: float) -> None:
        """Take no more, let answers end, interrupt those that do not, and settle them all, within that time."""
        self.stopping.set()
        await self._until_idle(max(0.0, within_s - 2 * END_S))
        for run in self.running:
            run.is_interrupted = True
            if run.waiting:
                run.waiting.cancel()
        await self._until_idle(END_S)
        await self.settlements.drain(END_S)

    def _decide(self, question: Question) -> Decision:
        catalog = self.shelf.catalog
        return decide(question, catalog.offers, self.live.figures, catalog.prices, new_id())

    def _begin(self, request: GenerateRequest) -> Running:
        """Decide, and take a place at once: nothing comes between the look at the queue and the place in it."""
        if self.stopping.is_set():
            raise Unavailable("ROOM_UNAVAILABLE", "The router is restarting. Try again in a moment.", retry_after_s=1)
        size, catalog = size_of(request.messages), self.shelf.catalog
        decision = self._decide(Question(request.tier, size, request.max_tokens))
        offer = catalog.chosen(decision)
        place = self.live.take(offer)
        if place is None:
            raise Exhausted("MODEL_BUSY", "The model's queue has just filled up. Try again soon.", retry_after_s=1)
        run = Running(Answer(request, size, decision, offer, self.live.monotonic()), place, catalog)
        self.running.add(run)
        return run

    async def _attempt(self, run: Running) -> AsyncGenerator[str]:
        """What the chosen model says. Ends with the answer over, or with another model chosen."""
        answer = run.answer
        try:
            run.waiting = asyncio.current_task()
            async with run.place.turn() as lane, aclosing(self._speak(run, lane)) as pieces:
                async for piece in pieces:
                    run.waiting = None
                    yield piece
                    run.waiting = asyncio.current_task()
                    if run.is_interrupted:
                        answer.failure = interrupted()
                        return
        except Broken as broken:
            self._blame(run, broken)
            if answer.said:
                answer.failure = cut_off(broken)
            else:
                self._fall_back(run, broken)
        except Exhausted as busy:
            self._fall_back(run, Broken(busy.message, reason=busy.reason, blames_model=False))
        except asyncio.CancelledError:
            if not run.is_interrupted or run.waiting is None:
                raise
            run.waiting.uncancel()
            answer.failure = interrupted()
        finally:
            run.waiting = None

    async def _speak(self, run: Running, lane: Lane) -> AsyncGenerator[str]:
        """The adapter's text, with the figures that it gives."""
        answer, offer, now = run.answer, run.answer.offer, self.live.monotonic
        adapter, began = self.adapters[offer.provider.kind], now()
        span = self.sight.span(f"{offer.provider.name}/{offer.model}", current.get().traceparent, outgoing=True)
        with span:
            async with aclosing(adapter.stream(answer.prompt())) as stream:
                async for piece in stream:
                    if isinstance(piece, End):
                        answer.end = piece
                        lane.circuit.worked()
                        return
                    if not answer.said:
                        lane.first_text_after(max(1, round((now() - began) * 1000)))
                    answer.add(piece, now())
                    yield piece

    def _blame(self, run: Running, broken: Broken) -> None:
        """What the break means for the model's next calls."""
        offer, now = run.answer.offer, self.live.monotonic()
        if broken.blames_model:
            run.place.lane.circuit.failed(now)
        if broken.pause_s:
            run.place.lane.circuit.pause(now + broken.pause_s)
        log().warning(
            "model broke",
            provider=offer.provider.name,
            model=offer.model,
            has_text=bool(run.answer.said),
            why=broken.sentence,
            cause=repr(broken.__cause__) if broken.__cause__ else "",
        )

    def _fall_back(self, run: Running, broken: Broken) -> None:
        """Choose the next open candidate that has room; without one the answer has failed."""
        answer, catalog = run.answer, run.catalog
        self.sight.fallbacks.labels(answer.offer.provider.name).inc()
        decision = next_after(answer.decision, broken.sentence, catalog.offers)
        while decision is not None:
            offer = catalog.chosen(decision)
            figures = self.live.figures(offer)
            place = None if figures.closed else self.live.take(offer)
            if place:
                run.place.give_back()
                run.place = place
                answer.move(decision, offer)
                return
            decision = next_after(decision, figures.closed or "Its queue is full.", catalog.offers)
        answer.sent_tokens = 0
        answer.failure = failed(broken)

    def _leave(self, run: Running) -> None:
        run.place.give_back()
        self.running.discard(run)

    async def _until_idle(self, within_s: float) -> None:
        over = self.live.monotonic() + within_s
        while self.running and self.live.monotonic() < over:
            await asyncio.sleep(0.02)

    def _count(self, answer: Answer) -> None:
        provider, model, outcome = answer.offer.provider.name, answer.offer.model, answer.outcome()
        self.sight.tokens.labels(provider, model, "in").inc(outcome.usage.input_tokens)
        self.sight.tokens.labels(provider, model, "out").inc(outcome.usage.output_tokens)
        self.sight.cost.labels(provider).inc(outcome.cost_microusd)
        if answer.first_token_ms:
            self.sight.first_token_seconds.labels(provider).observe(answer.first_token_ms / 1000)


def cut_off(broken: Broken) -> Failure:
    message = f"{broken.sentence} What came until then is kept. Ask again for the rest."
    return Failure(reason="PROVIDER_CUT", message=message, retryable=True)


def failed(broken: Broken) -> Failure:
    if broken.reason == "CONTEXT_TOO_LONG":
        return Failure(reason=broken.reason, message=broken.sentence, retryable=False)
    message = f"{broken.sentence} No other model is open. Try again in a moment."
    return Failure(reason=broken.reason or "PROVIDER_FAILED", message=message, retryable=True)


def interrupted() -> Failure:
    message = "The router was stopped in the middle of the answer. What came until then is kept. Ask again."
    return Failure(reason="INTERRUPTED", message=message, retryable=True)
