"""The event stream of Anthropic's messages, made of bytes as they arrive. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.router.models import Reasoning
from services.router.models.arriving import Arriving, complaint, decoded
from services.router.models.figures import Metered, plausible
from soma.common.v1.model_pb2 import Usage

STOPS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""All others are "stop"."""
FAULTS = (ValueError, RecursionError, msgspec.MsgspecError)


class Delta(msgspec.Struct, gc=False):
    """Of a block, or of the message."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Block(msgspec.Struct):
    type: str = ""
    id: str = ""
    name: str = ""
    text: str = ""
    thinking: str = ""
    input: Any = None


class Message(msgspec.Struct):
    model: str = ""
    usage: Any = None


class Whole(Message):
    """An answer in one piece."""

    content: list[Block] = []
    stop_reason: str | None = None
    error: Any = None


class Event(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: Any = None
    error: Any = None


decoder = msgspec.json.Decoder(Event)
whole_decoder = msgspec.json.Decoder(Whole)
decode = decoder.decode


@dataclass(slots=True)
class Events(Arriving):
    """An answer on this wire."""

    shape_tool: str = ""
    """The tool whose input is the answer's text: how this wire is made to keep to a shape."""
    counted: dict[str, Any] = field(default_factory=dict)
    blocks: dict[int, Block] = field(default_factory=dict)
    silent: set[int] = field(default_factory=set)
    """Calls of tools that have had no arguments yet."""

    def hear(self, line: bytes) -> None:
        try:
            event = decode(line)
        except FAULTS:
            event = decoded(line, decoder, self.provider)
        delta = event.delta
        if event.type == "content_block_delta" and delta is not None:
            if delta.text:
                self.texts.append(delta.text)
            elif delta.partial_json:
                self._written(event.index, delta.partial_json)
            elif delta.thinking:
                self.say(Reasoning(delta.thinking))
            return
        self._beside(event)

    def hear_whole(self, body: bytes) -> None:
        try:
            told = whole_decoder.decode(body)
        except FAULTS:
            told = decoded(body, whole_decoder, self.provider)
        if told.error is not None:
            raise complaint(self.provider, told.error)
        self.answered_by = told.model
        self._count(told.usage)
        for index, block in enumerate(told.content):
            self._begun(index, block)
            self._ended(index)
        if told.stop_reason:
            self.finish_reason = STOPS.get(told.stop_reason, "stop")

    def usage(self) -> Usage | None:
        return plausible(self.counted, Metered, self.window) if self.counted else None

    def _beside(self, event: Event) -> None:
        """All but the pieces."""
        if event.type == "message_start" and event.message and not self.answered_by:
            self.answered_by = event.message.model
            self._count(event.message.usage)
        elif event.type == "content_block_start" and event.content_block:
            self._begun(event.index, event.content_block)
        elif event.type == "content_block_stop":
            self._ended(event.index)
        elif event.type == "message_delta":
            self._count(event.usage)
            if event.delta and event.delta.stop_reason:
                self.finish_reason = STOPS.get(event.delta.stop_reason, "stop")
        elif event.type == "message_stop":
            self.finish()
        elif event.type == "error" or event.error is not None:
            raise complaint(self.provider, event.error)

    def _count(self, figures: Any) -> None:
        """Later figures are of the whole answer: they take the place of earlier ones."""
        if isinstance(figures, dict):
            self.counted |= {name: n for name, n in figures.items() if n is not None}

    def _begun(self, index: int, block: Block) -> None:
        if index in self.blocks:
            return
        self.blocks[index] = block
        if block.thinking:
            self.say(Reasoning(block.thinking))
        if block.text:
            self.texts.append(block.text)
        if block.type == "tool_use":
            self.silent.add(index)
            if block.name != self.shape_tool:
                self._tell(index, "")

    def _written(self, index: int, arguments: str) -> None:
        block = self.blocks.get(index)
        if block is None or block.type != "tool_use":
            return
        self.silent.discard(index)
        if self.shape_tool and block.name == self.shape_tool:
            self.texts.append(arguments)
        else:
            self._tell(index, arguments)

    def _ended(self, index: int) -> None:
        """A call without arguments has those that stood at its beginning: none, usually."""
        if index in self.silent:
            self._written(index, msgspec.json.encode(self.blocks[index].input or {}).decode())

    def _tell(self, index: int, arguments: str) -> None:
        block = self.blocks[index]
        piece = self.calls.add(index, block.id, block.name, arguments)
        if piece is not None:
            self.say(piece)
