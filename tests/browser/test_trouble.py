"""What a person is told when something fails, and what they can do then."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import expect

from tests.browser.visitor import Visitor
from tests.system.edge import Client
from tests.system.mesh import Mesh, wait_until


def test_a_model_that_fails_is_said_in_words_with_a_way_on(member: Visitor) -> None:
    turn = member.ask("script:fail")
    turn.ends("failed")

    problem = turn.see("problem")
    expect(problem).to_have_attribute("data-reason", "PROVIDER_FAILED")
    expect(problem).to_contain_text("The model could not answer")
    expect(problem).to_contain_text("Try again in a moment")
    turn.see("retry").click()
    member.turn(1).ends("failed")
    member.ask("now well").is_answered("You said: now well")


def test_an_answer_that_breaks_off_keeps_its_words(member: Visitor) -> None:
    turn = member.ask("script:cut=5 one two three four five six")
    turn.ends("failed")

    expect(turn.text).to_have_text("You said: one two three")
    expect(turn.see("problem")).to_have_attribute("data-reason", "PROVIDER_CUT")
    expect(turn.see("problem")).to_contain_text("is kept")
    expect(turn.see("retry")).to_be_visible()
    member.page.reload()
    expect(member.turn(0).text).to_have_text("You said: one two three")
    expect(member.turn(0).see("problem")).to_be_visible()


def test_a_question_that_is_too_long_cannot_be_sent(member: Visitor) -> None:
    member.see("question-field").fill("word " * (128 * 1024 // 5 + 1))

    expect(member.see("composer")).to_contain_text("of 128 KiB")
    expect(member.see("send")).to_be_disabled()


def test_a_long_paste_without_a_space_does_not_freeze_the_page(member: Visitor) -> None:
    field = member.see("question-field")
    field.fill("a" * 128_000)
    took = []
    for _ in range(3):
        began = time.monotonic()
        field.press("a")
        member.read("new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)))")
        took.append(time.monotonic() - began)

    assert min(took) < 2, f"So many seconds passed until each letter was seen: {took}"
    turn = member.ask("a" * 2_000)
    turn.is_answered("You said: " + "a" * 2_000)


def test_a_second_question_in_a_conversation_that_answers_is_refused_with_both_ways_on(member: Visitor) -> None:
    member.ask("script:words=3000 script:pace=50").has_begun("word2")
    other = member.another_tab()
    other.page.goto(f"{member.url}/")
    other.page.route("**/turns?*", lambda route: route.fulfill(json={"turns": []}))  # it has not heard of the answer
    other.page.goto(member.page.url)
    turn = other.ask("mine first")
    turn.ends("failed")
    other.page.unroute("**/turns?*")

    expect(turn.see("problem")).to_have_attribute("data-reason", "TURN_RUNNING")
    expect(turn.see("go-to-running")).to_be_visible()
    turn.see("stop-running").click()
    turn.is_answered("You said: mine first")
    member.turn(0).ends("cancelled")


def test_a_room_that_is_down_is_said_and_the_question_waits_for_it(member: Visitor, scripted_mesh: Mesh) -> None:
    with down(scripted_mesh, "agent"):
        turn = member.ask("are you there?")
        expect(member.see("banner")).to_contain_text("A part of the mesh is down")
        expect(member.see("banner")).to_contain_text("; trying again")
        expect(turn.see("problem")).to_have_count(0)

    turn.is_answered("You said: are you there?")
    expect(member.see("banner")).to_have_count(0)


def test_a_router_that_is_down_is_said_and_the_next_try_is_answered(member: Visitor, scripted_mesh: Mesh) -> None:
    with down(scripted_mesh, "router"):
        turn = member.ask("who decides?")
        turn.ends("failed")
        expect(turn.see("problem")).to_contain_text("A part of the mesh is down")
        expect(turn.see("problem")).to_contain_text("router")
        expect(member.see("banner")).to_contain_text("router")

    expect(member.see("back")).to_be_visible()
    expect(member.see("banner")).to_have_count(0)
    turn.see("retry").click()
    member.turn(1).is_answered("You said: who decides?")


def test_a_router_that_dies_in_mid_answer_leaves_its_words_and_a_way_on(member: Visitor, scripted_mesh: Mesh) -> None:
    turn = member.ask("script:words=200 script:pace=50")
    turn.has_begun("word5")
    whole = len(scripted_mesh.processes())
    scripted_mesh.kill("router")
    turn.ends("failed")
    wait_for(scripted_mesh, whole)

    expect(turn.text).to_contain_text("word1 word2 word3 word4 word5")
    turn.see("retry").click()
    member.turn(1).has_begun("word1")
    member.see("stop").click()


@contextmanager
def down(mesh: Mesh, part: str) -> Iterator[None]:
    """Without this part for a while: who would start it again is stopped. At the end all is well."""
    whole, status = len(mesh.processes()), mesh.status()
    os.kill(status["pid"], signal.SIGSTOP)
    try:
        os.kill(status["parts"][part]["pid"], signal.SIGKILL)
        yield
    finally:
        os.kill(status["pid"], signal.SIGCONT)
        wait_for(mesh, whole)


def wait_for(mesh: Mesh, whole: int) -> None:
    """Until all of its processes live again and it says that it can answer a chat."""
    wait_until(lambda: len(mesh.processes()) == whole, what="a successor")
    wait_until(lambda: Client(mesh.port).call("GET", "/healthz").status == 200, what="a mesh that can chat")
