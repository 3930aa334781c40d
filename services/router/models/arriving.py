"""An answer as it arrives: bytes become lines, lines become pieces. What a line means is said by each wire. Pure."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from services.router.models import Broken, End, Piece, Prompt
from services.router.models.calls import Calls
from soma.common.v1.model_pb2 import Usage

MOST_LINE_BYTES = 1024 * 1024
MOST_ANSWER_BYTES = 256 * 1024
USUAL_PAUSE_S = 5.0
BUSY = ("rate_limit", "overloaded", "too_many_requests", "'429'", "'529'", ": 429", ": 529")
TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "prompt is too long", "maximum context length")

T = TypeVar("T")


@dataclass(slots=True)
class Arriving(ABC):
    """What has come so far."""

    provider: str
    model: str
    """The one that was asked."""
    window: int
    finish_reason: str = ""
    is_over: bool = False
    """The wire's own word for the end came."""
    broken: Broken | None = None
    """What ends the answer once the pieces before it are passed on."""
    answered_by: str = ""
    """The model that the answer names."""
    has_said: bool = False
    rest: bytes = b""
    """The beginning of a line whose end has not come."""
    texts: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    calls: Calls = field(init=False)

    def __post_init__(self) -> None:
        self.calls = Calls(self.provider)

    @abstractmethod
    def hear(self, line: bytes) -> None:
        """Take what stands behind a `data:`. Raises Broken."""

    def hear_all(self, lines: Sequence[bytes]) -> None:
        """Take them in their order, up to the last of the answer. Raises Broken."""
        for line in lines:
            if self.is_over:
                return
            self.hear(line)

    @abstractmethod
    def hear_whole(self, body: bytes) -> None:
        """Take an answer in one piece. Raises Broken."""

    @abstractmethod
    def usage(self) -> Usage | None:
        """The provider's figures."""

    def take(self, data: bytes) -> Sequence[Piece]:
        """What the whole lines in `data` say, up to a fault: that is left in `broken`. Texts in a row are one piece."""
        *lines, self.rest = (self.rest + data if self.rest else data).split(b"\n")
        told: list[bytes] = []
        try:
            for line in lines:
                if line.startswith(b"data:"):
                    told.append(line[5:])
                elif line and line.startswith((b"<", b"{", b"[")):
                    self.hear_all(told)
                    raise Broken(f"{self.provider} sent something that is no event stream.")
            self.hear_all(told)
            if len(self.rest) > MOST_LINE_BYTES:
                raise Broken(f"{self.provider} sent a line without end.")
        except Broken as broken:
            self.broken = broken
        return self.said()

    def take_whole(self, body: bytes) -> Sequence[Piece]:
        """What an answer in one piece says. Raises Broken: then it has said nothing."""
        self.hear_whole(body)
        self.finish()
        return self.said()

    def say(self, piece: Piece) -> None:
        """A piece that is not text, after the text before it."""
        if self.texts:
            self.pieces.append("".join(self.texts))
            self.texts.clear()
        self.pieces.append(piece)

    def said(self) -> Sequence[Piece]:
        """The pieces since the last time."""
        texts = self.texts
        if not self.pieces:
            if not texts:
                return ()
            self.texts, self.has_said = [], True
            return texts if len(texts) == 1 else ("".join(texts),)
        if texts:
            self.pieces.append("".join(texts))
            self.texts = []
        pieces, self.pieces, self.has_said = self.pieces, [], True
        return pieces

    def finish(self) -> None:
        """The wire says that this was all. Raises Broken for an answer that says nothing."""
        self.is_over = True
        if not (self.finish_reason or self.has_said or self.texts or self.pieces):
            raise Broken(f"{self.provider} sent no answer.")

    def end(self) -> End:
        """A model that called a tool has ended for that, whatever its provider calls it. Raises Broken for a call that
        nobody can make."""
        self.calls.check()
        finish_reason = self.finish_reason or "stop"
        if finish_reason in ("stop", "tool_calls"):
            finish_reason = "tool_calls" if self.calls.any else "stop"
        return End(finish_reason, self.usage())


def asked(prompt: Prompt) -> tuple[str, str, int]:
    """What an answer must know of its question."""
    return prompt.offer.provider.name, prompt.offer.model, prompt.offer.window


def decoded(line: bytes, decoder: msgspec.json.Decoder[T], provider: str) -> T:
    """A line that its wire's decoder did not take. Bytes that are no UTF-8, and halves of characters, become U+FFFD.
    Raises Broken for what is no JSON, or not of that shape."""
    try:
        text = json.dumps(json.loads(line.decode("utf-8", "replace")), ensure_ascii=False)
        return decoder.decode(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except (ValueError, RecursionError, msgspec.MsgspecError) as fault:
        raise Broken(f"{provider} sent something that is no answer.") from fault


def complaint(provider: str, error: Any) -> Broken:
    """What an error in the stream means. Its words are looked at, never shown."""
    told = str(error)[:4096].lower()
    if any(word in told for word in TOO_LONG):
        return too_long(provider)
    if any(word in told for word in BUSY):
        return busy(provider, USUAL_PAUSE_S)
    return Broken(f"{provider} reported an error of its own.")


def busy(provider: str, pause_s: float) -> Broken:
    return Broken(f"{provider} has too much to do.", reason="MODEL_BUSY", blames_model=False, pause_s=pause_s)


def too_long(provider: str) -> Broken:
    sentence = f"The message is too long for {provider}. Shorten it."
    return Broken(sentence, reason="CONTEXT_TOO_LONG", blames_model=False)
