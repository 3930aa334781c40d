"""What people do with turns: ask, watch, cancel, read. One method a deed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from services.agent import prompt, store, told
from services.agent.names import no_turn, turn_ids, turn_name
from services.agent.transcript import HEARTBEAT
from services.agent.turn import Agent, Turn
from services.agent.watching import LAST, LOOK_S, Elsewhere, check_sequence
from services.common import events, pages
from services.common.caller import Caller
from services.common.clock import new_id
from services.common.db import Transaction
from services.common.errors import Conflict, Exhausted, Unavailable
from services.common.names import conversation_id, conversation_name, no_conversation
from services.common.once import once
from services.common.telemetry import log
from soma.agent.v1 import chat_service_pb2 as wire
from soma.agent.v1.chat_event_pb2 import Accepted, ChatEvent
from soma.agent.v1.conversation_pb2 import Turn as TurnResource

T = TypeVar("T")

CANCEL_S = 5.0
DEFAULT_TIER = "standard"


@dataclass(frozen=True, slots=True)
class Chat:
    """The turns that run here, and the way to those that run elsewhere or have ended."""

    agent: Agent
    elsewhere: Elsewhere
    most: int
    """How many turns may run at once."""
    turns: dict[UUID, Turn] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    interrupting: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, caller: Caller, request: wire.ChatRequest) -> AsyncIterator[ChatEvent]:
        """Admit a turn, or find the one that this request has begun before; then follow it from its first event.
        Who hangs up while it is being admitted does not stop it."""
        accepted = await asyncio.shield(self._keep(self._admit(caller, request), "admission"))
        async for event in self.watch(caller, accepted.turn, 0):
            yield event

    async def watch(self, caller: Caller, name: str, after: int) -> AsyncIterator[ChatEvent]:
        """Events numbered above `after`, to the last. Raises NotFound TURN_UNKNOWN, Invalid SEQUENCE_UNKNOWN."""
        ids = turn_ids(name)
        turn = self._running(caller, ids)
        if turn:
            check_sequence(after, len(turn.transcript.events))
            if after == len(turn.transcript.events) > 0 and not turn.transcript.ended:
                yield HEARTBEAT  # who watches knows at once that they do, however long the silence
            async for event in turn.transcript.follow(after):
                after = event.sequence or after
                yield event
                if event.WhichOneof("event") in LAST:
                    return
        async for event in self.elsewhere.watch(caller, ids, after):
            yield event

    async def cancel(self, caller: Caller, name: str) -> TurnResource:
        """Stop a running turn wherever it runs, wait for its end, and return it as it is then."""
        ids = turn_ids(name)
        async with self.agent.db.tenant(caller) as tx:
            tx.about(name)
            if await store.turn(tx, ids) is None:
                raise no_turn(name)
            await store.ask_cancel(tx, ids)
        await self.stop(caller, ids)
        async with self.agent.db.upkeep(caller) as tx:
            return known(await store.turn(tx, ids), name)

    async def stop(self, caller: Caller, ids: tuple[UUID, UUID]) -> None:
        """Wait until a turn that was asked to cancel has ended, five seconds at most."""
        turn = self._running(caller, ids)
        async with asyncio.timeout(CANCEL_S):
            if turn:
                turn.stop("cancelled")
                await turn.over.wait()
                return
            while (said := await self.elsewhere.said(caller, ids)) and said[0]:
                await asyncio.sleep(LOOK_S / 4)

    async def get(self, caller: Caller, name: str) -> TurnResource:
        async with self.agent.db.tenant(caller) as tx:
            return known(await store.turn(tx, turn_ids(name)), name)

    async def page(self, caller: Caller, request: wire.ListTurnsRequest) -> wire.ListTurnsResponse:
        """One page, newest first, ended early where it would be too large."""
        conversation = conversation_id(request.parent)
        before = pages.before(request.page_token, request.parent)
        size = request.page_size or pages.DEFAULT_SIZE
        async with self.agent.db.tenant(caller) as tx:
            if await store.conversation(tx, conversation) is None:
                raise no_conversation(request.parent)
            page, more = await store.turns(tx, conversation, before, size)
        token = pages.token_after(turn_ids(page[-1].name)[1], request.parent) if more and page else ""
        return wire.ListTurnsResponse(turns=page, next_page_token=token)

    async def drain(self, grace_s: float) -> None:
        """Admit no more; give the running turns a while; then end them in band."""
        self.closing.set()
        await self._until_idle(grace_s)
        self.interrupting.set()
        for turn in self.turns.values():
            turn.stop("interrupted")
        await self._until_idle(grace_s)

    async def _until_idle(self, within_s: float) -> None:
        """Waits for what begins meanwhile, too: what was being admitted runs then."""
        now = asyncio.get_running_loop().time
        over = now() + within_s
        while self.tasks and (left := over - now()) > 0:
            await asyncio.wait(self.tasks, timeout=left)

    async def _admit(self, caller: Caller, request: wire.ChatRequest) -> Accepted:
        """Write the turn down, and let it run: from here it does not need the caller."""
        self._check_open()
        db = self.agent.db
        async with db.tenant(caller) as tx, once(tx, request.request_id, request, Accepted) as answer:
            if answer.known is not None:
                return answer.known
            conversation = await enter_conversation(tx, request)
            ids, tier = (conversation, new_id()), request.tier or DEFAULT_TIER
            accepted = Accepted(turn=turn_name(*ids), conversation=conversation_name(conversation))
            await self._write(tx, ids, request.text, tier, accepted)
            answer.keep(accepted)
        self._run(self.agent.begin(ids, caller, request.text, tier, ChatEvent(accepted=accepted)))
        return accepted

    async def _write(
        self, tx: Transaction, ids: tuple[UUID, UUID], question: str, tier: str, accepted: Accepted
    ) -> None:
        tx.about(accepted.turn)
        first = ChatEvent(sequence=1, accepted=accepted)
        other = await store.add_turn(tx, ids, question, tier, first, tx.clock.now(), self.agent.holder)
        if other:
            running = turn_name(ids[0], other)
            message = "A question of this conversation is still being answered. Wait for it, or cancel it."
            raise Conflict("TURN_RUNNING", message, turn=running)
        await events.append(tx, told.asked(ids, question), text=question)

    def _check_open(self) -> None:
        if self.closing.is_set():
            raise Unavailable("ROOM_UNAVAILABLE", "The agent is restarting. Try again in a moment.", retry_after_s=1)
        if len(self.turns) >= self.most:
            message = "The agent answers as many questions as it can. Try again in a moment."
            raise Exhausted("ROOM_BUSY", message, retry_after_s=2)

    def _run(self, turn: Turn) -> None:
        if self.interrupting.is_set():
            turn.stop("interrupted")
        self.turns[turn.ids[1]] = turn
        self._keep(self._answer(turn), turn.name)

    def _keep(self, work: Coroutine[None, None, T], name: str) -> asyncio.Task[T]:
        """Let work go on by itself. Drain waits for it."""
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self._let_go)
        return task

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever waits for it, if anyone still does

    async def _answer(self, turn: Turn) -> None:
        """One turn to its end. A fault of ours is told in the log; the lease runs out and the turn ends by that."""
        try:
            await self.agent.answer(turn)
        except Exception as fault:
            log().error("turn broke", turn=turn.name, exc_info=fault)
        finally:
            del self.turns[turn.ids[1]]

    def _running(self, caller: Caller, ids: tuple[UUID, UUID]) -> Turn | None:
        turn = self.turns.get(ids[1])
        mine = turn and turn.ids == ids and turn.ours
        same = turn and (turn.caller.tenant, turn.caller.subject) == (caller.tenant, caller.subject)
        return turn if mine and same else None


async def enter_conversation(tx: Transaction, request: wire.ChatRequest) -> UUID:
    """The conversation to go on with, held until commit; or a new one, titled by its first question."""
    now = tx.clock.now()
    if not request.conversation:
        conversation = new_id()
        await store.add_conversation(tx, conversation, prompt.title_of(request.text), now)
        await events.append(tx, told.of_conversation("created", conversation))
        return conversation
    conversation = conversation_id(request.conversation)
    found = await store.locked(tx, conversation)
    if found is None:
        raise no_conversation(request.conversation)
    await store.touch(tx, conversation, found[0] or prompt.title_of(request.text), now)
    return conversation


def known(turn: TurnResource | None, name: str) -> TurnResource:
    """The turn. Raises NotFound TURN_UNKNOWN when there is none."""
    if turn is None:
        raise no_turn(name)
    return turn
