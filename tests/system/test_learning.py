"""The learning loop, live: feedback by REST teaches the trainer, its policy holds in the router, and choices change
while calls go on."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.system.edge import Client
from tests.system.mesh import Mesh, running_mesh, wait_until

SEEMS_BETTER, IS_BETTER = "scripted-premium", "scripted-standard"
POLICY = {
    "dial": 1,
    "mostExplored": 0.3,
    "allowedModels": [f"scripted/{SEEMS_BETTER}", f"scripted/{IS_BETTER}"],
    "models": [{"model": f"scripted/{SEEMS_BETTER}", "quality": 0.75}],
    "note": "try the other one",
}
MOST_ASKED, WITHIN_S = 900, 50.0
ASKERS = 4


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """In mode TEST, with a trainer, which that mode alone would not have."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOMA_TRAINER", "on")
        environment.setenv("SOMA_TRAIN_S", "1")
        with running_mesh(tmp_path_factory.mktemp("learning") / "soma", "TEST") as mesh:
            yield mesh


def sum_of(n: int) -> str:
    return f"What is {n} + {n + 7} * 3? Answer with = and the number, such as {n} + 1 = {n + 1}."


def code_of(n: int) -> str:
    return f"def f{n}(x):\n    return x[{n}];\n\nWhy does this function fail? Mend the class that calls it."


def asked(client: Client, text: str) -> tuple[str, str]:
    """The decision and the model that answered."""
    answer = client.call(
        "POST", "/v1/chat/completions", {"model": "soma/auto", "messages": [{"role": "user", "content": text}]}
    )
    assert answer.status == 200, answer.body
    assert answer.json["choices"][0]["message"]["content"].startswith("You said: ")
    return answer.json["id"].removeprefix("chatcmpl-"), answer.json["model"].rpartition("/")[2]


def streamed(client: Client, text: str) -> str:
    """The answer, which has come whole to its end."""
    request = {"model": "soma/auto", "stream": True, "messages": [{"role": "user", "content": text}]}
    with client.open("POST", "/v1/chat/completions", request) as response:
        lines = [line.removeprefix(b"data: ").strip() for line in response if line.startswith(b"data: ")]
        assert response.status == 200
    assert lines[-1] == b"[DONE]", lines[-1]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop", chunks[-1]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def thought(client: Client, decision: str, score: float) -> None:
    said = client.call("POST", "/v1/feedback", {"decision": f"decisions/{decision}", "score": score})
    assert said.status == 200, said.body


def ask_and_judge(client: Client, n: int) -> None:
    """The one that seems worse is the better one at sums, and worse at code."""
    is_sum = n % 2 == 0
    decision, model = asked(client, sum_of(n) if is_sum else code_of(n))
    thought(client, decision, float((model == IS_BETTER) == is_sum))


def chosen(client: Client, text: str) -> str:
    """What seems best now: what would be tried out is set aside."""
    answer = client.call("POST", "/v1/decide", {"text": text, "tier": "auto"})
    assert answer.status == 200, answer.body
    best = max((c for c in answer.json["candidates"] if not c.get("filter")), key=lambda c: c.get("score", 0.0))
    model: str = best["model"]
    return model


def active(admin: Client) -> dict[str, Any]:
    policy: dict[str, Any] = admin.call("GET", "/v1/policies/active").json
    return policy


@contextmanager
def calls_going_on(client: Client) -> Iterator[Callable[[], int]]:
    """Streams, one after the other, until the block ends. Gives how many came whole; one that fails, fails the test."""
    over, faults, whole = threading.Event(), list[BaseException](), list[int]()

    def keep_asking() -> None:
        said = " ".join(f"word{n}" for n in range(1, 21))
        try:
            while not over.is_set():
                assert streamed(client, "script:words=20 script:pace=10") == said
                whole.append(1)
        except BaseException as fault:
            faults.append(fault)

    def seen() -> int:
        assert not faults, faults
        return len(whole)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(60)
    assert not faults, faults


def test_feedback_makes_another_model_the_choice_with_no_call_dropped_and_one_command_takes_it_back(mesh: Mesh) -> None:
    admin, person = Client.of(mesh, "acme", "boss", "admin"), Client.of(mesh)
    made = admin.call("POST", "/v1/policies", {"policy": POLICY, "activate": True})
    assert made.status == 200, made.body
    first = made.json["name"]
    wait_until(lambda: person.call("POST", "/v1/decide", {"text": "hm", "tier": "auto"}).json["policy"] == first)
    assert chosen(person, sum_of(5)) == chosen(person, code_of(5)) == SEEMS_BETTER

    with calls_going_on(person) as whole:
        until, numbers = time.monotonic() + WITHIN_S, itertools.count()

        def keep_judging() -> None:
            while time.monotonic() < until and active(admin)["name"] == first and (n := next(numbers)) < MOST_ASKED:
                ask_and_judge(person, n)

        with ThreadPoolExecutor(ASKERS) as askers:
            for one in [askers.submit(keep_judging) for _ in range(ASKERS)]:
                one.result()
        policy = active(admin)
        assert policy["author"] == "system:workers", mesh.last_words()
        assert policy["learned"] and "gain" in policy["note"]
        wait_until(lambda: chosen(person, sum_of(1001)) == IS_BETTER, within_s=5)
        assert chosen(person, code_of(1001)) == SEEMS_BETTER
        before = whole()
        wait_until(lambda: whole() > before + 1)
        print(f"{next(numbers)} answers judged: {policy['note']}; {whole()} streams meanwhile")

        assert first in mesh.soma("route", "policy", "rollback").stdout
        wait_until(lambda: chosen(person, sum_of(1001)) == SEEMS_BETTER, within_s=5)
    assert active(admin)["name"] == first
    audited = mesh.rows("SELECT body FROM audited WHERE action = 'policy.activated' ORDER BY id")
    assert [row["body"]["subject"] for row in audited][-1] == "system:workers"
