"""The event stream of chat completions, made of bytes as they arrive. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from services.router.models import Broken, End

MOST_LINE_BYTES = 1024 * 1024
MOST_TOKENS = 2**31
"""Figures of a provider beyond this, or below nothing, are none: then they are estimated."""
FINISHES = {"stop": "stop", "length": "length", "max_tokens": "length", "content_filter": "content_filter"}


class Delta(msgspec.Struct, gc=False):
    content: str | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    finish_reason: str | None = None


class Counted(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def is_plausible(self) -> bool:
        return 0 <= self.prompt_tokens < MOST_TOKENS and 0 <= self.completion_tokens < MOST_TOKENS


class Chunk(msgspec.Struct, gc=False):
    """One `data:` of the stream."""

    choices: list[Choice] | None = None
    usage: Counted | None = None
    error: Any = None


decode = msgspec.json.Decoder(Chunk).decode


@dataclass(slots=True)
class Arriving:
    """What has come so far."""

    finish_reason: str = ""
    usage: Counted | None = None
    is_over: bool = False
    """[DONE] came."""
    text_bytes: int = 0
    rest: bytes = b""
    """The beginning of a line whose end has not come."""
    broken: Broken | None = None
    """What ends the answer once the text before it is passed on."""

    def end(self) -> End:
        if self.usage is None or not self.usage.is_plausible:
            return End(self.finish_reason or "stop")
        return End(self.finish_reason or "stop", self.usage.prompt_tokens, self.usage.completion_tokens)


def take(answer: Arriving, data: bytes, provider: str) -> str:
    """The text of the whole lines in `data`, up to what is no chunk: that is left in `answer.broken`."""
    *lines, answer.rest = (answer.rest + data if answer.rest else data).split(b"\n")
    pieces: list[str] = []
    try:
        for line in lines:
            if line.startswith(b"data:"):
                take_line(answer, line[5:].strip(), pieces, provider)
            elif line.startswith((b"<", b"{", b"[")):
                raise Broken(f"{provider} sent something that is no event stream.")
            if answer.is_over:
                break
        if len(answer.rest) > MOST_LINE_BYTES:
            raise Broken(f"{provider} sent a line without end.")
    except Broken as broken:
        answer.broken = broken
    return "".join(pieces)


def take_line(answer: Arriving, line: bytes, pieces: list[str], provider: str) -> None:
    if line == b"[DONE]":
        answer.is_over = True
        if not answer.finish_reason and not answer.text_bytes and not pieces:
            raise Broken(f"{provider} sent no answer.")
        return
    chunk = chunk_of(line, provider)
    if chunk.error is not None:
        raise Broken(f"{provider} reported an error of its own.")
    if chunk.usage is not None:
        answer.usage = chunk.usage
    for choice in (chunk.choices or ())[:1]:
        if choice.delta and choice.delta.content:
            pieces.append(choice.delta.content)
        if choice.finish_reason:
            answer.finish_reason = FINISHES.get(choice.finish_reason, "stop")


def chunk_of(line: bytes, provider: str) -> Chunk:
    """The chunk of one line. Bytes that are no UTF-8 become U+FFFD; what is no JSON is refused."""
    try:
        return decode(line)
    except UnicodeDecodeError:
        line = line.decode("utf-8", "replace").encode()
    except msgspec.MsgspecError as fault:
        raise Broken(f"{provider} sent something that is no answer.") from fault
    try:
        return decode(line)
    except msgspec.MsgspecError as fault:
        raise Broken(f"{provider} sent something that is no answer.") from fault
