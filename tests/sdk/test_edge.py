"""The SDK through the edge's listener for programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from services.local.workload.authority import Authority
from services.local.workload.ca import Lives
from soma_api.soma.agent.v1 import ConversationServiceStub, ListConversationsRequest
from soma_api.soma.canvas.v1 import CanvasServiceStub, ListPanesRequest, WritePaneRequest
from soma_sdk import Done, Event, NotFound, Soma, Text, Unauthenticated, Unavailable
from tests.system.mesh import Mesh, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODE = "script:say\nHere:\n\n```python\nprint('hello')\nprint('again')\n```\n\nThat is all.\n"


@pytest.fixture(scope="module")
def svid(scripted_mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdk") / "svid"
    scripted_mesh.soma("svid", "--out", str(folder))
    return folder


@pytest.fixture(scope="module")
def address(scripted_mesh: Mesh) -> str:
    return str(scripted_mesh.status()["grpc"])


@pytest_asyncio.fixture(loop_scope="session")
async def soma(scripted_mesh: Mesh, address: str, svid: Path) -> AsyncIterator[Soma]:
    async with Soma.connect(address, svid=svid, token=scripted_mesh.token()) as soma:
        yield soma


async def test_code_in_an_answer_stands_in_a_pane_too(soma: Soma) -> None:
    answer = await soma.ask(CODE)

    assert answer.text == CODE.removeprefix("script:say\n")
    assert [(pane.kind, pane.language, pane.closed) for pane in answer.panes] == [("code", "python", True)]
    assert answer.panes[0].text.startswith("print('hello')\nprint('again')\n")
    page = await soma.stub(CanvasServiceStub).list_panes(ListPanesRequest(parent=answer.conversation))
    assert [pane.name for pane in page.panes] == [answer.panes[0].name]


async def test_a_canvas_is_watched_while_an_answer_writes_it(soma: Soma) -> None:
    turn = soma.chat(CODE.replace("script:say", "script:pace=100 script:say"))
    await anext(turn)
    watch = soma.canvas.watch(turn.conversation)
    answering = asyncio.create_task(drained(turn))

    async with asyncio.timeout(20):
        async for document in watch:
            if any("again" in pane.text for pane in document.panes.values()):
                break
    await watch.aclose()
    assert isinstance((await answering)[-1], Done)


async def drained(turn: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in turn]


async def test_a_token_that_the_edge_refuses_is_renewed(scripted_mesh: Mesh, address: str, svid: Path) -> None:
    given: list[str] = []

    def source() -> str:
        given.append(scripted_mesh.token() if given else "e30.e30.c2ln")
        return given[-1]

    async with Soma.connect(address, svid=svid, token=source) as soma:
        assert (await soma.ask("hello")).text == "You said: hello"
    assert len(given) == 2


async def test_without_a_token_the_edge_says_what_is_missing(address: str, svid: Path) -> None:
    async with Soma.connect(address, svid=svid, token=None) as soma:
        with pytest.raises(Unauthenticated, match="TOKEN_REFUSED"):
            await soma.stub(ConversationServiceStub).list_conversations(ListConversationsRequest())


async def test_what_is_not_for_programs_is_not_found(soma: Soma) -> None:
    with pytest.raises(NotFound, match="PATH_UNKNOWN"):
        await soma.stub(CanvasServiceStub).write_pane(WritePaneRequest())


async def test_a_stranger_is_told_at_once(address: str, svid: Path, tmp_path: Path) -> None:
    lives = Lives(timedelta(hours=1), timedelta(days=30))
    key, chain, _ = Authority(tmp_path / "other", "soma.local", "soma", lives).svid("sdk")
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(chain)

    files = (tmp_path / "key.pem", tmp_path / "cert.pem", svid / "ca.pem")
    async with Soma.connect(address, svid=files, token="t") as soma, asyncio.timeout(20):
        with pytest.raises(Unavailable, match="one that is trusted there"):
            await soma.ask("hello")


async def test_an_edge_that_is_killed_in_mid_answer_costs_nothing(scripted_mesh: Mesh, soma: Soma) -> None:
    words, is_alive = list[str](), True
    async with asyncio.timeout(60):
        async for event in soma.chat("script:words=150 script:pace=20"):
            if isinstance(event, Text):
                words += event.delta.split()
            if is_alive and len(words) > 20:
                await asyncio.to_thread(scripted_mesh.kill, "edge")
                is_alive = False

    assert words == [f"word{n}" for n in range(1, 151)]
    await asyncio.to_thread(wait_until, lambda: scripted_mesh.status()["verdict"] == "up")
