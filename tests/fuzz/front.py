"""Bodies of the OpenAI front door, which its contract calls bytes: good ones, odd ones, and such as are no JSON; and
what may stand in its answers."""

from __future__ import annotations

import json
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.text import among, short

RAW = "@raw@"
"""Stands where a piece of JSON is to come that json.dumps would not write."""
PIECES = (
    "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-0", "01", "9" * 5000, "0." + "1" * 5000, '"\\ud800"', '"\\u0000"',
    "[" * 600 + "]" * 600, "[" * 100_000, '{"a":' * 600 + "1" + "}" * 600, '{"a":1,"a":2}', "'x'", "", "// x", "true",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**64, 0.5, -0.0, 1e308, "", "auto", "\0", "😀" * 300, "x" * 70_000, [], [None], [[]],
    [{}], ["a"] * 300, {}, {"type": "text"}, {"type": "json_schema"}, {"type": "function"}, {"role": "user"},
    [{"type": "function", "function": {"name": "x"}}] * 129,
)  # fmt: skip
NO_JSON = (
    b"", b" ", b"\0", b"null", b"[]", b'"x"', b"{", b"}", b"{}{}", b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
    b'{"model":"\xff"}', b'{"model":"soma/auto","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
    b"[" * 100_000, b'{"messages":' * 100_000, b"-", b"\xff" * 99, b"{'model': 1}", b'{"model":"soma/auto",}',
)  # fmt: skip
HINTS = (
    {"soma.max_cost_usd": "1"}, {"soma.max_cost_usd": "1e400"}, {"soma.max_cost_usd": "1e-400"},
    {"soma.max_cost_usd": "NaN"}, {"soma.max_cost_usd": "sNaN123"}, {"soma.max_cost_usd": "9" * 5000},
    {"soma.max_cost_usd": "1e999999999999999999"}, {"soma.max_latency_ms": "Infinity"}, {"soma.max_latency_ms": "-1"},
    {"soma.max_latency_ms": "١"}, {"soma.min_quality": "nan"}, {"soma.min_quality": "1e400"},
    {"soma.min_quality": "0_1"}, {"soma.task": "x" * 257}, {"soma.task": "\0"}, {"soma.task": "mails"},
    {"soma.task_class": "code"}, {"soma.sensitivity": "top"}, {"soma.sensitivity": "secret"},
    {"soma.jurisdictions": "here, eu"}, {"soma.jurisdictions": "x," * 40}, {"soma.": "x"}, {"soma.x": ""}, {"x": "y"},
)  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
FAULTS = frozenset({"unexpected", "store_unavailable", "room_unavailable", "deadline_exceeded"})
"""Codes of OpenAI's errors that blame us."""


def bodies(*, embeds: bool) -> SearchStrategy[HttpBody]:
    """Half of them good."""
    good = vectors() if embeds else chats()
    written = good.map(lambda body: json.dumps(body).encode())
    return st.one_of(written, written.map(bytes), spoiled(good), st.one_of(spoiled(good), among(NO_JSON))).map(
        lambda data: HttpBody(content_type="application/json", data=data)
    )


def chats() -> SearchStrategy[dict[str, Any]]:
    needed = {"model": models(), "messages": conversations()}
    free = {
        "temperature": st.floats(0, 2),
        "max_completion_tokens": among([1, 2, 500]),
        "stop": among(["x", ["a", "b"]]),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "response_format": among([{"type": "text"}, {"type": "json_object"}]),
        "metadata": among(HINTS),
        "user": short(50),
    }
    told: list[dict[str, Any]] = [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]
    called: list[dict[str, Any]] = [
        {},
        {"tools": [TOOL]},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL] * 128},
    ]
    return st.tuples(st.fixed_dictionaries(needed, optional=free), among(told), among(called)).map(
        lambda drawn: drawn[0] | drawn[1] | drawn[2]
    )


def models() -> SearchStrategy[str]:
    there = ["soma/auto", "soma/standard", "soma/slm", "scripted-premium", "scripted/scripted-slm"]
    return st.one_of(among(there), among(there), among(["gpt-x", "openai/gpt-x", "", "soma/", "\0", "x" * 70_000]))


def conversations() -> SearchStrategy[list[dict[str, Any]]]:
    """A question, often with something before it."""
    text = st.one_of(short(200), among(["hello", "x" * 9000]))
    parts = text.map(lambda said: [{"type": "text", "text": said}, PICTURE])
    asked = st.one_of(text, parts).map(lambda said: {"role": "user", "content": said})
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{"}}
    earlier: list[dict[str, Any]] = [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain", "tool_call_id": "c"},
        {"role": "developer", "content": [{"type": "text", "text": "x"}]},
    ]
    return st.tuples(st.lists(among(earlier), max_size=3), asked).map(lambda drawn: [*drawn[0], drawn[1]])


def vectors() -> SearchStrategy[dict[str, Any]]:
    inputs = st.one_of(short(200), st.lists(short(50), max_size=4), among([[1, 2], [[1]], ["x"] * 257, "x" * 70_000]))
    needed = {"model": among(["soma/embedding", "all-MiniLM-L6-v2", "scripted-slm", "x"]), "input": inputs}
    free = {"encoding_format": among(["float", "base64"]), "dimensions": among([384, 1, 0])}
    return st.fixed_dictionaries(needed, optional=free)


def spoiled(good: SearchStrategy[dict[str, Any]]) -> SearchStrategy[bytes]:
    """One field, or one of the first message's, is something else."""
    values = st.one_of(among(ODD).map(json.dumps), among(PIECES))
    return st.tuples(good, st.integers(0, 99), values).map(lambda drawn: with_piece(*drawn))


def with_piece(body: dict[str, Any], place: int, piece: str) -> bytes:
    inner = [first for first in body.get("messages", ())[:1] if place % 3 == 0]
    target = dict(inner[0]) if inner else dict(body)
    target[sorted(target)[place % len(target)]] = RAW
    changed = body | {"messages": [target]} if inner else target
    return json.dumps(changed).replace(f'"{RAW}"', piece).encode()


def blamed(data: bytes) -> str:
    """What is wrong with a piece of an answer: it is no JSON, or tells of a fault of ours. Empty when nothing is."""
    text = data.decode()
    whole = [text] if text.startswith("{") else [line[6:] for line in text.split("\n\n") if line.startswith("data: ")]
    for told in whole:
        error = {} if told == "[DONE]" else json.loads(told).get("error", {})
        if error and error["code"] in FAULTS:
            return f"in band {error['code']}: {error['message']}"
    return ""
