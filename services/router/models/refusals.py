"""What a provider's status means. The body of a complaint is read, never shown. Pure but for that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

import aiohttp
import msgspec

from services.router.models import Broken
from services.router.models.arriving import TOO_LONG, USUAL_PAUSE_S, busy, complaint, too_long

MOST_COMPLAINT_BYTES = 16 * 1024
COMPLAIN_S = 2.0
LONGEST_PAUSE_S = 300.0
OVERLOADED = 529


async def refuse_complaint(provider: str, response: aiohttp.ClientResponse, *, whole: bool = False) -> None:
    """Raise Broken unless the response is a stream to be read, or an answer in one piece when that was asked for."""
    if response.status == 200 and (whole or not response.content_type.startswith(("application/json", "text/html"))):
        return
    said = await words_of(response) if response.status in (200, 400, 413, 422) else b""
    raise refusal(provider, response.status, response.headers, said)


def refusal(provider: str, status: int, headers: Mapping[str, str], said: bytes = b"") -> Broken:
    """Why there is no answer, from status, headers and the body where it says more."""
    pause_s = pause_of(headers)
    if status == 200:
        return error_in(provider, said) or Broken(f"{provider} sent something that is no event stream.")
    if status in (401, 403):
        return Broken(f"{provider} refused its key. Give it a new one: soma provider add {provider} …")
    if status in (429, OVERLOADED):
        return busy(provider, USUAL_PAUSE_S if pause_s is None else pause_s)
    if status in (400, 413, 422):
        if any(word in said.decode("utf-8", "replace").lower() for word in TOO_LONG):
            return too_long(provider)
        return Broken(f"{provider} did not accept the request (status {status}).", blames_model=False)
    return Broken(f"{provider} answered with status {status}.", pause_s=pause_s or 0.0)


def error_in(provider: str, said: bytes) -> Broken | None:
    """The error in the JSON of an answer that calls itself good."""
    try:
        answer = msgspec.json.decode(said)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    return complaint(provider, error) if error else None


async def words_of(response: aiohttp.ClientResponse) -> bytes:
    try:
        async with asyncio.timeout(COMPLAIN_S):
            return await response.content.read(MOST_COMPLAINT_BYTES)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return b""


def pause_of(headers: Mapping[str, str]) -> float | None:
    """The pause that the provider asks for, 1 to 300 seconds; None when it asks for none that can be read. A date is
    counted from the provider's own clock, where it tells of it."""
    asked = headers.get("retry-after", "")
    if not asked:
        return None
    try:
        seconds = float(asked)
    except ValueError:
        seconds = seconds_until(asked, headers.get("date", ""))
    return min(max(seconds, 1.0), LONGEST_PAUSE_S) if isfinite(seconds) else None


def seconds_until(then: str, now: str) -> float:
    """Between two HTTP dates; not a number when the first is none."""
    due = moment(then)
    return (due - (moment(now) or datetime.now(UTC))).total_seconds() if due else float("nan")


def moment(date: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
