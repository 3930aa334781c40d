"""Recorded streams mean the same through our own adapters and through litellm: text, tool calls, usage, cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from services.router.models import Adapter, Broken, End, Prompt, Reasoning, Refusing
from services.router.models.adapters import open_adapters
from services.router.offers import Offer, Price, Provider
from soma.common.v1.model_pb2 import Usage
from soma.router.v1.router_service_pb2 import GenerateRequest
from soma.router.v1.routing_pb2 import Message, Tool, Tools
from tests.fake_provider import Behaviour, FakeProvider, open_fake_provider

FOLDER = Path(__file__).parents[1] / "recorded"
PRICE = Price(3_000_000, 15_000_000, 300_000, 3_750_000)
MODELS = {"openai": "gpt-4o", "anthropic": "claude-sonnet-4-6"}
BERN, BASEL = ("get_weather", {"city": "Bern"}), ("get_weather", {"city": "Basel"})

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Told:
    """What a stream means."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, object], ...] = ()
    finish: str = "stop"
    usage: Usage = field(default_factory=Usage)
    cost_microusd: int = 0


def usage(into: int, out: int, cached: int = 0, written: int = 0, thought: int = 0) -> Usage:
    return Usage(
        input_tokens=into,
        output_tokens=out,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=thought,
    )


PARIS = "The capital of France is Paris. 🗼 é"
ADA = '{"name":"Ada","born":1815}'
SUM = "Seven times eight is 56."
MEANS = {
    "openai/text": Told(PARIS, usage=usage(14, 9), cost_microusd=177),
    "openai/length": Told("Once upon a", finish="length", usage=usage(11, 3), cost_microusd=78),
    "openai/tools": Told(calls=(BERN,), finish="tool_calls", usage=usage(61, 15), cost_microusd=408),
    "openai/parallel": Told(
        calls=(BERN, BASEL, ("get_time", {})), finish="tool_calls", usage=usage(77, 44), cost_microusd=891
    ),
    "openai/text_and_tools": Told(
        "Let me look.", calls=(BERN,), finish="tool_calls", usage=usage(61, 22), cost_microusd=513
    ),
    "openai/json": Told(ADA, usage=usage(88, 14), cost_microusd=474),
    "openai/vision": Told("A red square.", usage=usage(1131, 5), cost_microusd=3468),
    "openai/reasoning": Told("56.", SUM, usage=usage(17, 41, thought=38), cost_microusd=666),
    "openai/refusal": Told(refusal="I cannot help with that.", usage=usage(31, 9), cost_microusd=228),
    "openai/cached": Told("Yes.", usage=usage(2048, 3, cached=1920), cost_microusd=1005),
    "anthropic/text": Told(PARIS, usage=usage(14, 9), cost_microusd=177),
    "anthropic/length": Told("Once upon a", finish="length", usage=usage(11, 3), cost_microusd=78),
    "anthropic/tools": Told("I'll look.", calls=(BERN,), finish="tool_calls", usage=usage(372, 65), cost_microusd=2091),
    "anthropic/parallel": Told(
        calls=(BERN, BASEL, ("get_time", {})), finish="tool_calls", usage=usage(401, 110), cost_microusd=2853
    ),
    "anthropic/json": Told(ADA, usage=usage(120, 14), cost_microusd=570),
    "anthropic/thinking": Told("56.", SUM, usage=usage(43, 41), cost_microusd=744),
    "anthropic/cached": Told("Yes.", usage=usage(2051, 3, cached=1920, written=128), cost_microusd=1110),
}

LITELLM_DIFFERS = {
    "openai/refusal": ("refusal", "its streams have no such field, and drop it"),
    "anthropic/thinking": ("usage", "it counts the thoughts' tokens by itself, where the provider gives no figure"),
}
"""Stream → the field of Told that litellm tells otherwise, and why."""


