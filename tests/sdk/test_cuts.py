"""Wires that are cut, stopped or wrong: nothing is lost, nothing is done twice, nothing hangs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from services.local.ports import free_port
from services.local.workload.authority import Authority
from soma_api.soma.agent.v1 import (
    Conversation,
    ConversationServiceStub,
    CreateConversationRequest,
    ListConversationsRequest,
)
from soma_sdk import Done, Soma, Text, TooLate, Turn, Unavailable
from soma_sdk.calls import Calls
from soma_sdk.lines import Lines
from soma_sdk.svid import Svid
from soma_sdk.tokens import Tokens
from tests.house import TRUST_DOMAIN, House
from tests.sdk.conftest import Connect, write_svid
from tests.sdk.wire import Wire, open_wire

pytestmark = pytest.mark.asyncio(loop_scope="session")
SERVER = "agent.soma.local"


@pytest_asyncio.fixture(loop_scope="session")
async def wire(house: House) -> AsyncIterator[Wire]:
    """To the agent."""
    async with open_wire(house.environment["agent"]["SOMA_LISTEN"]) as wire:
        yield wire


@pytest_asyncio.fixture(loop_scope="session")
async def soma(connect: Connect, wire: Wire) -> AsyncIterator[Soma]:
    """Through the wire, where something was answered already."""
    async with connect(at=wire.address) as soma:
        await titles(soma)
        yield soma


async def titles(soma: Soma) -> list[str]:
    page = await soma.stub(ConversationServiceStub).list_conversations(ListConversationsRequest(page_size=100))
    return [conversation.title for conversation in page.conversations]


async def told(turn: Turn, at: dict[int, Callable[[], None]]) -> str:
    """The text of a whole turn; after so many words something is done to it."""
    words = list[str]()
    async for event in turn:
        if isinstance(event, Text):
            words += event.delta.split()
            for n in [n for n in at if n <= len(words)]:
                at.pop(n)()
        last = event
    assert isinstance(last, Done)
    return " ".join(words)


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.02)


async def test_an_answer_that_is_cut_three_times_is_told_whole_and_once(soma: Soma, wire: Wire) -> None:
    turn = soma.chat("script:words=240 script:pace=50")

    text = await told(turn, dict.fromkeys((1, 80, 160), wire.cut))

    assert text == " ".join(f"word{n}" for n in range(1, 241))
    assert wire.connections == 4


async def test_what_comes_after_a_cut_in_the_callers_task_still_works(soma: Soma, wire: Wire) -> None:
    """grpclib wakes waiters by cancelling their task: that must stay inside."""
    await told(soma.chat("script:words=20 script:pace=30"), {2: wire.cut})

    task = asyncio.current_task()
    assert task
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)


async def test_a_question_whose_acceptance_was_lost_is_asked_once(soma: Soma, wire: Wire, house: House) -> None:
    name = f"{uuid.uuid4()} script:words=3"
    wire.deafen()
    listening = asyncio.create_task(told(soma.chat(name), {}))

    await until(lambda: house.rows("SELECT 1 FROM t_acme.turns WHERE question = $1", name))
    wire.cut()

    assert await listening == "word1 word2 word3"
    assert len(await house.rows("SELECT 1 FROM t_acme.turns WHERE question = $1", name)) == 1


async def test_a_write_whose_answer_was_lost_is_made_once(soma: Soma, wire: Wire, house: House) -> None:
    title = f"made in the dark {uuid.uuid4()}"
    request = CreateConversationRequest(conversation=Conversation(title=title))
    wire.deafen()
    making = asyncio.create_task(soma.stub(ConversationServiceStub).create_conversation(request))

    await until(lambda: house.rows("SELECT 1 FROM t_acme.conversations WHERE title = $1", title))
    wire.cut()

    assert (await making).title == title
    assert (await titles(soma)).count(title) == 1


async def test_reads_ride_out_a_cut(soma: Soma, wire: Wire) -> None:
    wire.deafen()
    reading = [asyncio.create_task(titles(soma)) for _ in range(10)]
    await asyncio.sleep(0.05)
    wire.cut()

    assert len({len(found) for found in await asyncio.gather(*reading)}) == 1


async def test_a_stream_that_falls_silent_is_left_for_a_new_connection(house: House, svid: Path, wire: Wire) -> None:
    calls = Calls(Lines(wire.address, Svid.of(svid), SERVER), Tokens(house.token("acme")), silence_s=0.3)
    soma = Soma(calls)
    try:
        await titles(soma)
        text = await told(soma.chat("script:words=100 script:pace=10"), {10: wire.deafen})
    finally:
        calls.lines.close()
    assert text


async def test_a_call_on_a_dead_wire_is_too_late_and_the_next_one_goes_round_it(soma: Soma, wire: Wire) -> None:
    wire.deafen()
    began = time.monotonic()
    with pytest.raises(TooLate):
        await soma.stub(ConversationServiceStub).list_conversations(ListConversationsRequest(), timeout=0.5)

    assert time.monotonic() - began < 10
    assert await titles(soma)
    assert wire.connections == 2


async def test_where_nothing_listens_the_first_call_says_so_at_once(connect: Connect) -> None:
    began = time.monotonic()

    async with connect(at=f"127.0.0.1:{free_port()}") as soma:
        with pytest.raises(Unavailable, match="Is the address right"):
            await soma.ask("hello")

    assert time.monotonic() - began < 5


async def test_a_certificate_that_is_not_trusted_there_is_told_at_once(
    house: House, svid: Path, tmp_path: Path
) -> None:
    key, chain, _ = Authority(tmp_path / "other", TRUST_DOMAIN, "soma", house.authority.lives).svid("edge")
    (svid / "key.pem").write_bytes(key)
    (svid / "cert.pem").write_bytes(chain)

    async with Soma.connect(
        house.environment["agent"]["SOMA_LISTEN"], svid=svid, token=house.token("acme"), server_name=SERVER
    ) as soma:
        async with asyncio.timeout(20):
            with pytest.raises(Unavailable, match="one that is trusted there"):
                await soma.ask("hello")


async def test_another_server_than_the_named_one_is_not_talked_to(house: House, svid: Path) -> None:
    address = house.environment["agent"]["SOMA_LISTEN"]

    async with Soma.connect(address, svid=svid, token="t", server_name="router.soma.local") as soma:
        with pytest.raises(Unavailable, match=r"not for router\.soma\.local"):
            await soma.ask("hello")


async def test_a_certificate_that_is_not_there_is_told_on_connecting(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        async with Soma.connect("localhost:1", svid=tmp_path, token="t"):
            pass


async def test_a_new_certificate_serves_new_calls_while_the_stream_ends_on_the_old(
    soma: Soma, wire: Wire, house: House, svid: Path
) -> None:
    turn = soma.chat("script:words=120 script:pace=100")
    listening = asyncio.create_task(told(turn, {}))
    while not turn.sequence:
        await asyncio.sleep(0.01)

    write_svid(house, svid, room="canvas")  # whom the agent refuses, so that it can be seen who calls
    with pytest.raises(Exception, match="WORKLOAD_REFUSED"):
        await soma.ask("hello")
    write_svid(house, svid)
    await titles(soma)
    async with asyncio.timeout(20):
        while wire.live > 2:
            await asyncio.sleep(0.01)

    assert (wire.live, listening.done()) == (2, False), "the stream's, and the newest"
    assert (await listening).endswith("word120")
    assert wire.connections == 3
    async with asyncio.timeout(20):
        while wire.live > 1:
            await asyncio.sleep(0.01)


async def test_files_that_do_not_fit_together_leave_the_old_certificate_in_use(
    soma: Soma, wire: Wire, house: House, svid: Path
) -> None:
    key, _, _ = house.authority.svid("canvas")
    (svid / "key.pem").write_bytes(key)
    assert await titles(soma)
    (svid / "cert.pem").unlink()
    assert await titles(soma)

    assert wire.connections == 1


async def test_calls_at_the_moment_of_a_rotation_all_succeed(soma: Soma, house: House, svid: Path) -> None:
    async def keep_rotating() -> None:
        while True:
            write_svid(house, svid)
            await asyncio.sleep(0.03)

    rotating = asyncio.create_task(keep_rotating())
    async with asyncio.timeout(30):
        for _ in range(20):
            await asyncio.gather(*(titles(soma) for _ in range(10)))
    rotating.cancel()


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", ":443", "localhost:https"])
async def test_an_address_is_a_host_and_a_port(address: str, svid: Path) -> None:
    with pytest.raises(ValueError, match="host:port"):
        async with Soma.connect(address, svid=svid, token="t"):
            pass
