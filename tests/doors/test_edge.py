"""The edge as its callers meet it: streams, refusals, headers, the page, and what happens when a part is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from aiohttp import ClientResponse, ClientSession, UnixConnector
from google.rpc import code_pb2

from services.common.api_keys import new_secret
from services.common.clock import SystemClock
from services.local.issuer.key import mint, open_key
from services.local.ports import free_port
from services.local.workload.sds import put_sds
from soma.agent.v1 import (
    health_service_pb2,
    health_service_pb2_grpc,
)
from tests.doors.edge import FRIEND, Agent, House, envoy, open_house, served_router

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVIL = "http://evil.test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("edge")) as opened:
        yield opened


async def refused(answer: ClientResponse, status: int, reason: str, code: int) -> dict[str, Any]:
    """The answer is a refusal in the house's form."""
    body = await answer.text()
    assert answer.status == status, body
    assert answer.headers["content-type"] == "application/json"
    said: dict[str, Any] = json.loads(body)
    assert said["code"] == code
    assert said["message"]
    assert said["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (said["details"][0]["reason"], said["details"][0]["domain"]) == (reason, "soma")
    assert not [name for name in answer.headers if name.lower().startswith(("grpc-", "x-envoy-", "server"))]
    return said


def events(body: bytes) -> list[dict[str, Any]]:
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


async def test_a_chat_is_a_stream_of_numbered_events(house: House) -> None:
    for path in ("/v1/chat:stream", "/chat/stream"):
        answer = await house.call("POST", path, json={"text": "hello"})
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        told = events(await answer.read())
        assert [event.get("sequence") for event in told] == [1, 2, None, 3]
        assert [next(name for name in event if name != "sequence") for event in told] == [
            "accepted", "text", "heartbeat", "done",
        ]  # fmt: skip
        assert told[-1]["done"]["costMicrousd"] == "0"


async def test_an_event_is_on_its_way_before_the_next_one_is_made(house: House) -> None:
    house.agent.go_on.clear()
    answer = await house.chat("wait for it")
    first = await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 15)
    assert events(first)[0]["sequence"] == 1
    house.agent.go_on.set()
    assert [event.get("sequence") for event in events(await answer.read())] == [2, None, 3]


async def test_a_client_that_hangs_up_is_heard_in_the_room(house: House) -> None:
    house.agent.go_on.clear()
    house.agent.cancelled.clear()
    answer = await house.chat("hang")
    await answer.content.readuntil(b"\n\n")
    answer.close()
    await asyncio.wait_for(house.agent.cancelled.wait(), 15)


async def test_a_refusal_of_the_room_arrives_with_status_reason_and_facts(house: House) -> None:
    said = await refused(await house.chat("refuse"), 409, "TURN_RUNNING", code_pb2.ABORTED)
    assert said["details"][0]["metadata"] == {"turn": "conversations/c/turns/t"}


async def test_names_masks_and_queries_reach_the_room(house: House) -> None:
    watched = await house.call("GET", "/v1/conversations/c/turns/t:watch?afterSequence=7")
    assert events(await watched.read()) == [{"sequence": 8, "text": {"delta": "conversations/c/turns/t"}}]
    stopped = await (await house.call("POST", "/v1/conversations/c/turns/t:cancel", json={})).json()
    assert (stopped["name"], stopped["state"]) == ("conversations/c/turns/t", "STATE_CANCELLED")
    page = await (await house.call("GET", "/v1/conversations?page_size=7")).json()
    assert page == {"conversations": [], "nextPageToken": "7"}
    body = {"title": "new"}
    changed = await house.call("PATCH", "/v1/conversations/c?updateMask=title&requestId=r", json=body)
    assert (await changed.json())["title"] == "new"
    assert house.agent.updated
    assert house.agent.updated.conversation.name == "conversations/c"
    assert list(house.agent.updated.update_mask.paths) == ["title"]
    decided = await house.call("POST", "/v1/decide", json={})
    assert (await decided.json())["model"] == "m"


