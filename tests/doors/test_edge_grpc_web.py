"""gRPC-Web at the edge's port for browsers: the methods by their names, with the statuses of gRPC."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.common.api_keys import new_secret
from soma.agent.v1.chat_event_pb2 import ChatEvent
from soma.agent.v1.chat_service_pb2 import ChatRequest
from soma.agent.v1.conversation_pb2 import Conversation
from soma.agent.v1.conversation_service_pb2 import GetConversationRequest
from soma.agent.v1.health_service_pb2 import CheckHealthRequest
from tests.doors.edge import FRIEND, House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT, GET = "soma.agent.v1.ChatService/Chat", "soma.agent.v1.ConversationService/GetConversation"
HEALTH = "soma.agent.v1.HealthService/CheckHealth"
TRAILERS = 0x80


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("web")) as opened:
        yield opened


@dataclass(frozen=True)
class Told:
    """What came back: messages, and the status from trailers or, with nothing before it, from headers."""

    messages: list[bytes]
    status: dict[str, str]
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        details, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
        coded = self.status["grpc-status-details-bin"]
        details.ParseFromString(base64.b64decode(coded + "=" * (-len(coded) % 4)))
        assert details.code == int(self.status["grpc-status"])
        assert details.details[0].Unpack(info)
        return str(info.reason)


async def ask(house: House, method: str, message: Message, token: str | None = "", **headers: str) -> Told:
    said = message.SerializeToString()
    spoken = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **headers}
    body = struct.pack(">BI", 0, len(said)) + said
    return await read(await house.call("POST", f"/{method}", token=token, data=body, headers=spoken))


async def read(answer: ClientResponse) -> Told:
    assert answer.status == 200
    headers = {name.lower(): value for name, value in answer.headers.items()}
    messages, status = [], {name: value for name, value in headers.items() if name.startswith("grpc-")}
    for flags, content in frames(await answer.read()):
        if flags & TRAILERS:
            lines = content.decode().split("\r\n")
            status |= dict(line.split(":", 1) for line in lines if line)
        else:
            messages.append(content)
    return Told(messages, status, headers)


def frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        yield flags, body[5 : 5 + size]
        body = body[5 + size :]


async def test_a_method_is_called_by_its_name(house: House) -> None:
    told = await ask(house, GET, GetConversationRequest(name="conversations/c"))
    assert [Conversation.FromString(message).name for message in told.messages] == ["conversations/c"]
    assert told.status["grpc-status"] == "0"
    assert told.headers["content-type"] == "application/grpc-web+proto"


async def test_a_stream_is_a_row_of_messages_and_a_status(house: House) -> None:
    told = await ask(house, CHAT, ChatRequest(text="hi"))
    assert [ChatEvent.FromString(message).sequence for message in told.messages] == [1, 2, 0, 3]
    assert told.status["grpc-status"] == "0"


async def test_a_rooms_refusal_arrives_with_its_reason(house: House) -> None:
    told = await ask(house, CHAT, ChatRequest(text="refuse"))
    assert (told.status["grpc-status"], told.reason, told.messages) == ("10", "TURN_RUNNING", [])


async def test_no_token_or_a_wrong_one_is_refused_before_the_room(house: House) -> None:
    house.agent.heard = {}
    for token in (None, "x", house.token(ttl_s=-30), house.token(audience="else")):
        told = await ask(house, CHAT, ChatRequest(text="hi"), token)
        assert (told.status["grpc-status"], told.reason) == ("16", "TOKEN_REFUSED")
        assert "{" not in told.status["grpc-message"]
    told = await ask(house, CHAT, ChatRequest(text="hi"), new_secret())
    assert (told.reason, "An API key opens the OpenAI paths alone" in unquote(told.status["grpc-message"])) == (
        "TOKEN_REFUSED", True,
    )  # fmt: skip
    assert house.agent.heard == {}
    assert (await ask(house, HEALTH, CheckHealthRequest(), None)).status["grpc-status"] == "0"


@pytest.mark.parametrize(
    "method", ["soma.router.v1.RouterService/Generate", "soma.agent.v1.ChatService/No", "grpc.health.v1.Health/Check"]
)
async def test_what_is_not_for_the_edge_is_not_there(house: House, method: str) -> None:
    told = await ask(house, method, ChatRequest())
    assert (told.status["grpc-status"], told.reason) == ("12", "PATH_UNKNOWN")


async def test_two_mebibytes_are_too_large(house: House) -> None:
    told = await ask(house, CHAT, ChatRequest(text="x" * 2 * 1024 * 1024))
    assert (told.status["grpc-status"], told.reason) == ("3", "BODY_TOO_LARGE")


async def test_the_rooms_hear_nothing_that_could_lie(house: House) -> None:
    lies = {"x-soma-tenant": "globex", "cookie": "a=b", "evil-bin": "AA", "grpc-timeout": "1n", "grpc-evil": "x"}
    told = await ask(house, CHAT, ChatRequest(text="hi"), "", **lies)
    assert told.status["grpc-status"] == "0"
    assert not set(lies) & set(house.agent.heard)


async def test_an_answer_carries_the_security_headers(house: House) -> None:
    told = await ask(house, GET, GetConversationRequest(name="conversations/c"))
    assert told.headers["x-content-type-options"] == "nosniff"
    assert told.headers["cache-control"] == "no-store"
    assert not [name for name in told.headers if name.startswith(("x-envoy", "server"))]


async def test_another_origin_may_read_the_status_only_when_it_is_configured(house: House) -> None:
    friend = await ask(house, GET, GetConversationRequest(name="conversations/c"), "", origin=FRIEND)
    assert friend.headers["access-control-allow-origin"] == FRIEND
    assert "grpc-status-details-bin" in friend.headers["access-control-expose-headers"]
    evil = await ask(house, GET, GetConversationRequest(name="conversations/c"), "", origin="http://evil.test")
    assert "access-control-allow-origin" not in evil.headers
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-grpc-web", "origin": FRIEND}
    preflight = await house.call("OPTIONS", f"/{GET}", token=None, headers=asked)
    assert "x-grpc-web" in preflight.headers["access-control-allow-headers"]


async def test_a_refusal_of_rest_stays_json_whatever_it_pretends_to_be(house: House) -> None:
    answer = await house.call("POST", "/v1/chat:stream", token=None, json={"text": "x"}, headers={"x-grpc-web": "1"})
    assert (answer.status, answer.headers["content-type"]) == (401, "application/json")
