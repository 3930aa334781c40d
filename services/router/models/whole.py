"""One question to a provider over HTTP, and its answer in one piece: nobody waits for the beginning of it.

It says nothing until its end, so that `total_s` alone bounds the wait for its head; once its body has begun, `idle_s`
bounds each silence in it. Blank lines that keep a connection busy are no beginning. One that breaks has said nothing:
another model may take over.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from time import monotonic

import aiohttp

from services.router.models import Broken, End, Piece, Prompt
from services.router.models.arriving import Arriving
from services.router.models.conversing import EVENTS, Bounds, Wire, posted
from services.router.models.patience import Patience, heard
from services.router.models.refusals import refuse_complaint

MOST_BODY_BYTES = 4 * 1024 * 1024
"""Room for an answer at all its bounds, each character escaped."""


async def converse_whole(wire: Wire, prompt: Prompt) -> AsyncGenerator[Piece | End]:
    """What the model said, then its End. Raises Broken before any piece."""
    answer, bounds = wire.answer(prompt), Bounds(wire.most_answer_bytes)
    for piece in await asked_whole(wire, prompt, answer):
        if bounded := bounds.within(piece):
            yield bounded
        if bounds.is_full:
            answer.finish_reason = "length"
            break
    wire.notices.add_from(answer)
    yield answer.end()


async def asked_whole(wire: Wire, prompt: Prompt, answer: Arriving) -> Sequence[Piece]:
    """All that the answer says, when it has come. Who was asked for one piece and streams is listened to."""
    over_by = monotonic() + prompt.offer.provider.limits.total_s
    async with posted(wire.session, wire.request(prompt), prompt, over_by) as response:
        await refuse_complaint(answer.provider, response, whole=True)
        body = await body_of(response, answer.provider, prompt.offer.provider.limits.idle_s, over_by)
        streams = response.content_type == EVENTS
    return streamed(answer, body) if streams else answer.take_whole(body)


async def body_of(response: aiohttp.ClientResponse, provider: str, idle_s: float, over_by: float) -> bytes:
    """Raises Broken for one that is cut, stalls or is too large."""
    content = response.content
    if content.is_eof():
        return await content.readany()
    body, has_begun = bytearray(), False
    with Patience(response, over_by) as patience:
        while not content.at_eof():
            data = await heard(response, patience, provider)
            has_begun = has_begun or bool(data.strip())
            if has_begun:
                patience.until(min(over_by, monotonic() + idle_s))
                body += data
            if len(body) > MOST_BODY_BYTES:
                raise Broken(f"{provider} sent an answer that is larger than {MOST_BODY_BYTES:,} bytes.")
    return bytes(body)


def streamed(answer: Arriving, body: bytes) -> Sequence[Piece]:
    """The pieces of a stream that is all there."""
    pieces = answer.take(body + b"\n")
    if answer.broken:
        raise answer.broken
    if not (answer.is_over or answer.finish_reason):
        raise Broken(f"{answer.provider} ended the answer in the middle.")
    return pieces
