"""What a model is told: the conversation so far, then the question. Pure.

The router cuts this to the window of the model that answers, since only it knows which one that is; what is cut here
is what no window could take.
"""

from __future__ import annotations

from collections.abc import Sequence

from soma.router.v1.routing_pb2 import Message

MOST_BYTES = 512 * 1024
TITLE_LENGTH = 60

SYSTEM = "You are SomaAgent, a helpful assistant. Answer clearly and briefly. Use Markdown where it helps."


def assemble(earlier: Sequence[tuple[str, str]], question: str) -> list[Message]:
    """The messages, oldest first. `earlier` are pairs of question and answer, newest first; one without an answer
    is left out, so that questions and answers take turns."""
    budget = MOST_BYTES - size(question)
    kept: list[Message] = []
    for asked, answered in earlier:
        budget -= size(asked) + size(answered)
        if budget < 0:
            break
        if answered:
            kept[:0] = [Message(role="user", text=asked), Message(role="assistant", text=answered)]
    return [Message(role="system", text=SYSTEM), *kept, Message(role="user", text=question)]


def title_of(question: str) -> str:
    """The first line of a question, cut at a word, as the title of a new conversation."""
    line = " ".join(question.split())
    if len(line) <= TITLE_LENGTH:
        return line
    cut = line[:TITLE_LENGTH]
    return (cut.rsplit(" ", 1)[0] if " " in cut else cut) + "…"


def size(text: str) -> int:
    return len(text.encode())
