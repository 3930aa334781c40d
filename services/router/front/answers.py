"""An answer on OpenAI's wire: one JSON body, or server-sent events that end with [DONE]. Pure.

A chunk is put together from bytes: what is the same in all of an answer's chunks is encoded once, and only what was
said is encoded anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from services.router.front.errors import in_band, refusal_of
from soma.common.v1.model_pb2 import Decision, Usage
from soma.router.v1.routing_pb2 import GenerateEvent, Outcome, ToolCallDelta

HEARTBEAT = b": \n\n"
"""A comment, which clients pass over."""
DONE = b"data: [DONE]\n\n"
ROLE = b'"role":"assistant","content":"","refusal":null'
encode = msgspec.json.Encoder().encode


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def name_of(decision: Decision) -> str:
    """The model that answers, under a name by which it can be asked for again."""
    return f"{decision.provider}/{decision.model}"


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@dataclass(slots=True)
class Chunks:
    """An answer as a stream. `created` is in seconds since 1970."""

    created: int
    include_usage: bool
    id: str = ""
    _before: bytes = b""
    _after: bytes = b""
    _has_begun: bool = False

    def of(self, step: GenerateEvent) -> bytes:
        """What the client is to hear of it. A second decision, of a model that takes over, is heard in later chunks."""
        kind = step.WhichOneof("event")
        if kind == "text":
            return self._delta(b'"content":' + encode(step.text.delta))
        if kind == "tool_call":
            return self._delta(b'"tool_calls":[' + piece_of(step.tool_call) + b"]")
        if kind == "reasoning":
            return self._delta(b'"reasoning_content":' + encode(step.reasoning.delta))
        if kind == "refusal":
            return self._delta(b'"refusal":' + encode(step.refusal.delta))
        if kind == "decision":
            self._decided(step.decision)
            return b""
        return self._ended(step.outcome) if kind == "outcome" else b""

    def _decided(self, decision: Decision) -> None:
        self.id = self.id or f"chatcmpl-{decision.id}"
        head = {"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": name_of(decision)}
        self._before = b"data: " + encode(head)[:-1] + b',"choices":[{"index":0,"delta":{'
        usage = b',"usage":null' if self.include_usage else b""
        self._after = b'},"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"

    def _delta(self, said: bytes) -> bytes:
        chunk = self._before + said + self._after
        if self._has_begun:
            return chunk
        self._has_begun = True
        return self._before + ROLE + self._after + chunk

    def _ended(self, outcome: Outcome) -> bytes:
        if outcome.HasField("failure"):
            return event(in_band(outcome.failure))
        finished = b'"finish_reason":' + encode(outcome.finish_reason or "stop")
        role = b"" if self._has_begun else self._before + ROLE + self._after
        last = self._before + self._after.replace(b'"finish_reason":null', finished)
        return role + last + self._counted(outcome.usage) + DONE

    def _counted(self, usage: Usage) -> bytes:
        if not self.include_usage:
            return b""
        bare = self._before[: self._before.index(b',"choices":')]
        return bare + b',"choices":[],"usage":' + encode(usage_of(usage)) + b"}\n\n"


def piece_of(call: ToolCallDelta) -> bytes:
    """Id, type and name come with the first piece of a call."""
    function: dict[str, Any] = {"name": call.name} if call.name else {}
    function["arguments"] = call.arguments
    head: dict[str, Any] = {"index": call.index}
    if call.id:
        head |= {"id": call.id, "type": "function"}
    return encode(head | {"function": function})


@dataclass(slots=True)
class Whole:
    """An answer as one body. `created` is in seconds since 1970."""

    created: int
    decision: Decision = field(default_factory=Decision)
    id: str = ""
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, Calling] = field(default_factory=dict)

    def add(self, step: GenerateEvent) -> bytes:
        """The body, when this was the last. Raises the refusal that an answer which failed amounts to."""
        kind = step.WhichOneof("event")
        if kind == "text":
            self.text.append(step.text.delta)
        elif kind == "tool_call":
            self.calls.setdefault(step.tool_call.index, Calling()).add(step.tool_call)
        elif kind == "reasoning":
            self.reasoning.append(step.reasoning.delta)
        elif kind == "refusal":
            self.refusal.append(step.refusal.delta)
        elif kind == "decision":
            self.decision, self.id = step.decision, self.id or f"chatcmpl-{step.decision.id}"
        elif kind == "outcome":
            return self._body(step.outcome)
        return b""

    def _body(self, outcome: Outcome) -> bytes:
        if outcome.HasField("failure"):
            raise refusal_of(outcome.failure)
        choice = {"index": 0, "message": self._message(), "logprobs": None}
        return encode({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": name_of(self.decision),
            "choices": [choice | {"finish_reason": outcome.finish_reason or "stop"}],
            "usage": usage_of(outcome.usage),
        })  # fmt: skip

    def _message(self) -> dict[str, Any]:
        said = "".join(self.text) if self.text or not (self.calls or self.refusal) else None
        message: dict[str, Any] = {"role": "assistant", "content": said, "refusal": "".join(self.refusal) or None}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = [self.calls[index].whole() for index in sorted(self.calls)]
        return message


@dataclass(slots=True)
class Calling:
    """A tool call that comes in pieces."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def add(self, piece: ToolCallDelta) -> None:
        self.id, self.name = self.id or piece.id, self.name or piece.name
        self.arguments.append(piece.arguments)

    def whole(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": self.id, "type": "function", "function": function}
