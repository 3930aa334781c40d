"""The adapter for every other provider: litellm in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from services.router.models import Broken, End, Piece, litellm_process
from services.router.models.litellm import LiteLLM, open_litellm
from services.router.models.litellm_process import Gone, Processes, environment_of
from services.router.offers import Limits
from soma.common.v1.model_pb2 import Usage
from tests.asking_models import Model
from tests.fake_provider import Behaviour, open_fake_provider, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened() -> AsyncIterator[tuple[LiteLLM, Model]]:
    async with open_fake_provider() as fake, open_litellm() as adapter:
        yield adapter, Model(adapter, fake, "litellm", litellm="openai")


@pytest.fixture
def adapter(opened: tuple[LiteLLM, Model]) -> LiteLLM:
    return opened[0]


@pytest.fixture
def model(opened: tuple[LiteLLM, Model]) -> Model:
    opened[1].limits = Limits(first_text_s=60, idle_s=20, total_s=90)
    return opened[1]


def whole(pieces: list[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


def child(adapter: LiteLLM) -> psutil.Process:
    assert adapter.processes.now is not None
    return psutil.Process(adapter.processes.now.child.pid)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_it_answers_with_figures_and_without(model: Model) -> None:
    usage = Usage(input_tokens=11, output_tokens=8)
    for behaviour, counted in ((Behaviour(), usage), (Behaviour(usage=False), None)):
        pieces, end = await model.ask(behaviour)
        assert (whole(pieces), end) == (said(behaviour), End("stop", counted))


async def test_litellm_is_in_its_own_process_alone(adapter: LiteLLM, model: Model) -> None:
    await model.ask(Behaviour())
    assert "litellm" not in sys.modules
    assert child(adapter).ppid() == os.getpid()


async def test_the_key_is_neither_in_its_arguments_nor_in_its_environment(adapter: LiteLLM, model: Model) -> None:
    await model.ask(Behaviour())
    process = child(adapter)
    assert not any("sk-1" in word for word in (*process.cmdline(), *process.environ().values()))
    assert model.fake.headers["Authorization"] == "Bearer sk-1"


async def test_our_secrets_and_other_keys_are_not_in_its_environment() -> None:
    ours = {"PATH": "/bin", "AWS_REGION": "eu", "SOMA_DATABASE_URL": "s", "PGPASSWORD": "s", "OPENAI_API_KEY": "s"}
    assert environment_of(ours) == {"PATH": "/bin", "AWS_REGION": "eu"}


FAULTS = {
    "refused its key": Behaviour(status=401),
    "status 500": Behaviour(status=500),
    "did not accept": Behaviour(status=400),
    "ended the answer in the middle": Behaviour(cut_after=3, pace_ms=10),
    "in the middle": Behaviour(finish="", done=False),
}


@pytest.mark.parametrize("sentence", FAULTS)
async def test_a_fault_is_told_in_a_sentence_of_ours(model: Model, sentence: str) -> None:
    broken = await model.broken(FAULTS[sentence])
    assert sentence in broken.sentence
    assert model.fake.behaviour == FAULTS[sentence]


async def test_a_busy_provider_is_asked_once_and_left_alone_as_long_as_it_says(model: Model) -> None:
    before = model.fake.asked
    broken = await model.broken(Behaviour(status=429, retry_after="7"))
    assert (broken.reason, broken.pause_s, model.fake.asked - before) == ("MODEL_BUSY", 7, 1)


async def test_a_prompt_too_long_for_the_model_says_so(model: Model) -> None:
    complaint = '{"error": {"code": "context_length_exceeded", "message": "maximum context length is 9 tokens"}}'
    assert (await model.broken(Behaviour(status=400, complaint=complaint))).reason == "CONTEXT_TOO_LONG"


@pytest.mark.parametrize("hang_after", [0, 3])
async def test_silence_has_its_deadline_and_the_provider_is_hung_up_on(model: Model, hang_after: int) -> None:
    model.limits = Limits(first_text_s=3, idle_s=0.3, total_s=5)
    before = model.fake.hung_up
    await model.broken(Behaviour(hang_after=hang_after))
    await until(lambda: model.fake.hung_up > before)


async def test_whoever_stops_listening_hangs_up_on_the_provider(model: Model) -> None:
    model.fake.behaviour, before = Behaviour(words=10_000, pace_ms=5), model.fake.hung_up
    async with aclosing(model.adapter.stream(model.prompt())) as stream:
        await anext(stream)
    await until(lambda: model.fake.hung_up > before)


async def test_many_calls_run_at_once(model: Model) -> None:
    behaviour = Behaviour(words=5, pace_ms=50)
    answers = await asyncio.gather(*(model.ask(behaviour) for _ in range(16)))
    assert {whole(pieces) for pieces, _ in answers} == {said(behaviour)}


async def test_a_process_that_dies_breaks_its_calls_and_the_next_call_has_another(
    adapter: LiteLLM, model: Model
) -> None:
    await model.ask(Behaviour())
    model.fake.behaviour = Behaviour(words=10_000, pace_ms=5)
    dead = child(adapter)
    async with aclosing(model.adapter.stream(model.prompt())) as stream:
        await anext(stream)
        dead.send_signal(signal.SIGKILL)
        with pytest.raises(Broken, match="ended") as broken:
            [piece async for piece in stream]
    assert not broken.value.blames_model
    pieces, _ = await model.ask(Behaviour())
    assert whole(pieces) == said(Behaviour())
    assert child(adapter).pid != dead.pid


NO_NETWORK = """
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print(event, arguments, flush=True); import os; os._exit(7)
sys.addaudithook(watch)
from services.router.models.litellm_worker import load
load()
"""


async def test_its_import_asks_nothing_of_the_network() -> None:
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", NO_NETWORK], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


async def test_the_router_never_imports_litellm() -> None:
    code = "import sys, services.router.models.adapters; sys.exit('litellm' in sys.modules or 'openai' in sys.modules)"
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=False)
    assert done.returncode == 0


async def test_a_process_that_nobody_asks_ends(adapter: LiteLLM, model: Model) -> None:
    await model.ask(Behaviour())
    process = child(adapter)
    adapter.processes.idle_s = 0.1
    await model.ask(Behaviour())
    await until(lambda: adapter.processes.now is None and not adapter.processes.ending)
    assert not process.is_running()


BEGINS = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
(folder / f"{os.getpid()}.begun").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
print("0 ready {}", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each process leaves a trace there when it begins, and is ready when there is a `go`."""
    monkeypatch.setattr(litellm_process, "COMMAND", (sys.executable, "-c", BEGINS, str(tmp_path)))
    return tmp_path


