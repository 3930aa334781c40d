"""A canvas under any row of deeds is what a model of it is, however it is read: got, listed, watched or followed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from grpc import StatusCode
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from services.common.testing import refused
from soma.agent.v1 import conversation_service_pb2 as conversation_wire
from soma.canvas.v1 import canvas_service_pb2 as wire
from soma.canvas.v1.canvas_pb2 import CanvasEvent, Layout, Pane
from soma.canvas.v1.canvas_service_pb2_grpc import CanvasServiceStub
from tests.canvases import Document
from tests.fuzz.canvas_model import CanvasModel, PaneModel, content_of, told
from tests.fuzz.draw import TIMES
from tests.fuzz.fuzz import Fuzz
from tests.fuzz.text import among, short
from tests.house import Person

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300 * max(1.0, TIMES))]

T = TypeVar("T")

DEADLINE_S = 30.0
EXAMPLES, STEPS = 24, 30
TEXTS = short(60).filter(lambda text: "\0" not in text)
LANGUAGES = among(["", "python", "c++", "csv"])
KINDS = among(["chat", "code", "html", "log", "image", "table"])
ETAGS = among(["right", "none", "stale", "rubbish"])
FIELDS = st.lists(among(["title", "language", "text"]), min_size=1, max_size=3)
NOWHERE = "conversations/018f0000-0000-7000-8000-000000000001/panes/018f0000-0000-7000-8000-000000000001"


async def test_a_canvas_is_what_its_model_is_after_any_deeds(fuzz: Fuzz) -> None:
    seat = Seat(fuzz.house.person(name=f"artist-{uuid.uuid4().hex[:6]}"), asyncio.get_running_loop(), fuzz)
    bounds = settings(
        max_examples=max(1, round(EXAMPLES * TIMES)),
        stateful_step_count=STEPS,
        phases=[Phase.generate, Phase.shrink] if TIMES > 1 else [Phase.generate],
        report_multiple_bugs=False,
    )
    machine: Any = lambda: CanvasMachine(seat)  # noqa: E731 - a class is asked for, anything that makes one will do
    await asyncio.to_thread(run_state_machine_as_test, machine, settings=bounds)


@dataclass(frozen=True, slots=True)
class Seat:
    """A person whose calls are made in the session's loop, from the thread in which the deeds are thought out."""

    person: Person
    loop: asyncio.AbstractEventLoop
    fuzz: Fuzz

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(DEADLINE_S)

    def ask(self, method: str, request: Any, by: str = "edge") -> Any:
        """Call a method of the canvas, as the edge or as the agent does."""
        self.fuzz.tally.count("canvas state", method)

        async def asked() -> Any:
            stub = CanvasServiceStub(self.person.house.channel("canvas", by))
            return await getattr(stub, method)(request, metadata=self.person.metadata, timeout=DEADLINE_S)

        return self.wait(asked())

    def watch(self, request: wire.WatchCanvasRequest, upto: int) -> list[CanvasEvent]:
        """Events until a revision has come."""

        async def watched() -> list[CanvasEvent]:
            events: list[CanvasEvent] = []
            call = self.person.canvas.WatchCanvas(request, metadata=self.person.metadata, timeout=DEADLINE_S)
            async for event in call:
                events.append(event)
                if event.HasField("revision") and event.revision >= upto:
                    break
            call.cancel()
            return events

        return self.wait(watched())


