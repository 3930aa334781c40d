"""An answer as a person sees it come: streamed, stopped, and whole whatever happens to the tab or the connection."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.visitor import Visitor, words
from tests.system.mesh import Mesh

SLOWLY = "script:words=200 script:pace=50"
"""Ten seconds and more."""


def test_an_answer_grows_word_by_word_to_its_end(member: Visitor) -> None:
    turn = member.ask(SLOWLY)
    turn.has_begun("word3")
    some = turn.text.inner_text().strip()
    assert words(200).startswith(some)
    turn.has_begun(f"word{len(some.split()) + 20}")

    expect(turn.see("answer")).to_have_attribute("aria-busy", "true")
    turn.is_answered(words(200))
    expect(turn.see("answer")).to_have_attribute("aria-busy", "false")


def test_under_an_answer_stands_why_this_model(member: Visitor) -> None:
    turn = member.ask("why you?")
    turn.is_answered("You said: why you?")
    expect(turn.see("cost")).to_have_text(re.compile(r"^\$0\.0\d+$"))
    turn.see("why-toggle").click()

    panel, rows = turn.see("why-panel"), turn.see("candidates").locator("tbody tr")
    chosen = rows.filter(has_text="(chosen)")
    expect(panel).to_contain_text(re.compile(r"Tier\s*Standard"))
    expect(panel).to_contain_text(re.compile(r"Cost\s*\$0\.0\d+"))
    expect(panel).to_contain_text(re.compile(r"First token\s*[\d.]+ m?s"))
    expect(panel).to_contain_text(re.compile(r"Tokens\s*\d+ in, 4 out"))
    expect(chosen).to_have_count(1)
    expect(chosen).to_contain_text("scripted-standard")
    expect(chosen.locator("meter")).to_have_attribute("value", re.compile(r"^[\d.]+$"))
    expect(chosen.locator("td").nth(2)).to_have_text(re.compile(r"^\$0\.0\d+$"))
    expect(chosen.locator("td").nth(3)).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    expect(turn.see("question")).to_be_in_viewport()
    expect(member.see("jump")).to_have_count(0)
    expect(rows.filter(has_text="gpt-4o-mini")).to_have_count(0)
    turn.see("closed-toggle").click()
    expect(rows.filter(has_text="gpt-4o-mini")).to_contain_text("calls no model beyond this machine")


def test_the_tier_that_is_chosen_answers(member: Visitor) -> None:
    member.page.get_by_role("radio", name="Small").check()
    turn = member.ask("for less")
    turn.is_answered("You said: for less")

    expect(turn.see("tier")).to_have_text("Small")
    expect(turn.see("why-toggle")).to_contain_text("scripted-slm")


def test_after_a_reload_in_mid_answer_it_goes_on_and_no_word_comes_twice(member: Visitor) -> None:
    member.ask("script:words=400 script:pace=50").has_begun("word10")
    member.page.reload()

    turn = member.turn(0)
    turn.has_begun("word15")
    turn.is_answered(words(400))
    expect(member.see("turn")).to_have_count(1)
    assert len(member.noise.sent("POST", ":stream")) == 1


def test_after_a_reload_before_the_first_word_the_question_is_asked_once(member: Visitor) -> None:
    member.ask("script:wait=1500 script:words=5")
    member.page.reload()

    member.turn(0).is_answered(words(5))
    expect(member.see("turn")).to_have_count(1)


def test_a_connection_lost_in_mid_answer_comes_back_by_itself_and_nothing_is_missing(
    member: Visitor, scripted_mesh: Mesh
) -> None:
    turn = member.ask(SLOWLY)
    turn.has_begun("word10")
    member.page.context.set_offline(True)
    scripted_mesh.kill("edge")  # offline alone leaves an open stream of this machine alone
    expect(member.see("banner")).to_contain_text("cannot be reached")
    kept = turn.text.inner_text()
    member.page.context.set_offline(False)

    assert kept.startswith(words(10))
    turn.is_answered(words(200))
    expect(member.see("banner")).to_have_count(0)
    member.ask("and on").is_answered("You said: and on")


def test_stop_keeps_what_was_written_and_the_conversation_goes_on(member: Visitor) -> None:
    turn = member.ask("script:words=500 script:pace=50")
    turn.has_begun("word5")
    member.see("stop").click()
    turn.ends("cancelled")
    kept = turn.text.inner_text().strip()

    assert words(500).startswith(kept)
    assert "word5" in kept
    expect(turn.see("answer")).to_contain_text("Stopped here.")
    member.ask("go on").is_answered("You said: go on")
    member.page.reload()
    expect(member.turn(0).text).to_have_text(kept)
    member.turn(1).is_answered("You said: go on")


def test_two_tabs_that_watch_one_turn_see_the_same(member: Visitor) -> None:
    turn = member.ask("script:words=400 script:pace=50")
    turn.has_begun("word5")
    other = member.another_tab()
    other.page.goto(member.page.url)
    twin = other.turn(0)
    twin.has_begun("word15")

    turn.is_answered(words(400))
    twin.is_answered(words(400))


def test_seven_tabs_of_one_browser_all_stream_at_once(member: Visitor) -> None:
    tabs = [member, *(member.another_tab() for _ in range(6))]
    turns = [tab.ask("script:words=300 script:pace=100") for tab in tabs]
    for turn in turns:
        expect(turn.text).to_contain_text("word4")

    assert {turn.phase for turn in turns} == {"running"}, "No tab waits for another one's end."
    for turn in turns:
        turn.is_answered(words(300))


def test_conversations_are_found_again_renamed_and_deleted(member: Visitor) -> None:
    member.ask("where the boat lies").is_answered("You said: where the boat lies")
    row = member.see("conversation").filter(has_text="where the boat lies")
    row.hover()
    row.get_by_test_id("rename").click()
    member.see("title-field").fill("boats")
    with member.page.expect_response(lambda response: response.request.method == "PATCH"):
        member.see("title-field").press("Enter")
    member.see("new-chat").click()
    expect(member.see("welcome")).to_be_visible()

    member.page.reload()
    row = member.see("conversation").filter(has_text="boats")
    row.get_by_role("link").click()
    member.turn(0).is_answered("You said: where the boat lies")
    expect(member.see("title")).to_have_text("boats")

    row.hover()
    row.get_by_test_id("delete").click()
    member.see("confirm").click()
    expect(row).to_have_count(0)
    expect(member.see("welcome")).to_be_visible()
