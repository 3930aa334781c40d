"""MiniLM behind OpenAI's wire: /v1/embeddings on one aiohttp server, reading in threads beside it.

Everything is bounded: requests at once, texts, their bytes, the time for a body. Lists are read in small turns, so that
none waits for the whole of another; a text that comes alone does not wait for lists at all, since a decision may wait
for it.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from services.local.fault import Fault

if TYPE_CHECKING:
    from services.local.bert import Floats
    from services.local.minilm import MiniLM, Pieces

NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
MOST_TEXTS = 256
MOST_TEXT_BYTES = 128 * 1024
MOST_BODY_BYTES = 2 * 1024 * 1024
MOST_AT_ONCE = 16
"""Requests at once: whose body comes, with one text, with many. The next one is refused."""
RETRY_AFTER_S = 1
BODY_S = 10.0
TURN_CHARACTERS = 64 * 1024
"""Cut into pieces in one turn, about 30 ms, unless one text has more."""
encode = msgspec.json.Encoder().encode

Result = TypeVar("Result")


class Request(msgspec.Struct, frozen=True):
    """The body. Fields that are not here change nothing."""

    input: str | list[str]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None

    @property
    def texts(self) -> Sequence[str]:
        return [self.input] if isinstance(self.input, str) else self.input


decode = msgspec.json.Decoder(Request).decode


class Refused(Exception):  # noqa: N818 - it is an answer
    """An error in OpenAI's shape: `kind` is its `type`."""

    def __init__(
        self, status: int, sentence: str, param: str | None = None, code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:  # fmt: skip
        super().__init__(sentence)
        self.status = status
        self.error = {"message": sentence, "type": kind, "param": param, "code": code}


@dataclass(slots=True)
class Places:
    """So many at once. Who comes then is refused."""

    taken: int = 0

    def __enter__(self) -> None:
        if self.taken >= MOST_AT_ONCE:
            raise Refused(429, "The embedding model has too much to do.", code="rate_limit_exceeded", kind="requests")
        self.taken += 1

    def __exit__(self, *_: object) -> None:
        self.taken -= 1


@dataclass(slots=True)
class Lane:
    """A thread that reads, one turn of each request at a time, first come, first served."""

    thread: ThreadPoolExecutor
    places: Places = field(default_factory=Places)

    async def turn(self, work: Callable[[Any], Result], what: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work, what)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What is served."""

    minilm: MiniLM
    alone: Lane
    lists: Lane
    bodies: Places = field(default_factory=Places)

    async def health(self, _: web.Request) -> web.Response:
        return answered({"status": "ok"})

    async def models(self, _: web.Request) -> web.Response:
        return answered({"object": "list", "data": [{"id": NAME, "object": "model", "owned_by": "local"}]})

    async def embed(self, request: web.Request) -> web.Response:
        with self.bodies:
            asked = checked(await body_of(request))
        lane = self.alone if len(asked.texts) == 1 else self.lists
        with lane.places:
            pieces = await self._pieces(lane, asked.texts)
            vectors = await self._vectors(lane, pieces)
        return answered(embedded(asked, vectors, sum(len(text) for text in pieces)))

    async def _pieces(self, lane: Lane, texts: Sequence[str]) -> list[Pieces]:
        pieces: list[Pieces] = []
        for some in portions(texts):
            pieces += await lane.turn(self.minilm.pieces, some)
        return pieces

    async def _vectors(self, lane: Lane, pieces: Sequence[Pieces]) -> list[Floats]:
        from services.local.minilm import batches

        rows: dict[int, Floats] = {}
        for batch in batches(pieces):
            vectors = await lane.turn(self.minilm.encode_pieces, [pieces[n] for n in batch])
            rows.update(zip(batch, vectors, strict=True))
        return [rows[n] for n in range(len(pieces))]


async def serve(host: str, port: int) -> web.AppRunner:
    """Load the model and listen. It serves until the process ends. Fault when it cannot."""
    embeddings = embeddings_of(await asyncio.to_thread(opened))
    try:
        return await listen(embeddings, host, port)
    except OSError as fault:
        raise Fault(f"The embedding model cannot start on {host}:{port}: {os.strerror(fault.errno or 0)}.") from fault


async def listen(embeddings: Embeddings, host: str, port: int) -> web.AppRunner:
    """Whoever hangs up is not read for any longer."""
    runner = web.AppRunner(app(embeddings), access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


def opened() -> MiniLM:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        from services.local.minilm import open_minilm
    except ImportError as fault:
        raise Fault(f"A part of the embedding model is missing ({fault}). Remove .venv and run: make up") from fault
    return open_minilm()


def embeddings_of(minilm: MiniLM) -> Embeddings:
    return Embeddings(minilm, Lane(ThreadPoolExecutor(1, "alone")), Lane(ThreadPoolExecutor(1, "lists")))


def app(embeddings: Embeddings) -> web.Application:
    app = web.Application(middlewares=[told], client_max_size=MOST_BODY_BYTES)
    app.add_routes([
        web.get("/health", embeddings.health),
        web.get("/v1/models", embeddings.models),
        web.post("/v1/embeddings", embeddings.embed),
    ])  # fmt: skip
    return app


async def body_of(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError as fault:
        raise Refused(408, "The body did not come in time.") from fault


def checked(body: bytes) -> Request:
    try:
        asked = decode(body)
    except msgspec.ValidationError as fault:
        raise Refused(400, f"The request is not what it should be: {fault}", param=param_of(fault)) from fault
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise Refused(400, f"The body is not JSON: {fault}") from fault
    if asked.model != NAME:
        raise Refused(404, f"There is no model {asked.model[:80]!r} here, only {NAME}.", "model", "model_not_found")
    if asked.dimensions not in (None, DIMENSIONS):
        raise Refused(400, f"{NAME} makes vectors of {DIMENSIONS} dimensions only.", "dimensions")
    if not 0 < len(asked.texts) <= MOST_TEXTS:
        raise Refused(400, f"Give 1 to {MOST_TEXTS} texts, not {len(asked.texts)}.", "input")
    for n, text in enumerate(asked.texts):
        check_text(text, "input" if isinstance(asked.input, str) else f"input[{n}]")
    return asked


def check_text(text: str, param: str) -> None:
    if not text:
        raise Refused(400, "A text is empty.", param)
    if len(text.encode()) > MOST_TEXT_BYTES:
        raise Refused(400, f"A text has more than {MOST_TEXT_BYTES // 1024} KiB.", param, "string_above_max_length")


def param_of(fault: msgspec.ValidationError) -> str | None:
    """The field that msgspec names: it says where by "… - at `$.input[3]`"."""
    _, at, where = str(fault).rpartition("`$.")
    return where.rstrip("`") if at else None


def portions(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """In order, TURN_CHARACTERS at most or one text."""
    begin = characters = 0
    for n, text in enumerate(texts):
        characters += len(text)
        if characters > TURN_CHARACTERS and n > begin:
            yield texts[begin:n]
            begin, characters = n, len(text)
    yield texts[begin:]


def embedded(asked: Request, vectors: Sequence[Floats], tokens: int) -> dict[str, Any]:
    form = base64_of if asked.encoding_format == "base64" else list_of
    data = [{"object": "embedding", "index": n, "embedding": form(vector)} for n, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": NAME, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def base64_of(vector: Floats) -> str:
    return b64encode(vector.astype("<f4").tobytes()).decode()


def list_of(vector: Floats) -> list[float]:
    floats: list[float] = vector.tolist()
    return floats


def answered(what: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=encode(what), status=status, headers=headers, content_type="application/json")


@web.middleware
async def told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal in OpenAI's shape, aiohttp's own too."""
    try:
        return await handler(request)
    except Refused as refused:
        return refusal(refused)
    except web.HTTPRequestEntityTooLarge:
        return refusal(Refused(413, f"The body has more than {MOST_BODY_BYTES // 1024**2} MiB."))
    except web.HTTPException as fault:
        return refusal(Refused(fault.status, f"{request.method} {request.path[:80]}: {fault.reason}."))


def refusal(refused: Refused) -> web.Response:
    headers = {"retry-after": str(RETRY_AFTER_S)} if refused.status == 429 else None
    return answered({"error": refused.error}, refused.status, headers)
