"""An HTTPS webhook: batches as JSON arrays by POST; a 2xx answer is the receipt."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from services.common.errors import Invalid, Unavailable

CONNECT_S = 3.0
MOST_BYTES = 512 * 1024
"""Of one request, unless one event is larger."""
REFUSED = (400, 413, 422)
"""What an answer is that is about the events, not about us or the receiver's state."""


@dataclass(frozen=True, slots=True)
class Webhook:
    url: str
    session: aiohttp.ClientSession
    token_file: Path | None

    async def send(self, events: Sequence[Mapping[str, Any]]) -> None:
        """All of them, in order, in as many requests as it takes. Raises Unavailable: then those of earlier requests
        were taken; Invalid when the receiver will not have one of these events whatever happens."""
        for body in bodies([msgspec.json.encode(event) for event in events]):
            await self._post(body)

    async def _post(self, body: bytes) -> None:
        try:
            async with self.session.post(self.url, data=body, headers=self._headers(), allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError) as fault:
            raise Unavailable("ROOM_UNAVAILABLE", f"The SIEM does not answer: {fault!r}") from fault
        if status in REFUSED:
            raise Invalid("REQUEST_INVALID", f"The SIEM refuses an event: HTTP {status}.")
        if not 200 <= status < 300:
            raise Unavailable("ROOM_UNAVAILABLE", f"The SIEM takes nothing: HTTP {status}.")

    def _headers(self) -> Mapping[str, str]:
        """With the token as it is now, so that it can be changed in place."""
        bearer = {"authorization": f"Bearer {self.token_file.read_text().strip()}"} if self.token_file else {}
        return {"content-type": "application/json", **bearer}


@asynccontextmanager
async def open_webhook(
    url: str, context: ssl.SSLContext, token_file: Path | None, send_s: float
) -> AsyncIterator[Webhook]:
    timeout = aiohttp.ClientTimeout(total=send_s, connect=CONNECT_S)
    connector = aiohttp.TCPConnector(ssl=context, limit=4)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Webhook(url, session, token_file)


def bodies(events: Sequence[bytes]) -> Iterator[bytes]:
    """JSON arrays in bounds."""
    some: list[bytes] = []
    size = 0
    for event in events:
        if some and size + len(event) > MOST_BYTES:
            yield b"[" + b",".join(some) + b"]"
            some, size = [], 0
        some.append(event)
        size += len(event) + 1
    if some:
        yield b"[" + b",".join(some) + b"]"
