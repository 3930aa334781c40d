"""The wire of OpenAI's chat completions: OpenAI, Groq, Hugging Face, Mistral, vLLM, Ollama, llama.cpp and the like."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import aiohttp
import msgspec

from services.router.models import End, Piece, Prompt, tools_as_json
from services.router.models.arriving import MOST_ANSWER_BYTES, Arriving, asked
from services.router.models.chunks import Chunks
from services.router.models.conversing import EVENTS, JSON, Notices, Request, converse
from services.router.models.openai_request import question
from services.router.models.whole import converse_whole

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The adapter. The session is one for all providers, so that connections are kept and bounded."""

    session: aiohttp.ClientSession
    most_answer_bytes: int = MOST_ANSWER_BYTES
    notices: Notices = field(default_factory=Notices)

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        return tools_as_json.stream(self._ask, prompt) if tools_as_json.is_for(prompt) else self._ask(prompt)

    def request(self, prompt: Prompt) -> Request:
        provider = prompt.offer.provider
        headers = {"content-type": "application/json", "accept": JSON if prompt.whole else EVENTS}
        if provider.key:
            headers["authorization"] = f"Bearer {provider.key}"
        body = question(prompt) | {"stream": not prompt.whole}
        if provider.asks_usage and not prompt.whole:
            body["stream_options"] = {"include_usage": True}
        return Request(f"{provider.base_url}/chat/completions", headers, encode(body))

    def answer(self, prompt: Prompt) -> Arriving:
        return Chunks(*asked(prompt))

    def _ask(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        return converse_whole(self, prompt) if prompt.whole else converse(self, prompt)
