"""OpenAI's own client, unchanged, against the whole mesh with a key of `soma key`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.system.edge import Client
from tests.system.mesh import Mesh, wait_until

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"said": {"type": "string"}},
            "required": ["said"],
            "additionalProperties": False,
        },
    },
}


class Person(BaseModel):
    name: str
    age: int


def key_of(mesh: Mesh, *words: str) -> str:
    """A new key: the one word that the command says."""
    secret = mesh.soma("key", "create", "--tenant", "acme", "--person", "ada", *words).stdout.strip()
    assert secret.startswith("sk-soma-") and len(secret.split()) == 1
    return secret


def client_of(mesh: Mesh, key: str) -> Any:
    return OpenAI(api_key=key, base_url=f"{mesh.url}/v1", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(scripted_mesh: Mesh) -> Iterator[Any]:
    """Answered by rule."""
    with client_of(scripted_mesh, key_of(scripted_mesh)) as opened:
        yield opened


@pytest.fixture(scope="module")
def real(mesh: Mesh) -> Iterator[Any]:
    """Answered by the small model of this machine."""
    with client_of(mesh, key_of(mesh)) as opened:
        yield opened


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_chat_is_answered_with_model_and_usage(client: Any) -> None:
    answer = client.chat.completions.create(model="soma/auto", messages=ask("hello"))
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert client.models.retrieve(answer.model).id == answer.model


def test_a_stream_says_the_same_in_pieces(client: Any) -> None:
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        model="soma/standard", messages=ask("hello"), stream=True, stream_options=options
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == "You said: hello"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens > 0


def test_the_streaming_helper_has_the_whole_answer_at_its_end(client: Any) -> None:
    with client.chat.completions.stream(model="soma/auto", messages=ask("script:words=5")) as stream:
        said = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert said == final.choices[0].message.content == "word1 word2 word3 word4 word5"


def first_choice(client: Any, streams: bool, asked: dict[str, Any]) -> Any:
    if not streams:
        return client.chat.completions.create(**asked).choices[0]
    with client.chat.completions.stream(**asked) as stream:
        return stream.get_final_completion().choices[0]


@pytest.mark.parametrize("streams", [False, True])
def test_a_tool_is_called_and_its_answer_goes_back(client: Any, streams: bool) -> None:
    asked: dict[str, Any] = {"model": "soma/auto", "messages": ask("script:call=weather Oslo"), "tools": [TOOL]}
    first = first_choice(client, streams, asked)
    (call,) = first.message.tool_calls
    assert (first.finish_reason, call.function.name) == ("tool_calls", "weather")
    assert json.loads(call.function.arguments)["said"]
    told = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    again = [*asked["messages"], first.message.to_dict(), told, *ask("so?")]
    answer = client.chat.completions.create(model="soma/auto", messages=again, tools=[TOOL])
    assert answer.choices[0].message.content == "You said: so?"


def test_structured_output_is_parsed(client: Any) -> None:
    wanted = 'script:say\n{"name": "Ada", "age": 36}'
    answer = client.chat.completions.parse(model="soma/auto", messages=ask(wanted), response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


def test_the_small_model_of_this_machine_answers_in_the_shape_that_is_asked_for(real: Any) -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    answer = real.chat.completions.create(
        model="soma/slm", messages=ask("Name a person."), response_format=shape, max_tokens=60, temperature=0
    )
    if answer.choices[0].finish_reason == "stop":
        assert Person.model_validate_json(answer.choices[0].message.content)
    assert answer.choices[0].message.content.lstrip().startswith("{")


@pytest.mark.parametrize("streams", [False, True])
def test_the_small_model_of_this_machine_calls_a_tool_and_goes_on_with_its_answer(real: Any, streams: bool) -> None:
    cities = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": cities}}
    asked: dict[str, Any] = {"model": "soma/auto", "tools": [tool], "max_tokens": 60, "temperature": 0}
    question = ask("What is the weather in Oslo?")
    first = first_choice(real, streams, {**asked, "messages": question, "tool_choice": "required"})
    (call,) = first.message.tool_calls
    assert (first.finish_reason, call.function.name) == ("tool_calls", "weather")
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    told = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    answer = real.chat.completions.create(**asked, messages=[*question, first.message.to_dict(), told])
    assert answer.choices[0].message.content


def test_vectors_of_like_texts_lie_close(real: Any) -> None:
    texts = ["A cat sits on the mat.", "A kitten is on the rug.", "Interest rates rose in May."]
    made = real.embeddings.create(model="soma/embedding", input=texts)
    one, like, other = (item.embedding for item in made.data)
    assert len(one) == 384 and made.usage.total_tokens > 0
    assert dot(one, like) > dot(one, other) + 0.2
    plain = real.embeddings.create(model="all-MiniLM-L6-v2", input=texts[0], encoding_format="float")
    assert dot(plain.data[0].embedding, one) > 0.999


def test_models_are_listed_and_each_can_be_asked_for(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert {"soma/auto", "soma/premium", "soma/standard", "soma/slm"} <= set(names)
    for name in names:
        assert client.models.retrieve(name).id == name


def test_a_key_for_one_model_opens_that_alone(scripted_mesh: Mesh, client: Any) -> None:
    name = next(model.id for model in client.models.list() if model.id.startswith("scripted/"))
    with client_of(scripted_mesh, key_of(scripted_mesh, "--model", name)) as bound:
        assert [model.id for model in bound.models.list()] == [name]
        assert bound.chat.completions.create(model=name, messages=ask("hello")).model == name
        with pytest.raises(openai.NotFoundError):
            bound.chat.completions.create(model="soma/auto", messages=ask("hello"))


def test_each_refusal_is_the_error_that_the_client_knows(scripted_mesh: Mesh, client: Any) -> None:
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as unknown:
        create(model="gpt-nothing", messages=ask("hello"))
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        create(model="soma/auto", messages=ask("hello"), temperature=9)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.BadRequestError):
        create(model="soma/auto", messages=[])
    with pytest.raises(openai.APIStatusError) as large:
        create(model="soma/auto", messages=ask("x" * 1_100_000))
    assert (large.value.status_code, large.value.code) == (413, "body_too_large")
    with pytest.raises(openai.InternalServerError) as ill:
        create(model="soma/auto", messages=ask("script:fail"))
    assert ill.value.type == "server_error"
    for key in ("sk-soma-wrong", "sk-other", "x.y.z"):
        with client_of(scripted_mesh, key) as nobody, pytest.raises(openai.AuthenticationError) as refused:
            nobody.chat.completions.create(model="soma/auto", messages=ask("hello"))
        assert refused.value.code == "invalid_api_key"
    token = scripted_mesh.token("acme", "ada", "auditor")
    with client_of(scripted_mesh, token) as auditor, pytest.raises(openai.PermissionDeniedError):
        auditor.models.list()


def test_a_key_whose_budget_is_spent_is_told_so_and_not_to_try_again(scripted_mesh: Mesh) -> None:
    secret = key_of(scripted_mesh, "--budget-usd", "0.000001")
    with client_of(scripted_mesh, secret) as poor, pytest.raises(openai.RateLimitError) as spent:
        poor.chat.completions.create(model="soma/premium", messages=ask("script:words=50"), max_tokens=4000)
    assert spent.value.code == "insufficient_quota"
    assert spent.value.response.headers["x-should-retry"] == "false"


def test_a_revoked_key_is_refused_at_once(scripted_mesh: Mesh) -> None:
    secret = key_of(scripted_mesh)
    admin = Client.of(scripted_mesh, "acme", "boss", "admin")
    (name,) = [
        k["name"] for k in admin.call("GET", "/v1/keys").json["keys"] if secret.startswith(k["hint"].rstrip("…"))
    ]
    with client_of(scripted_mesh, secret) as opened:
        assert opened.models.list().data
        assert admin.call("POST", f"/v1/{name}:revoke", {}).status == 200
        wait_until(lambda: is_refused(opened), 2, "the revocation")


def test_who_hangs_up_in_mid_stream_pays_for_what_came_and_no_more(scripted_mesh: Mesh, client: Any) -> None:
    stream = client.chat.completions.create(
        model="soma/auto", messages=ask("script:words=2000 script:pace=20"), stream=True
    )
    chunk = next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    decision = chunk.id.removeprefix("chatcmpl-")

    wait_until(lambda: bool(settled(scripted_mesh, decision)), 30, "the settlement")

    body = json.dumps(settled(scripted_mesh, decision))
    assert "cancelled" in body


def settled(mesh: Mesh, decision: str) -> list[dict[str, Any]]:
    """What was told of the end of a decision's call."""
    return mesh.rows(f"SELECT body FROM told WHERE type LIKE '%ettled%' AND body::text LIKE '%{decision}%'")


def is_refused(client: Any) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