def begun_in(folder: Path) -> list[int]:
    return [int(trace.stem) for trace in folder.glob("*.begun")]


@asynccontextmanager
async def abandoned(folder: Path, idle_s: float = 600.0) -> AsyncIterator[tuple[Processes, asyncio.Task[None]]]:
    """A process begins, and who asked for it has gone."""
    processes = Processes(idle_s=idle_s)
    asking = asyncio.create_task(processes.call({}))
    await until(lambda: begun_in(folder))
    asking.cancel()
    await asyncio.wait([asking])
    beginning = processes.beginning
    assert beginning is not None
    try:
        yield processes, beginning
    finally:
        (folder / "go").touch()
        await asyncio.wait([beginning])
        await processes.end()
        for pid in filter(psutil.pid_exists, begun_in(folder)):
            os.kill(pid, signal.SIGKILL)


async def test_a_process_that_began_when_its_caller_had_gone_is_the_next_ones(folder: Path) -> None:
    async with abandoned(folder) as (processes, beginning):
        (folder / "go").touch()
        await asyncio.wait([beginning])
        line = await processes.call({})
        assert begun_in(folder) == [line.process.child.pid]
        processes.leave(line)


async def test_a_process_that_began_for_nobody_ends(folder: Path) -> None:
    async with abandoned(folder, idle_s=0.0):
        (folder / "go").touch()
        await until(lambda: not psutil.pid_exists(*begun_in(folder)))


@pytest.mark.parametrize("is_ready", [False, True])
async def test_no_process_outlives_the_room(folder: Path, is_ready: bool) -> None:
    async with abandoned(folder) as (processes, beginning):
        if is_ready:
            (folder / "go").touch()
            await asyncio.wait([beginning])
        await processes.end()
        await until(lambda: not psutil.pid_exists(*begun_in(folder)))


async def test_a_process_that_could_not_begin_fails_its_callers_and_no_one_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(litellm_process, "COMMAND", (sys.executable, "-c", ""))
    noise: list[dict[str, object]] = []
    loop, processes = asyncio.get_running_loop(), Processes()
    loop.set_exception_handler(lambda _, what: noise.append(what))
    try:
        asking = asyncio.create_task(processes.call({}))
        await until(lambda: processes.beginning)
        asking.cancel()
        assert processes.beginning is not None
        await asyncio.wait([asking, processes.beginning])
        ends = await asyncio.gather(*(processes.call({}) for _ in range(2)), return_exceptions=True)
        assert [type(end) for end in ends] == [Gone, Gone]
        await processes.end()
        gc.collect()
        assert not noise
    finally:
        loop.set_exception_handler(None)