class CanvasMachine(RuleBasedStateMachine):
    def __init__(self, seat: Seat) -> None:
        super().__init__()
        self.seat, self.model = seat, CanvasModel()
        self.document = Document()

    @initialize()
    def begin(self) -> None:
        self.seat.fuzz.tally.count("canvas state", "begun")
        self.conversation = self.seat.wait(self._conversation())
        self.create("code", "first", "python", "print(1)", False)

    async def _conversation(self) -> str:
        person, request = self.seat.person, conversation_wire.CreateConversationRequest()
        return (await person.conversations.CreateConversation(request, metadata=person.metadata)).name

    @rule(kind=KINDS, title=TEXTS, language=LANGUAGES, text=TEXTS, again=st.booleans())
    def create(self, kind: str, title: str, language: str, text: str, again: bool) -> None:
        pane = Pane(kind=kind, title=title, language=language, text=text)
        request = wire.CreatePaneRequest(parent=self.conversation, pane=pane, request_id=str(uuid.uuid4()))
        made = self.seat.ask("CreatePane", request)
        assert (made.version, made.author, made.state) == (1, "person", Pane.STATE_READY)
        self.model.panes[made.name] = PaneModel(kind, made.etag, (title, language, text))
        assert told(made) == self.model.shown()[made.name]
        if again:
            assert self.seat.ask("CreatePane", request) == made

    @precondition(lambda self: self.model.panes)
    @rule(pick=st.integers(0), text=TEXTS)
    def edit(self, pick: int, text: str) -> None:
        self.update(pick, ["text"], "", "", text, "right")

    @rule(title=TEXTS, text=TEXTS, more=TEXTS, meddled=st.booleans())
    def answer(self, title: str, text: str, more: str, meddled: bool) -> None:
        """A turn writes a pane in two steps. Who edits it between them is not overwritten."""
        name, turn = f"{self.conversation}/panes/{uuid.uuid4()}", f"{self.conversation}/turns/{uuid.uuid4()}"
        pane = Pane(name=name, kind="code", title=title, text=text)
        begun = self.seat.ask("WritePane", wire.WritePaneRequest(pane=pane, turn=turn), by="agent")
        assert (begun.version, begun.author, begun.state, begun.turn) == (1, "agent", Pane.STATE_WRITING, turn)
        self.model.panes[name] = PaneModel("code", begun.etag, (title, "", text))
        if meddled:
            self.update(len(self.model.panes) - 1, ["text"], "", "", f"{text} of mine", "right")
        pane.etag, pane.text = begun.etag, text + more
        request = wire.WritePaneRequest(pane=pane, turn=turn, finished=True)
        if meddled:
            with refused(StatusCode.ABORTED, "ETAG_STALE"):
                self.seat.ask("WritePane", request, by="agent")
            return
        ended = self.seat.ask("WritePane", request, by="agent")
        assert (ended.version, ended.state) == (1, Pane.STATE_READY)
        self.model.panes[name].name_etag(ended.etag)
        self.model.panes[name].rename((title, "", text + more))
        assert self.seat.ask("WritePane", request, by="agent") == ended

    @precondition(lambda self: self.model.panes)
    @rule(pick=st.integers(0), fields=FIELDS, title=TEXTS, language=LANGUAGES, text=TEXTS, etag=ETAGS)
    def update(self, pick: int, fields: list[str], title: str, language: str, text: str, etag: str) -> None:
        name, pane = self.pick(pick)
        new = {"title": title, "language": language, "text": text}
        sent = self.etag(pane, etag)
        changed = Pane(name=name, etag=sent, title=title, language=language, text=text)
        request = wire.UpdatePaneRequest(pane=changed, request_id=str(uuid.uuid4()))
        request.update_mask.paths.extend(fields)
        if "text" in fields and not sent:
            with refused(StatusCode.INVALID_ARGUMENT, "ETAG_MISSING"):
                self.seat.ask("UpdatePane", request)
        elif sent not in ("", pane.etag):
            with refused(StatusCode.ABORTED, "ETAG_STALE"):
                self.seat.ask("UpdatePane", request)
        else:
            now = dict(zip(("title", "language", "text"), pane.content, strict=True))
            now |= {field: new[field] for field in fields}
            made = self.seat.ask("UpdatePane", request)
            pane.name_etag(made.etag)
            content = now["title"], now["language"], now["text"]
            (pane.rename if now["text"] == pane.content[2] else pane.rewrite)(content)
            assert told(made) == self.model.shown()[name]
            assert self.seat.ask("UpdatePane", request) == made

    @precondition(lambda self: self.model.panes)
    @rule(pick=st.integers(0), which=st.integers(0), etag=ETAGS)
    def restore(self, pick: int, which: int, etag: str) -> None:
        name, pane = self.pick(pick)
        version = 1 + which % (pane.version + 1)
        sent = self.etag(pane, etag)
        request = wire.RestorePaneVersionRequest(name=f"{name}/versions/{version}", etag=sent)
        if sent not in ("", pane.etag):
            with refused(StatusCode.ABORTED, "ETAG_STALE"):
                self.seat.ask("RestorePaneVersion", request)
        elif version > pane.version:
            with refused(StatusCode.NOT_FOUND, "VERSION_UNKNOWN"):
                self.seat.ask("RestorePaneVersion", request)
        else:
            old = pane.all_versions()[version]
            made = self.seat.ask("RestorePaneVersion", request)
            pane.name_etag(made.etag)
            pane.rewrite(old)
            assert told(made) == self.model.shown()[name]

    @precondition(lambda self: self.model.panes)
    @rule(pick=st.integers(0), etag=ETAGS)
    def delete(self, pick: int, etag: str) -> None:
        name, pane = self.pick(pick)
        sent = self.etag(pane, etag)
        if sent not in ("", pane.etag):
            with refused(StatusCode.ABORTED, "ETAG_STALE"):
                self.seat.ask("DeletePane", wire.DeletePaneRequest(name=name, etag=sent))
        else:
            self.seat.ask("DeletePane", wire.DeletePaneRequest(name=name, etag=sent))
            self.model.delete(name)
            with refused(StatusCode.NOT_FOUND, "PANE_UNKNOWN"):
                self.seat.ask("GetPane", wire.GetPaneRequest(name=name))

    @rule(opened=st.lists(st.integers(0), max_size=6), active=st.integers(0), beside=st.integers(0))
    def arrange(self, opened: list[int], active: int, beside: int) -> None:
        names = [*self.model.panes, NOWHERE, ""]
        chosen = [names[n % len(names)] for n in opened]
        front, second = names[active % len(names)], names[beside % len(names)]
        layout = Layout(name=f"{self.conversation}/layout", panes=chosen, active=front, beside=second)
        request = wire.UpdateLayoutRequest(layout=layout)
        request.update_mask.paths.extend(["panes", "active", "beside"])
        made = self.seat.ask("UpdateLayout", request)
        self.model.arrange(chosen, front, second)
        assert self.layout(made) == (self.model.opened, self.model.active, self.model.beside)

    @rule()
    def look(self) -> None:
        """Listed, watched from the beginning, and followed from the last look: it is all the same."""
        assert {pane.name: told(pane) for pane in self.listed()} == self.model.shown()
        layout = self.seat.ask("GetLayout", wire.GetLayoutRequest(name=f"{self.conversation}/layout"))
        assert self.layout(layout) == (self.model.opened, self.model.active, self.model.beside)
        snapshot = self.follow(Document(), 0)
        if not self.document.revision:
            self.document = snapshot
        elif self.document.revision != snapshot.revision:
            self.document = self.follow(self.document, snapshot.revision)
        assert self.document.value == snapshot.value
        assert {pane["name"] for pane in snapshot.value["panes"].values()} == set(self.model.panes)
        for id, pane in snapshot.value["panes"].items():
            model = self.model.panes[f"{self.conversation}/panes/{id}"]
            assert (pane["title"], pane["language"], pane["text"]) == model.content
            assert (pane["etag"], pane["version"]) == (model.etag, model.version)

    @precondition(lambda self: self.model.panes)
    @rule(pick=st.integers(0))
    def read_history(self, pick: int) -> None:
        name, pane = self.pick(pick)
        listed = self.seat.ask("ListPaneVersions", wire.ListPaneVersionsRequest(parent=name, page_size=100)).versions
        assert [version.version for version in listed] == list(range(pane.version, 0, -1))
        for number, content in pane.all_versions().items():
            kept = self.seat.ask("GetPaneVersion", wire.GetPaneVersionRequest(name=f"{name}/versions/{number}"))
            assert content_of(kept) == content

    def teardown(self) -> None:
        self.look()

    def pick(self, number: int) -> tuple[str, PaneModel]:
        return list(self.model.panes.items())[number % len(self.model.panes)]

    def etag(self, pane: PaneModel, kind: str) -> str:
        if kind == "stale":
            return pane.stale[-1] if pane.stale else "rubbish"
        return {"right": pane.etag, "none": "", "rubbish": "rubbish"}[kind]

    def layout(self, layout: Layout) -> tuple[list[str], str, str]:
        return list(layout.panes), layout.active, layout.beside

    def listed(self) -> list[Pane]:
        found, token = [], ""
        while True:
            request = wire.ListPanesRequest(parent=self.conversation, page_size=2, page_token=token)
            page = self.seat.ask("ListPanes", request)
            found += page.panes
            token = page.next_page_token
            if not token:
                return found

    def follow(self, document: Document, upto: int) -> Document:
        """The document after what a watch says from where it stands."""
        request = wire.WatchCanvasRequest(parent=self.conversation, after_revision=document.revision)
        for event in self.seat.watch(request, upto):
            document.take(event)
        return document
