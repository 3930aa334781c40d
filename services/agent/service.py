"""The room's services over gRPC: take a request apart, hand it to the deed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc import aio
from grpc_health.v1 import health_pb2

from services.agent.chat import Chat
from services.agent.conversations import Conversations
from services.common.call import caller
from services.common.client import refusals_of
from services.common.db import Database
from services.common.errors import TooLate, Unavailable
from soma.agent.v1 import chat_service_pb2 as chat_wire
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.agent.v1 import health_service_pb2 as health_wire
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.agent.v1.chat_service_pb2_grpc import ChatServiceServicer
from soma.agent.v1.conversation_pb2 import Conversation, Turn
from soma.agent.v1.conversation_service_pb2_grpc import ConversationServiceServicer
from soma.agent.v1.health_service_pb2_grpc import HealthServiceServicer

Context = aio.ServicerContext[Any, Any]
HEALTH_S = 2.0
SERVING = health_pb2.HealthCheckResponse.SERVING


class ChatService(ChatServiceServicer):
    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def Chat(self, request: chat_wire.ChatRequest, context: Context) -> AsyncIterator[ChatEvent]:
        async for event in self._chat.ask(caller(), request):
            yield event

    async def WatchTurn(self, request: chat_wire.WatchTurnRequest, context: Context) -> AsyncIterator[ChatEvent]:
        async for event in self._chat.watch(caller(), request.name, request.after_sequence):
            yield event

    async def CancelTurn(self, request: chat_wire.CancelTurnRequest, context: Context) -> Turn:
        return await self._chat.cancel(caller(), request.name)

    async def GetTurn(self, request: chat_wire.GetTurnRequest, context: Context) -> Turn:
        return await self._chat.get(caller(), request.name)

    async def ListTurns(self, request: chat_wire.ListTurnsRequest, context: Context) -> chat_wire.ListTurnsResponse:
        return await self._chat.page(caller(), request)


class ConversationService(ConversationServiceServicer):
    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def CreateConversation(
        self, request: conversation_wire.CreateConversationRequest, context: Context
    ) -> Conversation:
        return await self._conversations.create(caller(), request)

    async def GetConversation(
        self, request: conversation_wire.GetConversationRequest, context: Context
    ) -> Conversation:
        return await self._conversations.get(caller(), request.name)

    async def ListConversations(
        self, request: conversation_wire.ListConversationsRequest, context: Context
    ) -> conversation_wire.ListConversationsResponse:
        return await self._conversations.page(caller(), request)

    async def UpdateConversation(
        self, request: conversation_wire.UpdateConversationRequest, context: Context
    ) -> Conversation:
        return await self._conversations.update(caller(), request)

    async def DeleteConversation(
        self, request: conversation_wire.DeleteConversationRequest, context: Context
    ) -> conversation_wire.DeleteConversationResponse:
        return await self._conversations.delete(caller(), request)


class HealthService(HealthServiceServicer):
    """Can a chat be answered now?"""

    def __init__(self, db: Database, router: Any, models: str) -> None:
        self._db, self._router, self._models = db, router, models

    async def CheckHealth(
        self, request: health_wire.CheckHealthRequest, context: Context
    ) -> health_wire.CheckHealthResponse:
        try:
            async with asyncio.timeout(HEALTH_S):
                await self._db.look("SELECT 1")
                with refusals_of("router"):
                    answer = await self._router.Check(health_pb2.HealthCheckRequest(service=self._models))
        except (TimeoutError, TooLate) as late:
            message = "A part of the mesh does not answer in time. Try again in a moment."
            raise Unavailable("ROOM_UNAVAILABLE", message, retry_after_s=1) from late
        if answer.status != SERVING:
            raise Unavailable("MODEL_UNAVAILABLE", "The router has no open model.", retry_after_s=1)
        return health_wire.CheckHealthResponse(status="ok")
