"""The wire of Anthropic's messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import aiohttp
import msgspec

from services.router.models import End, Piece, Prompt
from services.router.models.anthropic_request import question, shape_by, shape_tool
from services.router.models.arriving import MOST_ANSWER_BYTES, Arriving, asked
from services.router.models.conversing import EVENTS, JSON, Notices, Request, converse
from services.router.models.events import Events
from services.router.models.whole import converse_whole

VERSION = "2023-06-01"
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Anthropic:
    """The adapter, on the connections of all."""

    session: aiohttp.ClientSession
    most_answer_bytes: int = MOST_ANSWER_BYTES
    notices: Notices = field(default_factory=Notices)

    def stream(self, prompt: Prompt) -> AsyncGenerator[Piece | End]:
        return converse_whole(self, prompt) if prompt.whole else converse(self, prompt)

    def request(self, prompt: Prompt) -> Request:
        provider = prompt.offer.provider
        headers = {
            "content-type": "application/json",
            "accept": JSON if prompt.whole else EVENTS,
            "anthropic-version": VERSION,
        }
        if provider.key:
            headers["x-api-key"] = provider.key
        body = encode(question(prompt) | {"stream": not prompt.whole})
        return Request(f"{provider.base_url}/messages", headers, body)

    def answer(self, prompt: Prompt) -> Arriving:
        tool = shape_tool(prompt.request.response_format) if shape_by(prompt) == "tool" else ""
        return Events(*asked(prompt), shape_tool=tool)
