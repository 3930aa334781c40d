"""What people do with conversations. One method a deed, one transaction a method."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.agent import store, told
from services.agent.canvas import Canvas
from services.agent.chat import Chat
from services.agent.names import turn_ids, turn_name
from services.common import events, pages
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.db import Database, Transaction
from services.common.errors import Conflict, Invalid
from services.common.names import conversation_id, conversation_name, no_conversation
from services.common.once import once
from soma.agent.v1 import conversation_service_pb2 as wire
from soma.agent.v1.conversation_pb2 import Conversation


class StillPanes(Exception):  # noqa: N818 - tells what is to be done first
    """The conversation may go, and its panes have to go before it."""


@dataclass(frozen=True, slots=True)
class Conversations:
    db: Database
    chat: Chat
    canvas: Canvas

    async def create(self, caller: Caller, request: wire.CreateConversationRequest) -> Conversation:
        async with (
            self.db.tenant(caller) as tx,
            once(tx, request.request_id, request, Conversation) as answer,
        ):
            if answer.known is not None:
                return await self._now(tx, answer.known.name)
            conversation = new_id()
            tx.about(conversation_name(conversation))
            title = request.conversation.title
            await store.add_conversation(tx, conversation, title, tx.clock.now())
            await events.append(tx, told.titled("created", conversation, title), text=title)
            return await self._now(tx, answer.keep(Conversation(name=conversation_name(conversation))).name)

    async def get(self, caller: Caller, name: str) -> Conversation:
        async with self.db.tenant(caller) as tx:
            return await self._now(tx, name)

    async def page(self, caller: Caller, request: wire.ListConversationsRequest) -> wire.ListConversationsResponse:
        before = pages.before(request.page_token, "conversations")
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.db.tenant(caller) as tx:
            found = await store.conversations(tx, before, size + 1)
        page = found[:size]
        token = pages.token_after(conversation_id(page[-1].name), "conversations") if len(found) > size else ""
        return wire.ListConversationsResponse(conversations=page, next_page_token=token)

    async def update(self, caller: Caller, request: wire.UpdateConversationRequest) -> Conversation:
        check_mask(request.update_mask.paths)
        asked = request.conversation
        conversation = conversation_id(asked.name)
        async with (
            self.db.tenant(caller) as tx,
            once(tx, request.request_id, request, Conversation) as answer,
        ):
            tx.about(asked.name)
            if answer.known is not None:
                return await self._now(tx, asked.name)
            found = await store.locked(tx, conversation)
            if found is None:
                raise no_conversation(asked.name)
            check_etag(asked.etag, str(found[1]))
            await store.retitle(tx, conversation, asked.title, tx.clock.now())
            await events.append(tx, told.titled("updated", conversation, asked.title), text=asked.title)
            return await self._now(tx, answer.keep(Conversation(name=asked.name)).name)

    async def delete(self, caller: Caller, request: wire.DeleteConversationRequest) -> wire.DeleteConversationResponse:
        """What runs in the conversation is ended first, and what was asked meanwhile, until the call's deadline. Then
        its panes go, once, since who asks on must not hold that up; then it goes; then what was written since."""
        emptied = False
        while True:
            try:
                answer = await self._drop(caller, request, emptied=emptied)
            except Conflict:
                await self._stop_turn(caller, conversation_id(request.name))
            except StillPanes:
                await self.canvas.empty(caller, request.name)
                emptied = True
            else:
                if emptied:
                    await self.canvas.sweep(caller, request.name)
                return answer

    async def _drop(
        self, caller: Caller, request: wire.DeleteConversationRequest, *, emptied: bool
    ) -> wire.DeleteConversationResponse:
        """Delete, while no question can be asked. Raises Conflict TURN_RUNNING; StillPanes, with nothing done, when all
        but the panes is ready to go."""
        conversation = conversation_id(request.name)
        async with (
            self.db.tenant(caller) as tx,
            once(tx, request.request_id, request, wire.DeleteConversationResponse) as answer,
        ):
            tx.about(request.name)
            if answer.known is not None:
                return answer.known
            if await store.locked(tx, conversation) is None:
                raise no_conversation(request.name)
            if running := await store.running(tx, conversation):
                message = "A question of this conversation is still being answered. Cancel it first."
                raise Conflict("TURN_RUNNING", message, turn=turn_name(conversation, running))
            if not emptied:
                raise StillPanes
            await store.drop_conversation(tx, conversation)
            await events.append(tx, told.of_conversation("deleted", conversation))
            return answer.keep(wire.DeleteConversationResponse())

    async def _now(self, tx: Transaction, name: str) -> Conversation:
        """As it is now. Raises NotFound CONVERSATION_UNKNOWN."""
        return known(await store.conversation(tx, conversation_id(name)), name)

    async def _stop_turn(self, caller: Caller, conversation: UUID) -> None:
        """End the turn that runs in the conversation, if there is one."""
        async with self.db.upkeep(caller) as tx:
            found = await store.conversation(tx, conversation)
            running = turn_ids(found.running_turn) if found and found.running_turn else None
            if running:
                await store.ask_cancel(tx, running)
        if running:
            await self.chat.stop(caller, running)


def check_mask(paths: object) -> None:
    """Raise Invalid UPDATE_MASK_INVALID unless the mask names the title alone."""
    if list(paths) != ["title"]:  # type: ignore[call-overload]
        message = "Say what changes with updateMask=title: the title is all that can be changed."
        raise Invalid("UPDATE_MASK_INVALID", message)


def check_etag(sent: str, newest: str) -> None:
    """Raise Conflict ETAG_STALE when an etag was sent that is not the newest."""
    if sent and sent != newest:
        message = "Someone changed this conversation meanwhile. Read it again, then change it."
        raise Conflict("ETAG_STALE", message, etag=newest)


def known(conversation: Conversation | None, name: str) -> Conversation:
    """The conversation. Raises NotFound CONVERSATION_UNKNOWN when there is none."""
    if conversation is None:
        raise no_conversation(name)
    return conversation
