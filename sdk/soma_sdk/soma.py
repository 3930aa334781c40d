"""The mesh, as a program sees it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from betterproto import ServiceStub

from soma_api.soma.agent.v1 import ChatRequest
from soma_sdk.answer import Answer, whole
from soma_sdk.audit import Audit
from soma_sdk.calls import Calls
from soma_sdk.canvas import Canvas
from soma_sdk.lines import Lines
from soma_sdk.svid import Files, Svid
from soma_sdk.tokens import Source, Tokens
from soma_sdk.turn import Turn

S = TypeVar("S", bound=ServiceStub)


class Soma:
    """A person's way into one mesh. Made by `connect`; belongs to the event loop that it was made in."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.canvas = Canvas(calls)
        self.audit = Audit(calls)

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: str, *, svid: Files, token: Source | None, server_name: str | None = None
    ) -> AsyncIterator[Soma]:
        """A way to `address` (host:port) over mutual TLS 1.3. Dials when first used, and again when it has to.

        svid: a folder with key.pem, cert.pem and ca.pem, or the three files; read again when they change.
        token: the person's, or what gives one (soma_sdk.tokens).
        server_name: the name in the other end's certificate, when it is not the address's.
        """
        lines = Lines(address, Svid.of(svid), server_name)
        try:
            yield cls(Calls(lines, Tokens(token)))
        finally:
            lines.close()

    def chat(self, text: str, *, conversation: str = "", tier: str = "", request_id: str | None = None) -> Turn:
        """Ask a question. Nothing is sent before the first event is asked for.

        The same `request_id` (a UUID) gives the same turn for a day, from its first event.
        """
        request_id = request_id or str(uuid.uuid4())
        return Turn(self._calls, ChatRequest(conversation=conversation, text=text, request_id=request_id, tier=tier))

    def watch(self, turn: str, *, after: int = 0) -> Turn:
        """A turn that runs or has ended, by its name: the events after a sequence."""
        return Turn(self._calls, None, turn, after)

    async def ask(self, text: str, *, conversation: str = "", tier: str = "") -> Answer:
        """Ask, and wait for the whole answer. Raises Failed when the turn fails."""
        return await whole(self.chat(text, conversation=conversation, tier=tier))

    def stub(self, kind: type[S]) -> S:
        """Any service of the contract: `soma.stub(ConversationServiceStub)`. Its calls have the token, a deadline, our
        errors, a request_id where there is place for one, and tries where a repeat is harmless."""
        return self._calls.stub(kind)
