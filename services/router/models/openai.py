"""The wire of OpenAI's chat completions: OpenAI, Groq, Hugging Face, Mistral, vLLM, Ollama, llama.cpp and the like."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec

from services.router.models import End, Piece, Prompt
from services.router.models.arriving import MOST_ANSWER_BYTES, Arriving, asked
from services.router.models.chunks import Chunks
from services.router.models.conversing import Notices, Request, converse, open_session
from services.router.models.openai_request import question

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The adapter. The session is one for all providers, so that connections are kept and bounded."""

    session: aiohttp.ClientSession
    most_answer_bytes: int = MOST_ANSWER_BYTES
    notices: Notices = field(default_factory=Notices)

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        return converse(self, prompt)

    def request(self, prompt: Prompt) -> Request:
        provider = prompt.offer.provider
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        if provider.key:
            headers["authorization"] = f"Bearer {provider.key}"
        body = question(prompt) | {"stream": True}
        if provider.asks_usage:
            body["stream_options"] = {"include_usage": True}
        return Request(f"{provider.base_url}/chat/completions", headers, encode(body))

    def answer(self, prompt: Prompt) -> Arriving:
        return Chunks(*asked(prompt))


@asynccontextmanager
async def open_openai() -> AsyncIterator[OpenAI]:
    """The adapter with connections of its own."""
    async with open_session() as session:
        yield OpenAI(session)
