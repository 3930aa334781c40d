"""How much of a conversation fits a model's window. Pure.

A token is counted from UTF-8 bytes, on the safe side of the tokenizers in use: letters and spaces by three, each digit,
sign and byte beyond ASCII as one token, and four for each message's frame. English has about 4.2 letters a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma.router.v1.routing_pb2 import Message

FRAME_TOKENS = 4
LETTERS_A_TOKEN = 3
LETTERS = b" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Size:
    """A conversation in tokens, counted once for all offers."""

    messages: tuple[int, ...]
    least: int
    """What must go along whatever is dropped: the system message and the last one."""

    @property
    def total(self) -> int:
        return sum(self.messages)


def tokens_of(text: str) -> int:
    """How many tokens the text is at most, as far as text of people goes."""
    raw = text.encode()
    signs = len(raw.translate(None, LETTERS))
    return signs + -(-(len(raw) - signs) // LETTERS_A_TOKEN)


def size_of(messages: Sequence[Message]) -> Size:
    counted = tuple(tokens_of(message.text) + FRAME_TOKENS for message in messages)
    last = len(messages) - 1
    return Size(counted, sum(n for i, n in enumerate(counted) if i == last or is_system(messages, i)))


def room_for_question(window: int, answer_tokens: int) -> int:
    """The part of a window that the question may fill: the answer gets its bound, but at most a quarter."""
    return window - min(answer_tokens, window // 4)


def cut(messages: Sequence[Message], size: Size, room: int) -> list[Message]:
    """The messages that fit `room` tokens. A leading system message and the last one stay; the oldest others go.

    An answer goes with its question. They go by the half room at once: the kept part then begins at the same message
    for several turns, and a model that remembers the prompt it has read (llama.cpp) need not read it again.
    """
    if size.total <= room:
        return list(messages)
    first = 1 if is_system(messages, 0) and len(messages) > 1 else 0
    too_many = size.total - room
    block = max(1, (room - sum(size.messages[:first])) // 2)
    to_drop = -(-too_many // block) * block
    dropped, start = 0, first
    while start < len(messages) - 1 and (dropped < to_drop or messages[start].role == "assistant"):
        dropped += size.messages[start]
        start += 1
    return [*messages[:first], *messages[start:]]


def is_system(messages: Sequence[Message], index: int) -> bool:
    return index == 0 and messages[0].role == "system"
