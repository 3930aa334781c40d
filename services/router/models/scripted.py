"""A model that answers by rule, for TEST mode: it repeats the question word by word, and magic words steer it.

script:words=N    N words instead of the question
script:bytes=N    words of N bytes each
script:pace=MS    so long between two words
script:wait=MS    so long before the first
script:fail       breaks before the first word; script:fail=standard: the scripted model of that tier alone
script:busy       says that it has too much to do
script:cut=N      breaks after N words
script:hang       says nothing until its time is over; script:hang=N: after N words
script:length     ends for want of tokens
script:call=NAME  calls that tool at the end, with {"said": the question}; script:call: the first one that it has
script:think=N    thinks N words before the first
script:say        says the lines that follow, as they are: what stands in them steers nothing
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.router.models import Broken, End, Piece, Prompt, Reasoning
from services.router.window import tokens_of
from soma.common.v1.model_pb2 import Usage
from soma.router.v1.routing_pb2 import ToolCallDelta

MAGIC = re.compile(r"script:(\w+)(?:=(\w+))?")
PIECE = re.compile(r"\s*\S+|\s+$")
MOST_WORDS = 100_000
MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Script:
    """What the last message asks for."""

    words: list[str]
    """Each with the space before it."""
    orders: dict[str, str]

    @classmethod
    def of(cls, text: str) -> Script:
        text, say, lines = text.partition("script:say")
        rest, _, verbatim = lines.partition("\n")
        text += rest
        orders = {name: value or "" for name, value in MAGIC.findall(text)}
        if say:
            return cls(PIECE.findall(verbatim), orders)
        said = " ".join(MAGIC.sub("", text).split())
        words = f"You said: {said}".split(" ") if said else ["You", "said", "nothing."]
        if "words" in orders:
            words = [f"word{n}" for n in range(1, 1 + min(number(orders["words"]), MOST_WORDS))]
        if "bytes" in orders:
            words = [word.ljust(min(number(orders["bytes"]), MOST_WORDS), "x") for word in words]
        return cls([words[0], *(f" {word}" for word in words[1:])] if words else [], orders)

    def seconds(self, name: str) -> float:
        return number(self.orders.get(name, "")) / 1000

    def applies(self, name: str, tier: str) -> bool:
        return self.orders.get(name, "no") in ("", tier)

    def is_at(self, name: str, words: int) -> bool:
        return name in self.orders and number(self.orders[name]) == words


@dataclass(frozen=True, slots=True)
class Scripted:
    """The adapter. It knows no network."""

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        script, name = Script.of(prompt.messages[-1].text), prompt.offer.model
        limits = prompt.offer.provider.limits
        await asyncio.sleep(min(script.seconds("wait"), limits.first_text_s))
        if script.applies("fail", prompt.offer.tier):
            raise told(f"{name} was told to fail.")
        if script.applies("busy", prompt.offer.tier):
            raise told(f"{name} was told to be busy.", reason="MODEL_BUSY")
        thoughts = min(number(script.orders.get("think", "")), MOST_WORDS)
        if thoughts:
            yield Reasoning(" ".join(f"thought{n}" for n in range(1, 1 + thoughts)))
        words = script.words[: prompt.max_tokens]
        for n, word in enumerate(words):
            await self._stay(script, n, name, limits.idle_s)
            yield word
            await asyncio.sleep(script.seconds("pace"))
        await self._stay(script, len(words), name, limits.idle_s)
        call = called(script, prompt)
        if call:
            yield call
        is_short = "length" in script.orders or len(words) < len(script.words)
        usage = Usage(
            input_tokens=sum(tokens_of(m.text) for m in prompt.messages),
            output_tokens=thoughts + len(words) + (tokens_of(call.arguments) if call else 0),
            reasoning_tokens=thoughts,
        )
        yield End("length" if is_short else "tool_calls" if call else "stop", usage)

    async def _stay(self, script: Script, words: int, name: str, idle_s: float) -> None:
        if script.is_at("hang", words):
            await asyncio.sleep(idle_s)
            raise told(f"{name} was told to hang.")
        if script.is_at("cut", words):
            raise told(f"{name} was told to break off.")


def called(script: Script, prompt: Prompt) -> ToolCallDelta | None:
    """The call that was ordered, if there is such a tool."""
    names = [tool.name for tool in prompt.request.tools.tools]
    name = script.orders.get("call", "none") or (names[0] if names else "")
    if "call" not in script.orders or name not in names:
        return None
    arguments = json.dumps({"said": "".join(script.words)})
    return ToolCallDelta(index=0, id=f"call_{name}", name=name, arguments=arguments)


def number(word: str) -> int:
    return int(word[:MOST_DIGITS]) if word.isdecimal() else 0


def told(sentence: str, reason: str = "") -> Broken:
    """A break that was ordered closes no circuit: the next question is answered."""
    return Broken(sentence, reason=reason, blames_model=False)
