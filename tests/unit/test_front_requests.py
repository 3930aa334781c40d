"""What OpenAI's clients send becomes our request, or is refused with the field as they call it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import CATALOGUE, Invalid, NotFound
from services.common.openai import type_and_code
from services.router.covers import MINILM
from services.router.front.embeddings import MOST_INPUTS, read_vectors
from services.router.front.names import Menu
from services.router.front.requests import AskedCompletion, read_asked
from services.router.offers import Offer, Provider
from soma.router.v1.routing_pb2 import Message

ACME, OTHER = Provider("acme", "openai"), Provider("other", "openai")
HERE, VECTORS = Provider("minilm", "openai", jurisdictions=frozenset({"here"})), frozenset({"embeddings"})
OFFERS = (
    Offer(ACME, "grande", "premium", None, 1000, 100, 100),
    Offer(ACME, "away", "premium", None, 1000, 100, 100, closed="It is ill."),
    Offer(OTHER, "org/grande:8b", "slm", None, 1000, 100, 100),
    Offer(OTHER, "vectors", "slm", None, 1000, 100, 100, capabilities=VECTORS),
    Offer(HERE, MINILM, "slm", None, 1000, 100, 100, capabilities=VECTORS),
)
MENU = Menu(OFFERS)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "model", "messages", "stream", "stream_options", "max_tokens", "temperature", "seed", "stop", "tools",
    "tool_choice", "response_format", "metadata", "n", "logprobs", "reasoning_effort",
)  # fmt: skip


def asked(**more: Any) -> AskedCompletion:
    body = {"model": "soma/auto", "messages": [{"role": "user", "content": "hello"}], **more}
    return read_asked(json.dumps(body).encode(), MENU)


def refused(**more: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        asked(**more)
    return caught.value


def said(*messages: dict[str, Any]) -> list[Message]:
    return list(asked(messages=messages).request.messages)


def test_a_tier_is_where_the_choice_begins_and_a_model_is_the_only_one_to_choose() -> None:
    for name, tier in (("soma/auto", "auto"), ("soma/premium", "premium"), ("soma/slm", "slm")):
        assert (asked(model=name).request.tier, list(asked(model=name).request.hints.models)) == (tier, [])
    for name in ("grande", "acme/grande", "acme/away", "org/grande:8b", "other/org/grande:8b"):
        assert (asked(model=name).request.tier, list(asked(model=name).request.hints.models)) == ("auto", [name])


@pytest.mark.parametrize("name", ["", "nothing", "acme", "soma/gold", "vectors", "soma/embedding", "x" * 9999, "\0"])
def test_a_model_that_answers_nobody_is_unknown(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        asked(model=name)
    assert (caught.value.reason, caught.value.metadata["field"]) == ("MODEL_UNKNOWN", "model")
    assert len(caught.value.message) < 300


def test_a_key_names_its_own_models_under_any_name_and_no_others() -> None:
    bound = Menu(OFFERS, frozenset({"grande", "soma/slm"}))
    assert [name for name, _ in bound.names()] == ["soma/slm", "acme/grande", "other/org/grande:8b"]
    assert bound.chat("acme/grande") == ("auto", ["acme/grande"])
    assert bound.chat("soma/slm") == ("slm", [])
    for name in ("soma/auto", "soma/premium", "away"):
        with pytest.raises(NotFound):
            bound.chat(name)
    with pytest.raises(NotFound):
        bound.embedding("soma/embedding")


def test_a_closed_model_is_not_listed_but_known() -> None:
    assert "acme/away" not in dict(MENU.names())
    assert MENU.owner("acme/away") == "acme"
    assert all(MENU.owner(name) == owner for name, owner in MENU.names())


def test_messages_become_ours_each_with_what_belongs_to_it() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    told = said(
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "text", "text": "see"}, picture], "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "refusal": "no"},
    )
    assert [(m.role, m.text) for m in told] == [
        ("system", "ab"), ("user", ""), ("assistant", ""), ("tool", "42"), ("assistant", "no"),
    ]  # fmt: skip
    assert [part.WhichOneof("part") for part in told[1].parts] == ["text", "image"]
    assert (told[1].parts[1].image.url, told[1].parts[1].image.detail) == ("https://x/y.png", "low")
    assert (told[2].tool_calls[0].name, told[2].tool_calls[0].arguments) == ("f", "{")
    assert told[3].tool_call_id == "c"


def test_what_is_wished_of_the_answer_goes_along() -> None:
    schema = {"type": "object", "properties": {"é": {}}}
    request = asked(
        temperature=0, top_p=0.5, seed=-3, stop="end", max_tokens=7, max_completion_tokens=9, reasoning_effort="low",
        tools=[{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}],
        tool_choice="required", parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}},
    ).request  # fmt: skip
    assert request.sampling.HasField("temperature") and request.sampling.temperature == 0
    assert not request.sampling.HasField("presence_penalty")
    assert (request.sampling.seed, list(request.sampling.stop), request.max_tokens) == (-3, ["end"], 9)
    assert (request.tools.choice, request.tools.parallel) == ("required", False)
    assert json.loads(request.tools.tools[0].parameters) == schema == json.loads(request.response_format.schema)
    assert request.response_format.strict
    assert not asked(response_format={"type": "text"}).request.HasField("response_format")


def test_who_does_not_stream_waits_for_no_pieces() -> None:
    assert [asked(**more).request.whole for more in ({}, {"stream": False}, {"stream": None}, {"stream": True})] == [
        True, True, True, False,
    ]  # fmt: skip


def test_hints_in_the_metadata_reach_the_router_and_the_rest_is_the_clients_own() -> None:
    hints = {"soma.max_cost_usd": "0.0000001", "soma.max_latency_ms": "800", "soma.min_quality": "0.7", "mine": "x"}
    request = asked(metadata=hints | {"soma.task": "mails", "soma.jurisdictions": "eu, here"}).request
    assert (request.hints.max_cost_microusd, request.hints.max_latency_ms, request.hints.min_quality) == (1, 800, 0.7)
    assert (request.task, list(request.hints.jurisdictions)) == ("mails", ["eu", "here"])


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"), ({"logprobs": True}, "logprobs"), ({"audio": {}}, "audio"), ({"functions": [{}]}, "functions"),
        ({"modalities": ["audio"]}, "modalities"), ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"temperature": 3}, "temperature"), ({"temperature": "x"}, "temperature"), ({"seed": 2**80}, "seed"),
        ({"max_tokens": 0}, "max_tokens"), ({"stop": ["a"] * 5}, "stop"),
        ({"reasoning_effort": "x"}, "reasoning_effort"),
        ({"messages": []}, "messages"), ({"messages": [{"role": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]},
         "messages[0].content[0].image_url.url"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"), ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 3}}]}, "tools[0].function.parameters"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"metadata": {"soma.min_quality": "7"}}, "metadata.soma.min_quality"),
        ({"metadata": {"soma.max_cost_usd": "1e999999999"}}, "metadata.soma.max_cost_usd"),
        ({"metadata": {"soma.max_cost_usd": "1000000000.000001"}}, "metadata.soma.max_cost_usd"),
        ({"metadata": {"soma.max_latency_ms": "nan"}}, "metadata.soma.max_latency_ms"),
        ({"metadata": {"soma.task": "a\0"}}, "metadata.soma.task"), ({"metadata": {"soma.colour": "red"}}, "metadata"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
         "response_format.json_schema.schema"),
    ],
)  # fmt: skip
def test_what_is_wrong_or_not_supported_is_refused_by_its_name(more: dict[str, Any], param: str) -> None:
    refusal = refused(**more)
    assert (refusal.reason, refusal.metadata["field"]) == ("REQUEST_INVALID", param)
    assert refusal.message.startswith(f"{param}: ")


def test_what_asks_for_the_usual_is_no_wish() -> None:
    usual = {"n": 1, "logprobs": False, "modalities": ["text"], "audio": None, "logit_bias": {}, "top_logprobs": 0}
    assert asked(**usual, user="u", store=True, service_tier="auto", something_new={"a": 1}) == asked()


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"\xff", b'{"model": "\xff"}', b'{"a":' * 50_000])
def test_bytes_that_are_no_json_are_malformed(body: bytes) -> None:
    for read in (read_asked, read_vectors):
        with pytest.raises(Invalid) as caught:
            read(body, MENU)
        assert caught.value.reason == "REQUEST_MALFORMED"


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(FIELDS), JSON)
def test_any_json_is_understood_or_refused_with_a_reason(more: dict[str, Any], name: str, value: Any) -> None:
    base = {"model": "soma/auto", "messages": [{"role": "user", "content": "hello"}]}
    for body in (more, base | {name: value}):
        for read in (read_asked, read_vectors):
            try:
                read(json.dumps(body).encode(), MENU)
            except (Invalid, NotFound) as refusal:
                assert refusal.reason in CATALOGUE


@pytest.mark.parametrize(
    ("more", "param"),
    [({"input": []}, "input"), ({"input": [1, 2]}, "input"), ({"input": [[1]]}, "input"), ({"input": ""}, "input"),
     ({"input": ["x"] * (MOST_INPUTS + 1)}, "input"), ({"dimensions": 12}, "dimensions"),
     ({"encoding_format": "hex"}, "encoding_format"), ({"model": 3}, "model")],
)  # fmt: skip
def test_vectors_are_refused_by_the_field_too(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_vectors(json.dumps({"model": "soma/embedding", "input": "x"} | more).encode(), MENU)
    assert caught.value.metadata["field"] == param


def test_vectors_are_asked_of_the_model_here_or_of_a_provider_that_makes_them() -> None:
    for name, known in (("soma/embedding", MINILM), (MINILM, MINILM), ("vectors", "other/vectors")):
        found = read_vectors(json.dumps({"model": name, "input": ["a", "b"]}).encode(), MENU)
        assert (found.model, found.inputs) == (known, ["a", "b"])


def test_every_reason_has_a_type_and_a_code() -> None:
    told = {reason: type_and_code(reason) for reason in CATALOGUE}
    assert told["BUDGET_SPENT"] == ("insufficient_quota", "insufficient_quota")
    assert told["PROVIDER_CUT"][0] == told["STORE_UNAVAILABLE"][0] == told["DEADLINE_EXCEEDED"][0] == "server_error"
    assert told["REQUEST_INVALID"] == ("invalid_request_error", "request_invalid")
