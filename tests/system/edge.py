"""A client of the edge that knows HTTP and SSE, and nothing of ours."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.system.mesh import Mesh

DEADLINE_S = 60
Event = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of a refusal: the reason of its ErrorInfo."""
        infos = [d for d in self.json["details"] if d["@type"].endswith("ErrorInfo")]
        assert len(infos) == 1, self.body
        assert infos[0]["domain"] == "soma"
        reason: str = infos[0]["reason"]
        return reason


@dataclass(frozen=True)
class Client:
    """One person at the edge; without a token nobody."""

    port: int
    token: str = ""

    @classmethod
    def of(cls, mesh: Mesh, tenant: str = "acme", person: str = "member", *roles: str) -> Client:
        return cls(mesh.port, mesh.token(tenant, person, *roles))

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Answer:
        """A whole call. A body of bytes goes as it is, anything else as JSON."""
        with self.open(method, path, body, headers) as response:
            return Answer(response.status, lowered(response), response.read())

    @contextmanager
    def open(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=DEADLINE_S)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **({"authorization": f"Bearer {self.token}"} if self.token else {})}
        try:
            connection.request(method, path, raw, {**sent, **(headers or {})})
            yield connection.getresponse()
        finally:
            connection.close()

    def stream(self, method: str, path: str, body: object = None) -> Iterator[Event]:
        """The events of a stream, as they come. Closing the generator hangs up."""
        with self.open(method, path, body) as response:
            if response.status != 200:
                raise AssertionError(f"{response.status} {response.read()!r}")
            assert response.headers["content-type"] == "text/event-stream"
            yield from events_of(response)

    def ask(self, text: str, **fields: str) -> list[Event]:
        return list(self.stream("POST", "/v1/chat:stream", {"text": text, **fields}))

    def watch(self, turn: str, after: int = 0) -> list[Event]:
        """The turn's events after one. Heartbeats are the stream's, not the turn's."""
        events = self.stream("GET", f"/v1/{turn}:watch?afterSequence={after}")
        return [event for event in events if "heartbeat" not in event]


def events_of(response: http.client.HTTPResponse) -> Iterator[Event]:
    for line in response:
        if line.strip():
            assert line.startswith(b"data: "), line
            yield json.loads(line.removeprefix(b"data: "))


def lowered(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def text_of(events: list[Event]) -> str:
    return "".join(event["text"]["delta"] for event in events if "text" in event)


def kind(event: Event) -> str:
    return next(name for name in event if name != "sequence")


def until(stream: Iterator[Event], words: int) -> list[Event]:
    """Read until there are some pieces of text, then hang up."""
    events = []
    for event in stream:
        events.append(event)
        if sum("text" in e for e in events) >= words:
            break
    stream.close()  # type: ignore[attr-defined]
    return events