async def test_128_kib_pass_however_they_are_written(house: House) -> None:
    for body in (b'{"text": "' + b"\\u0041" * 131072 + b'"}', json.dumps({"text": "é" * 65536}).encode()):
        told = events(await (await house.call("POST", "/v1/chat:stream", data=body)).read())
        assert told[1]["text"]["delta"] == "131072"


async def test_large_answers_arrive_whole(house: House) -> None:
    assert len(events(await (await house.chat("long")).read())[1]["text"]["delta"]) == 1_500_000
    turn = await (await house.call("GET", "/v1/conversations/c/turns/t")).json()
    assert len(turn["answer"]) == 1_500_000


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"text": "a', b"[]", b"nonsense", b'{"text": 3, "text"}', b'{"text": "\xff\xfe"}', b'{"text": {}}',
     b'"', b"\x00", b'{"tier": "\\ud800"}'],
)  # fmt: skip
async def test_a_body_that_is_no_request_is_refused(house: House, body: bytes) -> None:
    answer = await house.call("POST", "/v1/chat:stream", data=body)
    if body == b"":
        assert answer.status == 200  # an empty request; the room says what it lacks
        return
    await refused(answer, 400, "REQUEST_MALFORMED", code_pb2.INVALID_ARGUMENT)


@pytest.mark.parametrize("query", ["?nothing=1", "?pageSize=many", "?page_size=99999999999999"])
async def test_a_query_that_is_not_in_the_contract_is_refused(house: House, query: str) -> None:
    answer = await house.call("GET", f"/v1/conversations{query}")
    await refused(answer, 400, "REQUEST_MALFORMED", code_pb2.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/nothing"), ("PUT", "/v1/conversations"), ("GET", "/v1/chat:stream"), ("POST", "/"), ("GET", "/x"),
     ("POST", "/soma.agent.v1.ChatService/Chat"), ("POST", "/soma.router.v1.RouterService/Generate"), ("GET", "/oidc"),
     ("GET", "/v1/conversations/"), ("DELETE", "/healthz"), ("GET", "/assets/"), ("GET", "/../etc/passwd")],
)  # fmt: skip
async def test_what_the_contract_does_not_bind_is_not_found_with_or_without_a_token(
    house: House, method: str, path: str
) -> None:
    for token in ("", None):
        await refused(await house.call(method, path, token=token), 404, "PATH_UNKNOWN", code_pb2.NOT_FOUND)


async def test_no_token_or_a_wrong_one_is_refused_before_the_room(house: House, tmp_path: Path) -> None:
    unsigned = "eyJhbGciOiJub25lIn0." + house.token().split(".")[1] + "."
    foreign = mint(tmp_path, house.settings.issuer_url, "soma", "acme", "member", ("member",), 60, SystemClock())
    wrong = [
        None,
        "x",
        unsigned,
        foreign,
        house.token(ttl_s=-30),
        house.token(audience="else"),
        house.token(issuer=EVIL),
    ]
    endless = {"iss": house.settings.issuer_url, "aud": "soma", "sub": "member@acme", "tenant": "acme"}
    wrong.append(open_key(house.keys).sign(endless))
    house.agent.heard = {}
    for token in wrong:
        answer = await house.call("POST", "/v1/chat:stream", token=token, json={"text": "hello"})
        said = await refused(answer, 401, "TOKEN_REFUSED", code_pb2.UNAUTHENTICATED)
        assert "Sign in again" in said["message"]
    in_query = await house.call("GET", f"/v1/conversations?access_token={house.token()}", token=None)
    await refused(in_query, 401, "TOKEN_REFUSED", code_pb2.UNAUTHENTICATED)
    assert house.agent.heard == {}


async def test_an_api_key_where_none_is_taken_is_told_what_it_opens(house: House) -> None:
    answer = await house.call("POST", "/v1/chat:stream", token=new_secret(), json={"text": "hello"})
    said = await refused(answer, 401, "TOKEN_REFUSED", code_pb2.UNAUTHENTICATED)
    assert said["message"] == "An API key opens the OpenAI paths alone. Sign in, and send your token here."


