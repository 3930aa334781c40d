"""What a person thinks of an answer gets to the mesh; and what they can do when a budget has too little left."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Request, expect

from tests.browser.visitor import Turn, Visitor
from tests.system.edge import Client
from tests.system.mesh import Mesh, wait_until

SCORES = "SELECT body->>'feedback' AS score FROM told WHERE type = 'routing.feedback' AND body->>'turn' = '{turn}'"


def test_a_thumb_is_told_stands_through_a_reload_and_the_other_one_changes_it(
    member: Visitor, scripted_mesh: Mesh
) -> None:
    turn = answered(member, "is this good?")
    presses(turn, up=False, down=False)
    with member.page.expect_response("**/v1/feedback") as told:
        turn.see("thumb-up").click()
    presses(turn, up=True, down=False)
    name = said(told.value.request)["turn"]
    wait_until(lambda: scores(scripted_mesh, name) == [1.0], what="feedback in the log")

    member.page.reload()
    presses(member.turn(0), up=True, down=False)
    with member.page.expect_response("**/v1/feedback") as changed:
        member.turn(0).see("thumb-down").click()
    assert (told.value.status, changed.value.status) == (200, 200)
    assert said(changed.value.request) == {"turn": name, "thumb": "down"}
    presses(member.turn(0), up=False, down=True)
    wait_until(lambda: scores(scripted_mesh, name) == [0.0, 1.0], what="the change in the log")


def test_a_thumb_is_given_by_keys_alone_and_listened_to(member: Visitor) -> None:
    turn = answered(member, "and with keys?")
    expect(turn.place.get_by_role("group", name="How was this answer?")).to_be_visible()
    turn.place.get_by_role("button", name="Copy answer").focus()
    member.page.keyboard.press("Tab")
    expect(turn.place.get_by_role("button", name="Good answer")).to_be_focused()
    member.page.keyboard.press("Tab")
    with member.page.expect_response("**/v1/feedback") as told:
        member.page.keyboard.press("Space")

    expect(turn.place.get_by_role("button", name="Bad answer", pressed=True)).to_be_focused()
    assert told.value.status == 200


def test_an_answer_that_is_still_coming_has_no_thumbs(member: Visitor) -> None:
    turn = member.ask("script:words=100 script:pace=50")
    turn.has_begun("word2")
    expect(turn.see("thumb-up")).to_have_count(0)
    member.see("stop").click()
    turn.ends("cancelled")


def test_a_thumb_without_a_connection_waits_says_so_and_is_told_when_it_is_back(member: Visitor) -> None:
    turn = answered(member, "are you far away?")
    member.page.context.set_offline(True)
    turn.see("thumb-down").click()
    presses(turn, up=False, down=True)
    expect(turn.see("thumb-waits")).to_contain_text("the mesh cannot be reached")
    expect(member.see("banner")).to_contain_text("The mesh cannot be reached")
    with member.page.expect_response("**/v1/feedback") as told:
        member.page.context.set_offline(False)

    assert told.value.status == 200
    expect(turn.see("thumb-waits")).to_have_count(0)
    presses(turn, up=False, down=True)


def test_a_spent_budget_says_which_what_is_left_and_when_it_renews(member: Visitor, scripted_mesh: Mesh) -> None:
    with no_calls_of("slm", scripted_mesh):
        member.page.get_by_role("radio", name="Small").check()
        turn = member.ask("what is left?")
        turn.ends("failed")
        problem = turn.see("problem")
        expect(problem).to_have_attribute("data-reason", "BUDGET_SPENT")
        expect(problem).to_contain_text("No call is left of")
        expect(problem).to_contain_text("renews at")


def test_under_an_answer_stand_the_quality_that_was_expected_and_the_policy(member: Visitor) -> None:
    turn = answered(member, "how good?")
    turn.see("why-toggle").click()

    chosen = turn.see("candidates").locator("tbody tr").filter(has_text="(chosen)")
    expect(chosen.locator("td").last).to_have_text(re.compile(r"^[1-9]\d? %$"))
    expect(turn.see("why-panel")).to_contain_text(re.compile(r"Policy: policies/(0 \(built in\)|[1-9])"))


def answered(member: Visitor, question: str) -> Turn:
    turn = member.ask(question)
    turn.is_answered(f"You said: {question}")
    return turn


def presses(turn: Turn, *, up: bool, down: bool) -> None:
    for thumb, pressed in (("up", up), ("down", down)):
        expect(turn.see(f"thumb-{thumb}")).to_have_attribute("aria-pressed", str(pressed).lower())


def said(request: Request) -> dict[str, str]:
    body: dict[str, str] = json.loads(request.post_data or "")
    return body


def scores(mesh: Mesh, turn: str) -> list[float]:
    return sorted(float(row["score"]) for row in mesh.rows(SCORES.format(turn=turn)))


@contextmanager
def no_calls_of(tier: str, mesh: Mesh) -> Iterator[None]:
    """For the member of acme."""
    admin = Client.of(mesh, "acme", "admin", "admin")
    limit = {"scope": "user", "of": "member@acme", "window": "day", "tier": tier, "limit": {"requests": "0"}}
    made = admin.call("POST", "/v1/budgets", limit)
    assert made.status == 200, made.body
    try:
        yield
    finally:
        assert admin.call("DELETE", f"/v1/{made.json['name']}").status == 200
