"""Short ways to panes in tests, and a document that follows a watch by the letter of RFC 6902."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict

from services.common.clock import new_id
from soma.agent.v1 import conversation_service_pb2 as agent_wire
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import CanvasEvent, Layout, Pane, PaneVersion
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub
from tests.house import House, Person

DEADLINE_S = 30.0


async def conversation(person: Person) -> str:
    """A new one's name."""
    request = agent_wire.CreateConversationRequest()
    return (await person.conversations.CreateConversation(request, metadata=person.metadata)).name


def at(person: Person, room: str) -> Person:
    """The same person, calling another canvas room."""
    return replace(person, canvas=CanvasServiceStub(person.house.channel(room)))


async def create(person: Person, parent: str, text: str = "", request_id: str | None = None, **fields: Any) -> Pane:
    request = wire.CreatePaneRequest(parent=parent, pane=Pane(text=text, **fields), request_id=request_id)
    return await person.canvas.CreatePane(request, metadata=person.metadata)


async def get(person: Person, name: str) -> Pane:
    return await person.canvas.GetPane(wire.GetPaneRequest(name=name), metadata=person.metadata)


async def listed(person: Person, parent: str, page_size: int = 100) -> list[Pane]:
    """All, page by page."""
    found, token = list[Pane](), ""
    while True:
        request = wire.ListPanesRequest(parent=parent, page_size=page_size, page_token=token)
        page = await person.canvas.ListPanes(request, metadata=person.metadata)
        found += page.panes
        token = page.next_page_token
        if not token:
            return found


async def update(person: Person, name: str, etag: str = "", request_id: str | None = None, **fields: Any) -> Pane:
    """Change the fields that are given."""
    pane, mask = Pane(name=name, etag=etag, **fields), FieldMask(paths=list(fields))
    request = wire.UpdatePaneRequest(pane=pane, update_mask=mask, request_id=request_id)
    return await person.canvas.UpdatePane(request, metadata=person.metadata)


async def delete(person: Person, name: str, etag: str = "", request_id: str | None = None) -> None:
    request = wire.DeletePaneRequest(name=name, etag=etag, request_id=request_id)
    await person.canvas.DeletePane(request, metadata=person.metadata)


async def versions(person: Person, name: str, page_size: int = 100) -> list[PaneVersion]:
    """All, page by page."""
    found, token = list[PaneVersion](), ""
    while True:
        request = wire.ListPaneVersionsRequest(parent=name, page_size=page_size, page_token=token)
        page = await person.canvas.ListPaneVersions(request, metadata=person.metadata)
        found += page.versions
        token = page.next_page_token
        if not token:
            return found


async def version(person: Person, name: str) -> PaneVersion:
    return await person.canvas.GetPaneVersion(wire.GetPaneVersionRequest(name=name), metadata=person.metadata)


async def restore(person: Person, name: str, etag: str = "") -> Pane:
    request = wire.RestorePaneVersionRequest(name=name, etag=etag)
    return await person.canvas.RestorePaneVersion(request, metadata=person.metadata)


async def layout(person: Person, parent: str) -> Layout:
    return await person.canvas.GetLayout(wire.GetLayoutRequest(name=f"{parent}/layout"), metadata=person.metadata)


async def arrange(person: Person, parent: str, etag: str = "", **fields: Any) -> Layout:
    new, mask = Layout(name=f"{parent}/layout", etag=etag, **fields), FieldMask(paths=list(fields))
    request = wire.UpdateLayoutRequest(layout=new, update_mask=mask)
    return await person.canvas.UpdateLayout(request, metadata=person.metadata)


