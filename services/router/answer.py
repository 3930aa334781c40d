"""One answer in the making: what was decided, what has been said, how it ended. Knows no door."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.router.models import End, Piece, Prompt, Reasoning, tools_as_json
from services.router.offers import Offer
from services.router.store import Settlement
from services.router.window import Size, cut, room_for_question, size_of, tokens_of
from soma.common.v1.failure_pb2 import Failure
from soma.common.v1.model_pb2 import Decision, Usage
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import GenerateEvent, Outcome, TextDelta, ToolCallDelta


@dataclass(slots=True, eq=False)
class Answer:
    """Grows while the model speaks."""

    request: GenerateRequest
    size: Size
    decision: Decision
    offer: Offer
    began: float
    """On the monotonic clock, when it was decided."""
    sent_tokens: int = 0
    """What the present model was asked, as estimated; 0 before."""
    said: list[str] = field(default_factory=list)
    """All that counts as output: text, reasoning, the arguments of tool calls."""
    first_token_ms: int = 0
    end: End | None = None
    failure: Failure | None = None
    has_moved: bool = False

    @property
    def is_over(self) -> bool:
        return self.end is not None or self.failure is not None

    @property
    def comes_whole(self) -> bool:
        """In one piece, at its end: nothing is to be learned of first texts."""
        is_wanted = self.request.whole or tools_as_json.holds(self.offer, self.request)
        return is_wanted and self.offer.provider.whole

    def prompt(self) -> Prompt:
        """What the chosen model is asked: the conversation cut to its window, the answer bounded."""
        wanted = self.request.max_tokens or self.offer.max_tokens
        room = room_for_question(self.offer.window, wanted)
        messages = cut(self.request.messages, self.size, room)
        whole = len(messages) == len(self.size.messages)
        self.sent_tokens = self.size.total if whole else size_of(messages).total + self.size.beside
        bound = max(1, min(wanted, self.offer.window - self.sent_tokens))
        return Prompt(self.offer, messages, bound, self.request, self.comes_whole)

    def add(self, piece: Piece, now: float) -> GenerateEvent:
        """The event that tells of the piece."""
        if not self.said and not self.comes_whole:
            self.first_token_ms = max(1, round((now - self.began) * 1000))
        if isinstance(piece, str):
            self.said.append(piece)
            return GenerateEvent(text=TextDelta(delta=piece))
        if isinstance(piece, ToolCallDelta):
            self.said.append(piece.name + piece.arguments)
            return GenerateEvent(tool_call=piece)
        self.said.append(piece.text)
        delta = TextDelta(delta=piece.text)
        return GenerateEvent(reasoning=delta) if isinstance(piece, Reasoning) else GenerateEvent(refusal=delta)

    def move(self, decision: Decision, offer: Offer) -> None:
        """Another model takes over, before anything was said."""
        self.decision, self.offer, self.sent_tokens, self.has_moved = decision, offer, 0, True

    def usage(self) -> Usage:
        """The provider's figures, or an estimate of what was sent and said."""
        if self.end and self.end.usage is not None:
            return self.end.usage
        if not self.sent_tokens:
            return Usage()
        return Usage(input_tokens=self.sent_tokens, output_tokens=tokens_of("".join(self.said)), estimated=True)

    def outcome(self) -> Outcome:
        usage = self.usage()
        return Outcome(
            usage=usage,
            cost_microusd=self.cost_microusd(usage),
            finish_reason=self.end.finish_reason if self.end else "",
            failure=self.failure,
            first_token_ms=self.first_token_ms,
        )

    def cost_microusd(self, usage: Usage) -> int:
        price = self.offer.price
        if price is None:
            return 0
        cached, written = usage.cached_input_tokens, usage.cache_write_tokens
        return price.cost_microusd(usage.input_tokens, usage.output_tokens, cached, written)

    def settlement(self, outcome: Outcome) -> Settlement:
        """Of an answer that ended so."""
        finish_reason = outcome.finish_reason if self.is_over else "cancelled"
        return Settlement(self.request.turn, self.decision, outcome, finish_reason, self.has_moved)