async def test_two_mebibytes_are_too_large(house: House) -> None:
    answer = await house.chat("x" * 2 * 1024 * 1024)
    await refused(answer, 413, "BODY_TOO_LARGE", code_pb2.INVALID_ARGUMENT)


async def test_headers_without_end_are_refused(house: House) -> None:
    answer = await house.call("GET", "/healthz", token=None, headers={f"a{n}": "x" * 7000 for n in range(6)})
    await refused(answer, 431, "REQUEST_MALFORMED", code_pb2.INVALID_ARGUMENT)


async def test_an_answer_that_does_not_come_ends_with_504(house: House) -> None:
    answer = await house.call("GET", "/v1/conversations/slow")
    await refused(answer, 504, "DEADLINE_EXCEEDED", code_pb2.DEADLINE_EXCEEDED)


async def test_the_rooms_hear_the_token_and_the_trace_and_nothing_that_could_lie(house: House) -> None:
    token, trace = house.token(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    lies = {
        "x-forwarded-client-cert": "By=x",
        "x-soma-tenant": "globex",
        "x-envoy-original-path": "/x",
        "cookie": "a=b",
    }
    lies |= {"grpc-timeout": "1n", "evil-bin": "AA", "x-forwarded-for": "1.2.3.4", "x-envoy-max-retries": "9"}
    answer = await house.call(
        "POST", "/v1/chat:stream", token=token, json={"text": "x"}, headers=lies | {"traceparent": trace}
    )
    await answer.read()
    heard = house.agent.heard
    assert heard["authorization"] == f"Bearer {token}"
    assert heard["traceparent"].split("-")[1] == trace.split("-")[1]
    assert not set(lies) & set(heard) - {"x-envoy-original-path", "x-forwarded-for"}
    assert heard.get("x-envoy-original-path") != "/x"
    assert "1.2.3.4" not in heard.get("x-forwarded-for", "")


async def test_a_trace_begins_at_the_edge(house: House) -> None:
    await (await house.chat("x")).read()
    version, trace, span, flags = house.agent.heard["traceparent"].split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    async with asyncio.timeout(20):
        while trace not in house.settings.access_log.read_text():
            await asyncio.sleep(0.1)


async def test_health_asks_for_no_token(house: House) -> None:
    answer = await house.call("GET", "/healthz", token=None)
    assert (answer.status, await answer.json()) == (200, {"status": "ok"})


async def test_every_answer_carries_the_security_headers_and_no_trace_of_the_inside(house: House) -> None:
    for path in ("/", "/v1/conversations", "/healthz", "/nothing", "/assets/app-1a2b.js", "/oidc/jwks", "/oidc/logout"):
        answer = await house.call("GET", path, allow_redirects=False)
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] in ("no-referrer", "same-origin")
        assert headers["cache-control"]
        inside = [name for name in headers if name.lower().startswith(("grpc-", "x-envoy", "server", "x-powered"))]
        assert not inside


async def test_the_page_is_served_with_its_files(house: House) -> None:
    for path in ("/", "/?code=a&state=b", "/index.html"):
        page = await house.call("GET", path, token=None)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "<title>page" in await page.text()
        assert page.headers["cache-control"] == "no-store"
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
    script = await house.call("GET", "/assets/app-1a2b.js", token=None)
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert len(await script.read()) == 16000
    assert (await house.call("GET", "/mark.svg", token=None)).headers["content-type"] == "image/svg+xml"
    assert (await house.call("HEAD", "/", token=None)).status == 200