@dataclass
class Bench:
    adapters: Mapping[str, Adapter]
    provider: FakeProvider

    async def hear_whole(self, stream: str, raw: str = "") -> Told:
        """The same answer in one piece, or `raw` in its place, through our own adapter."""
        raw = raw or (FOLDER / f"{stream}.json").read_text()
        return await self.hear(stream, stream.partition("/")[0], raw, whole=True)

    async def hear(self, stream: str, kind: str, raw: str = "", *, whole: bool = False) -> Told:
        """The stream, or `raw` in its place, through the adapter of that kind."""
        wire = stream.partition("/")[0]
        content_type = "application/json" if whole else "text/event-stream"
        self.provider.behaviour = Behaviour(
            raw=raw or (FOLDER / f"{stream}.sse").read_text(), content_type=content_type
        )
        prompt = replace(self.prompt(wire, kind), whole=whole)
        text, thought, refused, calls = "", "", "", dict[int, tuple[str, str]]()
        async with asyncio.timeout(100), aclosing(self.adapters[kind].stream(prompt)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    text += piece
                elif isinstance(piece, Reasoning):
                    thought += piece.text
                elif isinstance(piece, Refusing):
                    refused += piece.text
                elif isinstance(piece, End):
                    end = piece
                else:
                    assert (piece.id and piece.name) or piece.index in calls, "the first piece of a call names it"
                    name, arguments = calls.get(piece.index, (piece.name, ""))
                    calls[piece.index] = name, arguments + piece.arguments
        assert list(calls) == list(range(len(calls)))
        made = tuple((name, json.loads(arguments)) for name, arguments in calls.values())
        assert end.usage is not None
        u = end.usage
        cost = PRICE.cost_microusd(u.input_tokens, u.output_tokens, u.cached_input_tokens, u.cache_write_tokens)
        return Told(text, thought, refused, made, end.finish_reason, u, cost)

    def prompt(self, wire: str, kind: str) -> Prompt:
        url = self.provider.base_url
        if (wire, kind) == ("anthropic", "litellm"):
            url = url.removesuffix("/v1")  # litellm's own habit: it adds /v1/messages
        provider = Provider("acme", kind, url, key="sk-1", litellm=wire)
        traits = frozenset({"native_json", "thinks"})
        offer = Offer(provider, MODELS[wire], "standard", PRICE, 8000, 500, 100, traits=traits)
        request = GenerateRequest(
            messages=[Message(role="user", text="Hello")],
            tools=Tools(tools=[Tool(name="get_weather"), Tool(name="get_time")]),
        )
        return Prompt(offer, request.messages, 77, request)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench() -> AsyncIterator[Bench]:
    async with open_fake_provider() as provider, open_adapters() as adapters:
        yield Bench(adapters, provider)


@pytest.mark.parametrize("stream", MEANS)
async def test_a_recorded_stream_means_what_its_provider_documents(bench: Bench, stream: str) -> None:
    assert await bench.hear(stream, stream.partition("/")[0]) == MEANS[stream]


@pytest.mark.parametrize("stream", MEANS)
async def test_the_same_answer_in_one_piece_means_the_same(bench: Bench, stream: str) -> None:
    assert await bench.hear_whole(stream) == MEANS[stream]
    assert bench.provider.last["stream"] is False


@pytest.mark.parametrize("stream", MEANS)
async def test_an_answer_in_one_piece_that_is_cut_is_no_answer(bench: Bench, stream: str) -> None:
    body = (FOLDER / f"{stream}.json").read_text().rstrip()
    for cut in range(1, len(body), 97):
        with pytest.raises(Broken, match="acme"):
            await bench.hear_whole(stream, body[:cut])


@pytest.mark.parametrize("stream", MEANS)
async def test_who_streams_though_one_piece_was_asked_for_is_understood(bench: Bench, stream: str) -> None:
    wire = stream.partition("/")[0]
    bench.provider.behaviour = Behaviour(raw=(FOLDER / f"{stream}.sse").read_text())
    prompt = replace(bench.prompt(wire, wire), whole=True)
    async with aclosing(bench.adapters[wire].stream(prompt)) as pieces:
        heard = [piece async for piece in pieces]
    assert "".join(piece for piece in heard if isinstance(piece, str)) == MEANS[stream].text
    end = heard[-1]
    assert isinstance(end, End) and (end.finish_reason, end.usage) == (MEANS[stream].finish, MEANS[stream].usage)


@pytest.mark.parametrize("stream", MEANS)
async def test_litellm_tells_the_same_of_it_but_for_what_is_named(bench: Bench, stream: str) -> None:
    told, meant = await bench.hear(stream, "litellm"), MEANS[stream]
    differ = {name for name in Told.__dataclass_fields__ if getattr(told, name) != getattr(meant, name)}
    assert differ == {name for name, _ in [LITELLM_DIFFERS[stream]]} if stream in LITELLM_DIFFERS else not differ, told


async def test_every_recorded_stream_is_in_the_table() -> None:
    for kind in ("sse", "json"):
        assert {f"{file.parent.name}/{file.stem}" for file in FOLDER.rglob(f"*.{kind}")} == set(MEANS)


@pytest.mark.parametrize("stream", MEANS)
async def test_a_stream_cut_before_its_finish_is_never_a_clean_end(bench: Bench, stream: str) -> None:
    lines = (FOLDER / f"{stream}.sse").read_text().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if '_reason":"' in line)
    for cut in range(0, last, 2):
        with pytest.raises(Broken, match=r"acme (ended the answer in the middle|sent no answer)"):
            await bench.hear(stream, stream.partition("/")[0], "".join(lines[:cut]) or ": \n")


@pytest.mark.parametrize("stream", ["openai/text", "openai/tools", "anthropic/text", "anthropic/tools"])
async def test_nor_is_it_through_litellm(bench: Bench, stream: str) -> None:
    lines = (FOLDER / f"{stream}.sse").read_text().splitlines(keepends=True)
    last = next(i for i, line in enumerate(lines) if '_reason":"' in line)
    with pytest.raises(Broken):
        await bench.hear(stream, "litellm", "".join(lines[: last - last % 3]))
