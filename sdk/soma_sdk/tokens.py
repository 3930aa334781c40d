"""The person's token, and where the next one comes from."""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from soma_sdk.errors import Unauthenticated

Ask: TypeAlias = Callable[[], str] | Callable[[], Awaitable[str]]
Source: TypeAlias = str | Ask
"""A token, or what gives one: called for the first call, before the token expires, and when it was refused."""

SOURCE_S = 30.0
EARLY_S = 30.0
"""How long before its expiry a token is renewed; a quarter of its life when that is less."""
AGAIN_S = 2.0


class Tokens:
    """The token for a call that begins now. However many ask, the source is asked once."""

    def __init__(self, source: Source | None, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._source = source if callable(source) else None
        self._token = source if isinstance(source, str) else ""
        self._renew_at = 0.0 if self._source else float("inf")
        self._expires_at = float("inf")
        self._lock = asyncio.Lock()

    async def current(self) -> str:
        """The token; empty when there is no source. Raises Unauthenticated when none can be had."""
        if self._now() < self._renew_at:
            return self._token
        async with self._lock:
            if self._source and self._now() >= self._renew_at:
                await self._renew_early(self._source)
        return self._token

    async def after(self, refused: str) -> str:
        """The token to try after one was refused: the same one when there is no other."""
        async with self._lock:
            if self._source and self._token == refused:
                self._take(await self._ask(self._source))
        return self._token

    async def _renew_early(self, source: Ask) -> None:
        try:
            self._take(await self._ask(source))
        except Unauthenticated:
            if self._now() >= self._expires_at or not self._token:
                raise
            self._renew_at = self._now() + AGAIN_S  # the old one is still good

    async def _ask(self, source: Ask) -> str:
        """Ask the source. Whatever it raises is why there is no token."""
        try:
            async with asyncio.timeout(SOURCE_S):
                token = await source() if inspect.iscoroutinefunction(source) else await asyncio.to_thread(source)
                if inspect.isawaitable(token):
                    token = await token
        except Exception as fault:
            why = f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
            raise Unauthenticated("TOKEN_REFUSED", f"No token could be had: {why}") from fault
        if not isinstance(token, str) or not token.strip():
            raise Unauthenticated("TOKEN_REFUSED", "No token could be had: its source gave none.")
        return token.strip()

    def _take(self, token: str) -> None:
        now = self._now()
        self._token, self._expires_at = token, expiry(token)
        self._renew_at = self._expires_at - min(EARLY_S, max(self._expires_at - now, 0) / 4)
        if self._renew_at <= now:  # expired as it came: let the mesh refuse it, and do not ask for each call
            self._renew_at = now + AGAIN_S


def expiry(token: str) -> float:
    """When the token says that it expires, in seconds of Unix time; never, if it says nothing. Nothing is verified."""
    try:
        body = token.split(".")[1]
        exp = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"]
        return float(exp)
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return float("inf")


def from_file(path: str | Path) -> Callable[[], str]:
    """A source that reads a file, which something else keeps fresh."""
    return Path(path).read_text


def from_command(command: Sequence[str]) -> Callable[[], Awaitable[str]]:
    """A source that runs a command and takes what it prints, such as `soma token --tenant acme --person member`."""

    async def run() -> str:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            told, complaint = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise OSError(f"{command[0]} ended with {process.returncode}: {complaint.decode().strip()[-500:]}")
        return told.decode()

    return run