async def test_the_contract_and_its_reading_page_are_served_without_a_token(house: House) -> None:
    told = await house.call("GET", "/openapi.json", token=None)
    assert (told.status, told.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert await told.json() == {"openapi": "3.1.0"}
    for path in ("/docs", "/docs.html"):
        page = await house.call("GET", path, token=None)
        assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "<title>docs" in await page.text()
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    for path in ("/docs/", "/openapi.yaml", "/pane"):
        await refused(await house.call("GET", path, token=None), 404, "PATH_UNKNOWN", code_pb2.NOT_FOUND)


async def test_a_pane_has_no_origin_and_nobody_to_speak_to(house: House) -> None:
    pane = await house.call("GET", "/pane.html", token=None)
    policy = dict(part.strip().partition(" ")[::2] for part in pane.headers["content-security-policy"].split(";"))
    assert policy["sandbox"] == "allow-scripts"
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'unsafe-inline'"
    assert not {"connect-src", "frame-src", "child-src", "worker-src", "object-src"} & set(policy)
    assert all("http" not in value and "*" not in value for value in policy.values())


async def test_the_page_may_frame_a_pane_of_its_own_and_nobody_else_may(house: House) -> None:
    pane, page = [(await house.call("GET", path, token=None)).headers for path in ("/pane.html", "/")]
    assert "frame-ancestors 'self'" in pane["content-security-policy"]
    assert pane.getall("x-frame-options") == ["SAMEORIGIN"]
    assert pane.getall("cross-origin-opener-policy") == ["unsafe-none"]
    assert "camera=()" in pane["permissions-policy"]
    assert "frame-src 'self'" in page["content-security-policy"]
    assert "frame-ancestors 'none'" in page["content-security-policy"]
    assert page.getall("x-frame-options") == ["DENY"]


async def test_without_a_built_page_or_openapi_there_is_no_such_path(house: House, tmp_path: Path) -> None:
    settings = replace(
        house.settings, port=free_port(), admin=str(tmp_path / "a.sock"), web_dir=tmp_path / "w", openapi=tmp_path / "o"
    )
    async with envoy(settings, tmp_path / "edge.yaml"):
        other = replace(house, settings=settings)
        for path in ("/", "/docs", "/openapi.json", "/pane.html"):
            await refused(await other.call("GET", path, token=None), 404, "PATH_UNKNOWN", code_pb2.NOT_FOUND)


async def test_the_access_log_holds_no_query(house: House) -> None:
    await (await house.call("GET", "/?code=topsecret", token=None)).read()
    await (await house.call("GET", "/mark.svg?last", token=None)).read()
    async with asyncio.timeout(20):
        while '"/mark.svg"' not in house.settings.access_log.read_text():
            await asyncio.sleep(0.1)
    written = house.settings.access_log.read_text()
    assert "topsecret" not in written
    assert all(json.loads(line) for line in written.splitlines())


async def test_the_issuer_is_behind_the_edge(house: House) -> None:
    told = await (await house.call("GET", "/oidc/.well-known/openid-configuration", token=None)).json()
    assert told["issuer"] == house.settings.issuer_url
    page = await house.call("GET", "/oidc/authorize", token=None)
    assert (page.status, page.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert "style-src 'sha256-" in page.headers["content-security-policy"]


async def test_other_origins_are_let_in_only_when_configured(house: House) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    friend = await house.call("OPTIONS", "/v1/chat:stream", token=None, headers=asked | {"origin": FRIEND})
    assert friend.status == 200
    assert friend.headers["access-control-allow-origin"] == FRIEND
    assert "authorization" in friend.headers["access-control-allow-headers"]
    evil = await house.call("OPTIONS", "/v1/chat:stream", token=None, headers=asked | {"origin": EVIL})
    assert "access-control-allow-origin" not in evil.headers
    evil = await house.call("GET", "/v1/conversations", headers={"origin": EVIL})
    assert "access-control-allow-origin" not in evil.headers


async def test_a_name_that_is_not_ours_gets_nothing(house: House) -> None:
    for path in ("/", "/v1/conversations", "/healthz"):
        answer = await house.call("GET", path, headers={"host": "rebound.evil.test"})
        await refused(answer, 404, "PATH_UNKNOWN", code_pb2.NOT_FOUND)
    assert (await house.call("GET", "/healthz", headers={"host": "localhost:9999"})).status == 200


async def test_localhost_by_ipv6_is_the_same_edge(house: House) -> None:
    if not house.settings.ipv6:
        pytest.skip("this machine has no IPv6 loopback")
    answer = await house.http.get(f"http://[::1]:{house.settings.port}/healthz")
    assert answer.status == 200


async def test_native_grpc_is_told_that_it_is_not_served(house: House) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{house.settings.port}") as channel:
        stub = health_service_pb2_grpc.HealthServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.CheckHealth(health_service_pb2.CheckHealthRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_renewed_secrets_are_taken_without_a_lost_call(house: House) -> None:
    before = await ssl_updates(house)
    put_sds(house.authority, "edge", house.settings.sds_dir)
    async with asyncio.timeout(30):
        while await ssl_updates(house) <= before:
            assert (await house.call("GET", "/healthz", token=None)).status == 200
    assert (await house.call("GET", "/healthz", token=None)).status == 200


async def ssl_updates(house: House) -> int:
    async with ClientSession(connector=UnixConnector(house.settings.admin)) as admin:
        stats = await (await admin.get("http://admin/stats?filter=sds.*update_attempt&format=json")).json()
    return sum(stat.get("value", 0) for stat in stats["stats"])


async def test_a_room_that_is_down_or_is_not_who_it_should_be_is_said_at_once(house: House, tmp_path: Path) -> None:
    async with served_router(house.authority, "agent") as impostor:
        settings = replace(
            house.settings, port=free_port(), admin=str(tmp_path / "a.sock"),
            rooms={"agent": f"127.0.0.1:{free_port()}", "router": impostor}, unary_s=60,
        )  # fmt: skip
        async with envoy(settings, tmp_path / "edge.yaml"):
            other = replace(house, settings=settings)
            token = house.token()
            for method, path in (("POST", "/v1/chat:stream"), ("GET", "/v1/conversations"), ("POST", "/v1/decide")):
                async with asyncio.timeout(20):
                    answer = await other.call(method, path, token=token, data="{}" if method == "POST" else None)
                    said = await refused(answer, 503, "ROOM_UNAVAILABLE", code_pb2.UNAVAILABLE)
                assert said["details"][1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}


async def test_a_token_that_cannot_be_checked_is_not_the_persons_fault(house: House, tmp_path: Path) -> None:
    gone = replace(house.settings, port=free_port(), admin=str(tmp_path / "a.sock"), issuer=f"127.0.0.1:{free_port()}")
    async with envoy(gone, tmp_path / "edge.yaml"):
        other = replace(house, settings=gone)
        answer = await other.call("GET", "/v1/conversations", token=house.token())
        said = await refused(answer, 503, "ROOM_UNAVAILABLE", code_pb2.UNAVAILABLE)
        assert "sign-in service" in said["message"]
        assert (await other.call("GET", "/healthz", token=None)).status == 200


async def test_a_room_that_comes_back_is_used_at_once(house: House, tmp_path: Path) -> None:
    port = free_port()
    settings = replace(
        house.settings, port=free_port(), admin=str(tmp_path / "a.sock"), rooms={"agent": f"127.0.0.1:{port}"}
    )
    async with envoy(settings, tmp_path / "edge.yaml"):
        other = replace(house, settings=settings)
        assert (await other.call("GET", "/healthz", token=None)).status == 503
        server = grpc.aio.server()
        health_service_pb2_grpc.add_HealthServiceServicer_to_server(Agent(), server)
        key, chain, bundle = house.authority.svid("agent")
        server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, chain)], bundle, True))
        await server.start()
        assert (await other.call("GET", "/healthz", token=None)).status == 200
        await server.stop(None)
        assert (await other.call("GET", "/healthz", token=None)).status == 503


async def test_a_second_edge_on_the_port_fails(house: House, tmp_path: Path) -> None:
    settings = replace(house.settings, admin=str(tmp_path / "a.sock"))
    with pytest.raises(AssertionError, match="in use"):
        async with envoy(settings, tmp_path / "edge.yaml"):
            pass
