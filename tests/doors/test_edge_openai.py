"""The OpenAI front door through a real edge, asked by OpenAI's own client: bodies, streams, keys, refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from pydantic import BaseModel

from services.router.front.answers import HEARTBEAT
from services.router.front.service import SILENCE_S
from tests.doors.edge import House, open_house
from tests.doors.front import BOUND_KEY, GOOD_KEY, Told

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, told: Told) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("openai"), doors=[told.door()]) as opened:
        yield opened


def client_of(house: House, key: str = GOOD_KEY) -> Any:
    return AsyncOpenAI(api_key=key, base_url=house.url("/v1"), max_retries=0, timeout=10)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(house: House) -> AsyncIterator[Any]:
    async with client_of(house) as opened:
        yield opened


def body_of(error: openai.APIStatusError) -> dict[str, Any]:
    assert isinstance(error.body, dict)
    return error.body


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_an_answer_in_one_piece_has_text_model_and_usage(client: Any) -> None:
    answer = await client.chat.completions.create(model="soma/auto", messages=ask("hello"))
    assert answer.choices[0].message.content == 'Hello wörld "quoted"\n'
    assert (answer.id, answer.model, answer.choices[0].finish_reason) == ("chatcmpl-d1", "acme/grande", "stop")
    assert answer.usage and answer.usage.completion_tokens_details and answer.usage.prompt_tokens_details
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 3, 10)
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.usage.completion_tokens_details.reasoning_tokens == 1


async def test_a_stream_has_the_role_first_the_text_then_the_end_and_usage_if_wanted(client: Any) -> None:
    stream = await client.chat.completions.create(
        model="grande", messages=ask("hello"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == 'Hello wörld "quoted"\n'
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.total_tokens == 10
    assert {(c.id, c.model, c.object) for c in chunks} == {("chatcmpl-d1", "acme/grande", "chat.completion.chunk")}


async def test_the_bytes_of_a_stream_begin_before_the_answer_and_end_with_done(house: House, told: Told) -> None:
    told.go_on.clear()
    body = {"model": "soma/auto", "messages": ask("think"), "stream": True}
    answer = await house.call("POST", "/v1/chat/completions", token=GOOD_KEY, json=body)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert await answer.content.readuntil(b"\n\n") == HEARTBEAT
    told.go_on.set()
    await answer.content.readuntil(b"one")
    assert (await answer.read()).endswith(b"\n\ndata: [DONE]\n\n")


async def test_the_streaming_helper_collects_parallel_tool_calls(client: Any) -> None:
    tool = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False}}}  # fmt: skip
    async with client.chat.completions.stream(model="soma/auto", messages=ask("tools"), tools=[tool]) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    calls = final.choices[0].message.tool_calls or []
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in calls] == [
        ("call_1", "weather", {"city": "Oslo"}), ("call_2", "weather", {"city": "Rome"}),
    ]  # fmt: skip
    assert "tool_calls.function.arguments.done" in kinds
    assert final.choices[0].finish_reason == "tool_calls"


async def test_tools_and_their_answers_reach_the_router(client: Any, told: Told) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    answer = await client.chat.completions.create(
        model="petit",
        messages=[
            {"role": "developer", "content": "be brief"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "rain"},
            {"role": "user", "content": [{"type": "text", "text": "tools?"}]},
        ],
        tools=[{"type": "function", "function": {"name": "weather"}}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        metadata={"soma.max_cost_usd": "0.02"},
    )
    asked = told.asked[-1]
    assert answer.choices[0].message.content
    assert [m.role for m in asked.messages] == ["system", "assistant", "tool", "user"]
    assert (asked.messages[1].tool_calls[0].name, asked.messages[2].tool_call_id) == ("weather", "c")
    assert (asked.tools.choice, asked.hints.max_cost_microusd) == ("tool:weather", 20_000)
    assert (asked.tier, list(asked.hints.models)) == ("auto", ["petit"])


async def test_structured_output_is_parsed_by_the_clients_helper(client: Any, told: Told) -> None:
    answer = await client.chat.completions.parse(model="soma/auto", messages=ask("json"), response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)
    assert told.asked[-1].response_format.kind == "json_schema" and told.asked[-1].response_format.strict


async def test_models_are_listed_and_found_by_any_of_their_names(client: Any) -> None:
    listed = [model.id async for model in client.models.list()]
    assert {"soma/auto", "soma/premium", "soma/embedding", "acme/grande", "acme/petit"} <= set(listed)
    for name in (*listed, "grande"):
        assert (await client.models.retrieve(name)).id == name


async def test_a_key_that_is_bound_to_models_sees_no_others(house: House) -> None:
    async with client_of(house, BOUND_KEY) as bound:
        assert [model.id async for model in bound.models.list()] == ["acme/grande"]
        assert await bound.chat.completions.create(model="acme/grande", messages=ask("hello"))
        for name in ("petit", "soma/auto"):
            with pytest.raises(openai.NotFoundError):
                await bound.chat.completions.create(model=name, messages=ask("hello"))
        with pytest.raises(openai.NotFoundError):
            await bound.models.retrieve("acme/petit")


async def test_vectors_come_as_numbers_and_as_base64(client: Any) -> None:
    for form in ("float", "base64"):
        made = await client.embeddings.create(model="soma/embedding", input=["abc", "de"], encoding_format=form)
        assert made.usage.total_tokens == 5
        if form == "float":
            assert [item.embedding for item in made.data] == [[3.0, 0.5, -1.0], [2.0, 0.5, -1.0]]
    plain = await client.embeddings.create(model="all-MiniLM-L6-v2", input="abc")
    assert list(plain.data[0].embedding) == [3.0, 0.5, -1.0]


@pytest.mark.parametrize(
    ("deed", "kind", "code", "type"),
    [("spent", openai.RateLimitError, "insufficient_quota", "insufficient_quota"),
     ("busy", openai.RateLimitError, "rate_limit_exceeded", "rate_limit_error"),
     ("away", openai.InternalServerError, "model_unavailable", "server_error"),
     ("broken", openai.InternalServerError, "provider_failed", "server_error"),
     ("cut", openai.InternalServerError, "provider_cut", "server_error")],
)  # fmt: skip
async def test_a_refusal_of_the_router_has_openais_shape(
    client: Any, deed: str, kind: type[openai.APIStatusError], code: str, type: str
) -> None:
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="soma/auto", messages=ask(deed))
    assert (caught.value.code, caught.value.type, caught.value.param) == (code, type, None)
    assert set(body_of(caught.value)) == {"message", "type", "param", "code"}
    headers = caught.value.response.headers
    if deed == "spent":
        assert body_of(caught.value)["message"].startswith('The budget "team \\ red" of today is spent.')
        assert headers["x-should-retry"] == "false"
    if deed == "busy":
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("2", "1500")
    assert not [name for name in headers if name.startswith(("grpc-", "x-envoy-", "server"))]


async def test_a_refusal_of_a_stream_before_its_beginning_is_a_status_too(client: Any) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="soma/auto", messages=ask("spent"), stream=True)
    assert caught.value.code == "insufficient_quota"


@pytest.mark.parametrize("deed", ["cut", "broken"])
async def test_a_stream_that_breaks_tells_so_in_band_and_is_not_done(house: House, client: Any, deed: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        async for _ in await client.chat.completions.create(model="soma/auto", messages=ask(deed), stream=True):
            pass
    assert caught.value.type == "server_error" and "acme" in caught.value.message
    body = {"model": "soma/auto", "messages": ask(deed), "stream": True}
    said = await (await house.call("POST", "/v1/chat/completions", token=GOOD_KEY, json=body)).read()
    assert b"[DONE]" not in said and b'"error"' in said


async def test_a_model_that_nobody_has_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model='gpt "9"\\é', messages=ask("hello"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="soma/auto", input="x")


async def test_a_field_that_is_wrong_is_named(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="soma/auto", messages=ask("hello"), temperature=3)
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", "temperature")
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="soma/auto", messages=ask("hello"), n=2)
    assert caught.value.param == "n"


NOT_GOOD = {"sk-soma-wrong": "key", "sk-other": "soma key create", "": "missing", "eyJhbGciOi.x.y": "Sign in again"}


@pytest.mark.parametrize("key", NOT_GOOD)
async def test_a_key_or_token_that_is_not_good_is_an_authentication_error(house: House, key: str) -> None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    for verb, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/x")):
        answer = await house.call(verb, path, token=None, headers=headers)
        said = (await answer.json())["error"]
        assert (answer.status, said["type"], said["code"]) == (401, "invalid_request_error", "invalid_api_key")
        assert NOT_GOOD[key] in said["message"]


async def test_a_persons_token_is_as_good_as_a_key(house: House) -> None:
    async with client_of(house, house.token()) as person:
        assert (await person.chat.completions.create(model="soma/auto", messages=ask("hello"))).choices


async def test_a_key_opens_no_other_path(house: House) -> None:
    answer = await house.call("GET", "/v1/conversations", token=GOOD_KEY)
    assert (answer.status, (await answer.json())["details"][0]["reason"]) == (401, "TOKEN_REFUSED")


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[1]", 400), (b'{"model": 7}', 400), (b"x" * 1_100_000, 413)],
)
async def test_a_body_that_is_no_request_is_refused_in_openais_shape(house: House, body: bytes, status: int) -> None:
    for path in ("/v1/chat/completions", "/v1/embeddings"):
        answer = await house.call("POST", path, token=GOOD_KEY, data=body)
        said = (await answer.json())["error"]
        assert (answer.status, said["type"]) == (status, "invalid_request_error")


@pytest.mark.parametrize(("verb", "path"), [("PUT", "/v1/chat/completions"), ("GET", "/v1/models/")])
async def test_what_is_not_served_there_is_told_in_openais_shape(house: House, verb: str, path: str) -> None:
    answer = await house.call(verb, path, token=GOOD_KEY)
    assert (answer.status, (await answer.json())["error"]["code"]) == (404, "path_unknown")


async def test_other_paths_keep_their_own_form_of_refusal(house: House) -> None:
    answer = await house.call("POST", "/v1/chat:stream", data=b"{")
    assert (await answer.json())["details"][0]["reason"] == "REQUEST_MALFORMED"


async def test_a_long_answer_arrives_whole_either_way(client: Any) -> None:
    whole = await client.chat.completions.create(model="soma/auto", messages=ask("long"))
    assert len(whole.choices[0].message.content or "") == 1_500_000
    stream = await client.chat.completions.create(model="soma/auto", messages=ask("long"), stream=True)
    said = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert sum(map(len, said)) == 1_500_000


async def test_who_hangs_up_ends_the_answer(client: Any, told: Told) -> None:
    told.go_on.clear()
    told.ended.clear()
    stream = await client.chat.completions.create(model="soma/auto", messages=ask("wait"), stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content == "one":
            break
    assert not told.ended.is_set()
    await stream.close()
    await asyncio.wait_for(told.ended.wait(), 15)


async def test_silence_is_broken_long_before_the_edge_takes_a_stream_for_dead() -> None:
    from services.local.edge.routes import STREAM_IDLE_S, WHOLE_IDLE_S

    assert SILENCE_S * 4 < STREAM_IDLE_S < WHOLE_IDLE_S
