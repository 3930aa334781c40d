"""How the router speaks to models: one small protocol, one file an adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from services.router.offers import Offer
from soma.common.v1.model_pb2 import Usage
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message, ToolCallDelta


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, already cut to its window."""

    offer: Offer
    messages: Sequence[Message]
    max_tokens: int
    request: GenerateRequest
    """Its tools, response_format and sampling go along. Its messages are those before the cut."""
    whole: bool = False
    """It is asked for in one piece: nobody waits for its beginning."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Refusing:
    """A piece of the model's own refusal to answer."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole."""

    finish_reason: str
    """ "stop", "length", "tool_calls" or "content_filter"."""
    usage: Usage | None = None
    """The provider's figures; None when it gave none, or none that can be."""


Piece: TypeAlias = str | Reasoning | Refusing | ToolCallDelta
"""Text that is not empty, or something else that a model says."""


class Broken(Exception):  # noqa: N818 - tells what came instead of an answer
    """The provider did not answer, or not to the end. Its text is one sentence for a person."""

    def __init__(self, sentence: str, *, reason: str = "", blames_model: bool = True, pause_s: float = 0.0) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.reason = reason
        """An ErrorReason that says more than "failed" or "cut"; empty for none."""
        self.blames_model = blames_model
        """It counts against the model: a request that the model rightly refuses does not."""
        self.pause_s = pause_s
        """How long the provider wants to be left alone."""


class Adapter(Protocol):
    """Speaks to the providers of one kind."""

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        """What the model says in pieces, then its End. Raises Broken, before or after a piece."""
        ...
