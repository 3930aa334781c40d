"""Vectors as OpenAI's clients ask for them and hear them. Pure."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from sys import byteorder
from typing import Any

import msgspec

from services.router.covers import MINILM
from services.router.front.errors import wrong
from services.router.front.names import Menu
from services.router.front.wire import Embedding, parse, read_embedding

MOST_INPUTS = 256
DIMENSIONS = {MINILM: 384}
"""Of models whose vectors have a length that is known beforehand."""
MOST_BODY_BYTES = 4 * 1024 * 1024 - 1024
"""What the edge lets through."""


@dataclass(frozen=True, slots=True)
class AskedVectors:
    model: str
    """As the router knows it."""
    inputs: list[str]
    as_base64: bool


def read_vectors(body: bytes, menu: Menu) -> AskedVectors:
    """The request that the bytes are. Raises Invalid with the field as OpenAI calls it, NotFound MODEL_UNKNOWN."""
    asked: Embedding = parse(read_embedding, body)
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    texts = [text for text in inputs if isinstance(text, str)]
    if len(texts) < len(inputs):
        raise wrong("input", "Numbers of tokens are not understood here. Send text.")
    if not texts or not all(texts):
        raise wrong("input", "There is nothing to read. Send one text or several, none of them empty.")
    if len(texts) > MOST_INPUTS:
        raise wrong("input", f"There are more than {MOST_INPUTS} texts. Send them in several calls.")
    model = menu.embedding(asked.model)
    if asked.dimensions not in (None, DIMENSIONS.get(model)):
        raise wrong("dimensions", "Vectors cannot be shortened here. Leave it out.")
    return AskedVectors(model, texts, asked.encoding_format == "base64")


def body_of(asked: AskedVectors, model: str, vectors: Sequence[Sequence[float]], input_tokens: int) -> bytes:
    """The answer. Raises Invalid when it is too large to be sent."""
    form: Callable[[Sequence[float]], Any] = packed if asked.as_base64 else list
    data = [{"object": "embedding", "index": n, "embedding": form(vector)} for n, vector in enumerate(vectors)]
    counted = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    body = msgspec.json.encode({"object": "list", "data": data, "model": model, "usage": counted})
    if len(body) > MOST_BODY_BYTES:
        raise wrong("input", "The vectors are larger than 4 MiB. Send fewer texts, or ask for base64.")
    return body


def packed(vector: Sequence[float]) -> str:
    """float32, little-endian."""
    numbers = array("f", vector)
    if byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()
