"""A canvas watched through the SDK, against the real room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from betterproto.lib.google.protobuf import FieldMask

from soma_api.soma.agent.v1 import ConversationServiceStub, CreateConversationRequest, DeleteConversationRequest
from soma_api.soma.canvas.v1 import (
    CanvasServiceStub,
    CreatePaneRequest,
    DeletePaneRequest,
    Layout,
    ListPanesRequest,
    Pane,
    PaneState,
    UpdateLayoutRequest,
    UpdatePaneRequest,
)
from soma_sdk import Conflict, Document, NotFound, Soma
from tests.house import House
from tests.sdk.conftest import Connect
from tests.sdk.wire import Wire, open_wire

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def wire(house: House) -> AsyncIterator[Wire]:
    """To the canvas."""
    async with open_wire(house.environment["canvas"]["SOMA_LISTEN"]) as wire:
        yield wire


@pytest_asyncio.fixture(loop_scope="session")
async def canvas(connect: Connect, wire: Wire) -> AsyncIterator[Soma]:
    async with connect("canvas", at=wire.address) as soma:
        yield soma


@pytest_asyncio.fixture(loop_scope="session")
async def conversation(soma: Soma) -> str:
    return (await soma.stub(ConversationServiceStub).create_conversation(CreateConversationRequest())).name


async def add(canvas: Soma, conversation: str, text: str) -> Pane:
    pane = Pane(kind="code", language="python", title="a.py", text=text)
    return await canvas.stub(CanvasServiceStub).create_pane(CreatePaneRequest(parent=conversation, pane=pane))


async def put(canvas: Soma, pane: Pane, text: str) -> Pane:
    new = Pane(name=pane.name, text=text, etag=pane.etag)
    request = UpdatePaneRequest(pane=new, update_mask=FieldMask(paths=["text"]))
    return await canvas.stub(CanvasServiceStub).update_pane(request)


def texts(document: Document) -> list[str]:
    return sorted(pane.text for pane in document.panes.values())


async def upto(documents: AsyncIterator[Document], last: list[str]) -> Document:
    """The first document that holds these texts."""
    async with asyncio.timeout(20):
        async for document in documents:
            if texts(document) == last:
                return document
    raise AssertionError("the watch ended")


async def test_a_canvas_is_shown_as_it_is_and_then_as_it_changes(soma: Soma, canvas: Soma, conversation: str) -> None:
    pane = await add(canvas, conversation, "one")
    watch = canvas.canvas.watch(conversation)

    shown = (await upto(watch, ["one"])).panes
    assert list(shown.values()) == [pane]
    assert shown[pane.name.rpartition("/")[2]].state == PaneState.STATE_READY

    other = await add(canvas, conversation, "two")
    await put(canvas, pane, "three")
    await upto(watch, ["three", "two"])
    layout = Layout(name=f"{conversation}/layout", panes=[other.name], active=other.name)
    await canvas.stub(CanvasServiceStub).update_layout(
        UpdateLayoutRequest(layout=layout, update_mask=FieldMask(paths=["panes", "active"]))
    )
    assert (await anext(watch)).layout.active == other.name
    await canvas.stub(CanvasServiceStub).delete_pane(DeletePaneRequest(name=other.name))
    await upto(watch, ["three"])

    await soma.stub(ConversationServiceStub).delete_conversation(DeleteConversationRequest(name=conversation))
    assert [document async for document in watch if document.panes] == []


async def test_a_watch_that_is_cut_goes_on_at_its_revision(canvas: Soma, conversation: str, wire: Wire) -> None:
    panes = [await add(canvas, conversation, f"{n}") for n in range(3)]
    watch = canvas.canvas.watch(conversation)
    before = await upto(watch, ["0", "1", "2"])

    wire.cut()
    await put(canvas, panes[0], "new")
    after = await upto(watch, ["1", "2", "new"])

    assert after.revision == before.revision + 1
    untouched = panes[1].name.rpartition("/")[2]
    assert after.json["panes"][untouched] is before.json["panes"][untouched], "not told again"  # type: ignore[index,call-overload]


async def test_many_changes_and_cuts_end_in_what_is_there(canvas: Soma, conversation: str, wire: Wire) -> None:
    pane = await add(canvas, conversation, "0")
    watch = canvas.canvas.watch(conversation)
    seen = list[int]()

    async def listen() -> Document:
        async for document in watch:
            seen.append(document.revision)
            if texts(document) == ["60"]:
                return document
        raise AssertionError("the watch ended")

    listening = asyncio.create_task(listen())
    for n in range(1, 61):
        pane = await put(canvas, pane, f"{n}")
        if n % 20 == 0:
            wire.cut()

    async with asyncio.timeout(20):
        last = await listening
    assert seen == sorted(seen)
    page = await canvas.stub(CanvasServiceStub).list_panes(ListPanesRequest(parent=conversation))
    assert list(last.panes.values()) == page.panes


async def test_a_stale_change_is_a_conflict_that_names_both_versions(canvas: Soma, conversation: str) -> None:
    pane = await add(canvas, conversation, "one")
    newer = await put(canvas, pane, "two")

    with pytest.raises(Conflict) as refused:
        await put(canvas, pane, "three")

    assert refused.value.reason == "ETAG_STALE"
    assert refused.value.metadata == {
        "etag": newer.etag, "newest": f"{pane.name}/versions/2", "base": f"{pane.name}/versions/1"
    }  # fmt: skip


async def test_a_canvas_that_is_not_the_callers_is_not_found(house: House, connect: Connect, conversation: str) -> None:
    async with connect("canvas", token=house.token("acme", "somebody-else")) as other:
        with pytest.raises(NotFound, match="CONVERSATION_UNKNOWN"):
            await anext(other.canvas.watch(conversation))
