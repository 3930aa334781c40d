"""What the edge adds to a small call: REST through Envoy against the same RPC straight over gRPC and mTLS.

One call at a time, the ways in turn, in the same run. The clients are bare sockets, so that theirs is a small part on
either side; grpcio's own client is shown beside them. A second Envoy, with the same configuration and microseconds in
its access log, tells what it says of itself: from the first byte of the request to the last of the answer, less the
time from asking the room to its answer. By gRPC-Web a call may cost no more than by REST, in time and in Envoy's CPU.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc

from services.local.ports import free_port
from services.local.stack import GRPC, Stack, load_stack
from services.local.wheels import envoy_program
from soma.agent.v1.conversation_pb2 import Conversation
from soma.agent.v1.conversation_service_pb2 import GetConversationRequest
from tests.bench.figure import Figure
from tests.bench.spent import cpu_s, percentile
from tests.bench.wires import Rest, Rpc, Web, secret
from tests.system.mesh import Mesh, running_mesh, wait_until

METHOD = "/soma.agent.v1.ConversationService/GetConversation"
CALLS, WARM_UP, BLOCK = 2500, 200, 50
WHOLE_US, ROOM_US = "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%", "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%"
Call = Callable[[], object]


def measure(scale: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="soma-edge-") as folder, ExitStack() as doors:
        mesh = doors.enter_context(running_mesh(Path(folder) / "soma", "TEST"))
        stack, token = load_stack(mesh.home), mesh.token()
        name = new_conversation(mesh, token)
        port, log = doors.enter_context(second_edge(stack))
        ways = {
            "rest": rest(doors, mesh.port, name, token),
            "rpc": rpc(doors, stack, name, token),
            "grpcio": grpcio(doors, stack, name, token),
            "told": rest(doors, port, name, token),
            "web": web(doors, mesh.port, name, token),
        }
        calls = max(50, round(CALLS * scale))
        taken = in_turn(ways, calls)
        said = told(log, calls)
        envoy = mesh.status()["parts"]["edge"]["pid"]
        cpu = cpu_each(envoy, {way: ways[way] for way in ("rest", "web")}, calls)
    p50 = {way: statistics.median(times) for way, times in taken.items()}
    p95 = {way: percentile(times, 95) for way, times in taken.items()}
    ends = f"p50 {p50['rest']:.2f} ms by REST, {p50['rpc']:.2f} ms straight"
    late = f"p95 {p95['rest']:.2f} ms by REST, {p95['rpc']:.2f} ms straight"
    return [
        Figure("added p50, bare sockets on both sides", p50["rest"] - p50["rpc"], "ms", 0.7, at_most=True, note=ends),
        Figure("added p95", p95["rest"] - p95["rpc"], "ms", note=late),
        Figure(
            "added p50, straight by grpcio", p50["rest"] - p50["grpcio"], "ms", note=f"p50 {p50['grpcio']:.2f} straight"
        ),
        Figure("added p50, as Envoy tells", statistics.median(said), "ms", note="whole less asking the room"),
        Figure("straight p50 / REST p50", p50["rpc"] / p50["rest"]),
        Figure(
            "gRPC-Web p50 / REST p50", p50["web"] / p50["rest"], "", 1.05, at_most=True, note=f"p50 {p50['web']:.2f} ms"
        ),
        Figure(
            "gRPC-Web CPU / REST CPU of Envoy",
            cpu["web"] / cpu["rest"],
            "",
            1.0,
            at_most=True,
            note=f"{cpu['web']:.0f} and {cpu['rest']:.0f} us a call",
        ),
    ]


def in_turn(ways: Mapping[str, Call], calls: int) -> dict[str, list[float]]:
    """Milliseconds a call, each way once in each round."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(WARM_UP + calls):
        for way, call in ways.items():
            began = time.perf_counter()
            call()
            if number >= WARM_UP:
                taken[way].append((time.perf_counter() - began) * 1000)
    return taken


