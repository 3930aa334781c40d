"""The real embedding model, alone and behind OpenAI's wire. Skipped where its packages are missing."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from math import erf
from typing import Any

import aiohttp
import numpy as np
import pytest
import pytest_asyncio
from safetensors import safe_open

from services.local.minilm import MOST_PIECES, PACKAGE, MiniLM, batches, model_folder, open_minilm
from services.local.model import embeddings
from services.local.model.embeddings import MOST_AT_ONCE, MOST_TEXT_BYTES, MOST_TEXTS, Embeddings, embeddings_of
from services.local.ports import free_port
from tests.doors.model import ended, running_model

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"the embedding model's weights are missing: {PACKAGE}"),
]
NAME = embeddings.NAME
CAT, KITTEN, LAW = "A cat sleeps on the sofa.", "The kitten naps on a couch.", "Contract law differs between states."
MIXED = [CAT, "Hi", KITTEN * 9, LAW, "Hi", "Grüße, 世界! " * 40, "x" * 500, " ", CAT]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return open_minilm()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    port = free_port()
    async with running_model(port, SOMA_LISTEN="", SOMA_EMBEDDINGS_LISTEN=f"127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}/v1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        yield session


@asynccontextmanager
async def served(made: Embeddings) -> AsyncIterator[str]:
    """The same application in this process, where it can be looked at."""
    port = free_port()
    runner = await embeddings.listen(made, "127.0.0.1", port)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        await runner.cleanup()


async def ask(session: aiohttp.ClientSession, url: str, texts: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    async with session.post(f"{url}/embeddings", json={"input": texts, "model": NAME, **more}) as response:
        return response.status, await response.json()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_vectors_are_those_of_the_paper_reckoned_slowly_with_the_true_erf(minilm: MiniLM) -> None:
    texts = [CAT, "What is 17 × 23? Think, then answer with a number only."]
    for text, vector in zip(texts, minilm.encode(texts), strict=True):
        assert float(vector @ slow_vector(list(minilm.pieces([text])[0]))) > 0.999_999


async def test_every_vector_has_length_1(minilm: MiniLM) -> None:
    assert np.abs(np.linalg.norm(minilm.encode(MIXED), axis=1) - 1).max() < 1e-5


async def test_alike_texts_are_nearer_than_unlike_ones(minilm: MiniLM) -> None:
    cat, kitten, law = minilm.encode([CAT, KITTEN, LAW])
    assert cat @ kitten > 0.5 > 0.2 > cat @ law


async def test_a_text_has_the_same_vector_alone_and_among_others(minilm: MiniLM) -> None:
    alone = np.concatenate([minilm.encode([text]) for text in MIXED])
    assert np.abs(minilm.encode(MIXED) - alone).max() < 1e-5


async def test_a_text_is_read_to_its_256th_piece(minilm: MiniLM) -> None:
    words = ["cat"] * 300
    assert len(minilm.pieces([" ".join(words)])[0]) == MOST_PIECES
    full, longer, shorter = minilm.encode([" ".join(words[:254]), " ".join([*words[:254], "law"]), " ".join(words[:9])])
    assert full @ longer > 0.999_99 > full @ shorter


async def test_texts_are_batched_by_length_and_each_is_read_once() -> None:
    texts = [[0] * length for length in (256, 3, 100, 100, 100, 3, 256, 2)]
    plan = list(batches(texts))
    assert sorted(n for batch in plan for n in batch) == list(range(len(texts)))
    assert all(len(batch) * max(len(texts[n]) for n in batch) <= 256 for batch in plan)
    assert len(plan) == 5


async def test_base64_and_floats_are_the_same_numbers(session: aiohttp.ClientSession, url: str) -> None:
    _, floats = await ask(session, url, [CAT, LAW])
    _, packed = await ask(session, url, [CAT, LAW], encoding_format="base64")
    for one, other in zip(floats["data"], packed["data"], strict=True):
        assert np.array_equal(np.array(one["embedding"], "<f4"), np.frombuffer(b64decode(other["embedding"]), "<f4"))


async def test_a_list_is_answered_in_its_order_with_its_tokens(
    session: aiohttp.ClientSession, url: str, minilm: MiniLM
) -> None:
    status, said = await ask(session, url, MIXED)
    assert (status, said["object"], said["model"]) == (200, "list", NAME)
    assert [item["index"] for item in said["data"]] == list(range(len(MIXED)))
    assert np.abs(np.array([item["embedding"] for item in said["data"]]) - minilm.encode(MIXED)).max() < 1e-5
    tokens = sum(map(len, minilm.pieces(MIXED)))
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": 3}, 400, "input"),
        ({"input": ["a", 3]}, 400, "input[1]"),
        ({"input": [[1, 2]]}, 400, "input[0]"),
        ({"input": ""}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input[1]"),
        ({"input": []}, 400, "input"),
        ({"input": ["a"] * (MOST_TEXTS + 1)}, 400, "input"),
        ({"input": ["a", "ä" * (MOST_TEXT_BYTES // 2 + 1)]}, 400, "input[1]"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "a", "dimensions": 256}, 400, "dimensions"),
        ({"input": "a", "model": "text-embedding-3-large"}, 404, "model"),
        ({"input": "a" * 2**21}, 413, None),
        ({}, 400, None),
    ],
)
async def test_bad_input_is_told_in_openais_shape(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], status: int, param: str | None
) -> None:
    async with session.post(f"{url}/embeddings", json={"model": NAME, **body}) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"input":"\xff"}', b'{"input":"\\ud800"}', b"null"])
async def test_rubbish_is_told_in_openais_shape(session: aiohttp.ClientSession, url: str, body: bytes) -> None:
    async with session.post(f"{url}/embeddings", data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"]


async def test_as_many_texts_and_bytes_as_allowed_are_taken(session: aiohttp.ClientSession, url: str) -> None:
    status, said = await ask(session, url, ["a"] * (MOST_TEXTS - 1) + ["a " * (MOST_TEXT_BYTES // 2)])
    assert status == 200
    assert len(said["data"]) == MOST_TEXTS


async def test_a_full_queue_refuses_with_retry_after_and_single_texts_go_on(
    session: aiohttp.ClientSession, minilm: MiniLM
) -> None:
    made, go_on = embeddings_of(minilm), threading.Event()
    async with served(made) as url:
        made.lists.thread.submit(go_on.wait, 20)
        try:
            waiting = [asyncio.create_task(ask(session, url, [CAT, LAW])) for _ in range(MOST_AT_ONCE)]
            await until(lambda: made.lists.places.taken == MOST_AT_ONCE)
            async with session.post(f"{url}/embeddings", json={"input": [CAT, LAW], "model": NAME}) as response:
                assert response.status == 429
                assert int(response.headers["retry-after"]) > 0
                assert (await response.json())["error"]["code"] == "rate_limit_exceeded"
            assert (await ask(session, url, CAT))[0] == 200
        finally:
            go_on.set()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {200}
        assert made.lists.places.taken == 0


async def test_whoever_hangs_up_gives_the_place_back(minilm: MiniLM) -> None:
    made, go_on = embeddings_of(minilm), threading.Event()
    async with served(made) as url:
        made.lists.thread.submit(go_on.wait, 20)
        try:
            async with aiohttp.ClientSession() as session:
                asking = asyncio.create_task(ask(session, url, [CAT, LAW]))
                await until(lambda: made.lists.places.taken == 1)
                asking.cancel()
            await until(lambda: made.lists.places.taken == 0)
        finally:
            go_on.set()


async def test_health_answers_while_a_long_list_is_read(session: aiohttp.ClientSession, url: str) -> None:
    reading = asyncio.create_task(ask(session, url, ["many words " * 200] * 20))
    answers = 0
    while not reading.done():
        async with session.get(url.replace("/v1", "/health")) as response:
            assert response.status == 200
        answers += 1
        await asyncio.wait([reading], timeout=0.02)
    assert (await reading)[0] == 200
    assert answers > 3


async def test_it_ends_at_once_when_told_even_while_it_reads(session: aiohttp.ClientSession) -> None:
    port = free_port()
    async with running_model(port, SOMA_LISTEN="", SOMA_EMBEDDINGS_LISTEN=f"127.0.0.1:{port}") as process:
        reading = asyncio.create_task(ask(session, f"http://127.0.0.1:{port}/v1", ["many words " * 200] * 200))
        await asyncio.wait([reading], timeout=0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert time.monotonic() - began < 5
        with pytest.raises(aiohttp.ClientError):
            await reading


async def test_what_cannot_be_served_is_told_in_one_sentence(url: str) -> None:
    listen = url.removeprefix("http://").removesuffix("/v1")
    code, said = await ended(SOMA_LISTEN="", SOMA_EMBEDDINGS_LISTEN=listen)
    assert (code, said) == (1, f"The embedding model cannot start on {listen}: Address already in use.\n")
    assert await ended(SOMA_LISTEN="", SOMA_EMBEDDINGS_LISTEN="") == (
        1, "Nothing is to be served: set SOMA_LISTEN or SOMA_EMBEDDINGS_LISTEN to host:port.\n",
    )  # fmt: skip


def slow_vector(pieces: list[int]) -> Any:
    """BERT as the papers have it, in float64, head by head, with math.erf: nothing of ours."""
    with safe_open(model_folder() / "model.safetensors", "numpy") as file:
        weights = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118 - no dict

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    words, places, kinds = (
        weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
    )
    x = norm(np.stack([words[piece] + places[n] + kinds[0] for n, piece in enumerate(pieces)]), "embeddings.LayerNorm")
    for n in range(6):
        name = f"encoder.layer.{n}"
        query, key, value = (linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for head in (slice(32 * h, 32 * h + 32) for h in range(12)):
            scores = np.exp(query[:, head] @ key[:, head].T / 32**0.5)
            heads.append(scores / scores.sum(1, keepdims=True) @ value[:, head])
        seen = linear(np.concatenate(heads, axis=1), f"{name}.attention.output.dense")
        x = norm(x + seen, f"{name}.attention.output.LayerNorm")
        wide = linear(x, f"{name}.intermediate.dense")
        wide = wide * (1 + np.vectorize(erf)(wide / 2**0.5)) / 2
        x = norm(x + linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)
