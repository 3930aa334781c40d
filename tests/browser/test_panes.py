"""Panes beside the chat: they grow with the answer, are edited, kept, compared and brought back."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.panes import ANSWER, CODE, Panes, fenced, is_arranging, say
from tests.browser.visitor import Visitor


@pytest.fixture
def panes(member: Visitor) -> Panes:
    return Panes(member)


def test_a_pane_opens_and_grows_while_the_answer_is_written(panes: Panes) -> None:
    lines = "".join(f"line {n} of a program\n" for n in range(1, 120))
    turn = panes.person.ask(say(fenced(lines, title="long.py"), pace_ms=20))
    expect(panes.tab("long.py")).to_have_attribute("data-writing", "true")
    expect(panes.text.last).to_contain_text("line 3 of")
    some = "".join(panes.text.all_text_contents())
    expect(panes.text.last).to_contain_text("line 12 of")

    assert lines.startswith(some)
    assert len(some) < len(lines) / 2
    turn.ends()
    panes.holds(lines)
    expect(panes.tab("long.py")).to_have_attribute("data-writing", "false")
    panes.is_at(1)
    expect(turn.see("code-block")).to_contain_text("line 119 of a program")


def test_the_first_pane_of_an_answer_is_in_front_and_the_others_wait_as_tabs(panes: Panes) -> None:
    panes.asked(ANSWER)

    panes.are("greet.py", "Table")
    expect(panes.tab("greet.py")).to_have_attribute("aria-selected", "true")
    expect(panes.see("pane-announcer")).to_have_text("Pane opened: greet.py.")
    panes.tab("Table").click()
    expect(panes.see("pane-table")).to_contain_text("eight")


def test_an_answer_does_not_come_between_a_person_and_the_pane_they_edit(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.edit("mine")
    panes.person.ask(say(fenced("other\n", title="other.py"))).ends()

    expect(panes.tab("other.py")).to_be_visible()
    expect(panes.see("pane-editor")).to_have_value("mine")


def test_a_reload_in_mid_answer_finds_the_pane_and_it_grows_on(panes: Panes) -> None:
    lines = "".join(f"line {n} of a program\n" for n in range(1, 200))
    panes.person.ask(say(fenced(lines, title="long.py"), pace_ms=20))
    expect(panes.text.last).to_contain_text("line 6 of")
    panes.person.page.reload()

    expect(panes.tab("long.py")).to_have_attribute("data-writing", "true")
    panes.person.turn(0).ends()
    panes.holds(lines)
    expect(panes.see("pane-tab")).to_have_count(1)


def test_what_is_edited_and_saved_is_a_version_and_old_ones_come_back(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.edit("print('mine')\n")
    expect(panes.tab("greet.py")).to_have_attribute("data-unsaved", "true")
    panes.see("pane-editor").press("Control+s")
    panes.is_at(2)
    panes.done()
    panes.see("show-changes").click()
    expect(panes.see("diff-tally")).to_have_text("+1 −5")

    panes.see("show-history").click()
    expect(panes.see("version")).to_have_count(2)
    panes.see("version").last.click()
    panes.holds(CODE)
    panes.see("version-diff").click()
    expect(panes.see("diff-tally")).to_have_text("+1 −5")
    panes.see("restore").click()
    panes.is_at(3)
    panes.holds(CODE)
    panes.person.page.reload()
    panes.holds(CODE)
    panes.is_at(3)
    panes.see("show-history").click()
    expect(panes.see("version")).to_have_count(3)


def test_what_is_not_saved_survives_a_reload_and_is_marked(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.edit("half of a thought")
    panes.person.page.reload()

    expect(panes.see("pane-editor")).to_have_value("half of a thought")
    expect(panes.tab("greet.py")).to_have_attribute("data-unsaved", "true")
    panes.see("done-editing").click()
    panes.see("confirm-drop").get_by_test_id("confirm").click()
    panes.holds(CODE)


def test_two_tabs_that_save_see_both_texts_and_nothing_is_lost(panes: Panes) -> None:
    panes.asked(ANSWER)
    other = Panes(panes.person.another_tab())
    other.person.page.goto(panes.person.page.url)
    panes.edit("one\ntwo\n")
    other.edit("one\nthree\n")
    panes.save(2)
    expect(other.see("overtaken")).to_be_visible()
    other.see("save-pane").click()

    expect(other.see("conflict")).to_be_visible()
    expect(other.see("diff-tally")).to_have_text("+1 −1")
    other.see("conflict-theirs").click()
    expect(other.see("conflict-text")).to_have_text("one\ntwo\n")
    other.see("conflict-mine").click()
    expect(other.see("conflict-text")).to_have_text("one\nthree\n")
    other.see("go-on").click()
    expect(other.see("pane-editor")).to_have_value("one\nthree\n")
    other.see("save-pane").click()
    other.see("keep-mine").click()
    other.is_at(3)

    expect(panes.see("pane-editor")).to_have_value("one\nthree\n")  # nothing was unsaved there: it follows
    panes.see("show-history").click()
    expect(panes.see("version")).to_have_count(3)
    panes.see("version").nth(1).click()
    panes.holds("one\ntwo\n")


def test_the_newest_is_taken_when_a_person_wants_it(panes: Panes) -> None:
    panes.asked(ANSWER)
    other = Panes(panes.person.another_tab())
    other.person.page.goto(panes.person.page.url)
    panes.edit("theirs\n")
    other.edit("mine\n")
    panes.save(2)
    other.see("save-pane").click()
    other.see("take-theirs").click()

    other.holds("theirs\n")
    other.is_at(2)


def test_taking_over_from_the_agent_is_asked_first_and_stands(panes: Panes) -> None:
    lines = "".join(f"line {n} of a program\n" for n in range(1, 200))
    turn = panes.person.ask(say(fenced(lines, title="long.py"), pace_ms=20))
    expect(panes.text.last).to_contain_text("line 5 of")
    panes.see("edit-pane").click()
    panes.see("take-over").get_by_test_id("confirm").click()
    panes.see("pane-editor").fill("mine now\n")
    panes.save(2)
    panes.person.see("stop").click()
    turn.ends("cancelled")

    panes.done()
    panes.holds("mine now\n")
    panes.is_at(2)
    panes.person.page.reload()
    panes.holds("mine now\n")


def test_a_pane_of_a_persons_own_is_made_renamed_and_deleted(panes: Panes) -> None:
    panes.person.ask("hello").is_answered("You said: hello")
    panes.see("panes-button").click()
    expect(panes.see("no-panes")).to_be_visible()
    panes.create("code", "select 1\n", language="sql")
    panes.see("pane-menu").click()
    panes.see("rename-pane").click()
    panes.see("pane-title-field").fill("question.sql")
    panes.see("pane-title-field").press("Enter")
    expect(panes.tab("question.sql")).to_be_visible()

    panes.person.page.reload()
    panes.holds("select 1\n")
    panes.see("pane-menu").click()
    panes.see("delete-pane").click()
    panes.see("confirm-delete-pane").get_by_test_id("confirm").click()
    expect(panes.see("pane-tab")).to_have_count(0)
    panes.person.page.reload()
    panes.person.turn(0).ends()
    expect(panes.see("panes-button")).not_to_contain_text("1")


def test_a_download_is_the_bytes_of_the_pane_under_its_name(panes: Panes) -> None:
    text = "größe = '🙂'\n\tend  \n"
    panes.asked(f"{fenced(text, title='größe.py')}\n\n| a | b |\n|---|---|\n| =1+1 | x, y |\n")

    assert panes.downloaded() == ("größe.py", text.encode())
    panes.tab("Table").click()
    assert panes.downloaded() == ("Table.md", b"| a | b |\n|---|---|\n| =1+1 | x, y |\n")
    panes.see("pane-menu").click()
    assert panes.downloaded("download-csv") == ("Table.csv", b'a,b\r\n\'=1+1,"x, y"\r\n')


def test_what_another_tab_does_to_panes_is_seen_without_a_reload(panes: Panes) -> None:
    panes.asked(ANSWER)
    other = Panes(panes.person.another_tab())
    other.person.page.goto(panes.person.page.url)
    other.is_at(1)
    panes.edit("changed elsewhere\n")
    panes.save(2)

    other.holds("changed elsewhere\n")
    other.is_at(2)


def test_of_an_old_answer_too_each_block_opens_its_pane(panes: Panes) -> None:
    panes.asked(ANSWER)
    with panes.person.page.expect_response(lambda answer: is_arranging(answer.request)):
        panes.tab("greet.py").press("Delete")
        panes.tab("Table").press("Delete")
    expect(panes.see("pane-tab")).to_have_count(0)
    panes.person.page.reload()

    turn = panes.person.turn(0)
    turn.ends()
    turn.see("code-block").get_by_test_id("open-pane").click()
    panes.holds(CODE)
    turn.see("open-pane").last.click()
    expect(panes.see("pane-table")).to_be_visible()