@dataclass
class Turn:
    """One turn of the agent, as the canvas sees it: it writes one pane, better and better."""

    person: Person
    parent: str
    room: str = "canvas"
    name: str = ""
    turn: str = ""
    etag: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or f"{self.parent}/panes/{new_id()}"
        self.turn = self.turn or f"{self.parent}/turns/{new_id()}"

    async def write(self, text: str, finished: bool = False, **fields: Any) -> Pane:
        """Goes on with the etag that the last answer gave, unless another is given."""
        etag = fields.pop("etag", self.etag)
        pane = Pane(name=self.name, text=text, etag=etag, **fields)
        request = wire.WritePaneRequest(pane=pane, turn=self.turn, finished=finished)
        agent = CanvasServiceStub(self.person.house.channel(self.room, "agent"))
        written = await agent.WritePane(request, metadata=self.person.metadata)
        self.etag = written.etag
        return written


async def delete_canvas(person: Person, parent: str) -> None:
    """As the agent does when a conversation is deleted."""
    agent = CanvasServiceStub(person.house.channel("canvas", "agent"))
    await agent.DeleteCanvas(wire.DeleteCanvasRequest(parent=parent), metadata=person.metadata)


@asynccontextmanager
async def watching(person: Person, parent: str, after: int = 0) -> AsyncIterator[AsyncIterator[CanvasEvent]]:
    """The events of a watch, which is hung up at the end."""
    request = wire.WatchCanvasRequest(parent=parent, after_revision=after)
    call = person.canvas.WatchCanvas(request, metadata=person.metadata, timeout=DEADLINE_S)
    try:
        yield aiter(call)
    finally:
        call.cancel()


@dataclass
class Document:
    """What a client knows of a canvas that it watches. An operation that RFC 6902 does not allow is an error."""

    value: Any = None
    revision: int = 0
    messages: list[CanvasEvent] = field(default_factory=list)

    def take(self, event: CanvasEvent) -> None:
        self.messages.append(event)
        for operation in event.patch.operations:
            self.apply(operation.op, operation.path, MessageToDict(operation.value))
        if event.HasField("revision"):
            assert event.revision >= self.revision
            self.revision = event.revision

    def apply(self, op: str, path: str, value: object) -> None:
        if not path:
            assert op in ("add", "replace")
            self.value = value
            return
        *way, last = path.removeprefix("/").split("/")
        at = self.value
        for step in way:
            at = at[step]
        assert op == "add" or last in at, f"{op} {path}: there is no such place"
        if op == "remove":
            del at[last]
        else:
            at[last] = value

    async def follow(self, events: AsyncIterator[CanvasEvent], revision: int) -> Document:
        """Take events until the document has come to that revision."""
        while self.revision < revision or self.value is None:
            self.take(await anext(events))
        return self


async def whole(person: Person, parent: str) -> dict[str, Any]:
    """The document that the canvas is, from what can be read of it."""
    panes = {pane.name.rpartition("/")[2]: as_json(pane) for pane in await listed(person, parent)}
    return {"panes": panes, "layout": as_json(await layout(person, parent))}


def as_json(message: Pane | Layout) -> dict[str, Any]:
    fields: dict[str, Any] = MessageToDict(message, always_print_fields_with_no_presence=True)
    return fields


async def revision(house: House, parent: str, tenant: str = "acme") -> int:
    rows = await house.rows(f"SELECT revision FROM t_{tenant}.canvases WHERE conversation = $1", id_of(parent))
    return int(rows[0]["revision"]) if rows else 0


def id_of(name: str) -> UUID:
    return UUID(name.rpartition("/")[2])


async def audited(house: House, resource: str) -> list[tuple[str, str]]:
    """Actions and outcomes of a resource, in order."""
    sql = "SELECT action, body->>'outcome' AS outcome FROM soma.audited WHERE body->>'resource' = $1 ORDER BY id"
    return [(row["action"], row["outcome"]) for row in await house.rows(sql, resource)]


async def told(house: House, pane: str) -> list[str]:
    """The events of a pane, in order."""
    sql = "SELECT type FROM soma.told WHERE body->>'pane' = $1 ORDER BY id"
    return [row["type"] for row in await house.rows(sql, pane)]
