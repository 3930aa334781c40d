"""What the router does for a request: admit it, let a model speak, settle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from services.common.call import Call, current
from services.common.errors import Exhausted, Refusal, Unavailable
from services.common.telemetry import Sight, log
from services.router.admit import Admission, Admitted
from services.router.answer import Answer
from services.router.asked import asked_of, asked_to_decide
from services.router.live import Ended, Lane
from services.router.models import Adapter, Broken, End
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision
from soma.router.v1.router_service_pb2 import DecideRequest, GenerateRequest
from soma.router.v1.routing_pb2 import GenerateEvent, Outcome

END_S = 1.0
NOBODYS_BUT_THE_CALLERS = frozenset({"CONTEXT_TOO_LONG", "REQUEST_INVALID"})
"""Faults of the request, which it has at any time."""


@dataclass(slots=True, eq=False)
class Running:
    """An answer with what admitted it, and the task to be woken when the room stops."""

    answer: Answer
    admitted: Admitted
    waiting: asyncio.Task[object] | None = None


@dataclass(frozen=True, slots=True)
class Router:
    """The deeds of the room. Its fields are the doors."""

    admission: Admission
    adapters: Mapping[str, Adapter]
    sight: Sight
    running: set[Running] = field(default_factory=set)
    entering: set[object] = field(default_factory=set)
    """Calls that are being admitted."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    interrupting: asyncio.Event = field(default_factory=asyncio.Event)
    """Whatever still runs ends now."""

    async def decide(self, call: Call, request: DecideRequest) -> Decision:
        """What Generate would decide now. Spends nothing, writes nothing."""
        return await self.admission.explain(call, asked_to_decide(call.caller, request))

    async def generate(self, call: Call, request: GenerateRequest) -> AsyncGenerator[GenerateEvent]:
        """The decision, what the model says as it comes, the outcome. Refusals are raised before the first event."""
        run = await self._begin(call, request)
        answer, books = run.answer, self.admission.books
        try:
            while not answer.is_over:
                yield GenerateEvent(decision=answer.decision)
                async with aclosing(self._attempt(run)) as events:
                    async for event in events:
                        yield event
        finally:
            self._leave(run)
            outcome = answer.outcome()
            settling = books.settle(call, answer.settlement(outcome))
            self._count(answer, outcome)
        await books.wait(settling)
        yield GenerateEvent(outcome=outcome)

    def is_able(self) -> bool:
        """Whether any model is open."""
        live, offers = self.admission.live, self.admission.shelf.catalog.offers
        return any(not offer.closed and not live.figures(offer).closed for offer in offers)

    async def drain(self, within_s: float) -> None:
        """Take no more, let answers end, interrupt those that do not, and settle them all, within that time."""
        self.stopping.set()
        await self._until_idle(max(0.0, within_s - 2 * END_S))
        self.interrupting.set()
        for run in self.running:
            if run.waiting:
                run.waiting.cancel()
        await self._until_idle(END_S)
        await self.admission.books.drain(END_S)

    async def _begin(self, call: Call, request: GenerateRequest) -> Running:
        if self.stopping.is_set():
            raise Unavailable("ROOM_UNAVAILABLE", "The router is restarting. Try again in a moment.", retry_after_s=1)
        asked = asked_of(call.caller, request)
        self.entering.add(entry := object())
        try:
            admitted = await self.admission.admit(call, asked)
        finally:
            self.entering.discard(entry)
        answer = Answer(request, asked.size, admitted.decision, admitted.offer, self.admission.live.monotonic())
        run = Running(answer, admitted)
        self.running.add(run)
        return run

    async def _attempt(self, run: Running) -> AsyncGenerator[GenerateEvent]:
        """What the chosen model says. Ends with the answer over, or with another model chosen."""
        answer = run.answer
        if self.interrupting.is_set():
            answer.failure = interrupted()
            return
        try:
            run.waiting = asyncio.current_task()
            async with run.admitted.place.turn() as lane, aclosing(self._speak(run, lane)) as events:
                async for event in events:
                    run.waiting = None
                    yield event
                    run.waiting = asyncio.current_task()
                    if self.interrupting.is_set():
                        answer.failure = interrupted()
                        return
        except Broken as broken:
            self._blame(run, broken)
            if answer.said:
                answer.failure = cut_off(broken)
            else:
                await self._fall_back(run, broken)
        except Exhausted as busy:
            await self._fall_back(run, Broken(busy.message, reason=busy.reason, blames_model=False))
        except asyncio.CancelledError:
            if not self.interrupting.is_set() or run.waiting is None:
                raise
            run.waiting.uncancel()
            answer.failure = interrupted()
        finally:
            run.waiting = None

    async def _speak(self, run: Running, lane: Lane) -> AsyncGenerator[GenerateEvent]:
        """What the adapter says, with the figures that it gives."""
        answer, offer, now = run.answer, run.answer.offer, self.admission.live.monotonic
        adapter, began = self.adapters[offer.provider.kind], now()
        span = self.sight.span(f"{offer.provider.name}/{offer.model}", current.get().traceparent, outgoing=True)
        with span:
            prompt = answer.prompt()
            async with aclosing(adapter.stream(prompt)) as stream:
                async for piece in stream:
                    if isinstance(piece, End):
                        answer.end = piece
                        lane.circuit.worked()
                        return
                    if not answer.said and not prompt.whole:
                        lane.first_text_after(max(1, round((now() - began) * 1000)))
                    yield answer.add(piece, now())

    def _blame(self, run: Running, broken: Broken) -> None:
        """What the break means for the model's next calls."""
        offer, now = run.answer.offer, self.admission.live.monotonic()
        circuit = run.admitted.place.lane.circuit
        if broken.blames_model:
            circuit.failed(now)
        if broken.pause_s:
            circuit.pause(now + broken.pause_s)
        log().warning(
            "model broke",
            provider=offer.provider.name,
            model=offer.model,
            has_text=bool(run.answer.said),
            why=broken.sentence,
            cause=repr(broken.__cause__) if broken.__cause__ else "",
        )

    async def _fall_back(self, run: Running, broken: Broken) -> None:
        """Let the next open candidate that has room take over; without one the answer has failed."""
        answer, admitted = run.answer, run.admitted
        run.waiting = None  # who stops the room lets the books come to an end
        if broken.reason == "REQUEST_INVALID":
            answer.sent_tokens, answer.failure = 0, failed(broken)
            return
        self.sight.fallbacks.labels(answer.offer.provider.name).inc()
        try:
            moved = await self.admission.move(admitted, broken.sentence)
        except Refusal as away:  # the books cannot be asked, or by too many
            answer.sent_tokens, answer.failure = 0, away.failure()
            return
        if moved:
            answer.move(admitted.decision, admitted.offer)
        if self.interrupting.is_set():
            answer.sent_tokens, answer.failure = 0, interrupted()
        elif not moved:
            answer.sent_tokens, answer.failure = 0, failed(broken)

    def _leave(self, run: Running) -> None:
        run.admitted.place.give_back()
        self.running.discard(run)

    async def _until_idle(self, within_s: float) -> None:
        now = self.admission.live.monotonic
        over = now() + within_s
        while (self.running or self.entering) and now() < over:
            await asyncio.sleep(0.02)

    def _count(self, answer: Answer, outcome: Outcome) -> None:
        provider, model = answer.offer.provider.name, answer.offer.model
        live, tokens = self.admission.live, outcome.usage.output_tokens
        total_ms = round((live.monotonic() - answer.began) * 1000)
        ok = answer.end is not None and answer.failure is None
        live.ended(answer.offer, Ended(answer.first_token_ms, total_ms, tokens, outcome.cost_microusd, ok))
        self.sight.tokens.labels(provider, model, "in").inc(outcome.usage.input_tokens)
        self.sight.tokens.labels(provider, model, "out").inc(outcome.usage.output_tokens)
        self.sight.cost.labels(provider).inc(outcome.cost_microusd)
        if answer.first_token_ms:
            self.sight.first_token_seconds.labels(provider).observe(answer.first_token_ms / 1000)


def cut_off(broken: Broken) -> Failure:
    message = f"{broken.sentence} What came until then is kept. Ask again for the rest."
    return Failure(reason="PROVIDER_CUT", message=message, retryable=True)


def failed(broken: Broken) -> Failure:
    if broken.reason in NOBODYS_BUT_THE_CALLERS:
        return Failure(reason=broken.reason, message=broken.sentence, retryable=False)
    message = f"{broken.sentence} No other model is open. Try again in a moment."
    return Failure(reason=broken.reason or "PROVIDER_FAILED", message=message, retryable=True)


def interrupted() -> Failure:
    message = "The router was stopped in the middle of the answer. What came until then is kept. Ask again."
    return Failure(reason="INTERRUPTED", message=message, retryable=True)
