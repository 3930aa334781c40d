"""All adapters, by the kind of provider that they speak to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.router.models import Adapter
from services.router.models.anthropic import Anthropic
from services.router.models.conversing import open_session
from services.router.models.litellm import open_litellm
from services.router.models.openai import OpenAI
from services.router.models.scripted import Scripted


@asynccontextmanager
async def open_adapters() -> AsyncIterator[Mapping[str, Adapter]]:
    """One pool of connections for all that need it; litellm's process begins with its first call."""
    async with open_session() as session, open_litellm() as litellm:
        yield {
            "openai": OpenAI(session),
            "anthropic": Anthropic(session),
            "litellm": litellm,
            "scripted": Scripted(),
        }
