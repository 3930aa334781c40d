"""Panes as they are arranged: tabs, the split, the list; with the mouse, by keys, and on a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.panes import ANSWER, CODE, Panes, fenced, is_arranging, say
from tests.browser.test_hands_and_eyes import PHONE
from tests.browser.visitor import Visit, Visitor

SMALL_PHONE = {**PHONE, "viewport": {"width": 360, "height": 640}}
TOO_WIDE = """() => [...document.querySelectorAll("html, main, .panes, .panes > *, .pane, .pane > *, dialog")]
  .filter((each) => !each.matches(".visually-hidden"))
  .filter((each) => each.scrollWidth > each.clientWidth + 1 || each.getBoundingClientRect().right > innerWidth + 1)
  .map((each) => each.className || each.tagName)"""


WIDTH = "document.querySelector('.panes').getBoundingClientRect().width"
IS_NARROWER, IS_WIDER = f"width => {WIDTH} < width", f"width => {WIDTH} > width"
IS_ABOUT = f"width => Math.abs({WIDTH} - width) < 12"


@pytest.fixture
def panes(member: Visitor) -> Panes:
    return Panes(member)


def test_tabs_their_order_and_the_split_survive_a_reload(panes: Panes) -> None:
    panes.asked(f"{ANSWER}\n\n{fenced('third', title='third.py')}")
    panes.tab("greet.py").press("Alt+ArrowRight")
    panes.see("pane-menu").click()
    with panes.person.page.expect_response(lambda answer: is_arranging(answer.request)):
        panes.see("beside").click()
    expect(panes.see("pane")).to_have_count(2)
    panes.are("Table", "greet.py", "third.py")
    panes.see("splitter").focus()
    panes.person.page.keyboard.press("ArrowLeft")
    share = panes.see("splitter").get_attribute("aria-valuenow")
    panes.person.page.reload()

    expect(panes.see("pane")).to_have_count(2)
    panes.are("Table", "greet.py", "third.py")
    expect(panes.see("splitter")).to_have_attribute("aria-valuenow", share or "")
    expect(panes.tab("greet.py")).to_have_attribute("aria-selected", "true")


def test_the_split_is_drawn_with_the_mouse_and_moved_by_keys(panes: Panes) -> None:
    panes.asked(ANSWER)
    line = panes.see("splitter")
    before = width(panes)
    box = line.bounding_box()
    assert box
    mouse = panes.person.page.mouse
    mouse.move(box["x"] + 4, box["y"] + 200)
    mouse.down()
    mouse.move(box["x"] - 96, box["y"] + 200, steps=4)
    mouse.up()

    panes.person.page.wait_for_function(IS_ABOUT, arg=before + 100)
    line.press("End")
    expect(line).to_have_attribute("aria-valuenow", "75")
    panes.person.page.wait_for_function(IS_NARROWER, arg=before)
    line.press("Home")
    expect(line).to_have_attribute("aria-valuenow", "25")
    panes.person.page.wait_for_function(IS_WIDER, arg=before)


def test_tabs_are_chosen_moved_and_closed_by_keys(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.tab("greet.py").focus()
    press = panes.person.page.keyboard.press
    press("ArrowRight")
    expect(panes.tab("Table")).to_be_focused()
    expect(panes.see("pane-table")).to_be_visible()
    press("Alt+ArrowLeft")
    expect(panes.see("pane-tab").first).to_contain_text("Table")
    press("Delete")
    expect(panes.see("pane-tab")).to_have_count(1)
    expect(panes.tab("greet.py")).to_be_focused()


def test_a_tab_is_moved_by_dragging_it(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.tab("Table").drag_to(panes.tab("greet.py"))

    panes.are("Table", "greet.py")


def test_tab_indents_and_escape_lets_the_keyboard_out_of_the_editor(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.edit("a\nb")
    editor, press = panes.see("pane-editor"), panes.person.page.keyboard.press
    press("Control+a")
    press("Tab")
    expect(editor).to_have_value("    a\n    b")
    press("Shift+Tab")
    expect(editor).to_have_value("a\nb")
    press("Control+z")
    expect(editor).to_have_value("    a\n    b")
    press("Escape")
    press("Tab")
    expect(editor).not_to_be_focused()
    expect(editor).to_have_value("    a\n    b")


def test_two_tabs_that_arrange_at_once_keep_what_both_did(panes: Panes) -> None:
    panes.asked(ANSWER)
    other = Panes(panes.person.another_tab())
    other.person.page.goto(panes.person.page.url)
    expect(other.see("pane-tab")).to_have_count(2)
    other.person.page.route("**/panes:watch*", lambda route: route.abort())
    panes.create("chat", "of the first tab")
    other.create("log", "of the second tab")

    for each in (panes, other):
        each.person.page.reload()
        expect(each.see("pane-tab")).to_have_count(4)


def test_closed_panes_are_found_in_the_list_and_opened_again(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.tab("greet.py").press("Delete")
    panes.see("all-panes").click()
    rows = panes.see("pane-row")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="greet.py")).to_have_attribute("data-open", "false")
    rows.filter(has_text="greet.py").get_by_test_id("show-pane").click()

    panes.holds(CODE)
    panes.see("hide-panes").click()
    expect(panes.see("panes")).to_have_count(0)
    panes.see("panes-button").click()
    panes.holds(CODE)


def test_a_tab_with_unsaved_text_asks_before_it_closes(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.edit("not saved")
    panes.see("close-pane").first.click()
    panes.see("confirm-close").get_by_text("Keep it open").click()
    expect(panes.see("pane-editor")).to_have_value("not saved")
    panes.see("close-pane").first.click()
    panes.see("confirm-close").get_by_test_id("confirm").click()
    expect(panes.tab("greet.py")).to_have_count(0)


@pytest.mark.parametrize("phone", [PHONE, SMALL_PHONE], ids=["390", "360"])
def test_on_a_phone_panes_are_a_second_screen_with_a_way_back(visit: Visit, phone: dict[str, object]) -> None:
    person = visit("member@acme", **phone)
    panes = Panes(person)
    turn = person.ask(say(f"{ANSWER}\n\n{fenced('<p>Hello</p>', 'html', 'page.html')}"))
    turn.ends()
    expect(panes.see("panes")).to_have_count(0)
    fits(person.page)
    turn.see("open-pane").first.tap()
    expect(panes.see("pane")).to_be_in_viewport()
    fits(person.page)
    panes.see("edit-pane").tap()
    panes.see("pane-editor").fill("a rather long line, " * 20)
    fits(person.page)
    panes.see("show-changes").tap()
    expect(panes.see("diff")).to_have_attribute("data-wide", "false")
    fits(person.page)
    panes.save(2)
    panes.see("show-history").tap()
    expect(panes.see("version")).to_have_count(2)
    fits(person.page)
    for tab in ("Table", "page.html"):
        panes.tab(tab).click()
        fits(person.page)
    panes.see("all-panes").tap()
    fits(person.page)
    panes.see("back-to-chat").tap()
    expect(person.see("question-field")).to_be_in_viewport()
    expect(panes.see("panes")).to_have_count(0)


def test_a_table_is_sorted_by_the_column_that_is_pressed(panes: Panes) -> None:
    panes.asked(ANSWER)
    panes.tab("Table").click()
    cells = panes.see("pane-table").locator("tbody td:nth-child(2)")
    expect(cells).to_have_text(["10", "9", "80"])
    panes.see("sort-column").nth(1).click()
    expect(cells).to_have_text(["9", "10", "80"])
    panes.see("sort-column").nth(1).click()
    expect(cells).to_have_text(["80", "10", "9"])


def test_a_log_shows_only_the_lines_with_a_word(panes: Panes) -> None:
    panes.asked(fenced("INFO up\nWARN slow\nINFO down\n", "log", ""))
    panes.see("log-filter").fill("info")
    panes.holds("INFO up\nINFO down")


def width(panes: Panes) -> float:
    box = panes.see("panes").bounding_box()
    assert box
    return box["width"]


def fits(page: Page) -> None:
    """Nothing is wider than the screen; what scrolls inside of a pane does."""
    page.wait_for_function(f"() => ({TOO_WIDE})().length === 0")
