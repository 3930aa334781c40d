"""The event stream of chat completions, made of bytes as they arrive. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from services.router.models import Broken, Reasoning, Refusing
from services.router.models.arriving import Arriving, complaint, decoded
from services.router.models.figures import Counted, plausible
from soma.common.v1.model_pb2 import Usage

FINISHES = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
"""All others are "stop"."""


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    """One `data:` of the stream."""

    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class FirstChunk(Chunk, gc=False):
    model: str | None = None


class WholeChoice(msgspec.Struct, gc=False):
    message: Delta | None = None
    finish_reason: str | None = None


class Completion(msgspec.Struct, gc=False):
    """An answer in one piece."""

    choices: list[WholeChoice] | None = None
    usage: Any = None
    error: Any = None
    model: str | None = None


decoder, first_decoder = msgspec.json.Decoder(Chunk), msgspec.json.Decoder(FirstChunk)
many_decoder = msgspec.json.Decoder(list[Chunk])
whole_decoder = msgspec.json.Decoder(Completion)
decode = decoder.decode
FAULTS = (ValueError, RecursionError, msgspec.MsgspecError)
MANY = 4
"""Lines of one read that are worth it."""


@dataclass(slots=True)
class Chunks(Arriving):
    """An answer on this wire."""

    counted: Any = None
    last_line: bytes = b""
    """The one that brought the finish reason: some send it twice."""

    def hear_all(self, lines: Sequence[bytes]) -> None:
        """All at once: a decoder's call costs as much as a chunk."""
        if lines and not self.answered_by:
            self.hear(lines[0])
            lines = lines[1:]
        if len(lines) < MANY or self.is_over:
            return Arriving.hear_all(self, lines)
        *told, last = lines
        try:
            chunks = many_decoder.decode(b"[" + b",".join(told) + b"]")
        except FAULTS:
            chunks = []
        if len(chunks) != len(told):
            return Arriving.hear_all(self, lines)
        for chunk, line in zip(chunks, told, strict=True):
            self._heard(chunk, line)
        return self.hear(last)

    def hear(self, line: bytes) -> None:
        try:
            chunk = decode(line) if self.answered_by else self._first(line)
        except FAULTS:
            if line.strip() == b"[DONE]":
                self.finish()
                return
            chunk = decoded(line, decoder, self.provider)
        self._heard(chunk, line)

    def _heard(self, chunk: Chunk, line: bytes) -> None:
        if chunk.error is not None:
            raise complaint(self.provider, chunk.error)
        if chunk.usage is not None:
            self.counted = chunk.usage
        if not chunk.choices or (self.last_line and line == self.last_line):
            return
        choice = chunk.choices[0]
        delta = choice.delta
        if delta is not None:
            if delta.content:
                self.texts.append(delta.content)
            if delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.refusal:
                self._more(delta)
        if choice.finish_reason:
            self._finished(choice.finish_reason, line)

    def hear_whole(self, body: bytes) -> None:
        try:
            told = whole_decoder.decode(body)
        except FAULTS:
            told = decoded(body, whole_decoder, self.provider)
        if told.error is not None:
            raise complaint(self.provider, told.error)
        self.answered_by, self.counted = told.model or self.model, told.usage
        for choice in (told.choices or ())[:1]:
            self._spoken(choice)

    def usage(self) -> Usage | None:
        return plausible(self.counted, Counted, self.window)

    def _spoken(self, choice: WholeChoice) -> None:
        """All of it at once. A call's place in the list is its index."""
        if (message := choice.message) is not None:
            for place, call in enumerate(message.tool_calls or ()):
                call.index = place
            if message.content:
                self.texts.append(message.content)
            self._more(message)
        if choice.finish_reason:
            self._finished(choice.finish_reason, b"")

    def _first(self, line: bytes) -> Chunk:
        chunk = first_decoder.decode(line)
        self.answered_by = chunk.model or self.model
        return chunk

    def _more(self, delta: Delta) -> None:
        """What is beside the text, or before it."""
        if thought := delta.reasoning_content or delta.reasoning:
            self._before_text(delta, Reasoning(thought))
        if delta.refusal:
            self.say(Refusing(delta.refusal))
        for call in delta.tool_calls or ():
            function = call.function or Function()
            piece = self.calls.add(call.index, call.id or "", function.name or "", written(function.arguments))
            if piece is not None:
                self.say(piece)

    def _before_text(self, delta: Delta, thought: Reasoning) -> None:
        """A thought goes before the text of the same chunk."""
        if delta.content:
            self.texts.pop()
        self.say(thought)
        if delta.content:
            self.texts.append(delta.content)

    def _finished(self, reason: str, line: bytes) -> None:
        if reason == "error":
            raise Broken(f"{self.provider} reported an error of its own.")
        self.finish_reason, self.last_line = FINISHES.get(reason, "stop"), line


def written(arguments: Any) -> str:
    """The arguments as JSON text: some give the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return msgspec.json.encode(arguments).decode()
