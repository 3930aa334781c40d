"""A chat through the edge, as any client would hold it: server-sent events, resumed where they were cut."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from services.local.fault import Fault
from services.local.https import Https

SILENCE_S = 40.0
"""The mesh sends a heartbeat every 15 s: a stream that is silent for longer has been cut."""
RESUME_S = 30.0
PAUSE_S = 0.3
RETRYABLE = (502, 503, 504)

Event = dict[str, Any]


class Refused(Fault):
    """The edge or a room said no. Its text is theirs."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Edge:
    """The way into the mesh, as one person."""

    port: int
    token: str
    https: Https | None = None
    turn: str = ""
    """The turn that is watched, once it has been accepted."""
    sequence: int = 0
    """The last event seen."""

    def chat(self, request: dict[str, Any]) -> Iterator[Event]:
        """Every event of one turn, to its end. A stream that is cut is resumed, for half a minute without news."""
        give_up = time.monotonic() + RESUME_S
        while True:
            try:
                for event in self.events(request):
                    give_up = time.monotonic() + RESUME_S
                    yield event
                    if "done" in event or "error" in event:
                        return
            except (OSError, http.client.HTTPException) as error:
                self.resume_or_raise(error, give_up)
            except Refused as refusal:
                if not self.turn or refusal.code not in RETRYABLE or time.monotonic() > give_up:
                    raise
            time.sleep(PAUSE_S)

    def resume_or_raise(self, error: Exception, give_up: float) -> None:
        if isinstance(error, ConnectionRefusedError) and not self.turn:
            raise Fault("The mesh is down. Start it with: soma up") from error
        if time.monotonic() > give_up:
            raise Fault("The answer was cut and could not be resumed. See: soma status") from error

    def events(self, request: dict[str, Any]) -> Iterator[Event]:
        """One stream: the question, or what followed the last event seen."""
        if self.turn:
            answer = self.send("GET", f"/v1/{quote(self.turn)}:watch?afterSequence={self.sequence}")
        else:
            answer = self.send("POST", "/v1/chat:stream", request)
        with contextlib.closing(answer):
            for line in answer:
                if not line.startswith(b"data:"):
                    continue
                event = json.loads(line[5:])
                self.sequence = event.get("sequence", self.sequence)
                self.turn = event.get("accepted", {}).get("turn", self.turn)
                yield event

    def cancel(self) -> None:
        """Stop the turn; the mesh would finish it otherwise."""
        if self.turn:
            with contextlib.suppress(OSError, http.client.HTTPException, Fault):
                self.send("POST", f"/v1/{quote(self.turn)}:cancel", {}).close()

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SILENCE_S)
        if self.https:
            connection.connect()
            connection.sock = self.https.context().wrap_socket(connection.sock, server_hostname=self.https.host)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            with contextlib.closing(answer):
                raise Refused(answer.status, sentence(answer))
        return answer


def sentence(answer: http.client.HTTPResponse) -> str:
    try:
        return str(json.loads(answer.read())["message"])
    except (ValueError, KeyError, TypeError):
        return f"The edge answered with {answer.status} {answer.reason}. See: soma status"
