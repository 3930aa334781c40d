"""A server that lets go of a connection loses nobody's call: those that it has taken go on, others begin elsewhere."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame

from soma_api.soma.agent.v1 import Text
from soma_sdk import Unavailable
from soma_sdk.calls import Calls
from soma_sdk.goaway import Frames
from soma_sdk.lines import Lines
from soma_sdk.svid import Svid
from soma_sdk.tokens import Tokens
from tests.house import TRUST_DOMAIN, House

pytestmark = pytest.mark.asyncio(loop_scope="session")
ALL = 2**31 - 1
PING = PingFrame(0, opaque_data=b"letting!").serialize()
WATCH, GET, MAKE = "/soma.Any/WatchAny", "/soma.Any/GetAny", "/soma.Any/MakeAny"


def goaway(last: int, error: int = 0) -> bytes:
    frame: bytes = GoAwayFrame(0, last_stream_id=last, error_code=error).serialize()
    return frame


class Answer:
    """What a server sends on one stream, frame by frame."""

    def __init__(self, h2: H2Connection, stream: int) -> None:
        self._h2, self.stream = h2, stream

    def begin(self) -> bytes:
        return self._headers((":status", "200"), ("content-type", "application/grpc"))

    def word(self, text: str) -> bytes:
        message = bytes(Text(delta=text))
        self._h2.send_data(self.stream, b"\0" + len(message).to_bytes(4, "big") + message)
        return self._h2.data_to_send()

    def end(self) -> bytes:
        return self._headers(("grpc-status", "0"), ends=True)

    def _headers(self, *headers: tuple[str, str], ends: bool = False) -> bytes:
        self._h2.send_headers(self.stream, headers, end_stream=ends)
        return self._h2.data_to_send()


class Server:
    """What each of its connections says to the calls on it, as bytes in one write. The first takes so many at once."""

    def __init__(self, says: Sequence[Callable[[Answer], bytes]], streams: int) -> None:
        self.says, self.streams, self.connections = says, streams, 0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        say = self.says[self.connections]
        self.connections += 1
        h2 = H2Connection(H2Configuration(client_side=False))
        h2.initiate_connection()
        if self.connections == 1:
            h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self.streams})
        writer.write(h2.data_to_send())
        while data := await reader.read(65536):
            for event in h2.receive_data(data):
                writer.write(h2.data_to_send())
                if isinstance(event, StreamEnded):
                    writer.write(say(Answer(h2, event.stream_id)))
        writer.transport.abort()


@asynccontextmanager
async def calling(
    house: House, folder: Path, *says: Callable[[Answer], bytes], streams: int = 100
) -> AsyncIterator[tuple[Calls, Server]]:
    server = Server(says, streams)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    for file, pem in zip(("key", "cert"), house.authority.svid("agent"), strict=False):
        (folder / file).write_bytes(pem)
    context.load_cert_chain(folder / "cert", folder / "key")
    async with await asyncio.start_server(server.talk, "127.0.0.1", 0, ssl=context) as listening:
        port = listening.sockets[0].getsockname()[1]
        lines = Lines(f"127.0.0.1:{port}", Svid.of(folder / "svid"), f"agent.{TRUST_DOMAIN}")
        try:
            yield Calls(lines, Tokens("")), server
        finally:
            lines.close()


def whole(answer: Answer) -> bytes:
    return answer.begin() + answer.word("all") + answer.end()


async def heard(calls: Calls) -> list[str]:
    return [message.delta async for message in calls.stream(WATCH, Text(), Text)]


@pytest.mark.usefixtures("svid")
async def test_what_came_before_and_behind_a_goaway_is_heard(house: House, tmp_path: Path) -> None:
    def say(answer: Answer) -> bytes:
        gone = goaway(ALL) + PING
        return answer.begin() + answer.word("one") + gone + answer.word("two") + goaway(answer.stream) + answer.end()

    async with calling(house, tmp_path, say) as (calls, _):
        assert await heard(calls) == ["one", "two"]


async def test_a_goaway_is_taken_out_in_whatever_pieces_it_comes() -> None:
    others = [PING, DataFrame(1, data=bytes(300)).serialize(), goaway(1, error=2), PING]
    data = others[0] + goaway(ALL) + others[1] + others[2] + goaway(7) + others[3]
    for size in range(1, len(data) + 1):
        frames = Frames()
        taken = [frames.take(data[n : n + size]) for n in range(0, len(data), size)]
        assert b"".join(kept for kept, _ in taken) == b"".join(others)
        assert [last for _, last in taken if last is not None][-1] == 7


@pytest.mark.usefixtures("svid")
async def test_the_call_after_a_goaway_is_made_on_a_new_connection(house: House, tmp_path: Path) -> None:
    async with calling(house, tmp_path, lambda answer: whole(answer) + goaway(ALL), whole) as (calls, server):
        assert await heard(calls) == ["all"]
        assert (await calls.unary(MAKE, Text(), Text)).delta == "all"
        assert server.connections == 2


@pytest.mark.usefixtures("svid")
@pytest.mark.parametrize("route", [GET, MAKE])
async def test_a_call_that_the_server_did_not_take_is_made_again_on_another(
    house: House, tmp_path: Path, route: str
) -> None:
    def say(answer: Answer) -> bytes:
        return whole(answer) if answer.stream == 1 else goaway(1)

    async with calling(house, tmp_path, say, whole) as (calls, server):
        assert await heard(calls) == ["all"]
        assert (await calls.unary(route, Text(), Text)).delta == "all"
        assert server.connections == 2


@pytest.mark.usefixtures("svid")
@pytest.mark.parametrize("ends", [True, False], ids=["a place comes free", "none comes free"])
async def test_calls_that_waited_for_a_place_when_the_goaway_came_are_made_on_another(
    house: House, tmp_path: Path, ends: bool
) -> None:
    def say(answer: Answer) -> bytes:
        if answer.stream == 1:
            return whole(answer)
        return goaway(ALL) + (whole(answer) if ends else answer.begin() + answer.word("all"))

    async with calling(house, tmp_path, say, whole, streams=1) as (calls, server):
        assert await heard(calls) == ["all"]
        async with aclosing(cast(AsyncGenerator[Text, None], calls.stream(WATCH, Text(), Text))) as taken:
            waiting = asyncio.gather(*(heard(calls) for _ in range(3)))
            assert (await anext(taken)).delta == "all"
            assert await waiting == [["all"]] * 3
        assert server.connections == 2


@pytest.mark.usefixtures("svid")
async def test_a_goaway_with_an_error_ends_what_runs(house: House, tmp_path: Path) -> None:
    async with calling(house, tmp_path, lambda answer: answer.begin() + goaway(ALL, error=11)) as (calls, _):
        with pytest.raises(Unavailable):
            await heard(calls)
