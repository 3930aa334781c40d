"""Whose conversation it is: the agent knows, asked with the person's own token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.common.call import current
from services.common.caller import Caller
from services.common.client import passing, refusals_of
from services.common.errors import NotFound
from services.common.names import conversation_name
from soma.agent.v1.conversation_service_pb2 import GetConversationRequest

ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class Conversations:
    agent: Any
    """A ConversationServiceStub."""

    async def check(self, caller: Caller, conversation: UUID, missing: NotFound) -> None:
        """Raise `missing` unless the conversation is the caller's; without the agent Unavailable ROOM_UNAVAILABLE, or
        TooLate when it stands still."""
        request = GetConversationRequest(name=conversation_name(conversation))
        metadata = passing(caller, trace=current.get().traceparent)
        try:
            with refusals_of("agent"):
                await self.agent.GetConversation(request, metadata=metadata, timeout=ASK_S)
        except NotFound as unknown:
            raise missing from unknown
