"""How the router speaks to models: one small protocol, one file an adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.router.offers import Offer
from soma.router.v1.routing_pb2 import Message


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, already cut to its window."""

    offer: Offer
    messages: Sequence[Message]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole. Tokens are None when the provider did not count them."""

    finish_reason: str
    """ "stop", "length" or "content_filter"."""
    input_tokens: int | None = None
    output_tokens: int | None = None


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

    def stream(self, prompt: Prompt) -> AsyncGenerator[str | End]:
        """The answer's text in pieces, none of them empty, then its End. Raises Broken, before or after text."""
        ...
