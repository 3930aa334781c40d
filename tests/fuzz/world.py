"""What someone has before the fuzz begins: names, etags and page tokens, read from the answers to a few good calls."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from google.protobuf.message import Message

from soma.agent.v1 import chat_service_pb2 as chat_wire
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.agent.v1.conversation_pb2 import Conversation
from soma.canvas.v1 import canvas_service_pb2 as canvas_wire
from soma.canvas.v1.canvas_pb2 import Layout, Pane
from soma.common.v1.model_pb2 import Decision
from soma.console.v1 import audit_service_pb2 as audit_wire
from tests.asking import ask
from tests.house import Person
from tests.sealing import seal

NAME = re.compile(
    r"conversations/[^/]+(/[a-z]+(/[^/]+)?)*|audit/events/[0-9]+|(decisions|budgets|keys|policies|providers)/[^/]+"
)
ID = re.compile(r"\b(conversations|turns|panes|versions|events|decisions|budgets|keys|policies|providers)/[^/]+")


@dataclass(frozen=True, slots=True)
class World:
    """Names by their form, "conversations/*/panes/*"; etags and tokens as they came."""

    names: dict[str, list[str]] = field(default_factory=dict)
    etags: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def learn(self, answer: Message) -> None:
        """Keep what an answer tells: any name in any field, etags, page tokens."""
        if isinstance(answer, Decision):
            self._keep(f"decisions/{answer.id}")
        for told, value in answer.ListFields():
            if told.message_type and not told.message_type.GetOptions().map_entry:
                for one in value if told.is_repeated else [value]:
                    self.learn(one)
            elif told.name == "etag":
                self.etags.append(value)
            elif told.name == "next_page_token":
                self.tokens.append(value)
            elif isinstance(value, str) and NAME.fullmatch(value):
                self._keep(value)

    def _keep(self, name: str) -> None:
        kept = self.names.setdefault(form_of(name), [])
        kept.extend({name}.difference(kept))


def form_of(name: str) -> str:
    """conversations/018f…/panes/018e… has the form conversations/*/panes/*."""
    return ID.sub(r"\1/*", name)


async def furnish(person: Person, conversations: int = 3) -> World:
    """Some of everything for a person. What is made first is changed once, so that there are stale etags."""
    world = World()
    for n in range(conversations):
        request = conversation_wire.CreateConversationRequest(conversation=Conversation(title=f"conversation {n}"))
        name = (await person.conversations.CreateConversation(request, metadata=person.metadata)).name
        for event in [
            *await ask(person, f"question {n}", conversation=name),
            *await ask(person, "more", conversation=name),
        ]:
            world.learn(event)
        await furnish_canvas(person, world, name)
        await seal(person.house)
    await look_at_trail(person.house.person(person.tenant, "auditor", ("auditor",)), world)
    for parent in world.names["conversations/*"]:
        page = await person.chat.ListTurns(
            chat_wire.ListTurnsRequest(parent=parent, page_size=1), metadata=person.metadata
        )
        world.learn(page)
    listed = conversation_wire.ListConversationsRequest(page_size=1)
    world.learn(await person.conversations.ListConversations(listed, metadata=person.metadata))
    return world


async def look_at_trail(auditor: Person, world: World) -> None:
    """Events, the tokens of both lists. Sizes of heads are small numbers, which are drawn anyway."""
    events = audit_wire.ListAuditEventsRequest(page_size=7)
    world.learn(await auditor.audit.ListAuditEvents(events, metadata=auditor.metadata))
    heads = audit_wire.ListTreeHeadsRequest(page_size=1)
    world.learn(await auditor.audit.ListTreeHeads(heads, metadata=auditor.metadata))


async def furnish_canvas(person: Person, world: World, conversation: str) -> None:
    """Two panes, one with three versions, and a layout."""
    canvas = person.canvas
    panes = [
        await canvas.CreatePane(canvas_wire.CreatePaneRequest(parent=conversation, pane=pane), metadata=person.metadata)
        for pane in (Pane(kind="code", text="1", language="python"), Pane(kind="table", title="t", text="a,b"))
    ]
    changed = panes[0]
    world.learn(changed)
    for text in ("2", "3"):
        request = canvas_wire.UpdatePaneRequest(pane=Pane(name=changed.name, text=text, etag=changed.etag))
        request.update_mask.paths.append("text")
        changed = await canvas.UpdatePane(request, metadata=person.metadata)
    layout = canvas_wire.UpdateLayoutRequest(layout=Layout(name=f"{conversation}/layout", active=changed.name))
    layout.update_mask.paths.append("active")
    for answer in (
        changed,
        panes[1],
        await canvas.UpdateLayout(layout, metadata=person.metadata),
        await canvas.ListPanes(
            canvas_wire.ListPanesRequest(parent=conversation, page_size=1), metadata=person.metadata
        ),
        await canvas.ListPaneVersions(
            canvas_wire.ListPaneVersionsRequest(parent=changed.name, page_size=1), metadata=person.metadata
        ),
    ):
        world.learn(answer)