def cpu_each(pid: int, ways: Mapping[str, Call], calls: int) -> dict[str, float]:
    """Microseconds of a process' CPU a call, the ways in blocks by turns."""
    spent = dict.fromkeys(ways, 0.0)
    for _ in range(-(-calls // BLOCK)):
        for way, call in ways.items():
            before = cpu_s(pid)
            for _ in range(BLOCK):
                call()
            spent[way] += cpu_s(pid) - before
    return {way: seconds * 1e6 / (-(-calls // BLOCK) * BLOCK) for way, seconds in spent.items()}


def rest(doors: ExitStack, port: int, name: str, token: str) -> Call:
    client = Rest(port, f"/v1/{name}", token)
    doors.callback(client.close)
    assert json.loads(client.call())["name"] == name
    return client.call


def rpc(doors: ExitStack, stack: Stack, name: str, token: str) -> Call:
    client = Rpc(stack.ports["agent"], "agent", METHOD, token, stack.secrets_for_edge)
    doors.callback(client.close)
    asked = GetConversationRequest(name=name).SerializeToString()
    assert Conversation.FromString(client.call(asked)).name == name
    return lambda: client.call(asked)


def web(doors: ExitStack, port: int, name: str, token: str) -> Call:
    client = Web(port, METHOD, token)
    doors.callback(client.close)
    asked = GetConversationRequest(name=name).SerializeToString()
    assert Conversation.FromString(client.call(asked)).name == name
    return lambda: client.call(asked)


def grpcio(doors: ExitStack, stack: Stack, name: str, token: str) -> Call:
    shown, trusted = secret(stack.secrets_for_edge, "svid"), secret(stack.secrets_for_edge, "bundle")
    pems = (trusted["trusted_ca"], shown["private_key"], shown["certificate_chain"])
    credentials = grpc.ssl_channel_credentials(*(pem["inline_string"].encode() for pem in pems))
    options = (("grpc.ssl_target_name_override", "agent.soma.local"),)
    channel = doors.enter_context(grpc.secure_channel(stack.address("agent"), credentials, options))
    call = channel.unary_unary(METHOD, GetConversationRequest.SerializeToString, Conversation.FromString)
    metadata = (("authorization", f"Bearer {token}"),)
    return lambda: call(GetConversationRequest(name=name), metadata=metadata, timeout=10)


def new_conversation(mesh: Mesh, token: str) -> str:
    body = json.dumps({"title": "a small one"}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{mesh.url}/v1/conversations", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["name"])


@contextmanager
def second_edge(stack: Stack) -> Iterator[tuple[int, Path]]:
    """An Envoy like the mesh's, on another port, whose access log tells microseconds. Its port and its log."""
    port, admin, log = free_port(), free_port(), stack.run / "second.log"
    text = stack.edge_file.read_text().replace("%DURATION%", WHOLE_US).replace("%RESPONSE_DURATION%", ROOM_US)
    text = text.replace(str(stack.logs / "access.log"), str(log))
    text = text.replace(f'"port_value": {stack.ports["edge_admin"]}', f'"port_value": {admin}')
    for ours, other in ((stack.ports["edge"], port), (stack.ports[GRPC], free_port())):
        text = re.sub(rf'(port_value"?: ){ours}\b', rf"\g<1>{other}", text)
    file = stack.run / "second.yaml"
    file.write_text(text)
    command = [str(envoy_program()), "--config-path", str(file), "--concurrency", "1", "--disable-hot-restart"]
    envoy = subprocess.Popen([*command, "--log-level", "error"], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_open(port), what="the second edge")
        yield port, log
    finally:
        envoy.terminate()
        envoy.wait(10)


def is_open(port: int) -> bool:
    try:
        Rest(port, "/", "").close()
    except OSError:
        return False
    return True


def told(log: Path, calls: int) -> list[float]:
    """Milliseconds that Envoy spent on each of the last calls itself."""

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")] if log.exists() else []

    wait_until(lambda: len(lines()) >= calls, what="the second edge's access log")
    return [(line["duration_ms"] - line["first_byte_ms"]) / 1000 for line in lines()[-calls:]]
