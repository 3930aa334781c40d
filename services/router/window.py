"""How much of a conversation fits a model's window. Pure.

A token is counted from UTF-8 bytes, on the safe side of the tokenizers in use: letters and spaces by three, each digit,
sign and byte beyond ASCII as one token, and four for each message's frame. English has about 4.2 letters a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma.router.v1.routing_pb2 import Message, ResponseFormat, Tools

FRAME_TOKENS = 4
LETTERS_A_TOKEN = 3
IMAGE_TOKENS = 2048
"""About the most that a provider counts for one picture."""
NO_TOOLS, NO_FORMAT = Tools(), ResponseFormat()
LETTERS = b" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Size:
    """A conversation in tokens, counted once for all offers."""

    messages: tuple[int, ...]
    least: int
    """What must go along whatever is dropped: the system message, all from the last question on, what stands beside."""
    beside: int = 0
    """Tools, and the shape of the answer."""

    @property
    def total(self) -> int:
        return sum(self.messages) + self.beside


def tokens_of(text: str) -> int:
    """How many tokens the text is at most, as far as text of people goes."""
    raw = text.encode()
    signs = len(raw.translate(None, LETTERS))
    return signs + -(-(len(raw) - signs) // LETTERS_A_TOKEN)


def size_of(messages: Sequence[Message], tools: Tools = NO_TOOLS, format: ResponseFormat = NO_FORMAT) -> Size:
    """Tools and the answer's shape go along with whatever is kept."""
    counted = tuple(tokens_in(message) + FRAME_TOKENS for message in messages)
    beside = sum(tokens_of(t.name + t.description + t.parameters) + FRAME_TOKENS for t in tools.tools)
    beside += tokens_of(format.schema) + FRAME_TOKENS if format.kind else 0
    last = last_question(messages)
    least = sum(n for i, n in enumerate(counted) if i >= last or is_system(messages, i))
    return Size(counted, least + beside, beside)


def tokens_in(message: Message) -> int:
    """Text, images and tool calls of one message."""
    if not message.parts and not message.tool_calls:
        return tokens_of(message.text)
    parts = sum(IMAGE_TOKENS if part.HasField("image") else tokens_of(part.text) for part in message.parts)
    calls = sum(tokens_of(call.name + call.arguments) + FRAME_TOKENS for call in message.tool_calls)
    return tokens_of(message.text) + parts + calls


def room_for_question(window: int, answer_tokens: int) -> int:
    """The part of a window that the question may fill: the answer gets its bound, but at most a quarter."""
    return window - min(answer_tokens, window // 4)


def cut(messages: Sequence[Message], size: Size, room: int) -> list[Message]:
    """The messages that fit `room` tokens. A leading system message and all from the last question on stay; of the
    others the oldest go.

    An answer goes with its question. They go by the half room at once: the kept part then begins at the same message
    for several turns, and a model that remembers the prompt it has read (llama.cpp) need not read it again.
    """
    if size.total <= room:
        return list(messages)
    first = 1 if is_system(messages, 0) and len(messages) > 1 else 0
    too_many = size.total - room
    block = max(1, (room - size.beside - sum(size.messages[:first])) // 2)
    to_drop = -(-too_many // block) * block
    dropped, start, last = 0, first, last_question(messages)
    while start < last and (dropped < to_drop or messages[start].role in ("assistant", "tool")):
        dropped += size.messages[start]
        start += 1
    return [*messages[:first], *messages[start:]]


def last_question(messages: Sequence[Message]) -> int:
    """Where the last user's message stands: calls of tools and what they gave belong to it. The last where there is
    none."""
    found = (i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user")
    return next(found, len(messages) - 1)


def is_system(messages: Sequence[Message], index: int) -> bool:
    return index == 0 and messages[0].role == "system"
