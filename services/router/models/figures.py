"""A provider's token counts as ours, or none where they cannot be. Pure."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import msgspec

from soma.common.v1.model_pb2 import Usage

MOST_WINDOWS = 4
"""An answer with its question of more windows than this is none: windows are counted by other tokenizers, and pictures
count too, but not for so much."""


class InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_creation_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    thinking_tokens: int | None = None


class Figures(Protocol):
    def usage(self) -> tuple[int, int, int, int, int]:
        """Input, output, read from a cache, written into one, reasoning."""
        ...


class Counted(msgspec.Struct):
    """`usage` of chat completions. Some tell of their caches beside the details."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def usage(self) -> tuple[int, int, int, int, int]:
        into, out = self.prompt_tokens_details or InputDetails(), self.completion_tokens_details or OutputDetails()
        cached = into.cached_tokens or self.prompt_cache_hit_tokens or self.cache_read_input_tokens or 0
        written = self.cache_creation_input_tokens or into.cache_creation_tokens or 0
        return self.prompt_tokens, self.completion_tokens, cached, written, out.reasoning_tokens or 0


class Metered(msgspec.Struct):
    """`usage` of messages: what a cache read or wrote stands beside the input, not in it."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens_details: OutputDetails | None = None

    def usage(self) -> tuple[int, int, int, int, int]:
        cached, written = self.cache_read_input_tokens, self.cache_creation_input_tokens
        thought = (self.output_tokens_details or OutputDetails()).thinking_tokens or 0
        if min(cached, written, self.input_tokens) < 0:
            return -1, 0, 0, 0, 0
        return self.input_tokens + cached + written, self.output_tokens, cached, written, thought


F = TypeVar("F", bound=Figures)


def plausible(counted: Any, kind: type[F], window: int) -> Usage | None:
    """The figures, None when there are none, or none that can be: negative, of another shape, beyond any window, or
    nothing at all. Parts that are larger than the whole are dropped: then all counts as plain."""
    try:
        into, out, cached, written, thought = msgspec.convert(counted, kind).usage()
    except (msgspec.ValidationError, OverflowError):
        return None
    if not (0 <= into <= MOST_WINDOWS * window and 0 <= out <= MOST_WINDOWS * window) or not into + out:
        return None
    if min(cached, written) < 0 or cached + written > into:
        cached = written = 0
    if not 0 <= thought <= out:
        thought = 0
    return Usage(
        input_tokens=into,
        output_tokens=out,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=thought,
    )
